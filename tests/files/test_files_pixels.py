"""From images to network pixels, keys of copies, the writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from zoo_case import noise, smooth

from medgraft.errors import BadImage
from medgraft.files import (
    content_key,
    fingerprint,
    header,
    network_pixels,
    read_image,
    read_pixels,
    save_png,
    write_dicom,
)
from medgraft.values import Image

RGB = noise(30, 40, 3)


def image(pixels: np.ndarray, low: float = 0, high: float = 255, bits: int = 8) -> Image:
    return Image(pixels.astype(np.float32), (low, high), "test", bits=bits)


def test_same_size_changes_nothing() -> None:
    out = network_pixels(image(np.moveaxis(RGB, -1, 0)), size=(30, 40), channels=3)
    assert out.dtype == np.uint8 and np.array_equal(out, np.moveaxis(RGB, -1, 0))


def test_resizing_is_pillows() -> None:
    for name, filter_ in (("bilinear", Pillow.Resampling.BILINEAR), ("bicubic", Pillow.Resampling.BICUBIC)):
        out = network_pixels(
            image(np.moveaxis(RGB, -1, 0)), size=(11, 13), channels=3, fit="stretch", interpolation=name
        )
        truth = np.asarray(Pillow.fromarray(RGB).resize((13, 11), filter_))
        assert np.array_equal(np.moveaxis(out, 0, -1), truth)


def test_pad_is_centred_on_black() -> None:
    out = network_pixels(image(np.full((1, 20, 40), 200)), size=(40, 40), channels=1)
    assert (out[0, 10:30] == 200).all() and (out[0, :10] == 0).all() and (out[0, 30:] == 0).all()


def test_crop_cuts_the_longer_side() -> None:
    wide = np.zeros((1, 20, 40))
    wide[:, :, 10:30] = 200
    out = network_pixels(image(wide), size=(20, 20), channels=1, fit="crop")
    assert (out == 200).all()


def test_gray_and_colour() -> None:
    gray = network_pixels(image(np.moveaxis(RGB, -1, 0)), size=(30, 40), channels=1)
    assert np.array_equal(gray[0], np.asarray(Pillow.fromarray(RGB).convert("L")))
    luma = RGB @ [0.299, 0.587, 0.114]
    assert np.abs(gray[0] - luma).max() <= 0.51
    three = network_pixels(image(RGB[None, ..., 0]), size=(30, 40), channels=3)
    assert all(np.array_equal(plane, RGB[..., 0]) for plane in three)


def test_deep_images_keep_sixteen_bits() -> None:
    deep = noise(1, 30, 40, top=4095, dtype=np.uint16)
    out = network_pixels(image(deep, 0, 4095, 12), size=(30, 40), channels=1)
    assert out.dtype == np.uint16
    assert np.abs(out[0] / 65535 - deep[0] / 4095).max() < 1e-5
    assert len(np.unique(out)) == len(np.unique(deep))
    small = network_pixels(image(deep, 0, 4095, 12), size=(15, 20), channels=3)
    assert small.shape == (3, 15, 20) and small.dtype == np.uint16


def test_values_outside_the_range_are_clipped() -> None:
    out = network_pixels(image(np.array([[[-5000.0, -160, 40, 240, 9000]]]), -160, 240, 16), size=(1, 5), channels=1)
    assert out[0, 0].tolist() == [0, 0, 32768, 65535, 65535]


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((1, 64, 64))
    stripes[:, :, ::2] = 255
    out = network_pixels(image(stripes), size=(16, 16), channels=1)
    assert out.min() > 100 and out.max() < 155


def test_volumes() -> None:
    volume = noise(1, 5, 8, 10, top=3000, dtype=np.uint16)
    out = network_pixels(image(volume, 0, 3000, 12), size=(10, 4, 5), channels=1)
    assert out.shape == (1, 10, 4, 5) and out.dtype == np.uint16
    constant = network_pixels(image(np.full((1, 5, 8, 10), 51)), size=(3, 4, 4), channels=3)
    assert (constant == 51).all()
    with pytest.raises(BadImage, match="volume of 5 slices"):
        network_pixels(image(volume), size=(4, 4), channels=1)


@pytest.mark.parametrize(
    "wrong", [{"channels": 2}, {"fit": "squash"}, {"interpolation": "magic"}, {"size": (0, 4)}, {"size": (4, 4, 4)}]
)
def test_wrong_arguments_are_named(wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"size": (4, 4), "channels": 1, **wrong}
    with pytest.raises(ValueError):
        network_pixels(image(RGB[None, ..., 0]), **arguments)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_step_equals_two(tmp_path: Path, fit: str, channels: int) -> None:
    save_png(tmp_path / "rgb.png", RGB)
    save_png(tmp_path / "gray.png", RGB[..., 0])
    save_png(tmp_path / "deep.png", noise(30, 40, top=65535, dtype=np.uint16))
    Pillow.fromarray(RGB).save(tmp_path / "a.jpg")
    Pillow.fromarray(RGB).save(tmp_path / "a.tif")
    write_dicom(tmp_path / "ct.dcm", noise(30, 40, dtype=np.int16), Modality="CT", WindowCenter=100, WindowWidth=90)
    for path in sorted(tmp_path.iterdir()):
        one = read_pixels(path, size=(17, 12), channels=channels, fit=fit)
        two = network_pixels(read_image(path), size=(17, 12), channels=channels, fit=fit)
        assert one.dtype == two.dtype and np.array_equal(one, two), path.name


def test_shrink_on_load_only_when_asked(tmp_path: Path) -> None:
    Pillow.fromarray(smooth(400, 600)).save(tmp_path / "big.jpg", quality=95)
    assert read_image(tmp_path / "big.jpg").pixels.shape == (1, 400, 600)
    assert read_image(tmp_path / "big.jpg", at_least=(90, 90)).pixels.shape == (1, 100, 150)
    assert read_image(tmp_path / "big.jpg", at_least=(300, 300)).pixels.shape == (1, 400, 600)


def test_content_key_does_not_depend_on_the_container(tmp_path: Path) -> None:
    gray = RGB[..., 0].copy()
    save_png(tmp_path / "a.png", gray)
    save_png(tmp_path / "c.png", np.stack([gray] * 3, -1))
    np.save(tmp_path / "a.npy", gray)
    Pillow.fromarray(gray).save(tmp_path / "a.tif", compression="tiff_lzw")
    Pillow.fromarray(gray).save(tmp_path / "a.bmp")
    keys = {content_key(read_image(path)) for path in tmp_path.iterdir()}
    assert len(keys) == 1
    gray[0, 0] ^= 1
    save_png(tmp_path / "a.png", gray)
    assert content_key(read_image(tmp_path / "a.png")) not in keys


def test_fingerprint_survives_what_copies_go_through(tmp_path: Path) -> None:
    y, x = np.mgrid[0:200, 0:240]
    scene = (110 + 60 * np.sin(x / 23 + y / 41) + 50 * np.cos(y / 17) * (x / 240)).astype(np.uint8)
    save_png(tmp_path / "a.png", scene)
    Pillow.fromarray(scene).save(tmp_path / "b.jpg", quality=40)
    Pillow.fromarray(scene).resize((120, 100)).save(tmp_path / "c.png")
    save_png(tmp_path / "d.png", (scene * 0.8 + 20).astype(np.uint8))
    save_png(tmp_path / "e.png", scene[:, ::-1].copy())
    save_png(tmp_path / "f.png", smooth(200, 240))
    prints = {p.stem: fingerprint(read_image(p))["thumbnail"].astype(int) for p in tmp_path.iterdir()}
    assert prints["a"].shape == (32, 32)
    for name in "bcd":
        assert np.abs(prints[name] - prints["a"]).mean() < 4, name
    assert np.abs(prints["e"][:, ::-1] - prints["a"]).mean() < 2
    assert np.abs(prints["f"] - prints["a"]).mean() > 30
    assert fingerprint(image(np.full((1, 9, 9), 7)))["spread"] == 0


def test_save_png_refuses_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        save_png(tmp_path / "x.png", np.zeros((4, 4), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_written_dicom_is_read_back(tmp_path: Path) -> None:
    values = (noise(9, 14, top=2000, dtype=np.int16) - 1000).astype(np.int16)
    facts: dict[str, Any] = {"Modality": "CT", "PatientID": "p1", "RescaleSlope": 1, "RescaleIntercept": -24}
    write_dicom(tmp_path / "a.dcm", values, **facts)
    back = read_image(tmp_path / "a.dcm", values=True)
    assert np.array_equal(back.pixels[0], values - 24) and back.unit == "HU"
    assert back.facts["PatientID"] == "p1" and back.facts["Modality"] == "CT"
    first = (tmp_path / "a.dcm").read_bytes()
    write_dicom(tmp_path / "a.dcm", values, **facts)
    assert (tmp_path / "a.dcm").read_bytes() == first
    write_dicom(tmp_path / "c.dcm", RGB)
    assert np.array_equal(np.rint(read_image(tmp_path / "c.dcm").pixels * 255), np.moveaxis(RGB, -1, 0))


def test_header_costs_no_decoding(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", RGB)
    write_dicom(tmp_path / "b.dcm", noise(3, 9, 14), Modality="US", PatientID="p2")
    np.save(tmp_path / "c.npy", noise(5, 6, 7, 3))
    head = header(tmp_path / "a.png")
    assert (head.format, head.shape, head.frames, head.bits, head.decoded_bytes) == ("png", (3, 30, 40), 1, 8, 3600)
    head = header(tmp_path / "b.dcm")
    assert (head.shape, head.frames, head.facts["PatientID"]) == ((1, 9, 14), 3, "p2")
    head = header(tmp_path / "c.npy")
    assert (head.shape, head.frames) == ((3, 6, 7), 5)
