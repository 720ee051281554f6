"""Rows of a table whose scores are computed together on the same resamples, and what is said of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medgraft.scores.collapse import flat_share
from medgraft.scores.intervals import Draws, Joint, bca, bootstrap_method, draws_together
from medgraft.scores.resample import known_patients, patient_codes, ratio
from medgraft.scores.score import Score


@dataclass(frozen=True, eq=False)
class JointRow:
    """What is said of one score.

    Attributes:
        note: stands behind the method.
        why: what is missing where the score has no value.
        people: how many patients a share rests on; None where the score is no share, so that resamples that all agree
            give no interval.
        of: (n,) booleans, the images it rests on; None for all.
    """

    note: str
    why: str
    people: int | None = None
    of: np.ndarray | None = None


def fill_together(
    joint: Joint, rows: Mapping[str, JointRow], *, n: int, patients: Sequence[object] | None, seed: int, count: int
) -> dict[str, Score]:
    """Compute the rows of a table from one set of resamples; a score without a value says why.

    Args:
        joint: function of rows of weights (B, n) that gives name -> (B,).
        rows: name -> what is said of it, in the order of the table.
        n: images.
        patients: n names, or None when unknown; then images are resampled.
        seed: the run's seed.
        count: resamples.
    """
    codes, people = patient_codes(patients, n)
    values = joint(np.ones((1, n)))
    drawn = draws_together(joint, codes, seed=seed, count=count) if people > 1 else {}
    table = {}
    for name, row in rows.items():
        value = float(np.ravel(values[name])[0]) if name in values else math.nan
        size, known, own = n, known_patients(patients, n), drawn.get(name)
        if row.of is not None:
            size, who = int(row.of.sum()), len(np.unique(codes[row.of]))
            known = None if known is None else who
            # Of the patients that are drawn only these make the score vary.
            own = None if own is None or who < 2 else replace(own, patients=who)
        if math.isfinite(value):
            score = _score(value, own, row, sizes=(size, known), count=count)
            table[name] = replace(score, method=f"{score.method}; {row.note}")
        else:
            table[name] = Score.missing("there are no images" if n == 0 else row.why, n=size, n_patients=known)
    return table


def means_known(columns: Mapping[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Get weighted means over those images where a value is known: name -> (B,); NaN where it is in none.

    Args:
        columns: name -> (n,) values, NaN where unknown.
        weights: (B, n).
    """
    table = {}
    for name, values in columns.items():
        known = np.isfinite(values)
        table[name] = ratio(weights @ np.where(known, values, 0.0), weights @ known.astype(np.float64))
    return table


def _score(value: float, drawn: Draws | None, row: JointRow, *, sizes: tuple[int, int | None], count: int) -> Score:
    n, known = sizes
    if drawn is None:
        return Score(value, None, None, n, known, "not resampled", "a single patient gives no interval")
    if drawn.flat and row.people:
        low, high, method = flat_share(value, people=row.people)
        return Score(value, low, high, n, known, method if known is not None else method.replace("patients", "images"))
    low, high, note = bca(value, drawn)
    method = bootstrap_method(known, count, note=note if low is not None else None)
    return Score(value, low, high, n, known, method, note if low is None else None)
