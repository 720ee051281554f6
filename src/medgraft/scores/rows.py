"""Which scores suit which kind of target, and how each is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from medgraft.scores import collapse, decisions, intervals, numeric, probabilities, ranking
from medgraft.scores.cases import Cases
from medgraft.scores.delong import delong, one_sided
from medgraft.scores.resample import Value, as_rows, as_value, mean_known, patient_codes
from medgraft.scores.score import Score

Weights = np.ndarray | None


@dataclass(frozen=True, eq=False)
class Row:
    """How one score of a table is found.

    Attributes:
        statistic: rows of weights (B, n), or None for one -> values.
        why: said where it has no value.
        exact: the whole score where every patient has one case, in place of resampling.
        flat: low, high and method where all resamples agree; may find none.
        of: (n,) booleans, the cases it rests on; None for all.
        note: said behind the method, such as which classes take no part.
        noise: for a sum of absolute gaps, the sum of their changes on the same weights.
    """

    statistic: Callable[[Weights], Value]
    why: str
    exact: Callable[[], Score] | None = None
    flat: Callable[[], collapse.Ends | None] | None = None
    of: np.ndarray | None = None
    noise: Callable[[np.ndarray], Value] | None = None
    note: str | None = None


def table_rows(cases: Cases) -> dict[str, Row]:
    """Get the rows of the whole table for a kind of target: name -> row."""
    return {
        "binary": _binary,
        "multiclass": _multiclass,
        "labels": _labels,
        "ordinal": _ordinal,
        "number": _number,
    }[cases.kind](cases)


def two_columns(cases: Cases) -> np.ndarray:
    """Get probabilities as (n, K), also where only the positive class's was given."""
    if cases.probabilities.ndim == 2:
        return cases.probabilities
    both = [1 - cases.chance, cases.chance]
    return np.stack(both if cases.positive_index == 1 else both[::-1], axis=1)


def absent_classes(cases: Cases) -> str | None:
    """Say which classes have no case and so no part in a mean over classes; None when all have."""
    if cases.kind == "labels":
        missing = np.flatnonzero(~(cases.targets > 0).any(axis=0))
    else:
        missing = np.setdiff1d(np.arange(two_columns(cases).shape[1]), cases.targets)
    if len(missing) == 0 or cases.kind == "binary":
        return None
    return f"mean without {', '.join(cases.name(int(k)) for k in missing)}: no case"


def class_rows(cases: Cases, truth: np.ndarray, *, chance: np.ndarray, called: np.ndarray, name: str) -> dict[str, Row]:
    """Get the rows of one class against the rest.

    Args:
        cases: for the patients.
        truth: (n,) booleans.
        chance: (n,) probability of the class.
        called: (n,) booleans.
        name: of the class, for `why`.
    """
    codes, _ = patient_codes(cases.patients, len(truth))
    negative = f"not {name}"
    if cases.kind == "binary":
        negative = next(other for other in (cases.name(0), cases.name(1)) if other != name)
    sides, column = one_sided(len(truth), int(truth.sum()), names=(negative, name)), (truth[:, None], chance[:, None])

    def share(metric: Callable[..., Value], of: np.ndarray, right: np.ndarray, why: str) -> Row:
        some = None if cases.patients is None else [cases.patients[row] for row in np.flatnonzero(of).tolist()]
        return Row(
            lambda rows: metric(truth, called, weights=rows),
            why,
            exact=lambda: intervals.proportion(right[of], patients=some),
            flat=lambda: collapse.exact_share(right[of], codes=codes[of]),
            of=of,
        )

    return {
        "auroc": Row(
            lambda rows: ranking.auroc(truth, chance, weights=rows),
            sides,
            exact=lambda: delong(truth, chance, patients=cases.patients, names=(negative, name)),
            flat=lambda: collapse.flat_auroc(*column, codes=codes),
        ),
        "auprc": Row(
            lambda rows: ranking.auprc(truth, chance, weights=rows),
            sides,
            flat=lambda: collapse.flat_auprc(*column, codes=codes),
        ),
        "sensitivity": share(decisions.sensitivity, truth, called, f"no case is {name}"),
        "specificity": share(decisions.specificity, ~truth, ~called, f"no case is {negative}"),
        "ppv": share(decisions.ppv, called, truth, f"no case was called {name}"),
        "npv": share(decisions.npv, ~called, ~truth, f"no case was called {negative}"),
        "f1": _of_matrix(
            cases, truth, called, lambda m: decisions.f1(m, positive=1), f"no case is or was called {name}"
        ),
    }


