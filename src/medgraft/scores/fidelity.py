"""How near generated images are to real ones, by features of an encoder: FID, KID, precision and recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgraft.scores.delong import Z95
from medgraft.scores.intervals import COUNT, bca, bootstrap_method, draws
from medgraft.scores.resample import known_patients, patient_codes
from medgraft.scores.score import Score

_PARTS = 20  # left out one after the other, for the interval of a distance that more images make smaller
_NEIGHBOURS = 3
_FEWEST = 10  # images a side


def frechet(real: np.ndarray, made: np.ndarray) -> float:
    """Get the Frechet distance of two sets of features, each taken for a Gaussian; 0 where they are alike.

    The trace of the root of the product of both covariances is the sum of the singular values of the product of the
    centred features, which needs no root of a matrix and is exact for fewer images than features.

    Args:
        real: (n, D) features.
        made: (m, D).

    Source: Heusel et al., NeurIPS 2017;30:6626; Dowson and Landau, J Multivar Anal 1982;12:450.
    """
    real, made = np.asarray(real, np.float64), np.asarray(made, np.float64)
    one, two = real.mean(axis=0), made.mean(axis=0)
    left, right = (real - one) / np.sqrt(len(real) - 1), (made - two) / np.sqrt(len(made) - 1)
    shared = left @ right.T if len(real) * len(made) <= real.shape[1] ** 2 else _roots(left, right)
    both = np.linalg.svd(shared, compute_uv=False).sum()
    return float(max(0.0, ((one - two) ** 2).sum() + (left**2).sum() + (right**2).sum() - 2 * both))


def _roots(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Get a (D, D) product with the same singular values, of triangular factors: for more images than features."""
    first, second = (np.asarray(np.linalg.qr(part, mode="r")) for part in (left, right))
    return first @ second.T


def kernel(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Get the cubic kernel of two sets of features, (n, m)."""
    return (one @ two.T / one.shape[1] + 1.0) ** 3


def fid(
    real: np.ndarray, made: np.ndarray, *, patients: Sequence[object] | None = None, method: str = "features"
) -> Score:
    """Get the FID with an interval that leaves out a twentieth of both sets after the other (a grouped jackknife).

    It falls as images are added on either side, so only figures of the same counts can be compared.

    Args:
        real: (n, D) features of real images.
        made: (m, D) of generated ones.
        patients: of the real images; those of one are left out together.
        method: which features, in words.
    """
    why = _too_few(real, made)
    known = known_patients(patients, len(real))
    if why:
        return Score.missing(why, n=len(made), n_patients=known)
    value = frechet(real, made)
    codes, people = patient_codes(patients, len(real))
    parts = min(_PARTS, people, len(made))
    of_real, of_made = codes % parts, np.arange(len(made)) % parts
    sides = f"{len(real)} real and {len(made)} generated images"
    if parts < 2 or len(real) - np.bincount(of_real).max() < 2:
        why = "too few patients for an interval: without one of them no images are left to compare"
        return Score(value, None, None, len(made), known, f"{method}; {sides}; no interval", why=why)
    left = np.array([frechet(real[of_real != part], made[of_made != part]) for part in range(parts)])
    reach = Z95 * float(np.sqrt((parts - 1) / parts * ((left - left.mean()) ** 2).sum()))
    words = f"{method}; {sides}; jackknife over {parts} parts"
    return Score(value, max(0.0, value - reach), value + reach, len(made), known, words)


def kid(
    real: np.ndarray,
    made: np.ndarray,
    *,
    patients: Sequence[object] | None = None,
    seed: int = 0,
    count: int = COUNT,
    method: str = "features",
) -> Score:
    """Get the KID, the squared distance of both sets' means under a cubic kernel, without bias, so it can be below 0.

    Args:
        real: (n, D) features of real images.
        made: (m, D) of generated ones.
        patients: of the real images; they are resampled whole.
        seed: of the run.
        count: resamples.
        method: which features, in words.

    Source: Binkowski et al., ICLR 2018.
    """
    why = _too_few(real, made)
    known = known_patients(patients, len(real))
    if why:
        return Score.missing(why, n=len(made), n_patients=known)
    n = len(real)
    both = np.concatenate([real, made]).astype(np.float64)
    table = kernel(both, both)
    own = np.diag(table)

    def distance(rows: np.ndarray) -> np.ndarray:
        parts = []
        for some in (slice(0, n), slice(n, None)):
            weights = rows[:, some]
            total = weights.sum(axis=1)
            # An image that was drawn twice is no pair with itself.
            pairs = ((weights @ table[some, some]) * weights).sum(axis=1) - (weights**2) @ own[some]
            parts.append(_quotient(pairs, total**2 - (weights**2).sum(axis=1)))
        across = ((rows[:, :n] @ table[:n, n:]) * rows[:, n:]).sum(axis=1)
        across = _quotient(across, rows[:, :n].sum(axis=1) * rows[:, n:].sum(axis=1))
        return parts[0] + parts[1] - 2 * across

    value = float(distance(np.ones((1, len(both))))[0])
    codes, people = patient_codes(patients, n)
    units = np.concatenate([codes, people + np.arange(len(made))])
    found = draws({"kid": distance}, units, seed=seed, count=count)["kid"]
    low, high, note = bca(value, found)
    words = f"{method}; {n} real and {len(made)} generated images; {bootstrap_method(known, count, note=note)}"
    return Score(value, low, high, len(made), known, words, why=note if low is None else None)


def covered(of: np.ndarray, by: np.ndarray, *, neighbours: int = _NEIGHBOURS) -> np.ndarray:
    """Get which images lie within reach of another set: nearer to one of its images than its own third neighbour is.

    Args:
        of: (n, D) features that are asked about.
        by: (m, D) features whose reach counts.
        neighbours: which neighbour of each of `by` says how far it reaches.

    Returns:
        (n,) booleans. Of generated images by real ones their mean is the precision, the other way the recall.

    Source: Kynkaanniemi et al., NeurIPS 2019;32:3927.
    """
    inner = distances(by, by)
    reach = np.sort(inner, axis=1)[:, min(neighbours, len(by) - 1)]
    return np.asarray((distances(of, by) <= reach[None]).any(axis=1))


def distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Get Euclidean distances (n, m) of two sets of rows, float64."""
    one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1)[None] - 2 * (one @ two.T)
    return np.sqrt(np.maximum(squares, 0.0))


def _too_few(real: np.ndarray, made: np.ndarray) -> str | None:
    few = min(len(real), len(made))
    return f"{few} images are too few, {_FEWEST} a side are needed" if few < _FEWEST else None


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where a resample drew too few for a pair: it is left out of the interval, and said."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
