"""Maps of boxes that a detector in volumes found: of the very score, in the file's own voxels, checked, written."""

from __future__ import annotations

import json
from functools import partial
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import medgraft as mg
from medgraft.detection.volumes.explained import ExplainedScanBox, part_around
from medgraft.detection.volumes.opened import VolumeRun
from medgraft.errors import BadData, BadImage, BadRecipe, UnknownName
from medgraft.files import save_nifti, save_png, write_series
from medgraft.learn.volume_detector import VolumeForm, graft_volume_detector, save_volume_detector
from medgraft.nets.volume_detector import VolumeFinderForm
from medgraft.samples.framing import FrameForm, framed
from medgraft.scores.hits import HitRule
from medgraft.tasks.detect_volume import DetectVolume
from medgraft.values import Batch, Boxes, ImageRef

pytest.importorskip("monai", reason="boxes.arm retinanet needs the extra volume")

SHAPE, SPACING = (16, 64, 32), np.array([3.0, 1.0, 2.0])  # 24 x 32 x 32 voxels of 2 mm
AFFINE = np.array([[0.0, 0, -2.0, 30], [0, -1.0, 0, 20], [3.0, 0, 0, -100], [0, 0, 0, 1]])
FORM = VolumeForm(
    FrameForm((2.0, 2.0, 2.0), "all", ((500.0, 1500.0),)),
    VolumeFinderForm(maps=2, context=1, anchors=((4.0, 4.0, 4.0), (6.0, 6.0, 6.0)), width=16, most=20),
    patch=(24, 32, 32),
    window=(32, 48, 48),
    lap=(12, 16, 16),
)


def draw(seed: int, *, times: int = 1) -> tuple[np.ndarray, Boxes]:
    """Get a scan with a bright ball and a bright rod that is none, int16 `(D, H, W)`, and the ball's box."""
    random = np.random.default_rng(seed)
    shape = (SHAPE[0], SHAPE[1], times * SHAPE[2])
    z, y, x = (grid * step for grid, step in zip(np.ogrid[: shape[0], : shape[1], : shape[2]], SPACING, strict=True))
    centre = [random.uniform(10, side * step - 10) for side, step in zip(shape, SPACING, strict=True)]
    ball = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 6.0**2
    rod = (y - 16) ** 2 + (x - 16) ** 2 < 16 + 0 * z
    values = random.normal(0, 100, shape) + np.where(rod | ball, 1000.0, 0)
    places = np.argwhere(ball)
    corners = np.array([[*places.min(axis=0)[::-1], *(places.max(axis=0)[::-1] + 1)]], float)
    return values.astype(np.int16), Boxes(corners, ("ball",))


