"""Label maps are read as they are stored, and what cannot be one is named with what to do."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow
from PIL import ImageFilter

from medgraft.errors import BadImage
from medgraft.files import LabelMap, grid_of, read_label_map, save_nifti, write_dicom
from medgraft.values import ImageRef

RED, BLACK = 0xFF0000, 0


def disc(height: int = 60, width: int = 80) -> np.ndarray:
    """Booleans (H, W): a disc."""
    rows, columns = np.mgrid[:height, :width]
    return (rows - height / 2) ** 2 + (columns - width / 2.5) ** 2 < (height / 3) ** 2


def saved(path: Path, array: np.ndarray, **options) -> Path:
    Pillow.fromarray(array).save(path, **options)
    return path


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None, slope: float = 1.0) -> Path:
    """Write values of axes (i, j, k)."""
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif"])
def test_numbers_of_eight_bits_are_kept(tmp_path: Path, ending: str) -> None:
    stored = disc().astype(np.uint8) * 3
    stored[:5] = 255
    found = read_label_map(saved(tmp_path / f"a.{ending}", stored))
    if found.palette:  # a GIF has nothing else
        assert found.packed().tolist() == (stored.astype(np.uint32) * 0x010101).tolist()
    else:
        assert found.values.dtype == np.uint8 and np.array_equal(found.values, stored) and not found.colours


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=arrays.arrays(np.uint16, (9, 7), elements=st.integers(0, 65535)), ending=st.sampled_from(["png", "tif"]))
def test_numbers_of_sixteen_bits_are_kept(tmp_path: Path, values: np.ndarray, ending: str) -> None:
    values[0, 0] = 300  # of more than 8 bits, whatever else
    path = tmp_path / f"a.{ending}"
    saved(path, values) if ending == "png" else tifffile.imwrite(path, values)
    assert np.array_equal(read_label_map(path).values, values)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_palette_gives_its_indexes_and_not_its_colours(tmp_path: Path, ending: str) -> None:
    picture = Pillow.fromarray(disc().astype(np.uint8) * 2)
    picture.putpalette([9, 9, 9, 8, 8, 8, 255, 0, 0] + [0] * 759)
    picture.save(tmp_path / f"a.{ending}")
    found = read_label_map(tmp_path / f"a.{ending}")
    assert np.array_equal(found.values, disc() * 2)
    if ending == "png":
        assert set(np.unique(found.packed()).tolist()) == {0x090909, RED}


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    assert np.array_equal(read_label_map(saved(tmp_path / "a.png", disc())).values, disc() * 255)


def test_colours_are_packed_and_said(tmp_path: Path) -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[disc(), 0] = 255
    for array in (picture, np.dstack([picture, np.full((60, 80), 255, np.uint8)])):  # with alpha too
        found = read_label_map(saved(tmp_path / "a.png", array))
        assert found.colours and np.array_equal(found.values, np.where(disc(), RED, BLACK))
    gray = read_label_map(saved(tmp_path / "g.png", np.dstack([disc() * np.uint8(7)] * 3)))
    assert gray.colours and set(np.unique(gray.values).tolist()) == {0, 0x070707}
    tifffile.imwrite(tmp_path / "deep.tif", picture.astype(np.uint16) * 257, photometric="rgb")
    assert np.array_equal(read_label_map(tmp_path / "deep.tif").values, np.where(disc(), RED, BLACK))
    tifffile.imwrite(tmp_path / "deep.tif", picture.astype(np.uint16) * 100, photometric="rgb")
    with pytest.raises(BadImage, match="colours of 16 bits"):
        read_label_map(tmp_path / "deep.tif")


def test_the_map_is_turned_as_its_image_would_be(tmp_path: Path) -> None:
    stored = np.zeros((4, 6), np.uint8)
    stored[0, 1] = 2
    tag = Pillow.Exif()
    tag[0x0112] = 6
    found = read_label_map(saved(tmp_path / "a.png", stored, exif=tag)).values
    assert found.shape == (6, 4) and found[1, 3] == 2


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint8])
def test_whole_numbers_of_nifti_become_integers(tmp_path: Path, kind: type) -> None:
    values = np.zeros((4, 5, 6), kind)
    values[1, 2, 3] = 2
    affine = np.diag([2.0, 3, 4, 1])
    found = read_label_map(nifti(tmp_path / "a.nii.gz", values, affine))
    assert found.values.dtype == np.uint8 and found.values.shape == (6, 5, 4)
    assert found.values[3, 2, 1] == 2 and found.values.sum() == 2
    assert found.spacing_mm == (4, 3, 2)
    assert found.affine is not None and np.allclose(found.affine @ [3, 2, 1, 1], [2, 6, 12, 1])


def test_a_scale_of_the_header_is_applied_and_rounded(tmp_path: Path) -> None:
    values = np.array([[[0, 10], [20, 30]]], np.int16)
    assert read_label_map(nifti(tmp_path / "a.nii", values, slope=0.1)).values.ravel().tolist() == [0, 2, 1, 3]


def test_large_numbers_and_other_files(tmp_path: Path) -> None:
    values = np.full((4, 5), 70000, np.int32)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", one=values, two=values - 1)
    assert read_label_map(tmp_path / "a.npy").values.tolist() == values.tolist()
    assert int(read_label_map(tmp_path / "b.npz" / "two").values.max()) == 69999
    stack = np.stack([np.zeros((6, 5), np.uint8), np.full((6, 5), 3, np.uint8)])
    tifffile.imwrite(tmp_path / "c.tif", stack, photometric="minisblack")
    assert (read_label_map(ImageRef(tmp_path / "c.tif", 1)).values == 3).all()
    write_dicom(tmp_path / "d.dcm", np.full((6, 5), 4, np.uint16))
    assert (read_label_map(tmp_path / "d.dcm").values == 4).all()
    np.save(tmp_path / "e.npy", values * 1000)
    with pytest.raises(BadImage, match=r"as large as 7e\+07.*Number the labels anew"):
        read_label_map(tmp_path / "e.npy")


def test_gray_levels_of_a_jpeg_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", disc().astype(np.uint8) * 255, quality=85)
    with pytest.raises(
        BadImage, match=r"holds \d+ different values such as \d+, \d+, \d+: saved as JPEG\. Save it as PNG"
    ):
        read_label_map(path)
    assert not read_label_map(saved(tmp_path / "b.jpg", np.zeros((9, 9), np.uint8))).values.any()


@pytest.mark.parametrize(
    "how", ["jpeg in a png", "worst jpeg in a png", "resized", "resized lines", "enlarged", "blurred", "a slope"]
)
def test_gray_levels_of_smoothing_are_refused(tmp_path: Path, how: str) -> None:
    mask = disc(240, 320).astype(np.uint8) * 255
    if how == "resized lines":
        mask = np.zeros((60, 80), np.uint8)
        mask[::7] = mask[:, ::9] = 255
    picture = Pillow.fromarray(mask)
    if "jpeg" in how:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=20 if "worst" in how else 75)
        picture = Pillow.open(buffer)
    elif how == "blurred":
        picture = picture.filter(ImageFilter.GaussianBlur(12))
    elif how == "a slope":
        picture = Pillow.fromarray(np.tile(np.arange(256, dtype=np.uint8).repeat(3), (20, 1)))
    elif how == "enlarged":
        picture = Pillow.fromarray(disc()).convert("L").resize((480, 360), Pillow.Resampling.BILINEAR)
    else:
        picture = picture.resize((93, 71), Pillow.Resampling.BICUBIC)
    picture.save(tmp_path / "a.png")
    with pytest.raises(BadImage, match=r"saved as JPEG or resized with smoothing.*nearest neighbour"):
        read_label_map(tmp_path / "a.png")


def test_many_numbers_in_areas_are_no_gray_levels(tmp_path: Path) -> None:
    things = np.zeros((160, 160), np.uint8)
    for number in range(200):
        row, column = divmod(number, 15)
        things[row * 11 : row * 11 + 6, column * 10 : column * 10 + 6] = number + 1
    streets = np.array([1, 3, 5, 7, 8, 10, 11, 12, 24, 255], np.uint8).repeat(30).reshape(10, 30).repeat(4, axis=0)
    lines = np.zeros((40, 40), np.uint8)
    lines[:, ::4] = np.arange(1, 11)
    tiles = np.arange(1, 65, dtype=np.uint8).reshape(8, 8).repeat(9, axis=0).repeat(9, axis=1)
    for number, stored in enumerate((things, np.where(things % 3, things, 0), streets, lines, tiles)):
        found = read_label_map(saved(tmp_path / f"{number}.png", stored.astype(np.uint8)))
        assert np.array_equal(found.values, stored)


def test_colours_of_a_photograph_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    with pytest.raises(BadImage, match="holds 400 different colours: a photograph"):
        read_label_map(saved(tmp_path / "a.png", noise))
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[disc(), 0] = 255
    with pytest.raises(BadImage, match="different colours.*saved as JPEG"):
        read_label_map(saved(tmp_path / "a.jpg", picture))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([[0, 0.25], [1, 1]]), "holds fractions such as 0.25.*map of probabilities.*nearest neighbour"),
        (np.array([[0, -1024], [1, 1]]), "holds negative numbers such as -1024.*Is it an image"),
        (np.zeros((4, 5, 6, 3)), "has 3 channels"),
        (np.zeros((0, 4)), "no pixels|empty"),
    ],
)
def test_what_is_no_label_map(tmp_path: Path, values: np.ndarray, why: str) -> None:
    if values.ndim == 4:
        colour = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "a.nii")
    else:
        np.save(tmp_path / "a.npy", values)
    path = next(tmp_path.iterdir())
    with pytest.raises(BadImage, match=why) as caught:
        read_label_map(path)
    assert path.name in str(caught.value)


def test_frames_and_missing_files_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(BadImage, match="3 pages"):
        read_label_map(tmp_path / "a.tif")
    with pytest.raises(BadImage, match="no such file"):
        read_label_map(tmp_path / "none.png")
    nifti(tmp_path / "b.nii", np.zeros((4, 5, 6, 2), np.uint8))
    for read in (read_label_map, grid_of):
        with pytest.raises(BadImage, match="holds 2 volumes"):
            read(tmp_path / "b.nii")


def test_numbers_above_a_byte_are_no_colours() -> None:
    with pytest.raises(BadImage, match="above 255"):
        LabelMap(np.array([[256]]), "drawn").packed()


def test_the_grid_of_an_image(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    path = nifti(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), np.int16), affine)
    shape, space = grid_of(path)
    assert shape == (6, 5, 4) and space is not None
    assert np.allclose(space @ [3, 2, 1, 1], affine @ [1, 2, 3, 1])  # d, h, w are k, j, i
    save_nifti(tmp_path / "b.nii", np.zeros((6, 5, 4), np.float32), affine=None)
    assert grid_of(tmp_path / "b.nii")[0] == (6, 5, 4)
    assert grid_of(saved(tmp_path / "a.png", np.zeros((7, 9, 3), np.uint8))) == ((7, 9), None)
    write_dicom(tmp_path / "d.dcm", np.zeros((6, 5), np.uint16))
    assert grid_of(tmp_path / "d.dcm") == ((6, 5), None)
    np.save(tmp_path / "e.npy", np.zeros((5, 6, 7)))
    assert grid_of(tmp_path / "e.npy")[0] == (5, 6, 7)
