"""Scenes with every structure known, prompts for them, and the training of the model that outlines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.nets.prompt_net import GRID
from medgraft.weights.tensors import metadata
from pretraining import outline, scene_pool
from pretraining.programs import draw_programs
from pretraining.prompting import VIEW, batch, one
from pretraining.scenes import MOST_STRUCTURES, Scene, draw_scenes

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    programs = draw_programs(64)
    draw = torch.Generator().manual_seed(3)
    ids, others = torch.arange(12), torch.arange(20, 32)
    return draw_scenes(programs.rows(ids), programs.rows(others), size=96, draw=draw)


def test_structures_can_be_told_from_what_is_around_them(scenes: list[Scene]) -> None:
    assert sum(len(scene.structures) for scene in scenes) > 40
    for scene in scenes:
        assert scene.picture.shape == (3, 96, 96)
        assert scene.picture.dtype == np.uint8
        assert scene.structures.dtype == bool
        assert len(scene.structures) <= MOST_STRUCTURES
        sizes = scene.structures.sum(axis=(1, 2))
        assert (np.diff(sizes) <= 0).all()
        assert (sizes > 8).all()
        assert (sizes < 0.71 * 96**2).all()


def test_no_structure_comes_twice(scenes: list[Scene]) -> None:
    for scene in scenes:
        for k, first in enumerate(scene.structures):
            for other in scene.structures[k + 1 :]:
                assert not (first == other).all()


def test_scenes_are_a_function_of_seed_and_block() -> None:
    first, again = (scene_pool.drawn_block(3, size=48, seed=1) for _ in range(2))
    other = scene_pool.drawn_block(4, size=48, seed=1)
    assert all((a.picture == b.picture).all() for a, b in zip(first, again, strict=True))
    assert any((a.picture != b.picture).any() for a, b in zip(first, other, strict=True))


def test_prompts_show_what_is_wanted(scenes: list[Scene]) -> None:
    dice = np.random.default_rng(0)
    for _ in range(60):
        asked = one(scenes[int(dice.integers(len(scenes)))], dice)
        assert asked.pixels.shape == (3, VIEW, VIEW)
        assert asked.wanted.shape == (GRID, GRID)
        inside, beyond = float(asked.wanted.sum()), float(asked.beyond)
        x0, y0, x1, y1 = asked.windows.tolist()
        assert x1 - x0 == pytest.approx(y1 - y0, rel=1e-4)
        if not asked.boxes.isnan().any():
            assert beyond < 0.1 * inside + 12  # a window around a box holds all of its structure
        shown = asked.points[asked.points[:, 2] == 1]
        for x, y, _ in shown.tolist():
            column, row = int((x - x0) / (x1 - x0) * GRID), int((y - y0) / (y1 - y0) * GRID)
            near = asked.wanted[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
            assert near.max() > 0.3


def test_a_batch_is_a_function_of_seed_and_step(scenes: list[Scene]) -> None:
    first, again, other = (batch(scenes, count=4, seed=0, step=step) for step in (5, 5, 6))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.wanted, again.wanted)
    assert not torch.equal(first.pixels, other.pixels)
    assert 0 <= float(first.pixels.min()) <= float(first.pixels.max()) <= 1


def test_a_click_corrects_an_answer(scenes: list[Scene]) -> None:
    asked = batch(scenes, count=4, seed=0, step=1)
    logits = torch.full((4, GRID, GRID), -5.0)  # nothing was drawn
    points, before = outline.corrected(asked, logits, np.random.default_rng(0))
    assert (points[:, -1, 2] == 1).all()
    assert float(before.max()) < -0.9
    assert float(outline.overlaps(logits, asked).max()) == 0


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scene_pool, "BLOCK", 6)
    words = ["scene_pool", "--out", str(tmp_path / "scenes"), "--blocks", "1", "--size", "64"]
    monkeypatch.setattr(sys, "argv", words)
    scene_pool.main()
    return tmp_path / "scenes"


def test_scenes_are_kept_and_others_are_not_mixed_in(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = scene_pool.read_scenes(pool)
    assert 0 < len(found) <= 6
    monkeypatch.setattr(sys, "argv", ["scene_pool", "--out", str(pool), "--size", "32"])
    with pytest.raises(SystemExit):
        scene_pool.main()


@pytest.mark.slow
def test_a_training_in_calls_is_exported_and_opens(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "prompters" / "tiny.safetensors"
    monkeypatch.setattr(outline, "EMBEDDED", target)
    words = ["outline", "--scenes", str(pool), "--out", str(tmp_path / "run"), "--batch", "2", "--hours", "0.003"]
    for minutes in ("0.09", "5"):
        monkeypatch.setattr(sys, "argv", [*words, "--minutes", minutes])
        outline.main()
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["event"] for row in log if row["event"] != "steps"] == ["begin", "stopped", "again", "done"]
    monkeypatch.setattr(sys, "argv", ["outline", "--out", str(tmp_path / "run"), "--export"])
    outline.main()
    from medgraft.nets.pyramid_prompter import opened

    model = opened(target, name="tiny")
    assert model.licence == "Apache-2.0"
    assert json.loads(metadata(target)["provenance"])["steps"] == log[-1]["step"]
