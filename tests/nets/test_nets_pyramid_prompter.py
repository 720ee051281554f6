"""The model of medgraft's own that outlines: what it is shown, where it is asked, and that it draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.errors import BadWeights
from medgraft.nets.prompt_loss import on_grid, prompt_loss
from medgraft.nets.prompt_net import GRID, SIDE, planes_of
from medgraft.nets.prompter import Answer, Candidates, size_prior
from medgraft.nets.prompter_sources import EMBEDDED, open_prompter
from medgraft.nets.pyramid_prompter import PyramidPrompter, opened, pasted, rebuilt, windows_of
from medgraft.samples.showing import box_prompt, overlap, point_prompt
from medgraft.values import Prompt
from medgraft.weights.tensors import load, parameters

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> PyramidPrompter:
    found = open_prompter("auto")
    assert isinstance(found, PyramidPrompter)
    return found


def disc(height: int = 200, width: int = 260, radius: int = 30) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    mask = (y - 90) ** 2 + (x - 150) ** 2 < radius**2
    gray = np.where(mask, 170, 80) + np.random.default_rng(0).normal(0, 8, mask.shape)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2), mask


def test_it_comes_with_the_package_and_is_small() -> None:
    assert EMBEDDED.stat().st_size < 12_000_000
    assert parameters(EMBEDDED) > 1_000_000
    assert EMBEDDED.with_suffix(".log.jsonl").is_file()


def test_a_disc_is_outlined_by_a_box_and_by_a_point(model: PyramidPrompter) -> None:
    picture, mask = disc()
    embedding = model.encode(picture)
    for prompt, least in ((box_prompt(mask), 0.85), (point_prompt(mask), 0.75)):
        told = model.decode(embedding, prompt)
        assert overlap(mask, told.masks[told.best]) > least


def test_what_is_foreseen_tells_a_structure_from_noise(model: PyramidPrompter) -> None:
    picture, mask = disc()
    told = model.decode(model.encode(picture), point_prompt(mask))
    real = np.array([overlap(mask, one) for one in told.masks])
    assert np.abs(told.quality - real).mean() < 0.35
    noise = np.random.default_rng(2).integers(60, 120, picture.shape).astype(np.uint8)
    nothing = model.decode(model.encode(noise), point_prompt(mask))
    assert np.median(nothing.quality) < np.median(told.quality) - 0.2  # it may see the whole picture as one


def test_a_picture_is_seen_once_and_asked_often(model: PyramidPrompter, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, mask = disc()
    embedding = model.encode(picture)
    monkeypatch.setattr(model.prompt_net.encoder, "forward", lambda *args, **words: pytest.fail("seen again"))
    first = model.decode(embedding, box_prompt(mask))
    second = model.decode(embedding, box_prompt(mask))
    assert (first.masks == second.masks).all()


def test_several_prompts_at_once_are_answered_as_one_by_one(model: PyramidPrompter) -> None:
    picture, _ = disc()
    embedding = model.encode(picture)
    prompts = [Prompt(points=np.array([[x, y, 1.0]])) for x, y in ((150, 90), (20, 20), (240, 180))]
    with torch.no_grad():
        together = model.answer(embedding, prompts)
        for row, prompt in enumerate(prompts):
            alone = model.answer(embedding, [prompt])
            torch.testing.assert_close(together.logits[row], alone.logits[0], atol=2e-3, rtol=1e-3)
            assert (together.edges[row] == alone.edges[0]).all()


def test_a_rough_mask_and_clicks_are_heard(model: PyramidPrompter) -> None:
    picture, mask = disc()
    embedding = model.encode(picture)
    rough = np.roll(mask, 4, axis=1)
    told = model.decode(embedding, Prompt(mask=rough))
    assert overlap(mask, told.masks[told.best]) > overlap(mask, rough)
    # A click outside, and the place is not drawn any more.
    point = [150.0, 90.0, 1.0]
    beside = model.decode(embedding, Prompt(np.array([point, [60.0, 90.0, 0.0]])))
    assert not beside.masks[beside.best][90, 60]


def test_windows_of_points_lie_in_the_picture_and_hold_the_points(model: PyramidPrompter) -> None:
    picture, _ = disc()
    embedding = model.encode(picture)
    prompt = Prompt(points=np.array([[3.0, 4.0, 1.0], [30.0, 50.0, 1.0], [250.0, 10.0, 0.0]]))
    windows = windows_of(embedding, prompt)
    assert len(windows) == len(embedding.features) - 1
    sides = [window.edges[2] - window.edges[0] for window in windows]
    assert sides == sorted(sides, reverse=True)
    for window in windows:
        x0, y0, x1, y1 = window.edges
        assert x1 - x0 == pytest.approx(y1 - y0)
        assert x0 <= 3.5
        assert y0 <= 4.5
        assert x1 >= 30.5
        assert y1 >= 50.5
        if x1 - x0 <= 200:
            assert x0 >= 0
            assert y0 >= 0
            assert x1 <= 260
            assert y1 <= 200


def test_of_candidates_that_look_alike_the_wider_one_is_meant(model: PyramidPrompter) -> None:
    edges = np.array([[10.0, 10, 90, 90], [30, 30, 70, 70], [40, 40, 60, 60]])
    prior = size_prior(edges)
    assert prior[0] == 1 and (np.diff(prior) < 0).all()
    assert prior[1] / prior[0] == pytest.approx(prior[2] / prior[1])  # each doubling counts alike
    assert (size_prior(np.repeat(edges[:1], 3, axis=0)) == 1).all()
    masks, same = np.zeros((3, 2, 2), bool), np.ones(3)
    assert Candidates(masks, np.array([0.7, 0.72, 0.71]), same, prior).best == 0
    assert Candidates(masks, np.array([0.4, 0.8, 0.7]), same, prior).best == 1  # what is clearly surer stays
    assert Candidates(masks, np.array([0.7, 0.72, 0.71]), same).best == 1
    told = model.decode(model.encode(np.full((64, 64, 3), 90, np.uint8)), Prompt(points=np.array([[32.0, 32, 1]])))
    assert told.prior is not None and len(told.prior) == len(told.masks)


def test_a_window_of_a_box_is_seen_at_a_size_that_fits_it(model: PyramidPrompter) -> None:
    picture, _ = disc()
    embedding = model.encode(picture)
    for side in (8.0, 40.0, 120.0, 190.0):
        [window] = windows_of(embedding, Prompt(boxes=np.array([[5.0, 5.0, 5 + side, 5 + side]])))
        frame = embedding.features[window.level].frame
        wide = (window.edges[2] - window.edges[0]) * max(frame.size) / 260
        assert wide <= 1.1 * SIDE or window.level == 0
        assert wide > 0.5 * SIDE or window.level == len(embedding.features) - 1


def test_planes_show_what_is_asked() -> None:
    windows = torch.tensor([[10.0, 20.0, 74.0, 84.0]])
    nan = torch.full((1, 4), float("nan"))
    points = torch.tensor([[[42.0, 52.0, 1.0], [12.0, 22.0, 0.0], [0.0, 0.0, -1.0]]])
    words = {"picture": torch.tensor([[0.0, 0.0, 60.0, 200.0]]), "before": torch.zeros(1, GRID, GRID)}
    planes = planes_of(windows, points=points, boxes=nan, **words)[0]
    assert planes[0, :, :50].min() == 1  # the picture ends at x = 60
    assert planes[0, :, 50:].max() == 0
    assert planes[1].max() == 0
    assert divmod(int(planes[2].argmax()), GRID) in {(31, 31), (31, 32), (32, 31), (32, 32)}
    assert divmod(int(planes[3].argmax()), GRID) in {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert torch.equal(planes[5], planes[2])
    boxed = planes_of(windows, points=points[:, 2:], boxes=torch.tensor([[20.0, 30.0, 36.0, 46.5]]), **words)[0]
    assert float(boxed[1].sum()) == pytest.approx(16 * 16.5)
    assert boxed[2].max() == 0
    assert boxed[5].max() > 0


def test_windows_are_laid_where_they_belong() -> None:
    y, x = torch.meshgrid(torch.arange(GRID) + 0.5, torch.arange(GRID) + 0.5, indexing="ij")
    ramp = (x + 100 * y)[None].float()  # says where it is
    edges = np.array([[10.0, 20.0, 74.0, 84.0]])
    laid = pasted(ramp, edges, (120.0, 100.0), (120, 100))[0]
    assert laid[5, 50] == -10
    assert laid[20, 9] == -10
    assert float(laid[50, 40]) == pytest.approx(40.5 - 10 + 100 * (50.5 - 20), abs=0.05)
    half = pasted(ramp, edges, (120.0, 100.0), (60, 50))[0]
    assert float(half[25, 20]) == pytest.approx(41 - 10 + 100 * (51 - 20), abs=0.05)


def test_the_net_is_built_again_from_what_it_says(model: PyramidPrompter) -> None:
    picture, mask = disc()
    other = rebuilt(model.described(), model.net.state_dict(), facts={"name": "again"}, where="here")
    one, two = (net.decode(net.encode(picture), box_prompt(mask)) for net in (model, other))
    assert (one.masks == two.masks).all()
    assert other.name == "again"


def test_weights_that_do_not_fit_are_refused(model: PyramidPrompter, tmp_path: Path) -> None:
    state = dict(load(EMBEDDED))
    state.pop("draw.bias")
    with pytest.raises(BadWeights, match="not those of the net"):
        rebuilt(model.described(), state, facts={}, where="here")
    bare = tmp_path / "bare.safetensors"
    from medgraft.weights.tensors import save

    save(bare, state=state, words={})
    with pytest.raises(BadWeights, match="does not say"):
        opened(bare, name="bare")


def test_a_grid_is_covered_by_areas() -> None:
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:6, 0:4] = 1
    shares = on_grid(masks, np.array([[0.0, 0.0, 8.0, 8.0]]), shape=(4, 4))[0]
    assert shares.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


def answer(mask: torch.Tensor, edges: list[list[float]], *, sure: float = 8.0, quality: float = 1.0) -> Answer:
    grid = torch.stack([on_grid(mask[None], np.array([one]), shape=(16, 16))[0] for one in edges])
    return Answer((2 * grid - 1)[None] * sure, torch.full((1, len(edges)), quality), np.array([edges]))


def test_the_loss_of_a_right_answer_is_small_and_of_a_wrong_one_large() -> None:
    mask = torch.zeros(32, 32)
    mask[8:24, 8:24] = 1
    whole = [0.0, 0.0, 32.0, 32.0]
    right = prompt_loss(answer(mask, [whole]), mask[None])
    wrong = prompt_loss(answer(1 - mask, [whole]), mask[None])
    unsure = prompt_loss(answer(mask, [whole], quality=0.2), mask[None])
    assert right < 0.02
    assert wrong > 1
    assert unsure > right + 0.2


def test_the_best_candidate_of_one_place_learns_alone() -> None:
    mask = torch.zeros(32, 32)
    mask[8:24, 8:24] = 1
    whole = [0.0, 0.0, 32.0, 32.0]
    told = answer(mask, [whole, whole])
    told.logits[0, 1] *= -1  # the second is all wrong
    told.quality[0] = torch.tensor([1.0, 0.0])
    logits = told.logits.clone().requires_grad_(True)
    prompt_loss(Answer(logits, told.quality, told.edges), mask[None]).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].abs().sum() == 0
    assert logits.grad[0, 0].abs().sum() > 0


def test_a_window_that_holds_little_of_a_structure_need_not_draw_it() -> None:
    mask = torch.zeros(32, 32)
    mask[0:32, 0:16] = 1
    near, far = [0.0, 0.0, 32.0, 32.0], [12.0, 12.0, 20.0, 20.0]
    told = answer(mask, [near, far])
    logits = (told.logits * 0).requires_grad_(True)
    prompt_loss(Answer(logits, told.quality, told.edges), mask[None]).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].abs().sum() < 0.05 * logits.grad[0, 0].abs().sum()