def _of_matrix(
    cases: Cases, targets: np.ndarray, called: np.ndarray, metric: Callable[[np.ndarray], np.ndarray], why: str
) -> Row:
    """A score of the confusion matrix."""
    codes, _ = patient_codes(cases.patients, len(targets))
    classes = int(max(targets.max(initial=0), called.max(initial=0), 1)) + 1 if len(targets) else 2

    def statistic(rows: Weights) -> Value:
        matrix = decisions.confusion_matrix(targets, called, classes=classes, weights=as_rows(rows, len(targets)))
        return as_value(np.atleast_1d(metric(matrix)), weights=rows)

    return Row(statistic, why, flat=lambda: collapse.no_error(metric, targets, called=called, codes=codes))


def _decision_rows(cases: Cases) -> dict[str, Row]:
    called, targets = cases.called, cases.targets
    codes, _ = patient_codes(cases.patients, len(cases))
    present = np.unique(targets)
    why = f"all {len(cases)} cases are {cases.name(int(present[0]))}" if len(present) == 1 else "there are no cases"
    right = called == targets
    return {
        "accuracy": Row(
            lambda rows: probabilities.weighted_mean(right.astype(np.float64), weights=rows),
            why,
            exact=lambda: intervals.proportion(right, patients=cases.patients),
            flat=lambda: collapse.exact_share(right, codes=codes),
        ),
        "balanced_accuracy": replace(
            _of_matrix(cases, targets, called, decisions.balanced_accuracy, why), note=absent_classes(cases)
        ),
        "mcc": _of_matrix(cases, targets, called, decisions.mcc, why),
    }


def _probability_rows(cases: Cases, chances: np.ndarray, targets: np.ndarray) -> dict[str, Row]:
    why = "there are no cases"
    rows = {
        "brier": Row(lambda rows: probabilities.brier(targets, chances, weights=rows), why),
        "ece": Row(
            lambda rows: probabilities.ece(targets, chances, weights=rows),
            why,
            noise=lambda rows: probabilities.ece(targets, chances, weights=rows, changes=True),
        ),
        "log_loss": Row(lambda rows: probabilities.log_loss(targets, chances, weights=rows), why),
    }
    if chances.ndim == 2 and targets.ndim == 1:
        rows["ece_classwise"] = Row(
            lambda rows: probabilities.ece_classwise(targets, chances, weights=rows),
            why,
            noise=lambda rows: probabilities.ece_classwise(targets, chances, weights=rows, changes=True),
        )
    return rows


def _binary(cases: Cases) -> dict[str, Row]:
    truth, name = cases.truth, cases.name(cases.positive_index)
    called = cases.called == cases.positive_index
    one = class_rows(cases, truth, chance=cases.chance, called=called, name=name)
    return {
        "auroc": one.pop("auroc"),
        "auprc": one.pop("auprc"),
        **_decision_rows(cases),
        "f1": one.pop("f1"),
        **one,
        **_probability_rows(cases, cases.chance, truth.astype(np.int64)),
    }


