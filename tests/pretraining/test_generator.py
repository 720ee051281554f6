"""The image generator: what it promises of programs, shapes, spectra and numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretraining.fields import coordinates, posed, spectral
from pretraining.pool import BLOCK, Pool
from pretraining.programs import FAMILIES, Programs, draw_programs
from pretraining.render import MASKS, NUMBERS, render
from pretraining.shapes import draw_masks
from pretraining.views import view


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_program_is_the_same_however_many_are_drawn() -> None:
    few, many = draw_programs(20, seed=3), draw_programs(500, seed=3)
    for name, value in few.values.items():
        assert torch.equal(value, many[name][:20]), name


def test_another_seed_gives_other_programs() -> None:
    assert not torch.equal(draw_programs(50, seed=0)["size"], draw_programs(50, seed=1)["size"])


def test_all_families_and_colour_models_occur() -> None:
    programs = draw_programs(2000)
    assert set(programs["family"][:, 0].tolist()) == set(range(len(FAMILIES)))
    assert set(programs["mode"].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("slope", [0.5, 2.0, 3.5])
def test_noise_has_the_spectrum_that_was_asked_for(slope: float) -> None:
    noise = spectral(dice(), slope=torch.full((64,), slope), size=64)
    power = torch.fft.rfft2(noise).abs().square().mean(0)
    fy, fx = torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)[None]
    f = torch.hypot(fy, fx)
    inside = (f > 0.05) & (f < 0.4)
    fitted = np.polyfit(f[inside].log().numpy(), power[inside].log().numpy(), 1)[0]
    assert fitted == pytest.approx(-slope, abs=0.1)


def test_noise_in_a_band_has_its_power_there() -> None:
    noise = spectral(dice(), slope=torch.zeros(64), size=64, band=torch.full((64,), 0.2))
    power = torch.fft.rfft2(noise).abs().square().mean(0)
    f = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)[None])
    assert float((power * f).sum() / power.sum()) == pytest.approx(0.2, abs=0.04)


def test_posing_moves_turns_and_scales() -> None:
    grid = coordinates(64, torch.device("cpu"))
    half = torch.tensor([torch.pi / 2])
    at = posed(grid, turn=half, scale=torch.tensor([2.0]), shift=torch.tensor([[0.5, 0.0]]))
    centre = at[0].norm(dim=-1).argmin()
    assert grid.view(-1, 2)[centre].tolist() == pytest.approx([0.5, 0.0], abs=0.04)
    assert (at[0, 10, 20] - at[0, 10, 21]).norm() == pytest.approx(1 / 64, abs=1e-4)


@pytest.mark.parametrize("family", range(len(FAMILIES)), ids=FAMILIES)
def test_every_family_draws_a_mask_that_is_neither_empty_nor_full(family: int) -> None:
    programs = draw_programs(64)
    from pretraining.render import _of_mask

    at = coordinates(48, torch.device("cpu")).expand(64, 48, 48, 2)
    masks = draw_masks(torch.full((64,), family), _of_mask(programs.values, 0), at, dice())
    assert masks.isfinite().all()
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1
    varied = masks.flatten(1).std(1) > 0.02
    assert varied.float().mean() > 0.8


def test_rendering_is_a_function_of_program_and_dice() -> None:
    programs = draw_programs(40)
    one, again, other = (render(programs, size=32, draw=dice(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.numbers.nan_to_num(9), again.numbers.nan_to_num(9))
    assert not torch.equal(one.images, other.images)


def test_images_masks_and_numbers_are_sound() -> None:
    found = render(draw_programs(300), size=32, draw=dice())
    assert found.images.shape == (300, 3, 32, 32)
    assert found.masks.shape == (300, len(MASKS), 32, 32)
    assert found.numbers.shape == (300, len(NUMBERS))
    for part in (found.images, found.masks):
        assert part.isfinite().all()
        assert float(part.min()) >= 0
        assert float(part.max()) <= 1
    assert not found.numbers.isinf().any()
    assert (found.images.flatten(1).std(1) > 0.005).float().mean() > 0.98


def test_gray_programs_have_no_colour() -> None:
    programs = draw_programs(200)
    images = render(programs, size=32, draw=dice()).images
    spread = (images.amax(1) - images.amin(1)).flatten(1).amax(1)
    assert float(spread[programs["mode"] == 0].max()) < 1e-5
    assert float(spread[programs["mode"] == 1].median()) > 0.05


def test_a_number_is_asked_for_only_where_it_means_something() -> None:
    programs = draw_programs(400)
    numbers = render(programs, size=32, draw=dice()).numbers
    count = numbers[:, NUMBERS.index("count of mask 1")]
    family = programs["family"][:, 0]
    counted = torch.isin(family, torch.tensor([FAMILIES.index(w) for w in ("scatter", "cells", "stripes")]))
    assert torch.equal(~count.isnan(), counted)
    assert torch.allclose(count[counted], programs["count"][counted, 0].log(), atol=0.4)


def test_area_in_the_numbers_is_the_area_of_the_mask() -> None:
    found = render(draw_programs(50), size=32, draw=dice())
    area = found.numbers[:, NUMBERS.index("area of mask 1")]
    assert torch.allclose(area, found.masks[:, 0].mean((1, 2)), atol=1e-5)


def pool(programs: Programs, folder: object = None) -> Pool:
    return Pool(programs, count=2 * BLOCK, size=32, seed=5, device=torch.device("cpu"), folder=folder)  # type: ignore[arg-type]


def test_every_program_comes_before_one_comes_again() -> None:
    found = pool(draw_programs(300))
    found.advance()
    found.advance()
    first = found.ids[:300, 0]
    assert sorted(first.tolist()) == list(range(300))


def test_a_pool_on_disk_goes_on_where_it_stopped(tmp_path) -> None:
    programs = draw_programs(300)
    whole = pool(programs)
    for _ in range(3):
        whole.advance()
    first = pool(programs, tmp_path)
    first.advance()
    again = pool(programs, tmp_path)
    assert again.rendered == 1
    again.advance()
    again.advance()
    assert torch.equal(whole.images, again.images)
    assert torch.equal(whole.ids, again.ids)


def test_a_pool_of_other_programs_begins_anew(tmp_path) -> None:
    pool(draw_programs(300), tmp_path).advance()
    assert pool(draw_programs(301), tmp_path).rendered == 0


def test_a_view_and_its_masks_show_the_same_place() -> None:
    grid = coordinates(96, torch.device("cpu"))
    disc = ((grid - torch.tensor([0.3, -0.2])).norm(dim=-1) < 0.4).float()
    images = (disc.expand(16, 3, 96, 96) * 200 + 20).byte()
    masks = (torch.nn.functional.avg_pool2d(disc.expand(16, 1, 96, 96), 2) * 255).byte()
    pixels, shown = view(images, masks, size=64, area=(0.3, 1.0), gray=0.0, draw=dice())
    seen = torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), 4)
    for picture, mask in zip(seen, shown, strict=True):
        if 0.05 < float(mask.mean()) < 0.95:
            level = (float(picture.max()) + float(picture.min())) / 2
            agree = ((picture > level) == (mask > 0.5)).float().mean()
            assert agree > 0.95


def test_views_hardly_change_colour() -> None:
    images = torch.full((64, 3, 32, 32), 100, dtype=torch.uint8)
    images[:, 0] = 180
    masks = torch.zeros(64, 1, 16, 16, dtype=torch.uint8)
    pixels, _ = view(images, masks, size=32, area=(0.5, 1.0), gray=0.0, draw=dice())
    assert (pixels.mean((2, 3))[:, 0] > pixels.mean((2, 3))[:, 1] + 0.1).all()
    gray, _ = view(images, masks, size=32, area=(0.5, 1.0), gray=1.0, draw=dice())
    assert (gray.mean((2, 3))[:, 0] - gray.mean((2, 3))[:, 1]).abs().max() < 0.02
