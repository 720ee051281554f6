"""Graded changes: the same bits in any batch, each does what its name says, and more of it at higher strengths."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.samples.stress import CHANGES, changes_for, stressed

RNG = np.random.default_rng(0)
SMOOTH = np.kron(RNG.integers(40, 216, (6, 3, 10, 10)), np.ones((1, 1, 5, 5)))[..., :48, :48].astype(np.uint8)
KEYS = [f"image {k}" for k in range(6)]


def changed(name: str, strength: float, rows: np.ndarray = SMOOTH, keys: list[str] = KEYS) -> np.ndarray:
    return stressed(rows, name, strength=strength, keys=keys, seed=3).numpy()


@pytest.mark.parametrize("name", CHANGES)
def test_an_image_is_changed_alike_in_any_batch(name: str) -> None:
    strength = CHANGES[name].strengths[1]
    whole = changed(name, strength)
    alone = np.concatenate([changed(name, strength, SMOOTH[k : k + 1], KEYS[k : k + 1]) for k in range(6)])
    assert np.array_equal(whole, alone)
    assert whole.shape == SMOOTH.shape and whole.dtype == np.float32 and whole.min() >= 0 and whole.max() <= 1


@pytest.mark.parametrize("name", CHANGES)
def test_higher_strengths_change_more(name: str) -> None:
    plain = SMOOTH / np.float32(255)
    away = [np.abs(changed(name, strength) - plain).mean() for strength in CHANGES[name].strengths]
    assert away[0] > 0 and away == sorted(away)


def test_nothing_is_changed_at_no_strength() -> None:
    assert np.array_equal(changed("rotation", 0.0), SMOOTH / np.float32(255))


def test_images_go_both_ways_and_each_the_same_at_every_strength() -> None:
    rows, keys = np.repeat(SMOOTH[:1], 40, axis=0), [f"key {k}" for k in range(40)]
    plain = rows.mean() / 255
    brighter = [changed("brightness", s, rows, keys).mean(axis=(1, 2, 3)) > plain for s in (0.1, 0.4)]
    assert 8 < brighter[0].sum() < 32 and np.array_equal(*brighter)


def test_gray_images_have_no_stain() -> None:
    assert "stain" in changes_for(3) and "stain" not in changes_for(1)
    gray = changed("jpeg", 75, SMOOTH[:, :1])
    assert gray.shape == (6, 1, 48, 48)


def test_deep_images_are_changed_likewise() -> None:
    deep = changed("contrast", 0.3, (SMOOTH.astype(np.uint16) * 257))
    assert deep == pytest.approx(changed("contrast", 0.3), abs=0.01)
