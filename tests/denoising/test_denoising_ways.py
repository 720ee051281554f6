"""Ways of taking noise away against known images: filters, windows, hidden pixels, a prior whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medgraft.denoising.blind import Foretold
from medgraft.denoising.crops import crops_of
from medgraft.denoising.filters import FILTERS, Filter, settled, shrunk
from medgraft.denoising.judge import Around, Case
from medgraft.denoising.planes import Levels, blind_error, cleaned_pixels, windowed
from medgraft.denoising.prior import Prior
from medgraft.denoising.shown import sheet_of
from medgraft.learn.engine import Engine
from medgraft.nets.denoiser import DenoiserForm
from medgraft.nets.diffusing import parts
from medgraft.nets.restorer import EVERY, RestorerForm
from medgraft.tasks.answers import Answers
from medgraft.tasks.denoise import Denoise
from medgraft.tasks.diffuse import Diffuse
from medgraft.values import Image
from tiny_noise import NOISE, clean_plane

LEVELS = Levels(0.0, 255.0, 100.0, 50.0, NOISE)


def noisy_plane(number: int = 0, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    plane = clean_plane(number, side)
    return plane, plane + NOISE * np.random.default_rng(number).standard_normal(plane.shape)


def test_wavelets_without_noise_change_nothing():
    for shape in ((33, 48), (7, 64)):
        plane = np.random.default_rng(0).standard_normal(shape)
        np.testing.assert_allclose(shrunk(plane, 0.0), plane, atol=1e-12)


def test_wavelets_take_pure_noise_away():
    noise = np.random.default_rng(0).standard_normal((64, 64))
    assert shrunk(noise, 1.0).std() < 0.25


@pytest.mark.parametrize("name", FILTERS)
def test_filters_come_nearer_to_the_clean_image(name: str):
    clean, noisy = noisy_plane()
    found = Filter(name).clean(noisy[None].astype(np.float32), LEVELS)[0]
    assert np.mean((found - clean) ** 2) < 0.5 * NOISE**2
    still = Levels(0.0, 255.0, 100.0, 50.0, 0.0)
    np.testing.assert_array_equal(
        Filter(name).clean(noisy[None].astype(np.float32), still)[0], noisy.astype(np.float32)
    )


def test_errors_at_hidden_pixels_are_true_errors_plus_the_noise():
    clean, noisy = noisy_plane(side=96)
    for way in (Filter("tv"), Filter("median"), Around()):
        found = way.clean(noisy[None].astype(np.float32), LEVELS)[0]
        true = np.mean((found - clean) ** 2)
        told = blind_error(noisy, way, LEVELS, phases=16) - NOISE**2
        # What is not shown is foretold a little worse than what is.
        assert -0.1 * NOISE**2 < told < true + 0.35 * NOISE**2, way


def test_the_strength_that_is_settled_on_is_near_the_best_one():
    clean, noisy = noisy_plane(side=96)
    chosen, error = settled("nlmeans", [(noisy, LEVELS)])
    errors = {
        strength: np.mean((Filter("nlmeans", strength).clean(noisy[None], LEVELS)[0] - clean) ** 2)
        for strength in (0.5, 0.75, 1.0, 1.5, 2.0)
    }
    assert errors[chosen.strength] < 1.5 * min(errors.values())
    assert 1.0 < error < 1.3


def test_windows_lie_together_without_seams():
    for shape, window in (((37, 50), (16, 16)), ((8, 8), (16, 16)), ((5, 20, 9), (8, 8, 8)), ((16, 16), (16, 16))):
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(windowed(values, window, lambda part: part), values, atol=1e-5)


def test_few_pixels_are_looked_at_together_and_no_more_windows_than_the_overlap_asks_for():
    asked: list[int] = []

    def work(windows: np.ndarray) -> np.ndarray:
        asked.append(len(windows))
        return windows

    values = np.random.default_rng(0).standard_normal((1100, 1100)).astype(np.float32)
    np.testing.assert_allclose(windowed(values, (512, 512), work, overlap=128), values, atol=1e-5)
    assert sum(asked) == 9 and max(asked) == 2


def test_what_is_foretold_of_a_pixel_does_not_depend_on_it_at_the_ends_either():
    torch.manual_seed(0)
    way = Foretold(Denoise(RestorerForm((4, 4, 4))).eval(), Engine("cpu", precision="fp32", channels_last=False))
    plane = np.random.default_rng(0).standard_normal((1, 10, 7)).astype(np.float32)  # the net takes 12 x 8
    plain, levels = way.clean(plane, LEVELS), LEVELS
    for place in ((0, 9, 6), (0, 9, 2), (0, 4, 6), (0, 8, 5), (0, 0, 0)):
        other = plane.copy()
        other[place] += 100
        assert way.clean(other, levels)[place] == pytest.approx(plain[place], abs=1e-4), place
        assert np.abs(way.clean(other, levels) - plain).max() > 0.01


def test_a_part_smaller_than_a_patch_shows_no_hidden_pixel_in_its_mirror():
    image = Image(np.arange(77, dtype=np.float32).reshape(1, 7, 11), (0.0, 255.0), "a")
    (crop,) = crops_of(image, "a", side=16, each=1, seed=0)
    values = np.unique(crop.pixels)
    assert crop.pixels.shape == (16, 16) and len(values) == 77
    for value in values:  # all copies of a pixel are hidden together
        rows, columns = np.nonzero(crop.pixels == value)
        assert len(set(rows % EVERY)) == 1 == len(set(columns % EVERY))


def test_equal_channels_are_cleaned_once_and_stay_equal():
    asked = []

    class Counts:
        name = "counts"

        def clean(self, solid: np.ndarray, levels: Levels) -> np.ndarray:
            asked.append(solid.shape)
            return solid - 1

    gray = np.repeat(np.random.default_rng(0).random((1, 6, 7)), 3, axis=0).astype(np.float32)
    np.testing.assert_allclose(cleaned_pixels(gray, Counts(), LEVELS), gray - 1)
    assert asked == [(1, 6, 7)]
    assert cleaned_pixels(np.zeros((1, 4, 6, 7), np.float32), Counts(), LEVELS).shape == (1, 4, 6, 7)


class Knows(torch.nn.Module):
    """A net that knows that every image is gray of 0.2, and says the v of it."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def forward(self, x_t: torch.Tensor, time: torch.Tensor, kinds: Any = None) -> torch.Tensor:
        self.times.append(float(time[0]))
        alpha, sigma = parts(time, side=16, ndim=x_t.ndim)
        eps = (x_t - alpha * 0.2) / sigma
        return alpha * eps - sigma * 0.2


