"""A detector in volumes: it learns a ball by heart, says where it is, leaves ignored places alone, reads any size."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch

from medgraft.errors import BadRecipe
from medgraft.nets import volume_backbone
from medgraft.nets.volume_detector import VolumeBoxHead, VolumeFinderForm, VolumePyramid
from medgraft.scores.hits import HitRule
from medgraft.scores.overlap import iou
from medgraft.tasks.answers import Answers
from medgraft.tasks.detect_volume import DetectVolume, agreed, once
from medgraft.tasks.windows import starts_of
from medgraft.values import Batch, Boxes

pytest.importorskip("monai", reason="boxes.arm retinanet needs the extra volume")
FORM = VolumeFinderForm(maps=2, context=1, anchors=((4.0, 4.0, 4.0), (6.0, 6.0, 6.0)), width=16, most=20)
PATCH = (16, 24, 24)


def balls(seed: int, *, size: tuple[int, int, int] = PATCH) -> tuple[torch.Tensor, Boxes]:
    """Get a noisy volume `(1, 1, D, H, W)` with a bright ball and a bright rod that is none, and the ball's box."""
    random = np.random.default_rng(seed)
    d, h, w = np.ogrid[: size[0], : size[1], : size[2]]
    centre = np.array([random.uniform(5, side - 5) for side in size])
    ball = (d - centre[0]) ** 2 + (h - centre[1]) ** 2 + (w - centre[2]) ** 2 < 3.0**2
    row, column = random.uniform(2, size[1] - 2), random.uniform(2, size[2] - 2)
    rod = (h - row) ** 2 + (w - column) ** 2 < 4 + 0 * d
    values = random.normal(0, 0.1, size) + np.where(rod & ~ball, 1.0, 0) + np.where(ball, 1.0, 0)
    places = np.argwhere(ball)
    corners = [*places.min(axis=0)[::-1], *(places.max(axis=0)[::-1] + 1)]
    return torch.from_numpy(values).float()[None, None], Boxes(np.array([corners], float), ("ball",))


def grafted(window: tuple[int, int, int] = (64, 64, 64)) -> DetectVolume:
    net = volume_backbone("embedded:resnet10t_small", channels=1, size=PATCH)
    torch.manual_seed(0)
    head = VolumeBoxHead(net.channels, outputs=1, form=FORM)
    task = DetectVolume(net, head, Answers(classes=("ball",)), window=window, lap=(8, 8, 8), hit=HitRule("centre", 0.5))
    task.thaw(len(net.stages))
    return task


@pytest.fixture(scope="module")
def learnt() -> DetectVolume:
    task = grafted()
    optimiser = torch.optim.AdamW([one for one in task.parameters() if one.requires_grad], lr=3e-3)
    task.train()
    for step in range(90):
        rows = [balls(12 * step + k) for k in range(12)]
        targets = torch.from_numpy(task.encode([boxes for _, boxes in rows]))
        for _, loss in task.losses(Batch(torch.cat([pixels for pixels, _ in rows]), ("a",) * 12, targets)):
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 5.0)
            optimiser.step()
    return task.eval()


def middle(boxes: Boxes, row: int = 0) -> np.ndarray:
    return (boxes.corners[row, :3] + boxes.corners[row, 3:]) / 2


def test_it_finds_balls_that_it_has_not_seen_and_not_the_rod(learnt: DetectVolume):
    near = 0
    for seed in range(5000, 5010):
        pixels, truth = balls(seed)
        found = learnt.predict(Batch(pixels, ("x",)))[0].boxes
        assert found is not None and found.scores is not None
        near += len(found) > 0 and bool((np.abs(middle(found) - middle(truth)) < 2).all())
    assert near >= 8


def test_windows_find_what_the_whole_finds_once(learnt: DetectVolume):
    pixels, truth = balls(2000, size=(40, 72, 72))
    whole = learnt.predict(Batch(pixels, ("x",)))[0].boxes
    in_parts = grafted(window=(32, 40, 40))
    in_parts.load_state_dict(learnt.state_dict())
    parts = in_parts.eval().predict(Batch(pixels, ("x",)))[0].boxes
    assert whole is not None and parts is not None and parts.scores is not None
    for found in (whole, parts):
        np.testing.assert_allclose(middle(found), middle(truth), atol=2)
    alike = iou(parts.corners, parts.corners) - np.eye(len(parts))
    assert len(parts) > 1 and alike.max() <= 0.15


