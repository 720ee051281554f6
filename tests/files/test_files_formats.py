"""The registry of formats, geometry of volumes, codecs, and that nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import zoo_series
from zoo_dicom import dcm
from zoo_other import AFFINE, VOLUME

from medgraft import files
from medgraft.errors import BadImage, MissingExtra
from medgraft.files import FORMATS, Format, read_image, write_dicom
from medgraft.files.dicom_pixels import codecs
from medgraft.files.form import finite, robust_range
from medgraft.values import ImageRef


def test_every_row_opens_a_format() -> None:
    assert set(FORMATS) >= {"raster", "dicom", "nifti", "array"}
    for name in FORMATS:
        row = FORMATS[name]
        assert isinstance(row, Format) and row.name == name
        assert callable(row.read) and callable(row.header)


def test_public_names_open() -> None:
    for name in files.__all__:
        assert getattr(files, name) is not None
    with pytest.raises(AttributeError):
        _ = files.nonsense  # type: ignore[attr-defined]


def test_reading_imports_no_torch() -> None:
    code = (
        "import sys, medgraft.files as f; f.read_image, f.read_many, f.read_pixels; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_format_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import plain_format

    monkeypatch.setattr(FORMATS, "_rows", {**FORMATS._rows, "plain": "plain_format:FORMAT"})
    (tmp_path / "a.plain").write_bytes(b"\x01PLAIN\x00\x02\x03" + bytes(6))
    assert read_image(tmp_path / "a.plain").pixels.shape == (1, 2, 3)
    assert plain_format.FORMAT.name == "plain"


def test_codecs_of_the_standard_are_there() -> None:
    known = {uid: there for uid, _, there in codecs()}
    for end in (
        "",
        ".1",
        ".1.99",
        ".2",
        ".5",
        ".8.1",
        *(f".4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 110, 201)),
    ):
        assert known["1.2.840.10008.1.2" + end], end


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import imagecodecs
    import zoo_dicom
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    stream = bytes(imagecodecs.jpeg2k_encode(zoo_dicom.BYTES, codecformat="j2k", reversible=True))
    (tmp_path / "a.dcm").write_bytes(zoo_dicom.packed(zoo_dicom.BYTES, [stream], zoo_dicom.J2K))
    monkeypatch.setattr(get_decoder(UID(zoo_dicom.J2K)), "_available", {})
    with pytest.raises(MissingExtra, match=r"1\.2\.840\.10008\.1\.2\.4\.90.*pylibjpeg-openjpeg"):
        read_image(tmp_path / "a.dcm")


def test_nifti_affine_maps_array_indices(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINE), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert image.affine is not None and image.spacing_mm == pytest.approx((4, 3, 2))
    for i, j, k in ((0, 0, 0), (6, 5, 4), (2, 3, 1)):
        assert image.pixels[0, k, j, i] == VOLUME[i, j, k]
        assert (image.affine @ [k, j, i, 1])[:3] == pytest.approx((AFFINE @ [i, j, k, 1])[:3])


def test_nifti_units_become_millimetres(tmp_path: Path) -> None:
    picture = nibabel.Nifti1Image(VOLUME, np.diag([1000, 1000, 2000, 1]))
    picture.header.set_xyzt_units("micron")
    nibabel.save(picture, tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    assert image.spacing_mm == pytest.approx((2, 1, 1))
    assert image.affine is not None and np.linalg.norm(image.affine[:3, 0]) == pytest.approx(2)


def test_left_stays_left_between_formats(tmp_path: Path) -> None:
    """The same body as DICOM (LPS) and NIfTI (RAS): one point, one place."""
    zoo_series.series([k * 2.5 for k in range(6)])(tmp_path / "s")
    series = read_image(tmp_path / "s")
    assert series.affine is not None
    affine = series.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(zoo_series.STACK.transpose(2, 1, 0), affine), tmp_path / "b.nii")
    other = read_image(tmp_path / "b.nii")
    assert np.array_equal(series.pixels, other.pixels)
    assert other.affine is not None and np.allclose(series.affine, other.affine)
    assert series.affine[:3, 3] == pytest.approx([10, 20, 0])  # LPS (-10, -20, 0)
    assert series.affine[:3, 2] == pytest.approx([-0.75, 0, 0])  # columns run to the patient's left: -x in RAS
    assert series.spacing_mm == pytest.approx((2.5, 0.5, 0.75))


def test_a_single_oblique_slice_lies_where_its_header_says(tmp_path: Path) -> None:
    """By hand, in LPS: 3 rows down and 4 columns right of the corner; RAS turns the first two signs."""
    row, column = [0.8, 0.6, 0.0], [0.0, 0.0, -1.0]
    written = zoo_series.slice_bytes(
        zoo_series.STACK[0], [-10, -20, 5], ImageOrientationPatient=[*row, *column], SliceThickness=3
    )
    (tmp_path / "a.dcm").write_bytes(written)
    for values in (False, True):
        image = read_image(tmp_path / "a.dcm", values=values)
        assert image.spacing_mm == (0.5, 0.75) and image.affine is not None
        # -10 + 4 * .75 * .8 = -7.6;  -20 + 4 * .75 * .6 = -18.2;  5 - 3 * .5 = 3.5
        assert (image.affine @ [0, 3, 4, 1])[:3] == pytest.approx([7.6, 18.2, 3.5])
        assert image.affine[:3, 0] == pytest.approx([1.8, -2.4, 0])  # 3 mm along row x column = (-.6, .8, 0) in LPS


def test_a_frame_lies_where_its_own_group_says(tmp_path: Path) -> None:
    (tmp_path / "v.dcm").write_bytes(zoo_series.enhanced([0, 2.5, 5]))
    image = read_image(ImageRef(tmp_path / "v.dcm", 2))
    assert image.affine is not None and image.affine[:3, 3] == pytest.approx([10, 20, 5])


def test_what_knows_no_space_gets_no_affine(tmp_path: Path) -> None:
    plane = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    write_dicom(tmp_path / "plain.dcm", np.zeros((6, 8), np.uint8), PixelSpacing=[1, 1])
    write_dicom(tmp_path / "mosaic.dcm", np.zeros((6, 8), np.uint8), **plane, ImageType=["ORIGINAL", "MOSAIC"])
    write_dicom(tmp_path / "cine.dcm", np.zeros((2, 6, 8), np.uint8), **plane)
    refs = [ImageRef(tmp_path / "plain.dcm"), ImageRef(tmp_path / "mosaic.dcm"), ImageRef(tmp_path / "cine.dcm", 1)]
    assert [read_image(ref).affine for ref in refs] == [None] * 3


def test_one_row_of_an_npz(tmp_path: Path) -> None:
    rows = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)
    np.savez_compressed(tmp_path / "d.npz", train_images=rows, test_images=rows + 1)
    from medgraft.values import ImageRef

    image = read_image(ImageRef(tmp_path / "d.npz" / "test_images", index=1))
    assert np.array_equal(image.pixels[0], rows[1] + 1)
    with pytest.raises(BadImage, match="holds no array 'val_images'"):
        read_image(ImageRef(tmp_path / "d.npz" / "val_images", index=1))


def test_max_bytes_is_kept_before_decoding(tmp_path: Path) -> None:
    files.save_png(tmp_path / "a.png", np.zeros((300, 300), np.uint8))
    (tmp_path / "b.dcm").write_bytes(dcm(np.zeros((300, 300), np.uint8)))
    np.save(tmp_path / "c.npy", np.zeros((300, 300), np.uint8))
    nibabel.save(nibabel.Nifti1Image(np.zeros((300, 300, 1), np.uint8), np.eye(4)), tmp_path / "d.nii")
    for path in tmp_path.iterdir():
        with pytest.raises(BadImage, match="too large"):
            read_image(path, max_bytes=50_000)
        assert read_image(path, max_bytes=100_000).pixels.size == 90_000


def test_helpers_of_ranges() -> None:
    assert robust_range(np.arange(1001.0)) == pytest.approx((5, 995))
    assert robust_range(np.full(10, 3.0)) == (3.0, 4.0)
    values, notes = finite(np.array([np.nan, np.nan], np.float32))
    assert values.tolist() == [0, 0] and "2 values" in notes[0]
