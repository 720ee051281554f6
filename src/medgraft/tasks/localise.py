"""Localise: a diagnosis, and how severe it is in each zone of the image, by one encoder with two heads.

A sample may have a diagnosis, some zones, or both: what is unknown teaches
nothing. The map of severities behind the zones is weakly supervised.

Source: Park et al., "Multi-task vision transformer using low-level chest X-ray
feature corpus for COVID-19 diagnosis and severity quantification", Med Image
Anal 2022;75:102299.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medgraft.errors import BadData, BadRecipe
from medgraft.nets import Backbone, LinearHead
from medgraft.nets.zones import SeverityHead
from medgraft.tasks.base import Answers, Parts
from medgraft.tasks.classify import Classify
from medgraft.tasks.meter import Meter, ZoneMeter
from medgraft.values import Prediction, Sample

_MOST_GRADES = 10
_LEVELS = 3  # levels that severities look at: the last has lost where small things are, or does not see them any more
_LEAST_TO_LEARN = 0.02  # nats: zones that hardly differ must not be blown up to the size of a diagnosis
_FULL = -1e-4  # logarithm of the largest share that a loss is taken of


class Localise(Classify):
    """Classification, and beside it severities of zones: ordered grades, or shares from 0 to 1.

    Logits are `(N, K + Z)`: those of the classes, then the scores of the zones, logarithms of a severity.

    Attributes:
        regions: the head of the severities.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"label", "zones"})
    upright: ClassVar[bool] = True
    scales: Tensor

    def __init__(self, backbone: Backbone, head: LinearHead, answers: Answers) -> None:
        super().__init__(backbone, head, answers)
        shapes = _shapes_of(backbone)
        self.looked_at = range(max(0, len(shapes) - _LEVELS), len(shapes))
        self.regions = SeverityHead(
            [backbone.channels[stage] for stage in self.looked_at],
            [shapes[stage] for stage in self.looked_at],
            grid=answers.grid,
            zones=len(answers.zones),
            steps=max(0, len(answers.grades) - 1),
            dropout=head.dropout.p,
        )
        self.register_buffer("scales", torch.ones(2))

    # ---- what the samples say -----------------------------------------------------

    @classmethod
    def answers_of(
        cls, samples: Sequence[Sample], positive: str | None = None, *, grid: tuple[int, int] | None = None
    ) -> Answers:
        found = cls.read_answers([sample.label for sample in samples if sample.label], positive)
        names = tuple(samples[0].zones)
        if not names:
            raise BadData("no zone of any image has a severity", do="Name its columns by zones.columns.")
        values = np.array([list(sample.zones.values()) for sample in samples], dtype=np.float64)
        return replace(found, zones=names, grid=grid_for(len(names), grid), grades=_grades(values[np.isfinite(values)]))

    def targets_of(self, samples: Sequence[Sample]) -> np.ndarray:
        """Get `(N, 1 + Z)` float32: the number of the class or -1, then the number of each grade, or share, or NaN."""
        found = np.full((len(samples), 1 + len(self.answers.zones)), np.nan, dtype=np.float32)
        rows = [place for place, sample in enumerate(samples) if sample.label]
        found[:, 0] = -1
        found[rows, 0] = self.encode([samples[place].label or "" for place in rows])
        for row, sample in zip(found, samples, strict=True):
            row[1:] = [self._zone(sample.zones.get(name, math.nan), sample.key) for name in self.answers.zones]
        return found

    def _zone(self, value: float, key: str) -> float:
        grades = self.answers.grades
        if math.isnan(value):
            return value
        known = value in grades if grades else 0 <= value <= 1
        if not known:
            wanted = f"grades {', '.join(f'{grade:g}' for grade in grades)}" if grades else "shares from 0 to 1"
            raise BadData(f"a zone of {key} has the severity {value:g}, and training knew {wanted}")
        return float(grades.index(value)) if grades else value

    def named(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(targets[:, 0] >= 0)
        return rows, targets[rows, 0].astype(np.int64)

    def rarity(self, targets: np.ndarray) -> float | None:
        return super().rarity(self.named(targets)[1])

    def balance(self, targets: np.ndarray, mode: str) -> np.ndarray | None:
        rows, known = self.named(targets)
        share = super().balance(known, mode)
        if share is None:
            return None
        drawn = np.full(len(targets), share.mean())
        drawn[rows] = share
        return drawn / drawn.sum()

    def begin(self, targets: np.ndarray) -> None:
        """Measure what knowing nothing costs, so that both heads begin with a loss of 1 an image on the mean."""
        known = self.named(targets)[1]
        counts = np.bincount(known, minlength=len(self.answers.classes)) / max(1, len(known))
        zones = torch.from_numpy(targets[:, 1:])
        seen = torch.isfinite(zones)
        if not len(known) or not bool(seen.any()):
            raise BadData("no training image has a diagnosis, or none has a zone", do="Use --task classify or grade.")
        blank = float(_entropy(torch.from_numpy(counts)).sum()) * len(known) / len(targets)
        values = zones[seen]
        if self.answers.grades:
            above = (values[:, None] > torch.arange(len(self.answers.grades) - 1)).float().mean(dim=0)
            self.regions.begin(above)
            zone = float(_twofold(above).mean())
        else:
            self.regions.begin(values.mean()[None])
            zone = max(float(_twofold(values.mean()) - _twofold(values).mean()), _LEAST_TO_LEARN)
        self.scales.copy_(torch.tensor([blank, zone * float(seen.sum()) / len(targets)]))

    # ---- features and logits --------------------------------------------------------

    def parts(self) -> Parts:
        return Parts(tuple(self.backbone.stages), self.head, self.regions)

    def _part(self, raw: Tensor, stage: int) -> list[Tensor]:
        """Beside the pooled features of a level stands the level itself, flat, where the severities look at it."""
        found = super()._part(raw, stage)
        if stage in self.looked_at:
            found.append(self.backbone.level(raw, stage).float().flatten(1))
        return found

    def _taken(self, features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Take features apart again: pooled ones of levels, and levels `(N, C, h, w)`."""
        pooled, levels, at = [], [], 0
        for stage, width in enumerate(self.head.widths):
            if width:
                pooled.append(features[:, at : at + width])
                at += width
            if stage in self.looked_at:
                place = stage - self.looked_at.start
                shape = (self.regions.channels[place], *self.regions.shapes[place])
                levels.append(features[:, at : at + math.prod(shape)].reshape(-1, *shape))
                at += math.prod(shape)
        return pooled, levels

    def pooled(self, features: Tensor) -> Tensor:
        if features.shape[1] == self.head.width:
            return features
        return torch.cat(self._taken(features)[0], dim=1)

    def answer(self, features: Tensor) -> Tensor:
        """Get logits: of pooled features `(N, head.width)` those of the classes, of all features those of zones too."""
        if features.shape[1] == self.head.width:
            return self.head.logits(features)
        pooled, levels = self._taken(features)
        named = self.head.logits(torch.cat(pooled, dim=1))
        if self.training and self.probed and not self.thawed:
            named = (
                named.detach()
            )  # on features that do not change the probe is the best head; steps would only stir it
        return torch.cat([named, self.regions(levels)], dim=1)

    def named_logits(self, logits: Tensor) -> Tensor:
        return logits[:, : len(self.answers.classes)]

    def corrected(self, raw: Tensor) -> Tensor:
        count = len(self.answers.classes)
        return torch.cat([raw[:, :count] + self.adjust, raw[:, count:]], dim=1)

    def severity_map(self, pixels: Tensor) -> Tensor:
        """Get what each place of the map adds to the severities, `(N, h, w)`, of normalised pixels."""
        return self.regions.map(self._taken(self.features(pixels).float())[1])

    def severities(self, logits: Tensor) -> Tensor:
        """Get `(N, Z)` severities of all logits: expected grades, or shares."""
        scores = logits[:, len(self.answers.classes) :]
        if not self.answers.grades:
            return scores.exp()
        grades = torch.tensor(self.answers.grades, dtype=scores.dtype, device=scores.device)
        above = self.regions.above(scores.to(self.scales.dtype)).sigmoid().to(scores.dtype)
        return grades[0] + (above * grades.diff()).sum(dim=2)

    # ---- losses and predictions -----------------------------------------------------

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim == 1:  # diagnoses alone, as the probe knows them
            return super().loss(logits, targets)
        known = (targets[:, 0] >= 0).to(logits.dtype)
        first = super().loss(self.named_logits(logits), targets[:, 0].clamp_min(0).long()) * known
        second = self._zone_loss(logits[:, len(self.answers.classes) :], targets[:, 1:])
        return first / self.scales[0] + second / self.scales[1]

    def _zone_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Get the loss of each sample, summed over its known zones."""
        seen = torch.isfinite(targets)
        truth = torch.nan_to_num(targets)
        if self.answers.grades:
            logits = self.regions.above(scores)
            above = (truth[..., None] > torch.arange(logits.shape[2], device=logits.device)).to(logits.dtype)
            each = functional.binary_cross_entropy_with_logits(logits, above, reduction="none").mean(dim=2)
        else:
            inside = scores.clamp_max(_FULL)
            each = -truth * inside - (1 - truth) * torch.log(-torch.expm1(inside)) - _twofold(truth)
        return (each * seen).sum(dim=1)

    def interpret(self, keys: Sequence[str], logits: np.ndarray) -> list[Prediction]:
        count, names = len(self.answers.classes), self.answers.zones
        plain = super().interpret(keys, logits[:, :count])
        if logits.shape[1] == count:
            return plain
        with torch.no_grad():
            device = self.scales.device
            values = self.severities(torch.from_numpy(logits).to(device)).cpu().numpy()
        return [
            replace(
                one,
                zones=dict(zip(names, row.tolist(), strict=True)),
                severity=float(row.sum()),
                severity_ends=self._ends(float(row.sum())),
            )
            for one, row in zip(plain, values, strict=True)
        ]

    def _ends(self, total: float) -> tuple[float, float] | None:
        if len(self.reach) < 2 or not math.isfinite(self.reach[1]):
            return None
        low, high = (self.answers.grades or (0.0, 1.0))[0], (self.answers.grades or (0.0, 1.0))[-1]
        count = len(self.answers.zones)
        return max(count * low, total - self.reach[1]), min(count * high, total + self.reach[1])

    def meter(self) -> Meter:
        answers = self.answers
        return ZoneMeter(
            kind=self.answer_kind, classes=answers.classes, positive=answers.positive, grades=answers.grades
        )


def grid_for(zones: int, asked: tuple[int, int] | None = None) -> tuple[int, int]:
    """Get rows and columns of so many zones: what was asked for, or two columns as of a chest where they are even.

    Raises:
        BadRecipe: the grid that was asked for has another number of cells.

    Example:
        >>> grid_for(6), grid_for(3), grid_for(4, (1, 4))
        ((3, 2), (3, 1), (1, 4))
    """
    if asked is None:
        return (zones // 2, 2) if zones % 2 == 0 else (zones, 1)
    if asked[0] * asked[1] != zones:
        raise BadRecipe(
            f"a grid of {asked[0]} rows and {asked[1]} columns has no place for {zones} zones",
            do="Set zones.grid to rows and columns whose product is the number of zones.",
        )
    return asked


def _grades(values: np.ndarray) -> tuple[float, ...]:
    """The grades among known severities; none where they are shares.

    Raises:
        BadData: neither grades nor shares.
    """
    different = np.unique(values)
    if len(different) < 2:
        raise BadData("all known zones of the training images have one severity", do="Severities have to differ.")
    if len(different) <= _MOST_GRADES and bool((different == np.round(different)).all()):
        return tuple(float(value) for value in different)
    if different[0] < 0 or different[-1] > 1:
        raise BadData(
            f"severities of zones lie between {different[0]:g} and {different[-1]:g}",
            do=f"Give at most {_MOST_GRADES} whole grades, or shares from 0 to 1.",
        )
    return ()


def _shapes_of(backbone: Backbone) -> list[tuple[int, int]]:
    """Rows and columns of each level."""
    device = next(backbone.parameters()).device
    pixels = torch.zeros(1, backbone.spec.channels, *backbone.spec.size, device=device)
    with torch.no_grad():
        return [(int(level.shape[2]), int(level.shape[3])) for level in backbone(pixels)]


def _entropy(share: Tensor) -> Tensor:
    return -torch.xlogy(share, share)


def _twofold(share: Tensor) -> Tensor:
    """The entropy of yes and no."""
    return _entropy(share) + _entropy(1 - share)
