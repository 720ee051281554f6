"""Structures followed through volumes: balls on grids of every order of axes, and where it stops."""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bright import Bright, Doubtful

import medgraft as mg
from medgraft.errors import BadRecipe

SHAPE, CENTRE, RADIUS = (26, 40, 48), (12, 22, 18), 8
STEPS = (2.0, 1.0, 1.5)  # mm along d, h, w of the upright volume


def ball() -> np.ndarray:
    """A ball in the upright volume `(D, H, W)`: slices to the head, rows to the back, columns to the left."""
    away = sum((index - middle) ** 2 for index, middle in zip(np.indices(SHAPE), CENTRE, strict=True))
    return away <= RADIUS**2


def write(path: Path, solid: np.ndarray, *, order: tuple[int, ...] = (0, 1, 2), flips: tuple[int, ...] = ()) -> Path:
    """Write an upright volume with its axes in another order and direction, and the affine that says so."""
    upright = np.zeros((4, 4))
    # Index (d, h, w) -> RAS: to the head, to the back (-y), to the left (-x).
    upright[2, 0], upright[1, 1], upright[0, 2], upright[3, 3] = STEPS[0], -STEPS[1], -STEPS[2], 1
    turned = np.flip(solid.transpose(order), flips)
    place = np.zeros((4, 4))
    place[3, 3] = 1
    for axis, source in enumerate(order):
        sign = -1 if axis in flips else 1
        place[source, axis] = sign
        place[source, 3] += 0 if sign == 1 else solid.shape[source] - 1
    affine = upright @ place
    # nibabel counts i, j, k, the other way round.
    image = nibabel.Nifti1Image(np.ascontiguousarray(turned.T), affine[:, [2, 1, 0, 3]])
    image.to_filename(path)
    return path


def scan(path: Path, **words: tuple[int, ...]) -> Path:
    return write(path, np.where(ball(), 200, 0).astype(np.int16), **words)


def stored(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).T  # type: ignore[attr-defined]


ORDERS = [
    (order, flips)
    for order, flips in product(permutations(range(3)), ((), (0,), (1, 2), (0, 1, 2)))
    if flips in ((), (0, 1, 2)) or order in ((0, 1, 2), (2, 0, 1))
]


@pytest.mark.parametrize(("order", "flips"), ORDERS)
def test_a_ball_is_found_whole_on_the_grid_of_its_file(tmp_path, order, flips):
    path = scan(tmp_path / "scan.nii.gz", order=order, flips=flips)
    box = (CENTRE[2] - 10, CENTRE[1] - 10, CENTRE[2] + 11, CENTRE[1] + 11)
    out = tmp_path / "out"
    found = mg.outline(path, box=box, slice=CENTRE[0], out=out, backbone=Bright())
    truth = stored(path) > 0
    assert (found.labels != truth).sum() <= 2  # the poles are single voxels, a tenth of the slice before
    written = nibabel.load(out / "mask.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj).T, found.labels)  # type: ignore[attr-defined]
    assert np.allclose(written.affine, nibabel.load(path).affine)  # type: ignore[attr-defined]
    (row,) = found.rows
    assert row["volume_ml"] == pytest.approx(truth.sum() * 3 / 1000, rel=0.01)
    middle = [-STEPS[2] * CENTRE[2], -STEPS[1] * CENTRE[1], STEPS[0] * CENTRE[0]]
    assert [row[f"ras_{name}_mm"] for name in "xyz"] == pytest.approx(middle, abs=0.05)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_any_axis_may_be_followed(tmp_path, axis):
    path = scan(tmp_path / "scan.nii.gz")
    number = ("axial", "coronal", "sagittal").index(axis)
    rows, columns = (k for k in range(3) if k != number)
    box = (CENTRE[columns] - 10, CENTRE[rows] - 10, CENTRE[columns] + 11, CENTRE[rows] + 11)
    found = mg.outline(path, box=box, slice=CENTRE[number], axis=axis, backbone=Bright())
    assert (found.labels != ball()).sum() <= 2


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), ()), ((2, 0, 1), (1, 2)), ((1, 2, 0), (0, 1, 2))])
def test_a_point_in_voxels_of_the_file_says_slice_and_place(tmp_path, order, flips):
    path = scan(tmp_path / "scan.nii.gz", order=order, flips=flips)
    truth = stored(path) > 0
    z, y, x = np.argwhere(truth).mean(axis=0).round()
    found = mg.outline(path, points=[(x, y, z)], backbone=Bright())
    assert (found.labels != truth).sum() <= 2


