"""The image generator: what it promises of programs, shapes, spectra and numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pretraining.fields import coordinates, posed, spectral
from pretraining.numbers import NUMBERS, as_seen, measured, of_program
from pretraining.pool import BLOCK, Pool, stream
from pretraining.programs import FAMILIES, Programs, draw_programs
from pretraining.render import MASKS, _of_mask, _rim, render
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


def number(numbers: torch.Tensor, name: str) -> torch.Tensor:
    return numbers[:, NUMBERS.index(name)]


def test_a_number_is_asked_for_only_where_it_means_something() -> None:
    programs = draw_programs(400)
    numbers = render(programs, size=32, draw=dice()).numbers
    count = number(numbers, "count of mask 1")
    family, fill = programs["family"][:, 0], programs["fill"][:, 0]
    counted = torch.isin(family, torch.tensor([FAMILIES.index(w) for w in ("scatter", "cells", "stripes")]))
    assert torch.equal(~count.isnan(), counted)
    assert torch.allclose(count[counted], programs["count"][counted, 0].log(), atol=0.8)
    blobs = family == FAMILIES.index("blobs")
    assert torch.equal(~number(numbers, "pitch of mask 1")[blobs].isnan(), fill[blobs] > 0.5)
    assert torch.equal(~number(numbers, "slope of mask 1")[blobs].isnan(), fill[blobs] <= 0.5)
    banded = programs["banded"][:, 0] > 0
    assert torch.equal(~number(numbers, "band of texture 1").isnan(), banded)
    assert torch.equal(number(numbers, "slope of texture 1").isnan(), banded)


def test_an_outline_is_as_large_as_its_number_says() -> None:
    programs = draw_programs(3000)
    plain = (programs["family"][:, 0] == FAMILIES.index("contour")) & (programs["field"] == 0)
    plain &= (programs["rings"][:, 0] == 0) & (programs["size"][:, 0] < 0.4) & (programs["amplitude"][:, 0] < 0.1)
    found = render(programs.rows(torch.nonzero(plain)[:, 0]), size=64, draw=dice())
    radius = (4 * number(found.numbers, "area of mask 1") / torch.pi).sqrt()  # of a picture that is 2 wide
    error = (radius.log() - number(found.numbers, "size of mask 1")).abs()
    assert len(error) > 10
    assert float(error.median()) < 0.06


def test_what_is_measured_is_measured_in_the_field_of_view() -> None:
    programs = draw_programs(600)
    found = render(programs, size=32, draw=dice())
    area = number(found.numbers, "area of mask 1")
    assert torch.allclose(area, found.masks[:, 0].mean((1, 2)), atol=1e-5)
    outside = found.masks[:, 3] < 0.01
    assert outside.any()
    for which in range(3):
        assert float(found.masks[:, which][outside].max()) < 0.01


def test_measures_of_masks_by_hand() -> None:
    masks = torch.zeros(1, 4, 8, 8)
    masks[0, 0, :, :4], masks[0, 1, 0, 7], masks[0, 3] = 1, 1, 1
    found = dict(zip(NUMBERS[-9:], measured(masks)[0].tolist(), strict=True))
    assert found["area of mask 1"] == 0.5
    assert found["area of mask 2"] == pytest.approx(1 / 64)
    assert found["distance of mask 2"] == pytest.approx(7 / 8 * 2**0.5)
    assert found["spread of mask 2"] == pytest.approx(0, abs=1e-3)
    assert (found["left against right"], found["top against bottom"]) == (1, 0)
    assert found["outline of mask 1"] == pytest.approx(np.log(8 / 7 + 0.1), abs=1e-5)
    masks[0, 1] = 0
    assert measured(masks)[0, 5:7].isnan().all()


def test_a_rim_lies_on_the_edge_and_is_as_wide_as_told() -> None:
    mask = torch.zeros(3, 96, 96)
    mask[:, :, 48:] = 1
    none, narrow, wide = _rim(mask, torch.tensor([0.0, 0.05, 0.3]))
    assert float(none.max()) == 0
    assert 0.85 < float(narrow[50, 47]) <= 1
    assert float(narrow[50, 40]) == 0
    assert (wide[50] > 0.1).sum() > 2 * (narrow[50] > 0.1).sum()
    assert float(wide[50, :30].max()) == 0
    assert float(_rim(torch.full((1, 96, 96), 0.4), torch.tensor([0.2])).max()) == 0  # soft, but without an edge


def test_numbers_follow_the_view() -> None:
    found = render(draw_programs(200), size=32, draw=dice())
    zoom, gray = torch.full((200,), 0.7), torch.arange(200) % 2 == 0
    seen = as_seen(found.numbers, found.masks, zoom=zoom, gray=gray)
    steps = {"size of mask 1": 0.7, "count of mask 2": -0.7, "pitch of mask 1": -0.7, "band of texture 3": -0.7}
    steps |= {"blur": 0.7, "field of view": 0.7, "slope of mask 1": 0.0, "edge of mask 1": 0.0, "light": 0.0}
    for name, step in steps.items():
        before, after = number(found.numbers, name), number(seen, name)
        assert torch.equal(before.isnan(), after.isnan()), name
        assert torch.allclose((after - before).nan_to_num(step), torch.tensor(step), atol=1e-5), name
    assert number(seen, "green of layer 2")[gray].isnan().all()
    assert torch.equal(number(seen, "green of layer 2")[~gray], number(found.numbers, "green of layer 2")[~gray])
    halved = as_seen(found.numbers, found.masks * 0.5, zoom=zoom, gray=gray)
    assert torch.allclose(number(halved, "area of mask 1"), 0.5 * number(seen, "area of mask 1"))


def test_scattered_shapes_are_as_large_as_their_number_says() -> None:
    p = {name: value.repeat(40, *[1] * (value.ndim - 1)) for name, value in draw_programs(1).values.items()}
    p["family"][:], p["fill"][:], p["oval"][:], p["amplitude"][:] = FAMILIES.index("scatter"), 1, 1, 1e-3
    p["edge"][:], p["count"][:] = 0.01, 4
    p["size"] = torch.linspace(0.3, 0.6, 40)[:, None].repeat(1, 2)  # small enough not to touch
    at = coordinates(96, torch.device("cpu")).expand(40, 96, 96, 2)
    area = draw_masks(p["family"][:, 0], _of_mask(p, 0), at, dice()).mean((1, 2))
    radius = of_program(p, torch.zeros(40))[:, NUMBERS.index("size of mask 1")].exp()
    wanted = torch.pi * (4 * radius).square() * 0.84  # mean square of the sizes of single shapes, 0.6 to 1.2
    assert torch.allclose(area, wanted, rtol=0.15)


def test_a_texture_looks_alike_at_any_size() -> None:
    programs = draw_programs(40)
    bare = {"noise": 0, "speckle": 0, "blur": 1e-3, "light": 0, "curve": 0, "field": 0, "rim": 0, "fill": 0}
    bare |= {"size": 1e-3, "banded": 1, "contrast": 0.1, "stretch": 1, "mode": 0, "empty": 0, "rings": 0}
    for name, value in bare.items():
        programs.values[name][:] = value
    programs.values["family"][:] = torch.tensor([FAMILIES.index("contour"), FAMILIES.index("scatter")])
    programs.values["colour"][:], programs.values["band"][:] = 0.5, 0.1
    found = []
    for size in (96, 160):
        power = torch.fft.rfft2(render(programs, size=size, draw=dice()).images[:, 0]).abs().square().mean(0)
        power[0, 0] = 0
        f = size * torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None])
        found.append(float((power * f).sum() / power.sum()))  # cycles a picture
    assert found[0] == pytest.approx(96 * 0.1, rel=0.1)
    assert found[1] == pytest.approx(found[0], rel=0.05)


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


@pytest.mark.slow
def test_a_pool_goes_to_what_it_held_at_any_time(tmp_path) -> None:
    programs, found = draw_programs(300), {}
    whole = pool(programs)
    for blocks in range(1, 6):
        whole.advance()
        found[blocks] = (whole.images.clone(), whole.ids.clone(), whole.numbers.clone())
    for folder in (None, tmp_path):
        moved = pool(programs, folder)
        for blocks in (5, 2, 4, 3, 2):
            moved.go_to(blocks)
            for one, other in zip(found[blocks], (moved.images, moved.ids, moved.numbers), strict=True):
                assert torch.equal(one.nan_to_num(9), other.nan_to_num(9)), blocks
    assert pool(programs, tmp_path).rendered == 2


def test_a_block_is_mixtures_then_whole_images() -> None:
    programs = draw_programs(300)
    found = pool(programs)
    found.advance()
    mixed = round(0.15 * BLOCK)
    assert (found.shares[:mixed] >= 0.5).all()
    assert (found.shares[:mixed] < 0.9).all()
    assert (found.shares[mixed:BLOCK] == 1).all()
    assert torch.equal(found.ids[mixed:BLOCK, 0], found.ids[mixed:BLOCK, 1])
    assert torch.equal(found.ids[:mixed, 1], found.ids[mixed : 2 * mixed, 0])
    alone = render(programs.rows(found.ids[:BLOCK, 0]), size=32, draw=dice(stream(5, "block", 0)))
    share = found.shares[:BLOCK, None, None, None]
    other = torch.cat([alone.images[mixed : 2 * mixed], alone.images[mixed:]])
    wanted = share * alone.images + (1 - share) * other
    assert (found.images[:BLOCK].float() - 255 * wanted).abs().max() <= 0.51
    masks = torch.nn.functional.avg_pool2d(alone.masks, 2)
    assert (found.masks[:BLOCK].float() - 255 * masks).abs().max() <= 0.51
    assert torch.equal(found.numbers[:BLOCK].nan_to_num(9), alone.numbers.nan_to_num(9))
    centre, spread = found.standards()
    column = found.numbers[:BLOCK, NUMBERS.index("size of mask 1")]
    column = column[~column.isnan()]
    assert float(centre[0]) == pytest.approx(float(column.mean()), abs=1e-5)
    assert float(spread[0]) == pytest.approx(float(column.std(correction=0)), abs=1e-5)


def test_streams_do_not_meet() -> None:
    found = {stream(seed, kind, k) for seed in (0, 1) for kind in ("step", "block") for k in range(2000)}
    assert len(found) == 8000


def test_a_pool_of_other_programs_begins_anew(tmp_path) -> None:
    pool(draw_programs(300), tmp_path).advance()
    assert pool(draw_programs(301), tmp_path).rendered == 0


def test_a_pool_that_other_code_rendered_begins_anew(tmp_path) -> None:
    pool(draw_programs(300), tmp_path).advance()
    said = tmp_path / "pool.json"
    made = json.loads(said.read_text())
    made["made"][-1] = "0" * 64
    said.write_text(json.dumps(made))
    assert pool(draw_programs(300), tmp_path).rendered == 0


def test_a_view_and_its_masks_show_the_same_place() -> None:
    grid = coordinates(96, torch.device("cpu"))
    disc = ((grid - torch.tensor([0.3, -0.2])).norm(dim=-1) < 0.4).float()
    images = (disc.expand(16, 3, 96, 96) * 200 + 20).byte()
    masks = (torch.nn.functional.avg_pool2d(disc.expand(16, 1, 96, 96), 2) * 255).byte()
    found = view(images, masks, size=64, area=(0.3, 1.0), gray=0.0, draw=dice())
    seen = torch.nn.functional.avg_pool2d(found.pixels.mean(1, keepdim=True), 4)
    for picture, mask in zip(seen, found.masks, strict=True):
        if 0.05 < float(mask.mean()) < 0.95:
            level = (float(picture.max()) + float(picture.min())) / 2
            agree = ((picture > level) == (mask > 0.5)).float().mean()
            assert agree > 0.95


def test_views_stay_in_the_picture_and_know_their_zoom() -> None:
    count = 400
    images = torch.full((count, 3, 64, 64), 200, dtype=torch.uint8)
    ramp = torch.linspace(0, 255, 32).byte().expand(count, 1, 32, 32)
    found = view(images, torch.cat([ramp, ramp.transpose(2, 3)], 1), size=64, area=(0.2, 0.5), gray=0.5, draw=dice())
    shown = found.masks
    # How fast two ramps run in a view says how much it is enlarged.
    steps = [torch.hypot(shown.diff(dim=3).mean((2, 3))[:, k], shown.diff(dim=2).mean((2, 3))[:, k]) for k in (0, 1)]
    zoom = -0.5 * (steps[0] * steps[1] * 16**2).log()
    assert float((zoom - found.zoom).abs().median()) < 0.05
    inside = torch.stack([shown.amin((2, 3)), 1 - shown.amax((2, 3))])
    reflected = (shown.diff(dim=3).sign().mean((2, 3)).abs() < 0.9) & (
        shown.diff(dim=2).sign().mean((2, 3)).abs() < 0.9
    )
    assert float(inside.min()) >= 0
    assert not reflected.any()
    assert 0.4 < found.gray.float().mean() < 0.6


def test_views_hardly_change_colour() -> None:
    images = torch.full((64, 3, 32, 32), 100, dtype=torch.uint8)
    images[:, 0] = 180
    masks = torch.zeros(64, 1, 16, 16, dtype=torch.uint8)
    found = view(images, masks, size=32, area=(0.5, 1.0), gray=0.3, draw=dice())
    red, green = found.pixels.mean((2, 3))[:, :2].unbind(1)
    assert found.gray.any()
    assert (red[~found.gray] > green[~found.gray] + 0.1).all()
    assert (red[found.gray] - green[found.gray]).abs().max() < 0.02
