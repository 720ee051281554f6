"""From drawn label maps to what the report says of them: scores image by image, tables with intervals, subgroups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medgraft.errors import BadData
from medgraft.judge import groupable, known_patients
from medgraft.recipe import Recipe
from medgraft.samples.mask_grid import GridFrame
from medgraft.scores.instances import InstanceScores, instance_scores, instance_table
from medgraft.scores.mask_cases import MaskScores, mask_scores
from medgraft.scores.mask_tables import mask_class_table, mask_table
from medgraft.scores.score import Score
from medgraft.values import Sample

_FEWEST = 5  # images of a group that is told of


@dataclass(frozen=True)
class Rules:
    """How label maps are scored.

    Attributes:
        classes: names in order.
        tolerance: of the boundary in nsd, in mm or pixels.
        unit: "mm", or "px" where some files do not say how large a pixel is.
        thin: True scores centre lines too.
        apart: True where things are told apart.
    """

    classes: tuple[str, ...]
    tolerance: float
    unit: str
    thin: bool
    apart: bool

    @classmethod
    def of(cls, recipe: Recipe, frames: Iterable[GridFrame], *, classes: Sequence[str]) -> Rules:
        """Get those of a filled recipe, for images that lie so in their files."""
        own = recipe.masks
        unit = "mm" if all(frame.spacing_mm is not None for frame in frames) else "px"
        return cls(tuple(classes), own.tolerance or 1.0, unit, bool(own.thin), bool(own.instances))

    def spacing_of(self, frame: GridFrame, where: object = None) -> tuple[float, ...] | None:
        """Get what distances in an image are measured with; `where` names the image.

        Raises:
            BadData: it does not say how large its pixels are, and those of the training did.
        """
        if self.unit == "mm" and frame.spacing_mm is None:
            what = "does not say how large its pixels are, as those of the training did"
            raise BadData(what, where=where)
        return frame.spacing_mm if self.unit == "mm" else None


@dataclass(eq=False)
class Judged:
    """Scores of the images of one part of the data.

    Attributes:
        samples: in order.
        masks: of the classes, an image each.
        things: of things told apart, an image each; empty where they are not.
    """

    samples: list[Sample] = field(default_factory=list)
    masks: list[MaskScores] = field(default_factory=list)
    things: list[InstanceScores] = field(default_factory=list)

    def add(self, sample: Sample, truth: np.ndarray, drawn: np.ndarray, *, frame: GridFrame, rules: Rules) -> None:
        """Score one image, both maps on the grid of its file."""
        if rules.apart:
            self.things.append(instance_scores(truth, drawn, key=sample.key))
            truth, drawn = (truth > 0).astype(np.uint8), (drawn > 0).astype(np.uint8)
        words: dict[str, Any] = {
            "classes": rules.classes,
            "spacing_mm": rules.spacing_of(frame, sample.image),
            "thin": rules.thin,
        }
        self.samples.append(sample)
        self.masks.append(mask_scores(truth, drawn, tolerance=rules.tolerance, key=sample.key, **words))

    def dice(self) -> np.ndarray:
        """Get the mean Dice of each image over its classes; NaN where none counts."""
        rows = np.array([one["dice"] for one in self.masks])
        counted = np.isfinite(rows).sum(axis=1)
        return np.divide(np.nansum(rows, axis=1), counted, out=np.full(len(rows), np.nan), where=counted > 0)


def verdicts(parts: Mapping[str, Judged], rules: Rules, *, seed: int, resamples: int) -> dict[str, Any]:
    """Get the report's keys about label maps: tables of all and of each class, and of groups.

    Args:
        parts: by the part of the data, "test" and where there is one "val".
        rules: how they were scored.
        seed: the run's seed.
        resamples: of patients.
    """
    test = parts["test"]
    told = {"tolerance": rules.tolerance, "unit": rules.unit, "thin": rules.thin, "apart": rules.apart}
    words: dict[str, Any] = {"seed": seed, "count": resamples}
    each = mask_class_table(test.masks, patients=known_patients(test.samples), **_how(rules), **words)
    return {
        "scores": {name: _plain(table(own, rules, **words)) for name, own in parts.items()},
        "per_class": {name: _plain(row) for name, row in each.items()},
        "subgroups": _subgroups(test, rules, **words),
        "drawing": {**told, "axes": test.masks[0].axes if test.masks else None},
    }


def table(own: Judged, rules: Rules, *, seed: int, count: int) -> dict[str, Score]:
    """Get every score of some images; where things are told apart theirs come first."""
    words: dict[str, Any] = {"patients": known_patients(own.samples), "seed": seed, "count": count}
    things = instance_table(own.things, **words) if rules.apart else {}
    return things | mask_table(own.masks, **_how(rules), **words)


def _how(rules: Rules) -> dict[str, Any]:
    return {"classes": rules.classes, "tolerance": rules.tolerance, "unit": rules.unit}


def _subgroups(test: Judged, rules: Rules, *, seed: int, count: int) -> list[dict[str, Any]]:
    columns = sorted({name for sample in test.samples for name in sample.covariates})
    covariates = {name: [sample.covariates.get(name) or None for sample in test.samples] for name in columns}
    rows = []
    for column, values in groupable(covariates).items():
        for group in dict.fromkeys(value for value in values if value is not None):
            places = [place for place, value in enumerate(values) if value == group]
            if len(places) < _FEWEST:
                continue
            some = Judged(
                [test.samples[place] for place in places],
                [test.masks[place] for place in places],
                [test.things[place] for place in places] if rules.apart else [],
            )
            scores = table(some, rules, seed=seed, count=count)
            kept = {name: scores[name].to_dict() for name in ("ap50", "dice", "nsd") if name in scores}
            people = known_patients(some.samples)
            known = None if people is None else len(set(people))
            rows.append({"covariate": column, "group": group, "n": len(places), "n_patients": known, "scores": kept})
    return rows


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.to_dict() for name, score in scores.items()}