def turned(values: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Get a scan with its axes in another order, some of them backwards, and its affine: it lies where it lay."""
    moved, affine = values.transpose(order), AFFINE[:, [*order, 3]].copy()
    for axis in np.flatnonzero(flips):
        affine[:, 3] += affine[:, axis] * (moved.shape[axis] - 1)
        affine[:, axis] *= -1
    return np.ascontiguousarray(np.flip(moved, tuple(axis for axis in range(3) if flips[axis]))), affine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Get the folder of a run that knows balls well enough, without a training of hours."""
    out = tmp_path_factory.mktemp("run")
    task = graft_volume_detector(("ball",), FORM, backbone_name="embedded:resnet10t_small", hit=HitRule("centre", 0.5))
    task.thaw(len(task.backbone.stages))
    with torch.no_grad():
        task.head.get_parameter("to_classes.bias").fill_(-2.0)  # findings are not rare here, and steps are few
    optimiser = torch.optim.AdamW([one for one in task.parameters() if one.requires_grad], lr=3e-3)
    task.train()
    for step in range(60):
        rows = []
        for seed in range(4 * step, 4 * step + 4):
            values, boxes = draw(seed)
            save_nifti(out / "scan.nii.gz", values, affine=AFFINE, effort=0)
            rows.append((framed(ImageRef(out / "scan.nii.gz"), FORM.frame), boxes))
        inside = [Boxes(seen.frame.boxes(boxes.corners), boxes.labels) for seen, boxes in rows]
        pixels = torch.stack([network(task, seen.voxels) for seen, _ in rows])
        for _, loss in task.losses(Batch(pixels, ("",) * 4, torch.from_numpy(task.encode(inside)))):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    task.threshold = (0.2,)
    spec = task.backbone.weights_spec.to_dict()
    built = {"architecture": task.backbone.architecture, "options": task.backbone.options}
    card = {"task": "detect", "classes": ["ball"], "backbone": built, "form": FORM.to_dict(), "threshold": [0.2]}
    card |= {"hit": {"rule": "centre", "iou": 0.5}, "weights_spec": spec, "gray": task.backbone.gray}
    card |= {"precision": "fp32", "channels_last": False, "seed": 0}
    save_volume_detector(out / "model.safetensors", task, card=card)
    (out / "report.json").write_text(json.dumps({"task": "detect", "arm": "retinanet", "scores": {"test": {}}}))
    return out


def network(task: Any, voxels: np.ndarray) -> torch.Tensor:
    from medgraft.samples.loader import normalised

    return normalised(voxels[None], task.backbone.spec)[0]


@pytest.fixture(scope="module")
def run(folder: Path) -> VolumeRun:
    opened = mg.open_run(folder, device="cpu")
    assert isinstance(opened, VolumeRun)
    return opened


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave hiding and showing out: it takes a hundred passes."""
    monkeypatch.setattr("medgraft.explanation.box_cams._BUDGET", {"cpu": 0})


def peak(one: ExplainedScanBox) -> np.ndarray:
    return np.array(np.unravel_index(int(one.map.argmax()), one.space.shape))


def test_the_odds_are_those_of_the_score_that_was_given(run: VolumeRun, tmp_path: Path):
    save_nifti(tmp_path / "a.nii.gz", draw(1000)[0], affine=AFFINE)
    pixels = network(run.task, framed(ImageRef(tmp_path / "a.nii.gz"), FORM.frame).voxels)[None]
    head, levels = run.task.head, run.task.backbone(pixels, 0, 3)
    (found,) = head.found(levels, pixels)
    assert len(found["boxes"]) > 3
    places = head.places(levels, pixels, boxes=found["boxes"], labels=found["labels"])
    assert len(set(places.tolist())) == len(places)
    both = head.odds([torch.cat([one, -one]) for one in levels], pixels, places=places, labels=found["labels"])
    torch.testing.assert_close(both[0].sigmoid(), found["scores"], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(both[0], both[1])


def test_maps_point_at_balls_that_were_not_seen_before(run: VolumeRun, tmp_path: Path, unchecked: None):
    inside, share, near = [], [], 0
    for seed in range(1000, 1006):
        values, truth = draw(seed)
        save_nifti(tmp_path / f"{seed}.nii.gz", values, affine=AFFINE)
        one = run.explain(tmp_path / f"{seed}.nii.gz")[0]
        assert one.map.shape == SHAPE and one.map.dtype == np.float32 and one.map.min() == 0 and one.map.max() == 1
        assert one.alone == pytest.approx(one.score, abs=1e-3)  # the part is the whole scan
        assert one.sanity.deletion is None
        middle = (truth.corners[0, :3] + truth.corners[0, 3:])[::-1] / 2 - 0.5
        near += bool(np.linalg.norm((peak(one) - middle) * SPACING) < 8)
        inside.append(one.inside)
        share.append(one.share)
    assert near >= 5 and np.mean(inside) > 5 * np.mean(share)


def test_a_map_lies_on_the_file_whatever_the_order_of_its_axes(run: VolumeRun, tmp_path: Path, unchecked: None):
    values, _ = draw(1001, times=3)  # longer than a window, and what is looked at is a part of it
    save_nifti(tmp_path / "a.nii.gz", values, affine=AFFINE)
    plain = run.explain(tmp_path / "a.nii.gz")[0]
    assert plain.values.shape < plain.map.shape and abs(plain.alone - plain.score) < 0.15
    every = list(product(permutations(range(3)), product((False, True), repeat=3)))
    for order, flips in every[5::9]:
        file, affine = turned(values, order, flips)
        save_nifti(tmp_path / "b.nii.gz", file, affine=affine)
        other = run.explain(str(tmp_path / "b.nii.gz"))[0]
        np.testing.assert_allclose(other.map, turned(plain.map, order, flips)[0], atol=1e-4)
        assert other.pointed == plain.pointed and other.inside == pytest.approx(plain.inside, abs=1e-4)


def test_files_rows_and_the_page_are_written(folder: Path, tmp_path: Path):
    values, truth = draw(1000)
    save_nifti(tmp_path / "in" / "a.nii.gz", values, affine=AFFINE)
    facts = {"Modality": "CT", "RescaleIntercept": "-2000", "RescaleSlope": "1", "PatientID": "p"}
    write_series(tmp_path / "in" / "series", (values + 2000).astype(np.uint16), affine=AFFINE, facts=facts)
    save_nifti(tmp_path / "in" / "empty.nii.gz", np.full(SHAPE, -200, np.int16), affine=AFFINE)
    save_png(tmp_path / "in" / "flat.png", np.zeros((32, 32), np.uint8))
    told = mg.explain(folder, tmp_path / "in", out=tmp_path / "maps", device="cpu")
    maps = [row for row in told["images"] if "error" not in row]
    (flat,) = [row for row in told["images"] if "error" in row]
    assert "flat" in flat["key"] and "is flat" in flat["error"]
    assert [Path(one).name for one in told["nothing"]] == ["empty.nii.gz"]
    assert told["method"] == "hirescam" and told["count"] == len(maps) >= 2
    assert {Path(row["key"]).name for row in maps} == {"a.nii.gz", "series"}
    for row in maps:
        made = nibabel.load(tmp_path / "maps" / row["files"]["nifti"])
        assert (tmp_path / "maps" / row["files"]["png"]).exists()
        own = np.asarray(made.dataobj).T  # type: ignore[attr-defined]
        assert own.max() == 1 and own.min() == 0
        there = np.unravel_index(int(own.argmax()), own.shape)
        x0, y0, z0, x1, y1, z1 = row["box"]
        lies = [np.floor(a) <= k < np.ceil(b) for a, b, k in zip((z0, y0, x0), (z1, y1, x1), there, strict=True)]
        assert row["pointed"] == all(lies)
        middle = np.array([x0 + x1, y0 + y1, z0 + z1, 2]) / 2 - [0.5, 0.5, 0.5, 0]
        np.testing.assert_allclose(row["centre_ras_mm"], (made.affine @ middle)[:3], atol=0.05)  # type: ignore
        assert row["answer"] == "ball" and 0 < row["part"] < 0.2 and 0 <= row["inside"] <= 1
        assert row["looked"][:3] == [0, 0, 0] and -1 <= row["randomised"] <= 1
    first = next(row for row in maps if row["key"].endswith("a.nii.gz"))
    made = nibabel.load(tmp_path / "maps" / first["files"]["nifti"])
    scan = nibabel.load(tmp_path / "in" / "a.nii.gz")
    assert made.shape == scan.shape and np.array_equal(made.affine, scan.affine)  # type: ignore[attr-defined]
    assert first["faults"] == [] and 0 <= first["deletion"] < first["insertion"] <= 1
    centre = (truth.corners[0, :3] + truth.corners[0, 3:]) / 2
    assert (np.abs((np.array(first["box"][:3]) + first["box"][3:]) / 2 - centre) * SPACING[::-1] < 4).all()
    page = (tmp_path / "maps" / "explain.html").read_text()
    assert page.count("<img") == len(maps) and "of what was looked at" in page and "Pointed at the box" in page


def test_pictures_show_three_planes_without_the_map_and_under_it(run: VolumeRun, tmp_path: Path, unchecked: None):
    from medgraft.detection.volumes.explained import planes_of
    from medgraft.samples.scan import read_scan

    file, affine = turned(draw(1000)[0], (2, 0, 1), (True, False, True))
    save_nifti(tmp_path / "a.nii.gz", file, affine=affine)
    one = run.explain(tmp_path / "a.nii.gz")[0]
    picture = planes_of(read_scan(ImageRef(tmp_path / "a.nii.gz")), one, window=(500.0, 1500.0)).astype(int)
    above, below = picture[:128], picture[-128:]
    assert above.shape == below.shape and above.shape[1] > 3 * 128
    warmth = np.abs(below - above).sum(axis=2)
    for first in (0, 130, 260):  # warmest near the middle of each plane, where the box is
        plane = warmth[:, first : first + 128]
        assert plane[40:88, 40:88].mean() > 3 * plane[[*range(20), *range(108, 128)]].mean()


def test_tables_name_scans_and_what_cannot_be_explained_is_said(folder: Path, run: VolumeRun, tmp_path: Path):
    save_nifti(tmp_path / "a.nii.gz", np.full(SHAPE, -200, np.int16), affine=AFFINE)
    save_png(tmp_path / "flat.png", np.zeros((32, 32), np.uint8))
    (tmp_path / "boxes.csv").write_text("path,label\na.nii.gz,ball\na.nii.gz,ball\n")
    told = mg.explain(run, tmp_path / "boxes.csv", out=tmp_path / "maps")
    assert told["images"] == [] and len(told["nothing"]) == 1
    with pytest.raises(BadData, match="is flat"):
        mg.explain(run, tmp_path / "flat.png", out=tmp_path / "maps")
    with pytest.raises(BadImage, match="is flat"):
        run.explain(tmp_path / "flat.png")
    with pytest.raises(BadRecipe, match="whole images"):
        mg.explain(run, tmp_path / "a.nii.gz", out=tmp_path / "maps", method="occlusion")
    with pytest.raises(UnknownName, match="Known: ball"):
        run.explain(tmp_path / "a.nii.gz", target="rod")


@given(
    shape=st.tuples(*[st.integers(5, 200)] * 3),
    where=st.tuples(*[st.floats(0, 1)] * 3),
    sides=st.tuples(*[st.floats(1, 30)] * 3),
)
def test_the_part_holds_the_box_and_lies_on_the_places_of_a_window(shape: Any, where: Any, sides: Any):
    task: Any = SimpleNamespace(steps=(4, 8, 8), window=(32, 48, 48), lap=(12, 16, 16))
    begins = task.begins = partial(DetectVolume.begins, task)
    low = np.array([share * max(0, size - side) for share, size, side in zip(where, shape, sides, strict=True)])
    high = np.minimum(low + sides, shape)
    start, size = part_around(task, np.array([*low[::-1], *high[::-1]]), shape=shape, patch=(24, 32, 32))
    for axis in range(3):
        assert 0 <= start[axis] < shape[axis] and size[axis] % task.steps[axis] == 0
        assert any((start[axis] - begin) % task.steps[axis] == 0 for begin in begins(shape)[axis])
        middle = (low[axis] + high[axis]) / 2
        assert start[axis] <= middle < start[axis] + size[axis]
        if high[axis] - low[axis] <= 12:  # twice as wide is no more than the patch, places of the net aside
            assert start[axis] - task.steps[axis] < low[axis] and high[axis] <= start[axis] + size[axis]
