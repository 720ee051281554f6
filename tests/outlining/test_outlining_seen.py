"""A picture as a model sees it: files of 16 bits that fill little of them, and windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medgraft.outlining.seen import seen


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("bits", [12, 13, 14, 15, 16])
def test_pictures_of_few_bits_in_16_are_seen_as_bright_as_others(tmp_path: Path, bits: int, ending: str) -> None:
    pixels = np.linspace(0, (1 << bits) - 1, 64 * 64).reshape(64, 64).astype(np.uint16)
    Pillow.fromarray(pixels).save(tmp_path / f"a.{ending}")
    picture = seen(tmp_path / f"a.{ending}").picture
    assert picture.max() > 120
    assert len(np.unique(picture)) > 120


def test_an_empty_picture_of_16_bits_stays_dark(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, (64, 64)).astype(np.uint16)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    assert seen(tmp_path / "a.png").picture.max() < 40


@pytest.mark.parametrize("name", ["a.png", "a.tif", "b.png", "a.npy"])
def test_a_window_says_what_is_gray(tmp_path: Path, name: str) -> None:
    pixels = np.full((16, 16), 150, np.uint8 if name == "b.png" else np.uint16)
    pixels[:4], pixels[4:8] = 100, 200
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Pillow.fromarray(pixels).save(path)
    picture = seen(path, window=(150, 100)).picture
    assert picture[::4, 0, 0].tolist() == [0, 255, 128, 128]
