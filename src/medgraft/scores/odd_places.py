"""Do the warm places of maps lie where the masks are? Scores of pixels and of regions, with images resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgraft.scores.intervals import COUNT, bca, bootstrap_method, draws
from medgraft.scores.resample import known_patients, patient_codes
from medgraft.scores.score import Score

BINS = 1000  # levels of a map that are told apart, equally many pixels each
_MOST_ALARMS = 0.3  # share of normal pixels up to which overlap is averaged
NAMES = ("pixel_auroc", "pixel_auprc", "aupro")


@dataclass(frozen=True, eq=False)
class PlaceCounts:
    """How many pixels of an image have each level of its map.

    Attributes:
        plain: `(BINS,)` of pixels outside the mask, from the lowest level.
        odd: `(BINS,)` of pixels inside.
        regions: `(R, BINS)` of each connected part of the mask.
    """

    plain: np.ndarray
    odd: np.ndarray
    regions: np.ndarray


def edges_of(values: np.ndarray) -> np.ndarray:
    """Get the levels of maps that are told apart, `(BINS - 1,)` rising, of a sample of their values."""
    return np.quantile(np.asarray(values, np.float64), np.linspace(0, 1, BINS + 1)[1:-1])


def place_counts(values: np.ndarray, mask: np.ndarray, *, edges: np.ndarray) -> PlaceCounts:
    """Count the pixels of one image.

    Args:
        values: `(H, W)` how odd each pixel is.
        mask: `(H, W)` bool, what is to be found.
        edges: of `edges_of`.
    """
    levels = np.searchsorted(edges, np.asarray(values, np.float64).ravel(), side="right")
    inside = np.asarray(mask, bool).ravel()
    parts = np.zeros(np.shape(mask), np.int32)
    count = int(ndimage.label(mask, structure=np.ones((3, 3)), output=parts))  # type: ignore[arg-type]
    numbers = parts.ravel()[inside].astype(np.int64) - 1
    joint = np.bincount(numbers * BINS + levels[inside], minlength=count * BINS).reshape(count, BINS)
    return PlaceCounts(np.bincount(levels[~inside], minlength=BINS), joint.sum(axis=0), joint)


def place_scores(
    images: Sequence[PlaceCounts],
    *,
    patients: Sequence[object] | None = None,
    seed: int = 0,
    count: int = COUNT,
) -> dict[str, Score]:
    """Get pixel AUROC, pixel average precision and the overlap of regions (AUPRO), with intervals by patient.

    AUPRO is the mean over regions of the share of each that is warm, averaged over thresholds at which up to 30 % of
    the other pixels are warm; a small region counts as much as a large one.

    Args:
        images: all test images whose masks are known, normal ones with empty masks among them.
        patients: a name an image, or None.
        seed: of resampling.
        count: resamples.

    Source: Bergmann et al., Int J Comput Vis 2021;129:1038 (AUPRO).
    """
    n, known = len(images), known_patients(patients, len(images))
    if not any(one.odd.sum() for one in images):
        why = "no test image has a mask with something in it"
        return {name: Score.missing(why, n=n, n_patients=known) for name in NAMES}
    # From the highest level down: what is called at each threshold is then a running sum.
    plain = np.stack([one.plain for one in images])[:, ::-1].astype(np.float64)
    odd = np.stack([one.odd for one in images])[:, ::-1].astype(np.float64)
    shares = [one.regions[:, ::-1] / one.regions.sum(axis=1, keepdims=True) for one in images]
    regions = np.stack([np.sum(share, axis=0) if len(share) else np.zeros(BINS) for share in shares])
    parts = np.array([len(share) for share in shares], np.float64)

    def joint(rows: np.ndarray, name: str) -> np.ndarray:
        alarms, hits = np.cumsum(rows @ plain, axis=1), np.cumsum(rows @ odd, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            false, found = alarms / alarms[:, -1:], hits / hits[:, -1:]
            if name == "pixel_auroc":
                return _area(false, found)
            if name == "pixel_auprc":
                steps = np.diff(found, axis=1, prepend=0.0)
                return np.nansum(steps * np.nan_to_num(hits / (hits + alarms)), axis=1)
            overlap = np.cumsum(rows @ regions, axis=1) / (rows @ parts)[:, None]
            return _area(false, overlap, most=_MOST_ALARMS)

    codes, people = patient_codes(patients, n)
    statistics = {name: (lambda rows, name=name: joint(rows, name)) for name in NAMES}
    found = draws(statistics, codes, seed=seed, count=count) if people > 1 else {}
    table = {}
    for name in NAMES:
        value = float(joint(np.ones((1, n)), name)[0])
        if name not in found:
            table[name] = Score(value, None, None, n, known, "pixels", "a single patient gives no interval")
            continue
        low, high, note = bca(value, found[name])
        words = f"pixels of {n} images; {bootstrap_method(known, count, note=note)}"
        table[name] = Score(value, low, high, n, known, words, why=note if low is None else None)
    return table


def _area(x: np.ndarray, y: np.ndarray, *, most: float = 1.0) -> np.ndarray:
    """The area under rising curves `(B, K)` from 0 to `most`, as a share of it."""
    x, y = (np.concatenate([np.zeros((len(part), 1)), part], axis=1) for part in (x, y))
    if most < 1:
        ends = np.array([np.interp(most, row, other) for row, other in zip(x, y, strict=True)])
        y = np.where(x > most, ends[:, None], y)
        x = np.minimum(x, most)
    return ((x[:, 1:] - x[:, :-1]) * (y[:, 1:] + y[:, :-1]) / 2).sum(axis=1) / most
