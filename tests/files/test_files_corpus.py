"""Real and deliberately broken files of other projects: read right, or refused with a reason; no crash."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from corpus_work import ask

from medgraft.errors import BadImage
from medgraft.files import list_images, read_image, read_many
from medgraft.values import ImageRef

Find = Callable[[str], Path]

# Files that the manifest's reader could not decode and this one can.
MORE = {
    "pydicom_data_small/liver_deflate.dcm",
    "pydicom_data_small/liver_nonbyte_aligned_deflate.dcm",
    "pydicom_data_small/liver_nonbyte_aligned_rle.dcm",
    "pydicom_data_small/liver_rle.dcm",
    "pydicom_data_small/parametric_map_double_float.dcm",
    "pydicom_data_small/parametric_map_float.dcm",
    "pydicom_test_files/JPEG-lossy.dcm",
    *(f"wg04_syntaxes/{n}_JPLY.dcm" for n in ("MR1", "MR2", "MR3", "MR4", "NM1", "RG2", "RG3", "XA1")),
}


def read_all(refs: list[ImageRef]) -> dict[int, Any]:
    return dict(read_many(refs, partial(ask), workers=2, timeout_s=60))


@pytest.fixture(scope="module")
def dicom_results(shared: Find) -> list[tuple[dict[str, str], Any]]:
    root = shared("data/dicom_io")
    with open(root / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    refs = [ImageRef(root / row["path"], index=0 if (row["frames"] or "1") != "1" else None) for row in rows]
    results = read_all(refs)
    return [(row, results[k]) for k, row in enumerate(rows)]


def test_dicom_corpus_is_read_or_refused(dicom_results: list[tuple[dict[str, str], Any]]) -> None:
    assert len(dicom_results) >= 429
    read = 0
    for row, result in dicom_results:
        expected = row["pixels"].startswith("decoded") or row["path"] in MORE
        if expected:
            assert not isinstance(result, BadImage), (row["path"], str(result))
            rows, columns = (int(row[k]) for k in ("rows", "cols")) if row["rows"] else (None, None)
            assert result["shape"][-2:] == (rows, columns) or rows is None
            assert result["finite"]
            read += 1
        else:
            assert isinstance(result, BadImage), row["path"]
            assert "crashed" not in result.what and "longer than" not in result.what
            assert len(result.what) > 10 and result.where
    print(f"dicom_io: {read} read, {len(dicom_results) - read} refused with a reason")


def test_what_is_no_image_is_named(dicom_results: list[tuple[dict[str, str], Any]]) -> None:
    named = {row["path"].rpartition("/")[2]: str(result) for row, result in dicom_results}
    assert "Comprehensive SR Storage" in named["sr.dcm"]
    assert "RT Plan Storage" in named["rtplan.dcm"]
    assert "RT Structure Set Storage" in named["rtstruct.dcm"]
    assert "12-lead ECG" in named["waveform_ecg.dcm"]
    assert "Media Storage Directory" in named["DICOMDIR"]
    assert "truncated: 8130 of" in named["MR_truncated.dcm"]
    assert "NumberOfFrames is no number" in named["badVR.dcm"]


def test_values_agree_with_pydicom(shared: Find) -> None:
    """Lossless files agree to the last bit, lossy JPEG to a few steps; padding is ours to fill."""
    root = shared("data/dicom_io")
    compared = 0
    with open(root / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["pixels"].startswith("decoded")]
    for row in rows[:: 1 if len(rows) < 150 else 3]:
        path = root / row["path"]
        truth = reference(path)
        if truth is None:
            continue
        image = read_image(ImageRef(path, index=0), values=True)
        off = np.abs(image.pixels[0].astype(np.float64) - truth)
        if any("padding" in note for note in image.notes):
            off = off[image.pixels[0] > image.pixels[0].min()]
        lossy = row["transfer_syntax"].startswith(("JPEG Baseline", "JPEG Extended"))
        assert off.max(initial=0) <= (1.0 if lossy else 1e-6 * max(1.0, np.abs(truth).max())), row["path"]
        compared += 1
    assert compared >= 60


def reference(path: Path) -> np.ndarray | None:
    """Get modality values of the first frame of a gray file, by pydicom alone; None where it has no say."""
    from pydicom.pixels import apply_modality_lut, pixel_array

    dataset = pydicom.dcmread(path, force=True)
    gray = str(dataset.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
    if not gray or "TransferSyntaxUID" not in dataset.file_meta or "SharedFunctionalGroupsSequence" in dataset:
        return None
    try:
        stored = pixel_array(dataset, index=0)
    except RuntimeError:  # none of the decoders that it has here reads this file
        return None
    values = apply_modality_lut(stored, dataset).astype(np.float64)
    return values * float(dataset.get("DoseGridScaling", 1) or 1)


@pytest.mark.parametrize("name", ["CT1", "CT2", "MR1", "MR3", "MR4", "NM1"])
def test_lossless_syntaxes_equal_the_uncompressed_originals(shared: Find, name: str) -> None:
    root = shared("data/dicom_io")
    truth = read_image(root / "wg04_reference" / f"{name}_UNC.dcm", values=True).pixels
    ways = [p for w in ("J2KR", "JLSL", "JPLL", "RLE") for p in root.glob(f"wg04_syntaxes/{name}_{w}.dcm")]
    assert len(ways) >= 2
    for path in ways:
        assert np.array_equal(read_image(path, values=True).pixels, truth), path.name


@pytest.mark.parametrize("name", ["MR3", "MR4", "NM1"])
def test_twelve_bit_jpeg_is_near_its_original(shared: Find, name: str) -> None:
    root = shared("data/dicom_io")
    truth = read_image(root / "wg04_reference" / f"{name}_UNC.dcm", values=True)
    lossy = read_image(root / "wg04_syntaxes" / f"{name}_JPLY.dcm", values=True)
    spread = truth.pixels.max() - truth.pixels.min()
    assert np.abs(lossy.pixels - truth.pixels).mean() < 0.01 * spread


def test_one_bit_syntaxes_agree(shared: Find) -> None:
    root = shared("data/dicom_io/pydicom_data_small")
    for stem, coded in (
        ("liver", ("deflate", "rle", "expb", "j2k")),
        ("liver_nonbyte_aligned", ("deflate", "rle", "j2k")),
    ):
        for k in range(3):
            truth = read_image(ImageRef(root / f"{stem}.dcm", index=k)).pixels
            assert set(np.unique(truth)) <= {0.0, 1.0}
            for way in coded:
                other = read_image(ImageRef(root / f"{stem}_{way}.dcm", index=k)).pixels
                assert np.array_equal(other, truth), (stem, way, k)


def test_real_series_become_volumes(shared: Find) -> None:
    root = shared("data/dicom_io")
    (brain,) = list_images(root / "series_mr_t1_14slices")
    image = read_image(brain)
    assert image.pixels.shape == (1, 14, 384, 274)
    assert image.spacing_mm == pytest.approx((0.6667, 0.6667, 0.7), abs=1e-3)
    shapes = [read_image(ref).pixels.shape[1:] for ref in list_images(root / "series_mr_hippocrop")]
    assert sorted(shapes) == [(32, 51, 35), (35, 48, 36), (40, 50, 34)]


def test_a_real_tilted_gantry(shared: Find) -> None:
    """Two acquisitions (4 and 7 mm) in one series, both tilted by 18.5 degrees."""
    thin, thick = (read_image(ref) for ref in list_images(shared("data/dicom_io/series_ct_gantry_tilt")))
    assert (thin.pixels.shape[1], thick.pixels.shape[1]) == (5, 9)
    assert thin.spacing_mm is not None and thick.spacing_mm is not None
    assert (thin.spacing_mm[0], thick.spacing_mm[0]) == pytest.approx((4.0, 7.0), abs=0.01)
    for image in (thin, thick):
        assert any("tilted by 18.5 degrees" in note for note in image.notes)
        assert image.affine is not None
        assert np.linalg.norm(image.affine[:3, 0]) == pytest.approx(image.spacing_mm[0])
        assert abs(image.affine[:3, 0] @ image.affine[:3, 1]) < 1e-6


def test_tilted_slices_given_together_are_refused(shared: Find) -> None:
    files = tuple(sorted(shared("data/dicom_io/series_ct_gantry_tilt").iterdir()))
    with pytest.raises(BadImage, match="unevenly spaced|same place|slices are missing"):
        read_image(ImageRef(files[0].parent, files=files))


def test_mr_affine_agrees_with_the_header(shared: Find) -> None:
    (ref,) = list_images(shared("data/dicom_io/series_mr_t1_14slices"))
    image = read_image(ref)
    assert image.affine is not None
    for path in ref.files:
        dataset = pydicom.dcmread(path)
        corner = np.array([float(v) for v in dataset.ImagePositionPatient]) * [-1, -1, 1]
        place = np.linalg.solve(image.affine, [*corner, 1.0])
        assert place[1:3] == pytest.approx([0, 0], abs=1e-3)
        slice_ = image.pixels[0, round(place[0])]
        assert np.array_equal(slice_, read_image(path, values=True).pixels[0])


def test_nifti_corpus(shared: Find) -> None:
    root = shared("data/nifti_io")
    with open(root / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    read = refused = 0
    for row in rows:
        path = root / row["path"]
        if row["nibabel"] != "ok" or path.suffix == ".mgz" or "dconn" in path.name or ".img" in path.name:
            with pytest.raises(BadImage):
                if ".img" in path.name and row["nibabel"] == "ok":
                    raise BadImage("compared through its .hdr")
                read_image(ImageRef(path, index=0))
            refused += 1
            continue
        image = read_image(ImageRef(path, index=0))
        truth = nibabel.load(path)
        voxels = np.asarray(truth.dataobj, dtype=np.float32)
        voxels = voxels.reshape((*voxels.shape[:3], -1))[..., 0]
        good = np.isfinite(voxels)
        expected = np.where(good, voxels, voxels[good].min()).transpose(2, 1, 0)
        ours = image.pixels[0] if image.pixels.ndim == 4 else image.pixels
        assert np.allclose(ours, expected, rtol=1e-5, atol=1e-4), row["path"]
        if image.affine is not None:
            assert np.allclose(image.affine[:, [2, 1, 0, 3]], truth.affine, atol=1e-4), row["path"]
        read += 1
    print(f"nifti_io: {read} read, {refused} refused with a reason")
    assert read >= 18


def test_slides_are_refused_by_their_pages(shared: Find) -> None:
    root = shared("data/wsi_io")
    with pytest.raises(BadImage, match=r"whole-slide image with 4 pages \(0: 2967 x 2220"):
        read_image(root / "CMU-1-Small-Region.svs")
    assert read_image(ImageRef(root / "CMU-1-Small-Region.svs", index=1)).pixels.shape == (3, 768, 574)
    with pytest.raises(BadImage, match="15 pages"):
        read_image(root / "multi-channel-z-series.ome.tif")
    import tifffile

    truth = tifffile.imread(root / "multi-channel-z-series.ome.tif", key=7)
    assert np.array_equal(read_image(ImageRef(root / "multi-channel-z-series.ome.tif", index=7)).pixels[0], truth)


def test_files_that_pydicom_brings_along() -> None:
    from pydicom.data import get_testdata_files

    paths = sorted({Path(p) for p in get_testdata_files()})
    assert len(paths) > 60
    results = read_all([ImageRef(path) for path in paths])
    refused = {paths[k].name: r for k, r in results.items() if isinstance(r, BadImage)}
    assert not any("crashed" in r.what or "longer than" in r.what for r in refused.values())
    assert len(paths) - len(refused) >= 40
    print(f"pydicom's own: {len(paths) - len(refused)} read, {len(refused)} refused with a reason")
