"""Burned-in letters: found on the dark, told from what shines in tissue, painted over from around."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from medgraft.samples.marks import find_marks, painted_over


def film(side: int = 300) -> np.ndarray:
    """A gray film with a soft bright body and noise."""
    y, x = np.mgrid[:side, :side] / side
    body = 60 + 90 * np.exp(-(((x - 0.5) / 0.3) ** 2 + ((y - 0.55) / 0.35) ** 2))
    return np.clip(body + np.random.default_rng(1).normal(0, 5, body.shape), 0, 255).astype(np.uint8)


def lettered(picture: np.ndarray, text: str, at: tuple[int, int], *, size: int = 16, fill: int = 255) -> np.ndarray:
    drawn = Pillow.fromarray(picture.copy())
    colour = fill if picture.ndim == 2 else (fill, fill, fill)
    ImageDraw.Draw(drawn).text(at, text, fill=colour, font=ImageFont.load_default(size=size))
    return np.asarray(drawn)


@pytest.mark.parametrize("at", [(10, 10), (200, 20), (20, 270), (120, 140)])
def test_letters_are_found_and_painted_over(at: tuple[int, int]) -> None:
    plain = film()
    shown = lettered(plain, "L12", at)
    ink = np.abs(shown.astype(int) - plain) > 60
    mask, marks = find_marks(shown)
    assert (mask & ink).sum() > 0.5 * ink.sum()  # their cores: what is blurred at their edges the rim takes
    assert len(marks) == 1
    x0, y0, x1, y1 = marks[0].box
    assert at[0] - 3 <= x0 < x1 <= at[0] + 60
    assert at[1] - 3 <= y0 < y1 <= at[1] + 25
    clean = painted_over(shown, mask)
    assert np.abs(clean.astype(int) - plain)[ink].mean() < 25
    far = np.ones_like(ink)
    far[max(0, at[1] - 8) : at[1] + 30, max(0, at[0] - 8) : at[0] + 70] = False
    assert (clean == shown)[far].all()


def test_a_film_without_letters_stays_as_it_is() -> None:
    mask, marks = find_marks(film())
    assert not mask.any()
    assert marks == []
    assert painted_over(film(), mask) is not None


def test_what_shines_in_tissue_is_no_mark() -> None:
    side = 300
    y, x = np.mgrid[:side, :side]
    skull = film()
    far = np.hypot(x - 150, y - 150)
    skull[(far > 120) & (far < 128)] = 255  # flat, sharp and thin, and large
    soft = film().astype(float) + 160 * np.exp(-((x - 150) ** 2 + (y - 150) ** 2) / 30)  # small, and not flat
    nodule = film()
    nodule[np.hypot(x - 150, y - 150) < 14] = 240  # small, flat and sharp, and thick
    for picture in (skull, np.clip(soft, 0, 255).astype(np.uint8), nodule):
        assert find_marks(picture)[1] == []


def test_coloured_marks_in_a_gray_picture_are_found_and_colour_in_a_photograph_is_not() -> None:
    gray = np.repeat(film()[..., None], 3, axis=2)
    drawn = Pillow.fromarray(gray.copy())
    ImageDraw.Draw(drawn).text((30, 30), "CALIPER", fill=(250, 230, 20), font=ImageFont.load_default(size=16))
    assert len(find_marks(np.asarray(drawn))[1]) == 1
    photograph = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    photograph = np.asarray(Pillow.fromarray(photograph).resize((300, 300)))
    assert find_marks(photograph)[1] == []


def test_all_of_a_picture_hidden_is_black() -> None:
    assert not painted_over(film(), np.ones((300, 300), bool)).any()
