"""How a structure is shown: by its box, its innermost pixel, and clicks where an answer errs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgraft.samples.presets import preset
from medgraft.samples.prompted import KINDS, JudgedPictures, PromptedPictures, Shown, drawn_prompt
from medgraft.samples.showing import box_prompt, corrected, innermost, overlap, parts_of, point_prompt
from medgraft.values import Prompt


def two_discs() -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return ((y - 20) ** 2 + (x - 40) ** 2 < 12**2) | ((y - 8) ** 2 + (x - 8) ** 2 < 5**2)


def test_parts_come_by_their_size() -> None:
    parts = parts_of(two_discs(), most=5)
    assert [bool(part[20, 40]) for part in parts] == [True, False]
    assert len(parts_of(two_discs(), most=1)) == 1


def test_the_innermost_pixel_of_a_disc_is_its_middle() -> None:
    assert innermost(parts_of(two_discs(), most=1)[0]) == (40.0, 20.0)
    assert point_prompt(two_discs()).points.tolist() == [[40.0, 20.0, 1.0]]


def test_an_empty_mask_has_no_innermost_pixel() -> None:
    with pytest.raises(ValueError, match="empty"):
        innermost(np.zeros((4, 4), bool))


def test_a_box_counts_edges() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    assert box_prompt(mask).boxes.tolist() == [[3.0, 2.0, 9.0, 5.0]]


def test_a_click_goes_where_most_is_wrong_and_says_what_is_right() -> None:
    mask, drawn = np.zeros((30, 30), bool), np.zeros((30, 30), bool)
    mask[2:8, 2:8] = True  # missed, 6 wide
    drawn[12:28, 12:28] = True  # drawn falsely, 16 wide
    again = corrected(Prompt(points=np.array([[4.0, 4.0, 1.0]])), mask, drawn)
    x, y, label = again.points[-1]
    assert label == 0
    assert drawn[int(y), int(x)]
    assert again.mask is not None
    assert corrected(again, mask, mask) is again


def test_overlaps_by_hand() -> None:
    one, other = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    one[:2], other[1:3] = True, True
    assert overlap(one, other) == pytest.approx(4 / 12)
    assert overlap(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1.0


@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 5))
def test_a_drawn_prompt_shows_its_structure(seed: int, kind: str, count: int) -> None:
    dice = np.random.default_rng(seed)
    mask = np.zeros((30, 40), bool)
    top, left = int(dice.integers(0, 20)), int(dice.integers(0, 30))
    mask[top : top + int(dice.integers(1, 10)), left : left + int(dice.integers(1, 10))] = True
    prompt = drawn_prompt(mask, kind, dice, count=count if kind == "points" else 1)
    for x, y, label in prompt.points:
        assert mask[int(y), int(x)] == bool(label)
    if kind != "box":
        assert prompt.points[0, 2] == 1
    if kind.startswith("box"):
        box, exact = prompt.boxes[0], box_prompt(mask).boxes[0]
        size = np.tile(exact[2:] - exact[:2], 2)
        assert (np.abs(box - exact) <= 0.1 * size + 1e-9).all()
        assert (box >= 0).all()
        assert (box <= [40, 30, 40, 30]).all()


def shown(count: int = 3) -> list[Shown]:
    numbers = np.zeros((40, 60), np.uint16)
    numbers[4:14, 5:20], numbers[20:36, 30:50] = 1, 2
    picture = np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    empty = Shown("empty", picture, np.zeros((40, 60), np.uint16), ())
    return [*(Shown(f"p{k}", picture, numbers, ("a", "b")) for k in range(count)), empty]


def test_an_epoch_is_the_same_each_time_and_goes_on_where_it_stopped() -> None:
    source = PromptedPictures(shown(), looks=2, seed=3)
    assert len(source) == 6  # what has no structure is left out
    whole, rest = list(source.epoch(1)), list(source.epoch(1, start_step=4))
    for one, other in zip(whole[4:], rest, strict=True):
        assert (one.pixels == other.pixels).all()
        assert (one.targets == other.targets).all()  # type: ignore[union-attr]
        assert all((a.points == b.points).all() for a, b in zip(one.prompts, other.prompts, strict=True))
    assert any((one.pixels != other.pixels).any() for one, other in zip(whole, source.epoch(2), strict=True))


def test_masks_turn_with_their_picture() -> None:
    numbers = np.zeros((40, 60), np.uint16)
    numbers[4:14, 5:20] = 1
    picture = np.repeat((numbers > 0)[..., None], 3, axis=2).astype(np.uint8) * 200
    source = PromptedPictures([Shown("one", picture, numbers, ("a",))], looks=12, lit=0.0)
    for batch in source.epoch(0):
        assert ((batch.pixels[0, 0] > 0) == (batch.targets[0, 0] > 0)).all()  # type: ignore[index]


def test_a_preset_moves_masks_with_their_picture_and_keeps_what_has_sides_upright() -> None:
    numbers = np.zeros((60, 80), np.uint8)
    numbers[10:30, 10:60], numbers[35:50, 20:40] = 1, 2
    picture = np.repeat((numbers > 0)[..., None], 3, axis=2).astype(np.uint8) * 200
    chest = preset("chest")
    moves = chest.with_(**{name: 0.0 for name in ("brightness", "contrast", "gamma", "blur_p", "noise_p")})
    source = PromptedPictures([Shown("one", picture, numbers, ("a", "b"))], looks=12, preset=moves, seed=4)
    changed = 0
    for batch in source.epoch(0):
        inside = batch.targets[0].amax(dim=0) > 0  # type: ignore[index]
        agree = ((batch.pixels[0, 0] > 100) == inside).float().mean()
        assert agree > 0.97  # all but the rim, which is between both
        tops = [int(np.flatnonzero(mask.any(axis=1))[0]) for mask in batch.targets[0].numpy()]  # type: ignore[index]
        sizes = [int(mask.sum()) for mask in batch.targets[0]]  # type: ignore[index]
        if len(tops) == 2:  # the larger one stays above
            assert tops[int(np.argmax(sizes))] < tops[int(np.argmin(sizes))]
        changed += int((batch.pixels[0].permute(1, 2, 0).numpy() != picture).any())
    assert changed == 12


def test_what_is_moved_out_of_the_picture_is_shown_where_it_was() -> None:
    numbers = np.zeros((40, 40), np.uint8)
    numbers[0:4, 0:4] = 1
    away = preset("none").with_(zoom_in=8.0)
    source = PromptedPictures([Shown("one", np.zeros((40, 40, 3), np.uint8), numbers, ("a",))], looks=8, preset=away)
    assert all(int(batch.targets.sum()) >= 9 for batch in source.epoch(0))  # type: ignore[union-attr]


def test_all_prompts_of_a_batch_have_as_many_points_and_boxes() -> None:
    for epoch in range(6):
        for batch in PromptedPictures(shown(), seed=5).epoch(epoch):
            assert len({(len(one.points), len(one.boxes)) for one in batch.prompts}) == 1


def test_judged_pictures_are_shown_by_a_box_and_by_a_point() -> None:
    source = JudgedPictures(shown(1))
    first, second = source.epoch(0)
    assert all(len(one.boxes) == 1 and not len(one.points) for one in first.prompts)
    assert all(len(one.points) == 1 and not len(one.boxes) for one in second.prompts)
    assert len(source) == 2


def test_a_part_holds_its_pictures_alone() -> None:
    keys = {batch.keys[0] for batch in PromptedPictures(shown()).part([1]).epoch(0)}
    assert keys == {"p1"}
