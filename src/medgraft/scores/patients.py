"""From images to patients: one prediction a person, for the same scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.errors import BadRecipe
from medgraft.scores.cases import Cases
from medgraft.scores.resample import patient_codes, ratio

HOW = ("mean", "max")


@dataclass(frozen=True, eq=False)
class PatientCases:
    """Cases that are whole patients.

    Attributes:
        cases: one row a patient; None where there is nothing to gather.
        note: how images were gathered, and who had to be left out.
    """

    cases: Cases | None
    note: str


def by_patient(cases: Cases, *, how: str = "mean") -> PatientCases:
    """Gather the images of each patient.

    Truth: binary, a patient is positive when any image is; ordinal, the highest grade; several labels, every
    label of any image; a number, the mean. A patient whose images are of different unordered classes has no
    one class and is left out.

    Prediction: "mean" of the images' probabilities (or numbers); "max" the image with the highest
    probability of the finding, the highest expected grade or number; of unordered classes each class's
    largest probability, made to sum to 1.

    Args:
        cases: images.
        how: "mean" or "max".

    Raises:
        BadRecipe: `how` is neither.
    """
    if how not in HOW:
        raise BadRecipe(f"images cannot be gathered by {how!r}", do=f"Known: {', '.join(HOW)}.")
    if cases.patients is None:
        return PatientCases(None, "patients are not known")
    codes, people = patient_codes(cases.patients, len(cases))
    if people == len(cases):
        return PatientCases(None, "each patient has one image")
    targets = _truth(cases, codes, people)
    gathered = _gather(cases, codes, people, how)
    first = np.zeros(people, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(cases))[::-1]
    names = [cases.patients[row] for row in first.tolist()]
    whole = Cases(cases.kind, targets, gathered, cases.classes, cases.positive, names, cases.threshold)
    note = f"{how} over the images of {people} patients"
    if cases.kind == "multiclass":
        mixed = np.bincount(codes, weights=cases.targets != targets[codes], minlength=people) > 0
        if mixed.any():
            note += f"; {int(mixed.sum())} left out whose images are of different classes"
            whole = whole.take(~mixed)
    return PatientCases(whole, note)


def _truth(cases: Cases, codes: np.ndarray, people: int) -> np.ndarray:
    targets = cases.targets
    if cases.kind == "number":
        return np.bincount(codes, weights=targets, minlength=people) / np.bincount(codes, minlength=people)
    if cases.kind == "binary":
        positive = cases.positive_index
        any_positive = np.bincount(codes, weights=cases.truth, minlength=people) > 0
        return np.where(any_positive, positive, 1 - positive)
    found = np.zeros((people, *targets.shape[1:]), dtype=np.int64)
    np.maximum.at(found, codes, targets)
    return found


def _gather(cases: Cases, codes: np.ndarray, people: int, how: str) -> np.ndarray:
    values = cases.probabilities
    columns = values.reshape(len(values), -1)
    if how == "mean":
        sums = np.stack([np.bincount(codes, weights=column, minlength=people) for column in columns.T], axis=1)
        return (sums / np.bincount(codes, minlength=people)[:, None]).reshape(people, *values.shape[1:])
    if cases.kind in ("binary", "ordinal", "number"):
        height = {
            "binary": lambda: cases.chance,
            "ordinal": lambda: values @ np.arange(columns.shape[1]),
            "number": lambda: values,
        }[cases.kind]()
        order = np.lexsort((height, codes))
        return values[order[np.flatnonzero(np.r_[codes[order][1:] != codes[order][:-1], True])]]
    found = np.full((people, columns.shape[1]), -np.inf)
    np.maximum.at(found, codes, columns)
    return found if cases.kind == "labels" else ratio(found, found.sum(axis=1, keepdims=True))
