"""Severities of zones and their sums, judged where they are known; the zones of an image belong to one patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medgraft.scores.cases import Cases
from medgraft.scores.conformal import calibrate
from medgraft.scores.decisions import confusion_matrix, quadratic_kappa
from medgraft.scores.intervals import bootstrap, proportion
from medgraft.scores.numeric import mae, spearman
from medgraft.scores.resample import Value, as_value
from medgraft.scores.score import Score


@dataclass(frozen=True, eq=False)
class Severities:
    """What is true and what was predicted of the zones of n images.

    Attributes:
        truth: `(n, Z)` float64; NaN where it is unknown.
        said: `(n, Z)` float64.
        grades: the severities that a zone may have, rising; empty where they are shares.
        patients: n names, or None when unknown.
    """

    truth: np.ndarray
    said: np.ndarray
    grades: tuple[float, ...]
    patients: Sequence[str] | None

    @property
    def known(self) -> np.ndarray:
        """Whether the truth of each zone is known, `(n, Z)`."""
        return np.isfinite(self.truth)

    def zones(self, columns: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Get truth, prediction and patient of each known zone, of all columns or some; of unknown patients images."""
        rows, places = np.nonzero(self.known if columns is None else self.known[:, columns])
        places = places if columns is None else np.asarray(columns)[places]
        people = self._people
        return self.truth[rows, places], self.said[rows, places], [people[row] for row in rows.tolist()]

    def sums(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Get truth, prediction and patient of the sum of each image all of whose zones are known."""
        rows = np.flatnonzero(self.known.all(axis=1))
        people = self._people
        return self.truth[rows].sum(axis=1), self.said[rows].sum(axis=1), [people[row] for row in rows.tolist()]

    @property
    def _people(self) -> Sequence[str]:
        return self.patients if self.patients is not None else [str(row) for row in range(len(self.truth))]


def severity_table(found: Severities, *, seed: int, count: int) -> dict[str, Score]:
    """Get the scores of single zones, pooled, and of the sum.

    Names: zone_kappa and sum_kappa (quadratic weights; where severities are grades, of the nearest grade and the
    nearest whole sum), zone_spearman, zone_mae, sum_spearman, sum_mae.

    Args:
        found: truth and predictions.
        seed: of the resampling of patients.
        count: resamples.
    """
    words: dict[str, Any] = {"seed": seed, "count": count, "known": found.patients is not None}
    zones, sums = found.zones(), found.sums()
    table: dict[str, Score] = {}
    for name, part in (("zone", zones), ("sum", sums)):
        if found.grades:
            table[f"{name}_kappa"] = _score(_kappa, part, **words, grades=_levels(found, name))
        table[f"{name}_spearman"] = _score(spearman, part, **words)
        table[f"{name}_mae"] = _score(mae, part, **words)
    return table


def each_zone(found: Severities, *, seed: int, count: int) -> list[Score]:
    """Get one score a zone: kappa where severities are grades, else Spearman's correlation; arguments as before."""
    words: dict[str, Any] = {"seed": seed, "count": count, "known": found.patients is not None}
    columns = range(found.truth.shape[1])
    if found.grades:
        return [_score(_kappa, found.zones([k]), **words, grades=np.asarray(found.grades)) for k in columns]
    return [_score(spearman, found.zones([k]), **words) for k in columns]


def reach_of(found: Severities, *, coverage: float) -> tuple[float, float]:
    """Get the half-widths of the intervals that hold the truth of a zone, and of the sum, in such a share of cases.

    Split conformal prediction on the sizes of the errors; infinite where there are too few cases.

    Args:
        found: truth and predictions of images that the model did not learn from.
        coverage: from .5 to 1, both left out.
    """
    ends = []
    for truth, said, _ in (found.zones(), found.sums()):
        ends.append(calibrate(Cases("number", truth, said), coverage=coverage).limits[0])
    return ends[0], ends[1]


def covered(found: Severities, reach: tuple[float, float], *, seed: int, count: int) -> dict[str, Score]:
    """Get the share of known zones, and of known sums, that lie within `reach` of the prediction."""
    words: dict[str, Any] = {"seed": seed, "count": count}
    table = {}
    for name, (truth, said, people), width in zip(("zone", "sum"), (found.zones(), found.sums()), reach, strict=True):
        score = proportion(np.abs(truth - said) <= width, patients=people, **words)
        table[name] = score if found.patients is not None else replace(score, n_patients=None)
    return table


def grade_matrix(found: Severities) -> np.ndarray:
    """Count known zones by (true grade, nearest grade), `(G, G)`."""
    truth, said, _ = found.zones()
    grades = np.asarray(found.grades)
    return confusion_matrix(_nearest(truth, grades), _nearest(said, grades), classes=len(grades))


def _score(metric: Any, part: tuple[np.ndarray, np.ndarray, list[str]], *, known: bool, **words: Any) -> Score:
    truth, said, people = part
    grades = words.pop("grades", None)
    arrays = [truth, said] if grades is None else [_nearest(truth, grades), _nearest(said, grades)]
    if len(truth) == 0:
        return Score.missing("no image has a known severity", n=0, n_patients=0 if known else None)
    score = bootstrap(metric, arrays, patients=people, **words)
    return score if known else replace(score, n_patients=None, method=score.method.replace("patients", "images"))


def _levels(found: Severities, name: str) -> np.ndarray:
    """The grades of a zone; of the sum, whole numbers from the least to the largest that can be."""
    grades = np.asarray(found.grades)
    zones = found.truth.shape[1]
    return grades if name == "zone" else np.arange(np.floor(grades[0] * zones), np.ceil(grades[-1] * zones) + 1)


def _nearest(values: np.ndarray, grades: np.ndarray) -> np.ndarray:
    return np.abs(values[:, None] - grades).argmin(axis=1)


def _kappa(truth: np.ndarray, said: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    classes = int(max(truth.max(initial=0), said.max(initial=0))) + 1
    matrix = confusion_matrix(truth, said, classes=classes, weights=weights)
    return as_value(np.atleast_1d(quadratic_kappa(matrix)), weights=weights)