def test_it_stops_where_the_structure_leaks_into_another(tmp_path):
    solid = np.where(ball(), 200, 0).astype(np.int16)
    solid[CENTRE[0] + 4 :, 5:38, 5:45] = 200
    path = write(tmp_path / "scan.nii.gz", solid)
    found = mg.outline(path, points=[(CENTRE[2], CENTRE[1], CENTRE[0])], backbone=Wide())
    levels = np.flatnonzero(found.labels.any(axis=(1, 2)))
    assert levels.max() == CENTRE[0] + 3 and levels.min() <= CENTRE[0] - RADIUS + 1
    assert "the area jumped" in found.rows[0]["ends"]


class Wide(Bright):
    """Does not keep to the box."""

    def _candidates(self, gray, prompt):
        from medgraft.values import Prompt

        return super()._candidates(gray, Prompt(prompt.points))


def test_it_stops_where_the_model_is_no_longer_sure(tmp_path):
    column = np.zeros(SHAPE, np.int16)
    column[:, 10:20, 10:20] = 200
    path = write(tmp_path / "scan.nii.gz", column)
    sure = mg.outline(path, points=[(14, 14, 12)], backbone=Bright())
    assert sure.rows[0]["slices"] == SHAPE[0] and sure.rows[0]["ends"] == "the volume ends; the volume ends"
    doubtful = mg.outline(path, points=[(14, 14, 12)], backbone=Doubtful())
    # 0.9 ** 3 is above 0.7 and 0.9 ** 4 is not; downwards it has seen even more slices.
    assert doubtful.rows[0]["slices"] == 4 and "not sure" in doubtful.rows[0]["ends"]


def test_it_stops_where_there_is_nothing_more_and_sees_no_slice_twice(tmp_path):
    column, model = np.zeros(SHAPE, np.int16), Bright()
    column[5:18, 10:20, 10:20] = 200
    found = mg.outline(write(tmp_path / "scan.nii.gz", column), points=[(14, 14, 12)], backbone=model)
    assert found.rows[0]["ends"] == "nothing was found; nothing was found"
    assert np.array_equal(found.labels == 1, column > 0)
    assert model.encoded == found.rows[0]["slices"] + 2


def test_several_structures_are_followed_together(tmp_path):
    solid = np.zeros(SHAPE, np.int16)
    solid[4:20, 5:15, 5:15], solid[8:24, 22:34, 25:40] = 100, 200
    model = Bright()
    found = mg.outline(
        write(tmp_path / "scan.nii.gz", solid), box=[(3, 3, 17, 17), (23, 20, 42, 36)], slice=12, backbone=model
    )
    assert np.array_equal(found.labels, np.where(solid == 100, 1, np.where(solid == 200, 2, 0)))
    assert model.encoded <= SHAPE[0]


def test_a_point_on_another_slice_is_heard_there(tmp_path):
    model = Bright()
    path = scan(tmp_path / "scan.nii.gz")
    mg.outline(path, points=[(18, 22, 12), (19, 23, 15), (40, 2, 15, 0)], backbone=model)
    assert [one for one in model.asked if len(one.points) == 3 and {0.0, 1.0} == set(one.points[:, 2])]


def test_a_box_without_a_slice_is_taken_to_be_on_the_middle_one_which_is_said(tmp_path):
    said: list[str] = []
    listen = lambda event: said.append(event.get("text", ""))  # noqa: E731
    found = mg.outline(scan(tmp_path / "scan.nii.gz"), box=(8, 12, 29, 33), backbone=Bright(), listen=listen)
    assert found.rows[0]["slice"] == SHAPE[0] // 2 and (found.labels != ball()).sum() <= 2
    assert any("middle one, 13" in text for text in said)


def test_a_box_may_lie_on_the_slice_of_a_point(tmp_path):
    model = Bright()
    path = scan(tmp_path / "scan.nii.gz")
    found = mg.outline(path, box=(8, 12, 29, 33), points=[(18, 22, 10)], backbone=model)
    assert found.rows[0]["slice"] == 10 and len(model.asked[0].boxes) == len(model.asked[0].points) == 1
    assert (found.labels != ball()).sum() <= 2


