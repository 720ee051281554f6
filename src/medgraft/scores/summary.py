"""The tables of a report: every score of a kind of target, with intervals from one set of resamples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medgraft.scores import intervals, ranking
from medgraft.scores.cases import Cases
from medgraft.scores.resample import known_patients, patient_codes
from medgraft.scores.rows import Row, class_rows, table_rows, two_columns
from medgraft.scores.score import Score


def score_table(cases: Cases, *, seed: int, count: int = intervals.COUNT) -> dict[str, Score]:
    """Get every score that suits the kind of target, by the names of report.json.

    AUROC of two classes by DeLong and plain shares by Wilson where each patient has one case; the rest,
    and all of them where patients have several, by resampling patients. A score that cannot be computed
    is there without a value and says why.

    Args:
        cases: truth and predictions.
        seed: the run's seed; the same seed gives the same intervals.
        count: resamples.

    Example:
        >>> cases = Cases("binary", np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9]))
        >>> score_table(cases, seed=0)["auroc"].value
        0.75
    """
    return fill(cases, table_rows(cases), seed=seed, count=count)


def class_table(cases: Cases, *, seed: int, count: int = intervals.COUNT) -> dict[str, dict[str, Score]]:
    """Get each class (or label) against the rest: class -> name -> score; empty for numbers.

    Names: auroc, auprc, sensitivity, specificity, ppv, npv, f1. The `n` of sensitivity is the class's cases.
    Arguments as in `score_table`.
    """
    if cases.kind == "number":
        return {}
    truth, columns = ranking.one_column_each(cases.targets, two_columns(cases))
    called = cases.called > 0 if cases.kind == "labels" else cases.called[:, None] == np.arange(truth.shape[1])
    rows: dict[str, Row] = {}
    for k in range(truth.shape[1]):
        one = class_rows(cases, truth[:, k], chance=columns[:, k], called=called[:, k], name=cases.name(k))
        rows |= {f"{k} {word}": row for word, row in one.items()}
    table: dict[str, dict[str, Score]] = {cases.name(k): {} for k in range(truth.shape[1])}
    for name, score in fill(cases, rows, seed=seed, count=count).items():
        k, _, word = name.partition(" ")
        table[cases.name(int(k))][word] = score
    return table


def fill(cases: Cases, rows: Mapping[str, Row], *, seed: int, count: int) -> dict[str, Score]:
    """Compute the rows of a table; those that need resamples share them."""
    n, known = len(cases), known_patients(cases.patients, len(cases))
    broken = int((~np.isfinite(cases.probabilities.reshape(n, -1))).any(axis=1).sum()) if n else 0
    if n == 0 or broken:
        why = "there are no cases" if n == 0 else f"{broken} of {n} predictions are not finite"
        return {name: Score.missing(why, n=n, n_patients=known) for name in rows}
    codes, people = patient_codes(cases.patients, n)
    table: dict[str, Score] = {}
    pending: dict[str, tuple[Row, float]] = {}
    for name, row in rows.items():
        value = float(np.ravel(row.statistic(None))[0])
        if not math.isfinite(value):
            rests, who = _sizes(cases, row.of)
            table[name] = Score.missing(row.why, n=rests, n_patients=who)
        elif row.exact is not None and people == n:
            table[name] = row.exact()
        else:
            pending[name] = (row, value)
    wanted = {name: row.statistic for name, (row, _) in pending.items()}
    wanted |= {_noise(name): row.noise for name, (row, _) in pending.items() if row.noise is not None}
    found = intervals.draws(wanted, codes, seed=seed, count=count) if people > 1 else {}
    for name, (row, value) in pending.items():
        drawn = (found.get(name), found.get(_noise(name)))
        table[name] = _resampled(row, value, drawn, sizes=_sizes(cases, row.of), count=count)
    return {name: _noted(table[name], rows[name].note) for name in rows}


def _noted(score: Score, note: str | None) -> Score:
    return score if note is None else replace(score, method=f"{score.method}; {note}")


def _sizes(cases: Cases, of: np.ndarray | None) -> tuple[int, int | None]:
    some = cases if of is None else cases.take(of)
    return len(some), known_patients(some.patients, len(some))


def _noise(name: str) -> str:
    return f"{name}, noise"


def _resampled(
    row: Row,
    value: float,
    drawn: tuple[intervals.Draws | None, intervals.Draws | None],
    *,
    sizes: tuple[int, int | None],
    count: int,
) -> Score:
    (n, known), (found, noise) = sizes, drawn
    if found is None:
        method = intervals.bootstrap_method(known, count)
        return Score(value, None, None, n, known, method, "a single patient gives no interval")
    ends = row.flat() if found.flat and row.flat is not None else None
    if ends is not None:
        return Score(value, ends[0], ends[1], n, known, ends[2])
    low, high, note = intervals.ends(value, found, noise=noise)
    said = note if low is not None else None
    method = intervals.bootstrap_method(known, count, note=said, noise=noise is not None)
    return Score(value, low, high, n, known, method, note if low is None else None)
