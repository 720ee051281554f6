"""Tissue is told from glass of any colour, and a slide without glass is all tissue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medgraft.phantoms import slide_of
from medgraft.phantoms.canvas import bent
from medgraft.phantoms.endless import Window
from medgraft.samples.tissue import otsu, tissue_mask

SIZE, PITCH = (640, 480), 8.0


@pytest.fixture(scope="module", params=["H&E", "PAS", "trichrome", "silver"])
def slide(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """A small picture of a slide, and where its tissue is."""
    plan = slide_of(4, seed=1, size=SIZE, um_per_px=PITCH, stain=request.param, piece="kidney")
    window = Window(0, 0, SIZE[1], SIZE[0], PITCH)
    return plan.window(0, 0, width=SIZE[0], height=SIZE[1]), plan.tissue(window, *bent(plan.plane, window)) > 0


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("glass", [(1, 1, 1), (0.75, 0.75, 0.75), (1, 0.92, 0.7), (0.8, 0.9, 1)])
def test_the_mask_is_the_tissue_whatever_the_glass(glass: tuple[float, float, float], slide):
    picture, truth = slide
    assert overlap(tissue_mask((picture * np.array(glass)).astype(np.uint8)), truth) > 0.93


def test_faint_tissue_counts_beside_dark_tissue(slide):
    picture, truth = slide
    pale = picture.astype(float)
    pale[:, 320:] = 240 - (240 - np.minimum(pale[:, 320:], 240)) * 0.5
    found = tissue_mask(pale.astype(np.uint8))
    assert overlap(found[:, 320:], truth[:, 320:]) > 0.85 and overlap(found, truth) > 0.88


def test_specks_and_padding_are_no_tissue(slide):
    picture, truth = slide
    spoilt = picture.copy()
    spoilt[5:8, 5:8] = (60, 40, 90)
    spoilt[:, -40:] = 0
    found = tissue_mask(spoilt)
    assert not found[:12, :12].any() and not found[:, -38:].any() and overlap(found[:, :-45], truth[:, :-45]) > 0.9


def test_a_slide_without_glass_is_all_tissue():
    rng = np.random.default_rng(0)
    texture = np.repeat(np.repeat(rng.integers(90, 230, (60, 80, 3)), 4, 0), 4, 1).astype(np.uint8)
    assert tissue_mask(texture).all()
    plan = slide_of(0, seed=3, size=(4000, 4000), um_per_px=1.0, piece="kidney")
    inside = plan.window(1700, 900, width=320, height=320)
    assert tissue_mask(inside).mean() > 0.85


def test_empty_glass_has_no_tissue():
    rng = np.random.default_rng(0)
    glass = np.clip(238 + rng.normal(0, 1.5, (300, 400, 3)), 0, 255).astype(np.uint8)
    assert not tissue_mask(glass).any()


def test_small_holes_are_filled_and_large_ones_stay():
    picture = np.full((400, 400, 3), 240, np.uint8)
    rng = np.random.default_rng(1)
    picture[40:360, 40:360] = rng.integers(120, 200, (320, 320, 3))
    picture[80:95, 80:95] = 240
    picture[180:300, 180:300] = 240
    found = tissue_mask(picture)
    assert found[80:95, 80:95].all() and not found[190:290, 190:290].any()


def test_otsu_parts_two_heaps_in_the_middle():
    values = np.concatenate([np.full(900, 0.1), np.full(50, 0.9)])
    assert otsu(values) == pytest.approx(0.5, abs=0.05)


def test_a_real_slide(shared: Callable[[str], Path]):
    from medgraft.files import open_slide

    with open_slide(shared("data/wsi_io") / "CMU-1-Small-Region.svs") as slide:
        picture = slide.overview(700)
    found = tissue_mask(picture)
    assert 0.3 < found.mean() < 0.45
    assert picture[~found].mean() > 235 and picture[found].mean() < 190
