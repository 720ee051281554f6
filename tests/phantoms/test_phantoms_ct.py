"""Chest CT phantoms: HU where they belong, nodules where the truth says, and files that keep both."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from medgraft.errors import BadRecipe
from medgraft.files import list_images, read_image
from medgraft.phantoms import KINDS, Nodule, write_set
from medgraft.phantoms.bronchial import grow
from medgraft.phantoms.case import Case
from medgraft.phantoms.space import Grid, tubes
from medgraft.seeds import generator

SIZE = 64


@pytest.fixture(scope="module")
def scans() -> list[Case]:
    return [KINDS["ct_nodules"](index, seed=3, size=SIZE) for index in range(10)]


def nodules(case: Case) -> list[Nodule]:
    assert all(isinstance(one, Nodule) for one in case.lesions)
    return [one for one in case.lesions if isinstance(one, Nodule)]


def organ(case: Case, name: str) -> np.ndarray:
    assert case.anatomy is not None
    return case.anatomy == case.anatomy_names.index(name)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_scan_depends_on_seed_and_index_alone(scans: list[Case]):
    again = KINDS["ct_nodules"](4, seed=3, size=SIZE)
    np.testing.assert_array_equal(again.pixels, scans[4].pixels)
    np.testing.assert_array_equal(again.mask, scans[4].mask)
    assert again.lesions == scans[4].lesions
    other = KINDS["ct_nodules"](4, seed=4, size=SIZE)
    assert not np.array_equal(other.pixels, scans[4].pixels)


def test_tissues_have_their_hu(scans: list[Case]):
    for case in scans:
        assert case.pixels.dtype == np.int16 and case.pixels.shape == (SIZE // 2, SIZE, SIZE)
        hu = {name: float(np.median(case.pixels[organ(case, name)])) for name in case.anatomy_names[1:]}
        assert -910 < hu["right_lung"] < -780 and -910 < hu["left_lung"] < -780
        assert hu["bone"] > 150 > hu["heart"] - 150
        assert 20 < hu["heart"] < 330
        assert np.median(case.pixels[:, :3]) < -950


def test_lung_that_hangs_is_denser(scans: list[Case]):
    denser = []
    for case in scans:
        lung = organ(case, "right_lung") | organ(case, "left_lung")
        rows = np.flatnonzero(lung.any(axis=(0, 2)))
        front, back = np.array_split(rows, 3)[0], np.array_split(rows, 3)[2]
        means = [np.median(case.pixels[:, part][lung[:, part]]) for part in (front, back)]
        denser.append(means[1] - means[0])
    assert min(denser) > 0 and np.mean(denser) > 15


def test_one_scan_in_five_is_clear_and_the_label_says_so(scans: list[Case]):
    assert sum(not case.lesions for case in scans) == 2
    assert all((case.label == "nodule") == bool(case.lesions) for case in scans)
    assert max(len(case.lesions) for case in scans) <= 6


def test_boxes_masks_and_centres_agree(scans: list[Case]):
    for case in scans:
        assert case.boxes is not None and case.affine is not None
        found = nodules(case)
        assert len(case.boxes) == len(found) == case.mask.max()
        for number, (one, corners) in enumerate(zip(found, case.boxes.corners, strict=True), start=1):
            places = np.argwhere(case.mask == number)
            np.testing.assert_array_equal(corners[:3], places.min(axis=0)[::-1])
            np.testing.assert_array_equal(corners[3:], places.max(axis=0)[::-1] + 1)
            centre = np.array([one.slice, one.row, one.column])
            assert case.mask[tuple(np.rint(centre).astype(int))] == number
            np.testing.assert_allclose((case.affine @ [*centre, 1])[:3], one.ras_mm)
            assert 2 <= 2 * one.radius <= 33


def test_nodules_stand_out_from_lung_by_their_texture():
    seen: dict[str, list[float]] = {"solid": [], "ground_glass": []}
    for index in (0, 2, 5, 6, 8):
        case = KINDS["ct_nodules"](index, seed=1, size=96)
        for one in nodules(case):
            if one.texture in seen and one.radius > 4:
                seen[one.texture].append(float(case.pixels[round(one.slice), round(one.row), round(one.column)]))
    assert len(seen["solid"]) > 2 and np.median(seen["solid"]) > -100
    assert seen["ground_glass"] and -750 < np.median(seen["ground_glass"]) < -380


def test_left_is_left_in_ras(scans: list[Case]):
    case = scans[0]
    assert case.affine is not None
    sides = {name: np.argwhere(organ(case, name)).mean(axis=0) for name in ("left_lung", "right_lung", "heart", "bone")}
    ras = {name: (case.affine @ [*index, 1])[:3] for name, index in sides.items()}
    assert ras["left_lung"][0] < ras["heart"][0] < ras["right_lung"][0]
    assert ras["heart"][1] > ras["bone"][1], "the heart lies in front of the spine"
    assert ras["heart"][2] < ras["left_lung"][2]


def test_nifti_and_dicom_hold_the_same_scan_in_the_same_space(tmp_path: Path):
    write_set("ct_nodules", count=2, out=tmp_path / "nifti", seed=3, size=SIZE)
    manifest = write_set("ct_nodules", count=2, out=tmp_path / "dicom", seed=3, size=SIZE, form="dicom")
    series = list_images(manifest.parent / "images")
    assert len(series) == 2 and all(len(ref.files) == SIZE // 2 for ref in series)
    for index, ref in enumerate(sorted(series, key=lambda ref: str(ref.path))):
        case = KINDS["ct_nodules"](index, seed=3, size=SIZE)
        slices = read_image(ref)
        volume = read_image(tmp_path / "nifti" / "images" / f"{case.name}.nii.gz")
        assert slices.unit == "HU" and slices.facts["PatientID"] == case.patient
        np.testing.assert_array_equal(slices.pixels[0], case.pixels)
        np.testing.assert_array_equal(volume.pixels[0], case.pixels)
        assert slices.affine is not None and volume.affine is not None and case.affine is not None
        np.testing.assert_allclose(slices.affine, case.affine, atol=1e-4)
        np.testing.assert_allclose(volume.affine, case.affine, atol=1e-4)
        assert b"PHANTOM" in ref.files[0].read_bytes()


def test_tables_tell_the_truth(tmp_path: Path):
    manifest = write_set("ct_nodules", count=3, out=tmp_path, seed=5, size=48)
    rows, lesions, boxes = table(manifest), table(tmp_path / "lesions.csv"), table(tmp_path / "boxes.csv")
    assert list(rows[0])[:3] == ["path", "label", "patient"] and {"kernel", "dose", "sex", "age"} <= set(rows[0])
    assert {row["path"] for row in boxes} == {row["path"] for row in rows}  # also of a scan that has none
    boxes = [row for row in boxes if row["x0"]]
    assert len(lesions) == len(boxes) > 0
    masks = {row["path"]: read_image(tmp_path / row["mask"]) for row in rows}
    for lesion, box in zip(lesions, boxes, strict=True):
        mask = masks[lesion["path"]]
        x, y, z = (float(lesion[f"{axis}_voxel"]) for axis in "xyz")
        assert mask.pixels[0, round(z), round(y), round(x)] == float(lesion["value"])
        ras = mask.affine @ [z, y, x, 1]
        np.testing.assert_allclose(ras[:3], [float(lesion[f"{axis}_ras_mm"]) for axis in "xyz"], atol=0.02)
        assert float(lesion["x_lps_mm"]) == -float(lesion["x_ras_mm"]) and lesion["z_lps_mm"] == lesion["z_ras_mm"]
        assert box["path"] == lesion["path"] and box["label"] == "nodule"
        places = np.argwhere(mask.pixels[0] == float(lesion["value"]))
        assert [int(box[name]) for name in ("z0", "y0", "x0")] == places.min(axis=0).tolist()
        assert [int(box[name]) for name in ("z1", "y1", "x1")] == (places.max(axis=0) + 1).tolist()
    assert (tmp_path / "README.txt").read_text().startswith("PHANTOM")


@pytest.mark.parametrize("wrong", [{"form": "png"}, {"size": 16}, {"count": 0}])
def test_volumes_that_cannot_be_are_refused(wrong: dict, tmp_path: Path):
    with pytest.raises(BadRecipe):
        write_set("ct_nodules", out=tmp_path / "set", **{"count": 1, "size": 48, **wrong})
    assert not (tmp_path / "set").exists()


def test_a_tube_covers_its_volume_in_slices_thick_and_thin():
    line = np.stack([np.linspace(-20, 20, 160), np.linspace(-8, 8, 160), np.zeros(160)], axis=1)
    length = float(np.linalg.norm(line[-1] - line[0]))
    for thick in (1.0, 3.0):
        grid = Grid((round(60 / thick), 40, 40), (thick, 1.0, 1.0))
        volume = float(tubes(grid, line, radii=np.full(160, 3.0)).sum()) * thick
        assert volume == pytest.approx(np.pi * 9 * (length + 4), rel=0.1)


def test_a_tree_reaches_what_it_feeds_and_thins_out():
    rng = generator(0, "tree")
    targets = rng.uniform(-50, 50, (200, 3))
    tree = grow(rng, targets, root=np.array([0.0, 0, -60]), ahead=np.array([0.0, 0, 1]), radius=6.0)
    gaps = np.linalg.norm(targets[:, None] - tree.points[None], axis=-1).min(axis=1)
    assert gaps.max() < 3
    means = [tree.radii[tree.generation == age].mean() for age in range(6)]
    assert means == sorted(means, reverse=True)
