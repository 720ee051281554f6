"""How well normal images and others are told apart, and whether maps are warm where masks are; nothing is fitted here.

The threshold is a quantile of the scores of normal validation images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.anomaly.seen import Seen
from medgraft.errors import BadData
from medgraft.files import grid_of, read_label_map
from medgraft.judge import groupable, known_patients, repeats_labels
from medgraft.learn.model import Pixels
from medgraft.scores.bands import Band, pr_band, roc_band
from medgraft.scores.cases import Cases
from medgraft.scores.decisions import confusion_matrix
from medgraft.scores.odd_places import PlaceCounts, edges_of, place_counts, place_scores
from medgraft.scores.operating import OperatingPoint, judge
from medgraft.scores.resample import known_patients as known_names
from medgraft.scores.rows import table_rows
from medgraft.scores.score import Score
from medgraft.scores.subgroups import FEWEST_CASES, MOST_GROUPS, band, in_order
from medgraft.scores.summary import fill
from medgraft.values import Sample

_CURVE_RESAMPLES = 500  # bands are drawn, not quoted
_SAMPLED = 400  # values of each map, by which levels are told apart
TABLE = ("auroc", "auprc", "balanced_accuracy", "f1")
_PAIR = ("auroc", "sensitivity")


@dataclass(frozen=True, eq=False)
class Judged:
    """One part of the data with what was seen of it.

    Attributes:
        samples: N.
        seen: N, of the same order.
        normal: label of normal images.
        classes: the two answers.
        threshold: a score from which an image counts as not normal.
    """

    samples: Sequence[Sample]
    seen: Sequence[Seen]
    normal: str
    classes: tuple[str, str]
    threshold: float

    @property
    def scores(self) -> np.ndarray:
        """Get the scores, `(N,)` float64."""
        return np.array([one.score for one in self.seen], np.float64)

    def cases(self) -> Cases:
        """Get truth and scores as the scores room takes them."""
        truth = np.array([sample.label != self.normal for sample in self.samples], np.int64)
        words: dict[str, Any] = {"classes": self.classes, "positive": self.classes[1], "threshold": self.threshold}
        return Cases("binary", truth, self.scores, patients=known_patients(self.samples), **words)


def threshold_of(scores: np.ndarray, quantile: float) -> float:
    """Get the threshold that leaves a share of the normal validation images below it: a score it reaches is called.

    Example:
        >>> round(threshold_of(np.arange(101.0), 0.95), 6)
        95.0
    """
    return float(np.nextafter(np.quantile(np.asarray(scores, np.float64), quantile), np.inf))


def table(part: Judged, *, seed: int, count: int) -> dict[str, Any]:
    """Get name -> score of one part, as report.json holds them."""
    cases = part.cases()
    rows = table_rows(cases)
    found = fill(cases, {word: rows[word] for word in TABLE}, seed=seed, count=count)
    return {word: score.to_dict() for word, score in found.items()}


def verdicts(val: Judged, test: Judged, *, rule: str, pixels: Pixels, seed: int, count: int) -> dict[str, Any]:
    """Get the report's keys about test images: tables, operating point, groups, what maps are worth."""
    result = judged(test, rule=rule, pixels=pixels, seed=seed, count=count)
    result["scores"]["val"] = table(val, seed=seed, count=count)
    return result


def judged(test: Judged, *, rule: str, pixels: Pixels, seed: int, count: int) -> dict[str, Any]:
    """Get what `verdicts` gives, without validation images."""
    cases = test.cases()
    called, truth = cases.called == 1, cases.truth
    point = judge(OperatingPoint(test.threshold, rule), cases, seed=seed, count=count)
    point["prevalence"] = float(truth.mean()) if len(truth) else 0.0
    point["counts"] = {
        "tp": int((called & truth).sum()),
        "fp": int((called & ~truth).sum()),
        "tn": int((~called & ~truth).sum()),
        "fn": int((~called & truth).sum()),
    }
    matrix = confusion_matrix(cases.targets, cases.called, classes=2)
    scores = table(test, seed=seed, count=count)
    places = pixel_table(test, pixels, seed=seed, count=count)
    if places:
        scores |= {name: score.to_dict() for name, score in places.items()}
    return {
        "scores": {"test": scores},
        "operating_point": point,
        "confusion": {"classes": list(cases.classes), "matrix": matrix.astype(int).tolist()},
        "subgroups": _groups(test, cases, seed=seed, count=count),
        "kinds": _kinds(test, seed=seed, count=count),
    }


def _kinds(test: Judged, *, seed: int, count: int) -> dict[str, Any]:
    """Each label that is not normal against the normal images: which kinds of finding are odd enough to be seen."""
    others = sorted({str(sample.label) for sample in test.samples if sample.label != test.normal})
    if len(others) < 2:
        return {}
    found = {}
    for label in others[:MOST_GROUPS]:
        rows = [k for k, sample in enumerate(test.samples) if sample.label in (label, test.normal)]
        own = Judged(
            [test.samples[k] for k in rows], [test.seen[k] for k in rows], test.normal, test.classes, test.threshold
        )
        found[label] = _pair(own.cases(), seed=seed, count=count)
    return found