@pytest.mark.parametrize("flips", [(), (2,), (0, 1), (0, 1, 2)])
def test_a_box_beside_a_point_is_in_voxels_of_the_file_too(tmp_path, flips):
    order = (0, 2, 1)
    path = scan(tmp_path / "scan.nii.gz", order=order, flips=flips)
    truth = stored(path) > 0
    z, y, x = (int(v) for v in np.argwhere(truth).mean(axis=0).round())
    model = Bright()
    found = mg.outline(path, box=(x - 10, y - 9, x + 11, y + 12), points=[(x, y, z)], backbone=model)
    assert (found.labels != truth).sum() <= 2
    (box,) = model.asked[0].boxes
    assert (box[2] - box[0], box[3] - box[1]) == (21, 21)
    # The y of this file goes across the upright slice, backwards where it is flipped.
    assert (box[1] - CENTRE[1], box[0] - CENTRE[2]) == (-10, -11 if 1 in flips else -9)


def test_a_box_across_the_slices_is_refused(tmp_path):
    path = scan(tmp_path / "scan.nii.gz", order=(1, 0, 2))
    with pytest.raises(BadRecipe, match="x and y of the file"):
        mg.outline(path, box=(8, 4, 29, 21), points=[(18, 12, 22)], backbone=Bright())


def test_of_several_structures_each_hears_the_points_in_its_own_box(tmp_path):
    solid, model = np.zeros(SHAPE, np.int16), Bright()
    solid[4:20, 5:15, 5:15], solid[4:20, 22:34, 25:40] = 100, 200
    path = write(tmp_path / "scan.nii.gz", solid)
    boxes = [(3, 3, 17, 17), (23, 20, 42, 36)]
    mg.outline(path, box=boxes, points=[(10, 10, 12), (30, 28, 12), (30, 28, 14)], backbone=model)
    heard = [one for one in model.asked if len(one.points) == 2]
    assert len(heard) == 1 and heard[0].boxes[0, 0] > 20


def test_a_mask_of_the_whole_volume_gives_its_slice(tmp_path):
    path = scan(tmp_path / "scan.nii.gz", order=(2, 0, 1), flips=(1,))
    guess = write(tmp_path / "guess.nii.gz", ball().astype(np.uint8), order=(2, 0, 1), flips=(1,))
    model = Bright()
    found = mg.outline(path, mask=guess, slice=10, backbone=model)
    assert np.array_equal(model.asked[0].mask, ball()[10])
    assert (found.labels != (stored(path) > 0)).sum() <= 2


def test_a_mask_of_the_whole_volume_is_cut_where_a_point_says(tmp_path):
    path, model = scan(tmp_path / "scan.nii.gz"), Bright()
    guess = write(tmp_path / "guess.nii.gz", ball().astype(np.uint8))
    mg.outline(path, mask=guess, points=[(18, 22, 8)], backbone=model)
    assert np.array_equal(model.asked[0].mask, ball()[8])
    mg.outline(path, mask=ball(), points=[(18, 22, 9)], backbone=(again := Bright()))
    assert np.array_equal(again.asked[0].mask, ball()[9])


def test_a_mask_that_is_elsewhere_says_where(tmp_path):
    one = np.zeros(SHAPE, bool)
    one[6] = ball()[12]
    with pytest.raises(BadRecipe, match=r"empty on slice 13.*--slice 6"):
        mg.outline(scan(tmp_path / "scan.nii.gz"), mask=one, backbone=Bright())


def test_outlines_of_a_volume_name_their_slice(tmp_path):
    out = tmp_path / "out"
    found = mg.outline(scan(tmp_path / "scan.nii.gz"), points=[(18, 22, 12)], out=out, backbone=Bright())
    features = json.loads((out / "outlines.geojson").read_text())["features"]
    planes = [one["geometry"]["plane"]["z"] for one in features]
    assert planes == np.flatnonzero(found.labels.any(axis=(1, 2))).tolist()
    assert (out / "overlay.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"slice": 26, "box": (1, 1, 9, 9)}, "Give 0 to 25"),
        ({"points": [(5, 5)]}, "no point of a volume"),
        ({"box": (8, 12, 29, 33), "points": [(40, 22, 12)]}, "outside of the box"),
        ({"box": (8, 12, 29, 33), "points": [(40, 22)], "slice": 12}, "outside of the box"),
        ({"points": [(5, 5, 30)]}, "outside of the volume"),
        ({"points": [(5, 5, 5, 0)]}, "no point is in the structure"),
        ({"everything": True}, "this is a volume"),
        ({}, "nothing is shown"),
        ({"box": (100, 1, 109, 9)}, "outside of the image"),
    ],
)
def test_a_wrong_prompt_of_a_volume_is_refused(tmp_path, words, said):
    with pytest.raises(BadRecipe, match=said):
        mg.outline(scan(tmp_path / "scan.nii.gz"), backbone=Bright(), **words)
