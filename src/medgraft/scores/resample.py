"""Weights: how every score is computed on thousands of resamples at once.

A resample that draws patients with replacement is a row of whole numbers, how
often each case was drawn. All scores take such rows as `weights`, shape (B, n),
and answer with B values; without weights they answer with one number.
A score with weights equals the same score of the physically repeated cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medgraft.seeds import generator

GROUPS = 400  # at most so many leave-one-out values: their skewness is all that is asked of them
CHUNK = 1 << 20  # cells of a block of weights: 8 MiB, so that a block stays near the caches
BLOCK = 1 << 17  # numbers of one step of a curve of resamples: 1 MiB

Value = float | np.ndarray


def as_rows(weights: np.ndarray | None, n: int) -> np.ndarray:
    """Get weights as float64 rows (B, n); ones of shape (1, n) for None."""
    if weights is None:
        return np.ones((1, n))
    return np.atleast_2d(np.asarray(weights, dtype=np.float64))


def as_value(values: np.ndarray, *, weights: np.ndarray | None) -> Value:
    """Get one float when the caller gave no rows of weights, else the row of values."""
    return float(values[0]) if weights is None or np.ndim(weights) == 1 else values


def as_columns(values: np.ndarray, *, weights: np.ndarray | None) -> np.ndarray:
    """Get (K,) when the caller gave no rows of weights, else (B, K)."""
    return values[0] if weights is None or np.ndim(weights) == 1 else values


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Divide; 0/0 is NaN (not computable) without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom == 0, np.nan, np.divide(top, bottom))


def mean_known(values: np.ndarray) -> np.ndarray:
    """Average over the last axis what is computable; NaN when nothing is."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def patient_codes(patients: Sequence[object] | np.ndarray | None, n: int) -> tuple[np.ndarray, int]:
    """Get a number for each case's patient, and how many patients there are.

    A case whose patient is unknown (None, NaN or "") is a patient of its own.

    Args:
        patients: n patient names, or None when no patients are known.
        n: number of cases.
    """
    if patients is None:
        return np.arange(n), n
    seen: dict[object, int] = {}
    codes = np.empty(n, dtype=np.int64)
    for row, patient in enumerate(patients):
        unknown = patient is None or patient == "" or patient != patient
        codes[row] = seen.setdefault(("row", row) if unknown else ("patient", str(patient)), len(seen))
    return codes, len(seen)


def several_images(patients: Sequence[object] | np.ndarray | None, n: int) -> bool:
    """Tell whether any patient has more than one case."""
    return patient_codes(patients, n)[1] < n


def known_patients(patients: Sequence[object] | np.ndarray | None, n: int) -> int | None:
    """Get the number of patients for a report; None when none are known."""
    return None if patients is None else patient_codes(patients, n)[1]


def in_blocks(rows: np.ndarray, *, width: int) -> Iterator[np.ndarray]:
    """Split rows of weights into blocks of which (B, width) numbers stay near the caches.

    Args:
        rows: (B, n).
        width: numbers that are held for each row.
    """
    block = max(1, BLOCK // max(width, 1))
    for start in range(0, len(rows), block):
        yield rows[start : start + block]


def resamples(codes: np.ndarray, *, seed: int, count: int) -> Iterator[np.ndarray]:
    """Draw patients with replacement, as many as there are, `count` times.

    Args:
        codes: (n,) number of each case's patient, 0..P-1.
        seed: the run's seed.
        count: resamples in all.

    Yields:
        Weights (B, n), float64 whole numbers; the rows of all blocks are `count`.
    """
    n, patients = len(codes), int(codes.max(initial=-1)) + 1
    draw = generator(seed, "bootstrap")
    block = max(1, min(count, CHUNK // max(n, 1)))
    alone = patients == n and np.array_equal(codes, np.arange(n))
    for start in range(0, count, block):
        rows = min(block, count - start)
        picks = draw.integers(0, patients, size=(rows, patients))
        picks += np.arange(rows)[:, None] * patients
        times = np.bincount(picks.ravel(), minlength=rows * patients).reshape(rows, patients)
        yield (times if alone else times[:, codes]).astype(np.float64)


def leave_out(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Leave out one patient at a time, or one of 400 groups of patients where there are more.

    Args:
        codes: (n,) number of each case's patient, 0..P-1.

    Yields:
        Weights (B, n), 0 or 1.
    """
    n, patients = len(codes), int(codes.max(initial=-1)) + 1
    groups = min(patients, GROUPS)
    block = max(1, CHUNK // max(n, 1))
    for start in range(0, groups, block):
        yield (codes % groups != np.arange(start, min(start + block, groups))[:, None]).astype(np.float64)