@pytest.mark.parametrize("steps", [1, 4])
def test_a_prior_begins_where_there_is_as_much_noise_and_ends_at_what_it_knows(steps: int):
    task = Diffuse(DenoiserForm(2, 1, (8,), 1, 0), Answers(), side=16)
    task.net = Knows()  # type: ignore[assignment]
    engine = SimpleNamespace(device=torch.device("cpu"), autocast=torch.no_grad)
    run: Any = SimpleNamespace(task=task, shape=(1, 16, 16), engine=engine, folder="run")
    way = Prior(run, steps=steps)
    noisy = (153 + NOISE * np.random.default_rng(0).standard_normal((1, 20, 24))).astype(np.float32)
    found = way.clean(noisy, LEVELS)
    assert np.abs(found - 153).mean() < (0.01 if steps == 1 else 1.0)  # 0.2 in -1..1 is 0.6 of 255
    alpha, sigma = parts(torch.tensor([task.net.times[0]]), side=16, ndim=1)  # type: ignore[union-attr]
    assert float(sigma / alpha) == pytest.approx(2 * NOISE / 255, rel=1e-3)


def test_a_sheet_keeps_its_columns_where_only_some_images_have_a_clean_one():
    planes = [np.full((1, 12, 12), level, np.float32) for level in (10, 60)]
    cases = [Case("a", None, planes[0], None, LEVELS), Case("b", None, planes[1], planes[1], LEVELS)]
    whole = sheet_of(cases, planes)
    both = sheet_of(cases[1:], planes[1:])
    assert whole.shape[1] == both.shape[1]
    np.testing.assert_array_equal(whole[-both.shape[0] :], both)
