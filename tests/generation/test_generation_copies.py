"""The audit catches copies, and leaves fresh images in peace."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.generation.copies import Space, audited, membership


def rows(count: int, seed: int, *, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def test_fresh_images_pass_nearly_always():
    verdicts = [
        audited([Space("features", rows(80, seed), rows(40, 100 + seed), rows(40, 200 + seed))])["verdict"]
        for seed in range(40)
    ]
    assert verdicts.count("fail") <= 2


@pytest.mark.parametrize("blur", [0.0, 0.1])
def test_copies_are_caught_and_paired_with_their_originals(blur):
    train, held = rows(80, 1), rows(40, 2)
    made = train[:40] + blur * rows(40, 3)
    told = audited([Space("features", train, held, made)])
    assert told["verdict"] == "fail" and "nearer to a training image" in told["reasons"][0]
    assert all(drawn == real for drawn, real, _ in told["features"]["pairs"])
    assert told["features"]["share"]["value"] == 1.0


def test_a_few_copies_among_many_are_caught_too():
    train, held = rows(200, 1), rows(100, 2)
    made = np.concatenate([train[:40], rows(60, 3)])
    assert audited([Space("pixels", train, held, made)])["verdict"] == "fail"


def test_membership_is_even_where_nothing_was_learnt_by_heart():
    train, held = rows(100, 1), rows(100, 2)
    fresh = membership(Space("features", train, held, rows(100, 3)))
    assert fresh.low is not None and fresh.high is not None and fresh.low < 0.5 < fresh.high
    known = membership(Space("features", train, held, train + 0.3 * rows(100, 4)))
    assert known.low is not None and known.low > 0.9


def test_few_held_out_images_find_gross_copies_and_say_that_they_are_few():
    train = rows(10, 1)
    copied = audited([Space("features", train, rows(3, 2), np.tile(train, (6, 1)) + 0.01 * rows(60, 3))])
    assert copied["verdict"] == "fail" and "3 held-out images are few" in copied["notes"][0]
    fresh = audited([Space("features", train, rows(3, 2), rows(60, 3))])
    assert fresh["verdict"] == "pass" and fresh["notes"]
    assert not audited([Space("features", train, rows(60, 2), rows(60, 3))])["notes"]


@pytest.mark.parametrize("shared", [10, 40])
def test_held_out_images_that_are_training_images_hide_no_copies(shared):
    train, held = rows(200, 1), rows(100, 2)
    held[:shared] = train[-shared:] + 1e-3 * rows(shared, 3)
    copied = audited([Space("features", train, held, train[np.arange(100) % 10] + 0.05 * rows(100, 4))])
    assert copied["verdict"] == "fail" and copied["features"]["share"]["value"] == 1.0
    assert f"{shared} of 100 held-out images are training images too" in copied["notes"]
    assert audited([Space("features", train, held, rows(100, 5))])["verdict"] == "pass"


def test_blank_images_among_all_are_no_copies():
    train, held, made = rows(200, 1), rows(100, 2), rows(100, 3)
    train[::5], held[::5], made[::5] = 0, 0, 0
    assert audited([Space("pixels", train, held, made)])["verdict"] == "pass"


def test_held_out_images_that_are_all_training_images_tell_nothing():
    train = rows(50, 1)
    told = audited([Space("features", train, train[:20], rows(40, 2))])
    assert told["verdict"] == "fail" and "nothing can be told" in told["reasons"][0]
