"""How far an image lies from those of the training, by the features that the encoder makes of it.

The distance of Mahalanobis: how many standard deviations the features are away
from their means, the directions in which the training images vary much counting
for less. No label is used, so an image may be familiar and hard to answer.

Sources: Lee, Lee, Lee, Shin, "A simple unified framework for detecting
out-of-distribution samples", NeurIPS 2018, arXiv:1807.03888; Anthony,
Kamnitsas, "On the use of Mahalanobis distance for out-of-distribution detection
for medical imaging", UNSURE 2023, arXiv:2309.01488; Ledoit, Wolf, "A
well-conditioned estimator for large-dimensional covariance matrices", J
Multivariate Anal 2004;88:365, for how far variances of few images are drawn to
their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DIRECTIONS = 256  # what lies outside of them counts as one, so that the file of a model stays small
_STRANGEST = 1e-3  # smallest share of the mean variance that a direction is taken to have


@dataclass(frozen=True, eq=False)
class Familiar:
    """Where the features of the training images lie.

    Attributes:
        centre: `(F,)` means.
        spread: `(F,)` standard deviations; 1 where a feature does not vary.
        axes: `(R, F)` the directions of standardised features in which images vary most, of length 1.
        variances: `(R + 1,)` along each of them, and the mean of all others; drawn to the mean of all.
        limit: distance above which an image is unlike those of the training; infinite until it is chosen.
    """

    centre: np.ndarray
    spread: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    limit: float = np.inf

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Get the distance `(N,)` of features `(N, F)`: about 1 for an image like those of the training.

        Of more than F columns the last F are taken.
        """
        rows = (np.asarray(features, dtype=np.float64)[:, -len(self.centre) :] - self.centre) / self.spread
        along = rows @ self.axes.T
        beside = np.maximum((rows**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        squares = (along**2 / self.variances[:-1]).sum(axis=1) + beside / self.variances[-1]
        return np.sqrt(squares / len(self.centre))


def familiar(features: np.ndarray) -> Familiar:
    """Get where features `(N, F)` of training images lie, in float64.

    Raises:
        ValueError: fewer than two images, or features that are no numbers.
    """
    rows = np.asarray(features, dtype=np.float64)
    if len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError("at least two images with finite features are needed")
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 1e-9 * np.abs(centre), spread, 1.0)
    rows = (rows - centre) / spread
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    width = rows.shape[1]
    variances = sizes**2 / len(rows)
    mean, drawn = variances.sum() / width, shrinkage(rows)
    kept = min(_DIRECTIONS, len(rows) - 1, width)
    rest = variances[kept:].sum() / max(1, width - kept)
    held = (1 - drawn) * np.append(variances[:kept], rest) + drawn * mean
    return Familiar(centre, spread, axes[:kept], np.maximum(held, max(_STRANGEST * mean, 1e-12)))


def shrinkage(rows: np.ndarray) -> float:
    """Get how far, from 0 to 1, the variances of centred rows `(N, F)` are best drawn to their mean."""
    count, width = rows.shape
    products = rows @ rows.T
    squares = (products**2).sum() / count**2  # of the entries of the covariance matrix
    apart = squares / width - (np.trace(products) / count / width) ** 2
    error = ((np.diag(products) ** 2).mean() - squares) / count / width
    return float(min(1.0, max(0.0, error / apart))) if apart > 0 else 1.0


def limit_of(distances: np.ndarray, *, share: float) -> float:
    """Get the distance that this share of images like those `(N,)` stays below; the largest where they are few.

    Args:
        distances: of images that the model did not learn from.
        share: from 0 to 1.
    """
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    if not len(ordered):
        return np.inf
    rank = int(np.ceil(share * (len(ordered) + 1)))
    return float(ordered[min(rank, len(ordered)) - 1])
