"""The way back: what lies at a place of the network's picture lies at the same place of the file."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.files import network_pixels, read_image, referred, save_nifti, way_back, write_dicom
from medgraft.values import Image, ImageRef


def picture(height: int, width: int, row: int, column: int) -> Image:
    pixels = np.zeros((1, height, width), np.float32)
    pixels[0, max(row - 6, 0) : row + 7, max(column - 6, 0) : column + 7] = 255
    return Image(pixels, source="drawn", range=(0.0, 255.0), bits=8)


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(60, 200), st.integers(60, 200)),
    size=st.tuples(st.sampled_from([64, 96]), st.sampled_from([64, 96])),
    place=st.tuples(st.floats(0.42, 0.58), st.floats(0.42, 0.58)),
)
def test_a_spot_comes_back_to_where_it_was(fit: str, sides: tuple, size: tuple, place: tuple) -> None:
    height, width = sides
    row, column = round(place[0] * height), round(place[1] * width)
    image = picture(height, width, row, column)
    small = network_pixels(image, size=size, channels=1, fit=fit)[0].astype(np.float32) / 255
    back = way_back(small, size=(height, width), fit=fit)
    assert back.shape == (height, width)
    if back.max() < 0.5:
        return  # cropped away
    weight = np.where(back > 0.5, back, 0)
    found = (np.indices(back.shape) * weight).sum(axis=(1, 2)) / weight.sum()
    assert abs(found[0] - row) < 3.5 and abs(found[1] - column) < 3.5


def test_what_the_crop_cut_away_has_no_value() -> None:
    back = way_back(np.ones((64, 64), np.float32), size=(64, 128), fit="crop")
    assert back[:, :30].max() == 0 and back[:, 98:].max() == 0 and back[:, 34:94].min() == 1


# ---- what lies on the file --------------------------------------------------------------


@pytest.mark.parametrize("order", ["RAS", "LPS", "PIR", "SLA", "AIL"])
@pytest.mark.parametrize("code", ["sform", "qform", "none"])
def test_a_map_of_a_nifti_volume_lies_on_its_voxels(order: str, code: str, tmp_path: Path) -> None:
    """A lesion planted at a place of the body is where the map's largest value is, in the eyes of another reader."""
    start = nibabel.orientations.axcodes2ornt("RAS")
    ways = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(order))
    solid = np.zeros((20, 30, 44), np.float32)
    solid[3:8, 20:27, 30:38] = 100
    plain = nibabel.Nifti1Image(solid, np.diag([2.0, 1.5, 0.8, 1]) @ shift(-11, 7.5, 3))
    source = plain.as_reoriented(ways)
    source.header.set_sform(source.affine, code=2 if code == "sform" else 0)
    source.header.set_qform(source.affine, code=1 if code == "qform" else 0)
    if code == "none":
        zooms = source.header.get_zooms()
        source = nibabel.Nifti1Image(np.asarray(source.dataobj), None)
        source.header.set_zooms(zooms)
    nibabel.save(source, tmp_path / "scan.nii.gz")
    image = read_image(tmp_path / "scan.nii.gz")
    small = network_pixels(image, size=(16, 24, 32), channels=1)[0]
    back = way_back(small.astype(np.float32), size=image.pixels.shape[1:])
    save_nifti(tmp_path / "map.nii.gz", back, affine=image.affine, spacing_mm=image.spacing_mm, note="a map")
    own, made = nibabel.load(tmp_path / "scan.nii.gz"), nibabel.load(tmp_path / "map.nii.gz")
    assert made.shape == own.shape
    assert np.allclose(made.header.get_zooms(), own.header.get_zooms(), atol=1e-6)
    if code == "none":
        assert int(made.header["sform_code"]) == int(made.header["qform_code"]) == 0
    else:
        assert np.allclose(made.affine, own.affine, atol=1e-6)
        assert np.array_equal(made.affine, own.affine) or code == "qform"
    middle = [centre_of(one.get_fdata()) for one in (own, made)]
    assert np.abs(np.subtract(*middle)).max() < 1.0  # voxels


def shift(*by: float) -> np.ndarray:
    found = np.eye(4)
    found[:3, 3] = by
    return found


def centre_of(values: np.ndarray) -> np.ndarray:
    weight = np.where(values > 0.5 * values.max(), values, 0)
    return (np.indices(values.shape) * weight).sum(axis=(1, 2, 3)) / weight.sum()


def test_a_nifti_of_one_slice_and_of_a_picture_without_a_space(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
    save_nifti(tmp_path / "map.nii.gz", values, spacing_mm=(0.2, 0.1))
    made = nibabel.load(tmp_path / "map.nii.gz")
    assert made.shape == (4, 3, 1) and np.allclose(made.header.get_zooms(), (0.1, 0.2, 1))
    assert np.array_equal(np.asarray(made.dataobj)[..., 0].T, values)
    again = read_image(tmp_path / "map.nii.gz")
    assert np.array_equal(again.pixels[0], values) and again.affine is None
    assert again.spacing_mm == pytest.approx((0.2, 0.1))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32])
def test_whole_numbers_are_written_in_their_own_bits(tmp_path: Path, kind: type[np.integer]) -> None:
    values = np.full((2, 3, 4), np.iinfo(kind).max, kind)
    save_nifti(tmp_path / "map.nii.gz", values)
    made = nibabel.load(tmp_path / "map.nii.gz")
    assert made.get_data_dtype() == kind and (np.asarray(made.dataobj) == np.iinfo(kind).max).all()


def test_the_same_map_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_nifti(tmp_path / f"{name}.nii.gz", np.ones((4, 5, 6), np.float32), affine=np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_what_a_derived_dicom_object_refers_to(tmp_path: Path) -> None:
    facts = {"FrameOfReferenceUID": "1.2.3", "PixelSpacing": [0.5, 0.25], "ImagePositionPatient": [-1, 2, 3.5]}
    write_dicom(tmp_path / "a.dcm", np.zeros((3, 24, 40), np.uint16), Modality="US", PatientID="p1", **facts)
    place = referred(ImageRef(tmp_path / "a.dcm", index=2))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert place[keyword] == dataset[keyword].value
    assert (place["Rows"], place["Columns"], place["NumberOfFrames"], place["frame"]) == (24, 40, 3, 3)
    assert place["PixelSpacing"] == [0.5, 0.25] and place["ImagePositionPatient"] == [-1, 2, 3.5]
    assert "p1" not in str(place) and "ImageOrientationPatient" not in place
