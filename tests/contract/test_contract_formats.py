"""What every image format does, on a file of each that the test makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from medgraft.errors import BadImage
from medgraft.files import FORMATS, header, list_images, network_pixels, read_image, write_dicom

RAMP = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48) * 13


def _raster(path: Path) -> Path:
    Pillow.fromarray((RAMP // 128).astype(np.uint8)).save(path / "ramp.png")
    return path / "ramp.png"


def _dicom(path: Path) -> Path:
    write_dicom(path / "ramp.dcm", (RAMP // 16).astype(np.uint16))
    return path / "ramp.dcm"


def _nifti(path: Path) -> Path:
    volume = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=-1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 1.0, 3.0, 1.0])), path / "ramp.nii.gz")
    return path / "ramp.nii.gz"


def _array(path: Path) -> Path:
    np.save(path / "ramp.npy", RAMP)
    return path / "ramp.npy"


WRITERS: dict[str, Callable[[Path], Path]] = {"raster": _raster, "dicom": _dicom, "nifti": _nifti, "array": _array}
each_format = pytest.mark.parametrize("name", WRITERS)


def test_every_format_is_here():
    assert set(WRITERS) == set(FORMATS), "a new format needs a file here, so that the contract runs over it"


@each_format
def test_image_is_what_the_noun_says(name: str, tmp_path: Path):
    path = WRITERS[name](tmp_path)
    image = read_image(path)
    assert image.pixels.dtype == np.float32
    assert image.pixels.ndim in (3, 4) and image.pixels.shape[0] in (1, 3)
    assert np.isfinite(image.pixels).all()
    low, high = image.range
    assert low < high
    assert path.name in image.source
    assert image.bits >= 1
    assert 0 <= image.display().min() <= image.display().max() <= 1
    if image.spacing_mm is not None:
        assert len(image.spacing_mm) == image.pixels.ndim - 1


@each_format
def test_header_foretells_the_image(name: str, tmp_path: Path):
    path = WRITERS[name](tmp_path)
    told, image = header(path), read_image(path)
    assert told.shape == image.pixels.shape
    assert told.frames == 1
    assert told.decoded_bytes >= image.pixels.size


@each_format
def test_reading_twice_gives_the_same(name: str, tmp_path: Path):
    path = WRITERS[name](tmp_path)
    assert np.array_equal(read_image(path).pixels, read_image(path).pixels)


@each_format
def test_content_counts_and_not_the_name(name: str, tmp_path: Path):
    path = WRITERS[name](tmp_path)
    expected = read_image(path).pixels
    renamed = path.rename(tmp_path / "renamed.jpg")
    assert np.array_equal(read_image(renamed).pixels, expected)


@each_format
def test_it_is_found_in_a_folder(name: str, tmp_path: Path):
    path = WRITERS[name](tmp_path)
    assert [ref.path for ref in list_images(tmp_path)] == [path]


@each_format
def test_too_large_is_refused_before_decoding(name: str, tmp_path: Path):
    with pytest.raises(BadImage, match="too large"):
        read_image(WRITERS[name](tmp_path), max_bytes=1000)


@each_format
@pytest.mark.parametrize("kept", [0, 20, 0.5, 0.9])
def test_a_cut_file_is_one_bad_image(name: str, kept: float, tmp_path: Path):
    path = WRITERS[name](tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(BadImage) as caught:
        read_image(path)
    assert path.name in str(caught.value)


@each_format
@pytest.mark.parametrize("channels", [1, 3])
def test_it_becomes_network_pixels(name: str, channels: int, tmp_path: Path):
    image = read_image(WRITERS[name](tmp_path))
    size = (16, 16) if image.pixels.ndim == 3 else (2, 16, 16)
    pixels = network_pixels(image, size=size, channels=channels, fit="stretch")
    assert pixels.shape == (channels, *size)
    assert pixels.dtype == (np.uint8 if image.bits <= 8 else np.uint16)
