"""FROC: how much is found at how many false alarms an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medgraft.scores.bands import Band, widened
from medgraft.scores.boxes import Detections
from medgraft.scores.hits import ALARM, HIT, HitRule, Verdicts, verdicts
from medgraft.scores.intervals import COUNT
from medgraft.scores.resample import in_blocks, patient_codes, resamples

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false alarms an image at which LUNA16 reads the sensitivity
NAMES = tuple(f"{rate:g}" for rate in RATES)


@dataclass(frozen=True, eq=False)
class Events:
    """Hits and false alarms by falling score.

    Attributes:
        images: (E,) number of the image.
        hits: (E,) booleans; the others are false alarms.
        ends: (S,) last event of each different score: a threshold cannot part those that share one.
        truths: (n,) how many true boxes count in each image.
    """

    images: np.ndarray
    hits: np.ndarray
    ends: np.ndarray
    truths: np.ndarray


def events(judged: Verdicts, *, images: int, kind: int | None = None) -> Events:
    """Put the hits and false alarms of all classes, or of one, in order.

    Args:
        judged: from `verdicts`.
        images: n.
        kind: number of the class; None for all, which share one threshold.
    """
    called, true = judged.called, judged.true
    counts = np.isin(judged.verdict, (HIT, ALARM))
    wanted = ~true.ignored
    if kind is not None:
        counts, wanted = counts & (called.kinds == kind), wanted & (true.kinds == kind)
    places = np.flatnonzero(counts)
    places = places[np.argsort(-called.scores[places], kind="stable")]
    scores = called.scores[places]
    ends = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if len(places) else places
    truths = np.bincount(true.images[wanted], minlength=images).astype(np.float64)
    return Events(called.images[places], judged.verdict[places] == HIT, ends, truths)


def sensitivity_at(some: Events, rates: Sequence[float] | np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Get the sensitivity at each rate of false alarms an image: (B, R); NaN in rows without truth.

    The curve goes from threshold to threshold, from nothing found at no false alarm; it is straight between, the upper
    end counts where it steps, and behind its end it stays as it is. Images without truth count for false alarms.

    Args:
        some: from `events`.
        rates: R of mean false alarms an image.
        weights: (B, n).
    """
    found = np.full((len(weights), len(rates)), np.nan)
    done = 0
    for rows in in_blocks(weights, width=len(some.images)):
        drawn = np.ascontiguousarray(rows.T)[some.images]
        right = np.cumsum(drawn * some.hits[:, None], axis=0)[some.ends]
        wrong = np.cumsum(drawn * ~some.hits[:, None], axis=0)[some.ends]
        truths, sizes = rows @ some.truths, rows.sum(axis=1)
        for b in np.flatnonzero(truths > 0):
            along, up = np.r_[0.0, wrong[:, b] / sizes[b]], np.r_[0.0, right[:, b] / truths[b]]
            found[done + b] = np.interp(rates, along, up)
        done += len(rows)
    return found


def froc_scores(some: Events, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Get the sensitivity at LUNA16's seven rates, "0.125" to "8", and `froc`, their mean: name -> (B,).

    Args:
        some: from `events`.
        weights: (B, n).

    Source: Setio et al., Med Image Anal 2017;42:1; the mean is its competition performance metric (CPM).
    """
    at = sensitivity_at(some, RATES, weights=weights)
    return dict(zip(NAMES, at.T, strict=True)) | {"froc": at.mean(axis=1)}


def froc_band(found: Detections, *, hit: HitRule | str, seed: int, count: int = COUNT, points: int = 97) -> Band:
    """Get the FROC curve of all classes with its 95 % band: sensitivity against mean false alarms an image, 1/8 to 8.

    Args:
        found: truth and finds.
        hit: the rule of a hit.
        seed: the run's seed.
        count: resamples.
        points: G, grid points, evenly spaced by their logarithm.
    """
    n = len(found)
    some = events(verdicts(found, hit=hit), images=n)
    grid, none = np.geomspace(RATES[0], RATES[-1], points), np.zeros(0)
    if some.truths.sum() == 0:
        return Band(none, none, none, none, "no image has a true box")
    codes, people = patient_codes(found.patients, n)
    middle = sensitivity_at(some, grid, weights=np.ones((1, n)))[0]
    if people < 2:
        return Band(grid, middle, none, none, "a single patient gives no band")
    blocks = resamples(codes, seed=seed, count=count)
    drawn = np.concatenate([sensitivity_at(some, grid, weights=rows) for rows in blocks])
    drawn = drawn[np.isfinite(drawn[:, 0])]
    if len(drawn) < 0.9 * count:
        return Band(grid, middle, none, none, "too many resamples lack a true box")
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    trials = np.full(points, float(len(np.unique(codes[some.truths > 0]))))
    band = Band(grid, middle, *widened(middle, low, high, trials))
    # Sensitivity never falls along the curve, so what bounds it at one point bounds it at all later ones.
    return replace(band, low=np.maximum.accumulate(band.low))
