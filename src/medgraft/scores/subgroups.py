"""Scores for men and women, old and young, this site and that one: where does it fail?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.scores.cases import Cases
from medgraft.scores.intervals import COUNT
from medgraft.scores.resample import known_patients
from medgraft.scores.rows import table_rows
from medgraft.scores.score import Score
from medgraft.scores.summary import fill

MOST_GROUPS = 8
FEWEST_CASES = 10
NOT_STATED = "not stated"
SHOWN = {
    "binary": ("auroc", "sensitivity", "specificity", "ece"),
    "multiclass": ("auroc", "balanced_accuracy", "ece"),
    "labels": ("auroc", "f1", "ece"),
    "ordinal": ("quadratic_kappa", "mae", "auroc"),
    "number": ("mae", "bias", "r2"),
}
_AGE = re.compile(r"(^|[^a-z]|patient)age([^a-z]|$)")
_AGE_EDGES = (20.0, 40.0, 50.0, 60.0, 70.0, 80.0)
_DICOM_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


@dataclass(frozen=True, eq=False)
class Subgroup:
    """The scores of one group.

    Attributes:
        covariate: the column, such as "sex".
        group: its value or band, such as "F" or "60-69".
        banding: how the groups of this column were made.
        n: cases.
        n_patients: patients, or None when unknown.
        scores: name -> score; without values in groups of fewer than ten cases.
    """

    covariate: str
    group: str
    banding: str
    n: int
    n_patients: int | None
    scores: dict[str, Score]

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        head = {name: getattr(self, name) for name in ("covariate", "group", "banding", "n", "n_patients")}
        return {**head, "scores": {name: score.to_dict() for name, score in self.scores.items()}}


def subgroup_table(
    cases: Cases, covariates: Mapping[str, Sequence[str | None]], *, seed: int, count: int = COUNT
) -> list[Subgroup]:
    """Get scores for each group of each covariate; a column with a single group is left out.

    Args:
        cases: test cases.
        covariates: column -> n values as text.
        seed: the run's seed.
        count: resamples.
    """
    table = []
    for column, values in covariates.items():
        groups, banding = band(column, values)
        if len(set(groups)) < 2:
            continue
        for group in in_order(groups):
            some = cases.take(np.array([each == group for each in groups], dtype=bool))
            scores = _scores(some, seed=seed, count=count)
            people = known_patients(some.patients, len(some))
            table.append(Subgroup(column, group, banding, len(some), people, scores))
    return table


def _scores(cases: Cases, *, seed: int, count: int) -> dict[str, Score]:
    names = SHOWN[cases.kind]
    n, known = len(cases), known_patients(cases.patients, len(cases))
    if n < FEWEST_CASES:
        why = f"{n} cases are too few for a group of its own (at least {FEWEST_CASES})"
        return {name: Score.missing(why, n=n, n_patients=known) for name in names}
    rows = table_rows(cases)
    return fill(cases, {name: rows[name] for name in names}, seed=seed, count=count)


def band(column: str, values: Sequence[str | None]) -> tuple[list[str], str]:
    """Put each value into one of at most eight groups; also say how.

    A column that is numeric throughout with more than eight different numbers is cut: age (by the column's
    name; also DICOM's "045Y") at 20, 40, 50, 60, 70 and 80 years, anything else at its tertiles. Text keeps
    its values, the rarest joined as "other". Empty values are "not stated".

    Example:
        >>> band("sex", ["F", "M", ""])
        (['F', 'M', 'not stated'], 'values')
    """
    texts = [(value or "").strip() for value in values]
    numbers = [_number(text) for text in texts]
    known = np.array([number for number in numbers if number is not None])
    stated = sum(bool(text) and text.lower() not in ("nan", "none", "na") for text in texts)
    if len(known) and len(known) == stated and len(np.unique(known)) > MOST_GROUPS:
        if _AGE.search(re.sub("([a-z])([A-Z])", r"\1_\2", column).lower()):
            return [_by_edges(number, _AGE_EDGES) for number in numbers], "bands of age in years"
        edges = np.unique(np.quantile(known, [1 / 3, 2 / 3]))
        return [_by_edges(number, tuple(edges.tolist())) for number in numbers], "tertiles"
    texts = [NOT_STATED if text.lower() in ("", "nan", "none", "na") else text for text in texts]
    common = [text for text, _ in sorted(Counter(texts).items(), key=lambda pair: (-pair[1], pair[0]))]
    if len(common) <= MOST_GROUPS:
        return texts, "values"
    kept = set(common[: MOST_GROUPS - 1])
    return [text if text in kept else "other" for text in texts], f"the {MOST_GROUPS - 1} most frequent values"


def _number(text: str) -> float | None:
    dicom = _DICOM_AGE.fullmatch(text)
    if dicom:
        return int(dicom[1]) / _YEARS[dicom[2]]
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _by_edges(number: float | None, edges: tuple[float, ...]) -> str:
    if number is None:
        return NOT_STATED
    place = int(np.searchsorted(edges, number, side="right"))
    if place == 0:
        return f"below {edges[0]:g}"
    if place == len(edges):
        return f"{edges[-1]:g} and above"
    return f"{edges[place - 1]:g} to below {edges[place]:g}"


def in_order(groups: Sequence[str]) -> list[str]:
    """Bands from low to high, values by name; "other" and "not stated" last."""

    def place(group: str) -> tuple[int, float, str]:
        last = {"other": 2, NOT_STATED: 3}.get(group, 1)
        lead = re.match(r"(below )?(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?![\w.])", group)
        number = float(lead[2]) if lead else 0.0
        return last, (number - 1e-9 if lead and lead[1] else number), group

    return sorted(set(groups), key=place)