def test_a_size_that_no_map_divides_is_filled_up_and_boxes_stay_inside(learnt: DetectVolume):
    pixels, _ = balls(3000, size=(27, 35, 41))
    found = learnt.predict(Batch(pixels, ("x",)))[0].boxes
    assert found is not None and len(found)
    middles = (found.corners[:, :3] + found.corners[:, 3:]) / 2
    assert (middles >= 0).all() and (middles < [41, 35, 27]).all()


def test_an_ignored_box_teaches_nothing():
    task = grafted()
    pixels, truth = balls(1)
    levels = task.backbone(pixels, 0, 3)
    whole = torch.tensor([[-9.0, -9, -9, 33, 33, 25]])
    none = torch.zeros(0, 6)
    empty = {"boxes": none, "labels": torch.zeros(0, dtype=torch.int64), "ignored": whole}
    assert float(task.head.losses(levels, pixels, targets=[empty]).detach()) < 1e-6
    real = {**empty, "ignored": none}
    assert float(task.head.losses(levels, pixels, targets=[real]).detach()) > 1e-3
    assert len(truth) == 1


def test_more_maps_than_levels_and_a_missing_library_are_said(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BadRecipe, match="2 levels"):
        VolumeBoxHead([8, 8], outputs=1, form=VolumeFinderForm(maps=3))
    real = builtins.__import__

    def without(name: str, *given, **words):
        if name.startswith("monai"):
            raise ImportError(name)
        return real(name, *given, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadRecipe, match=r"medgraft\[volume\]"):
        VolumeBoxHead([8, 8, 8], outputs=1, form=FORM)


def test_the_pyramid_has_one_map_a_level_and_the_finest_hears_of_the_coarsest():
    pyramid = VolumePyramid([4, 8, 16], width=8, maps=2)
    levels = [torch.randn(1, c, 16 // s, 16 // s, 16 // s, requires_grad=True) for c, s in ((4, 1), (8, 2), (16, 4))]
    maps = pyramid(levels)
    assert [tuple(one.shape) for one in maps] == [(1, 8, 16, 16, 16), (1, 8, 8, 8, 8)]
    maps[0].sum().backward()
    assert levels[2].grad is not None and float(levels[2].grad.abs().sum()) > 0


def test_windows_cover_an_axis_and_the_surest_of_the_same_stays():
    for size in range(1, 200):
        starts = starts_of(size, 64, 16)
        assert starts[0] == 0 and max(starts) + 64 >= size
        assert all(b - a <= 48 for a, b in zip(starts, starts[1:], strict=False))
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [0.0, 0, 0, 4, 4, 5], [0.0, 0, 0, 4, 4, 4], [9.0, 9, 9, 12, 12, 12]])
    kept = once(boxes, torch.tensor([0, 0, 1, 0]), torch.tensor([0.5, 0.9, 0.3, 0.1]), most=9)
    assert kept.tolist() == [1, 2, 3]


def test_four_looks_find_what_one_finds_and_agree_on_its_place(learnt: DetectVolume):
    pixels, truth = balls(5003)
    learnt.mirrored = True
    found = learnt.predict(Batch(pixels, ("x",)))[0].boxes
    learnt.mirrored = False
    assert found is not None
    np.testing.assert_allclose(middle(found), middle(truth), atol=2)


def test_looks_are_joined_by_the_mean_of_their_scores_and_a_miss_counts():
    def look(*rows: tuple[list[float], float]) -> dict[str, torch.Tensor]:
        boxes = torch.tensor([box for box, _ in rows]).reshape(-1, 6)
        labels = torch.zeros(len(rows), dtype=torch.int64)
        return {"boxes": boxes, "labels": labels, "scores": torch.tensor([score for _, score in rows])}

    here, beside, away = [0.0, 0, 0, 4, 4, 4], [0.0, 0, 0, 4, 4, 5], [9.0, 9, 9, 12, 12, 12]
    told = agreed(
        [look((here, 0.8), (beside, 0.1)), look((beside, 0.4), (away, 0.6)), look(), look((here, 0.2))], most=9
    )
    np.testing.assert_allclose(told["scores"], [(0.8 + 0.4 + 0.2) / 4, 0.6 / 4], rtol=1e-6)
    np.testing.assert_allclose(told["boxes"][0], [0, 0, 0, 4, 4, 4 + 0.5 / 1.5], rtol=1e-6)
    assert len(agreed([look(), look()], most=9)["boxes"]) == 0