def _groups(test: Judged, cases: Cases, *, seed: int, count: int) -> list[dict[str, Any]]:
    """AUROC and sensitivity for each value of each covariate that parts the cases into few groups."""
    names = sorted({name for sample in test.samples for name in sample.covariates})
    columns = {name: [sample.covariates.get(name) or None for sample in test.samples] for name in names}
    rows = []
    for name, values in groupable(columns).items():
        groups, banding = band(name, values)
        if len(set(groups)) < 2 or repeats_labels(values, cases.targets):
            continue
        for group in in_order(groups):
            own = cases.take(np.array([value == group for value in groups]))
            row = {"covariate": name, "group": group, "banding": banding, "n": len(own)}
            known = known_names(own.patients, len(own))
            rows.append({**row, "n_patients": known, "scores": _pair(own, seed=seed, count=count)})
    return rows


def _pair(own: Cases, *, seed: int, count: int) -> dict[str, Any]:
    """AUROC and sensitivity of some of the cases."""
    if len(own) < FEWEST_CASES:
        why = f"{len(own)} cases are too few for a group of its own (at least {FEWEST_CASES})"
        return {word: Score.missing(why, n=len(own)).to_dict() for word in _PAIR}
    rows = table_rows(own)
    wanted = {word: rows[word] for word in _PAIR}
    return {word: score.to_dict() for word, score in fill(own, wanted, seed=seed, count=count).items()}


# ---- maps -------------------------------------------------------------------------------


def check_masks(samples: Sequence[Sample], records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse masks that do not lie over their images, before anything is learnt or looked at.

    Raises:
        BadData: a mask is of another size than its image; both are named.
        BadImage: a mask cannot be read.
    """
    for sample, record in zip(samples, records, strict=True):
        if sample.mask is None:
            continue
        mask, image = grid_of(sample.mask)[0], tuple(record["shape"][-2:])
        if tuple(mask[-2:]) != image or any(side != 1 for side in mask[:-2]):
            sizes = [" x ".join(map(str, one[::-1])) for one in (mask, image)]
            what = f"the mask has {sizes[0]} pixels and its image {sample.key} {sizes[1]}"
            raise BadData(what, where=sample.mask, do="Give a mask of the size of its image, or leave it out.")


def pixel_table(test: Judged, pixels: Pixels, *, seed: int, count: int) -> dict[str, Score]:
    """Get the scores of pixels where masks are known: of images with a mask, and of normal ones; else nothing.

    Raises:
        BadImage: a mask cannot be read.
    """
    masked = [k for k, sample in enumerate(test.samples) if sample.mask is not None]
    if not masked:
        return {}
    known = sorted({*masked, *(k for k, sample in enumerate(test.samples) if sample.label == test.normal)})
    values = [one.map[one.map > 0] for one in (test.seen[k] for k in known)]
    some = [own[:: max(1, len(own) // _SAMPLED)] for own in values if len(own)]
    edges = edges_of(np.concatenate(some) if some else np.zeros(1))
    images = [_counted(test, k, pixels, edges) for k in known]
    patients = known_patients([test.samples[k] for k in known])
    return place_scores(images, patients=patients, seed=seed, count=count)


def _counted(test: Judged, place: int, pixels: Pixels, edges: np.ndarray) -> PlaceCounts:
    sample, seen = test.samples[place], test.seen[place]
    # In the file's pixels with a mask or without: else a normal image would count for less, or its padding with it.
    values = seen.in_file(seen.shape, pixels)
    if sample.mask is None:
        return place_counts(values, np.zeros(values.shape, bool), edges=edges)
    return place_counts(values, read_label_map(sample.mask).values.reshape(values.shape) > 0, edges=edges)


# ---- what the page draws ---------------------------------------------------------------


def curves(test: Judged, *, seed: int) -> dict[str, Any]:
    """Get ROC and precision-recall with their bands, and the scores of either side."""
    cases = test.cases()
    drawn: dict[str, Any] = {"roc": {}, "pr": {}}
    words: dict[str, Any] = {"patients": cases.patients, "seed": seed, "count": _CURVE_RESAMPLES}
    truth = cases.truth.astype(int)
    if 0 < truth.sum() < len(truth):
        name = test.classes[1]
        drawn["roc"][name] = _curve(roc_band(truth, cases.chance, **words))
        drawn["pr"][name] = {**_curve(pr_band(truth, cases.chance, **words)), "prevalence": float(truth.mean())}
    sides = {test.classes[0]: ~cases.truth, test.classes[1]: cases.truth}
    drawn["unlike"] = {name: cases.chance[rows].tolist() for name, rows in sides.items()}
    return drawn


def _curve(band: Band) -> Mapping[str, Any]:
    rows = band.to_dict()
    return {"x": rows["x"], "y": rows["middle"], "low": rows["low"], "high": rows["high"]}