def _order_rows(cases: Cases) -> dict[str, Row]:
    """Macro one-vs-rest scores of order, with a word on the classes that could not take part."""
    codes, _ = patient_codes(cases.patients, len(cases))
    pair = ranking.one_column_each(cases.targets, cases.probabilities)
    why, absent = "no class has cases both with and without it", absent_classes(cases)
    targets, chances = cases.targets, cases.probabilities
    return {
        "auroc": Row(
            lambda rows: ranking.auroc(targets, chances, weights=rows),
            why,
            flat=lambda: collapse.flat_auroc(*pair, codes=codes),
            note=absent,
        ),
        "auprc": Row(
            lambda rows: ranking.auprc(targets, chances, weights=rows),
            "no class has a case",
            flat=lambda: collapse.flat_auprc(*pair, codes=codes),
            note=absent,
        ),
    }


def _multiclass(cases: Cases) -> dict[str, Row]:
    return {
        **_order_rows(cases),
        **_decision_rows(cases),
        "f1": _of_matrix(cases, cases.targets, cases.called, decisions.f1, "there are no cases"),
        **_probability_rows(cases, cases.probabilities, cases.targets),
    }


def _ordinal(cases: Cases) -> dict[str, Row]:
    called, targets, chances = cases.called, cases.targets, cases.probabilities
    expected = chances @ np.arange(chances.shape[1])
    rows = _multiclass(cases)
    same = "all cases are, or were called, one grade"
    return {
        "quadratic_kappa": _of_matrix(cases, targets, called, decisions.quadratic_kappa, same),
        "mae": Row(lambda rows: numeric.mae(targets, called, weights=rows), "there are no cases"),
        "spearman": Row(lambda rows: numeric.spearman(targets, expected, weights=rows), same),
        "auroc_cuts": Row(lambda rows: ranking.auroc_cuts(targets, expected, weights=rows), same),
        **rows,
    }


def _labels(cases: Cases) -> dict[str, Row]:
    truth, called = cases.targets > 0, cases.called > 0
    codes, _ = patient_codes(cases.patients, len(cases))
    exact = (truth == called).all(axis=1)
    hits = (truth == called).mean(axis=1)

    def macro(metric: Callable[[np.ndarray], np.ndarray]) -> Callable[[Weights], Value]:
        def statistic(rows: Weights) -> Value:
            some = as_rows(rows, len(truth))
            parts = [
                metric(decisions.confusion_matrix(truth[:, k], called[:, k], classes=2, weights=some))
                for k in range(truth.shape[1])
            ]
            return as_value(mean_known(np.stack(parts, axis=-1)), weights=rows)

        return statistic

    nothing, sides = "no label is true or called in any case", "no label has cases both with and without it"
    return {
        **_order_rows(cases),
        "accuracy": Row(lambda rows: probabilities.weighted_mean(hits, weights=rows), "there are no cases"),
        "exact_match": Row(
            lambda rows: probabilities.weighted_mean(exact.astype(np.float64), weights=rows),
            "there are no cases",
            exact=lambda: intervals.proportion(exact, patients=cases.patients),
            flat=lambda: collapse.exact_share(exact, codes=codes),
        ),
        "balanced_accuracy": Row(macro(decisions.balanced_accuracy), sides),
        "mcc": Row(macro(decisions.mcc), sides),
        "f1": Row(macro(lambda matrix: decisions.f1(matrix, positive=1)), nothing),
        **_probability_rows(cases, cases.probabilities, cases.targets),
    }


def _number(cases: Cases) -> dict[str, Row]:
    targets, values = cases.targets, cases.probabilities
    some, same = "there are no cases", "all targets, or all predictions, are equal"
    return {
        "mae": Row(lambda rows: numeric.mae(targets, values, weights=rows), some),
        "rmse": Row(lambda rows: numeric.rmse(targets, values, weights=rows), some),
        "r2": Row(lambda rows: numeric.r2(targets, values, weights=rows), same),
        "spearman": Row(lambda rows: numeric.spearman(targets, values, weights=rows), same),
        "bias": Row(lambda rows: numeric.bias(targets, values, weights=rows), some),
    }
