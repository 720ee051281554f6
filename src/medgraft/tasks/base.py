"""What every task can do, and what whole-image tasks share.

The training loop knows the five verbs of `Task` and no task by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medgraft.nets import Backbone, LinearHead, add_adapters, freeze, merge_adapters, train_mode
from medgraft.scores.calibration import to_probabilities
from medgraft.tasks.answers import Answers, Parts
from medgraft.tasks.meter import Meter, Watch
from medgraft.values import Batch, Prediction, Sample


class Task(nn.Module, ABC):
    """A backbone, a head, and what they mean: the five verbs the loop knows."""

    wants: ClassVar[frozenset[str]] = frozenset()
    places: ClassVar[str] = ""  # "boxes" or "masks" where the answer is in the image, not one for all of it

    @abstractmethod
    def parts(self) -> Parts:
        """Get the stages in order and the head."""

    @abstractmethod
    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield (optimiser name, scalar loss), one at a time; most tasks yield once."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get one prediction a sample, in eval mode."""

    @abstractmethod
    def meter(self) -> Watch:
        """Get an empty meter that turns predictions into scores."""


class ImageTask(Task):
    """One answer for a whole image: levels -> pooled features -> logits.

    Subclasses say how labels become targets, what the loss is, and how logits
    become words.

    Attributes:
        temperature: divides the logits, one or one a label; fitted on validation only.
        thawed: stages that learn, from the head down.
        rank: of the adapters that learn in their place; 0 for none.
        learning: how many numbers learn.
        probed: True where the linear head is put at its optimum for the untuned features before the first step.
        stored_norms: True keeps BatchNorm of thawed stages on its stored statistics.
        threshold: operating point on the positive probability, one or one a label; chosen on validation only.
        reach: half-widths of the intervals around the severity of a zone and around the sum of all, from validation
            only; empty where there are none.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"label"})
    kind: ClassVar[str] = "multiclass"
    upright: ClassVar[bool] = False  # True where a mirrored or turned image would have another answer
    backbone: Backbone
    head: LinearHead
    class_weights: Tensor
    adjust: Tensor

    def __init__(self, backbone: Backbone, head: LinearHead, answers: Answers) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.answers = answers
        self.temperature: tuple[float, ...] = (1.0,)
        self.threshold: tuple[float, ...] = (0.5,)
        self.reach: tuple[float, ...] = ()
        self.label_smoothing = 0.0
        self.mixup = 0.0
        self.thawed, self.rank, self.learning = len(backbone.stages), 0, 0
        self.stored_norms = False
        self.probed = False
        count = max(1, self.outputs(answers))
        self.register_buffer("class_weights", torch.ones(count))
        self.register_buffer("adjust", torch.zeros(count))

    # ---- what a subclass says -------------------------------------------------

    @classmethod
    @abstractmethod
    def read_answers(cls, labels: Sequence[str], positive: str | None = None) -> Answers:
        """Learn from the training labels which answers there are.

        Raises:
            BadData: the labels do not fit this task; the offending ones are named.
        """

    @classmethod
    def answers_of(
        cls, samples: Sequence[Sample], positive: str | None = None, *, grid: tuple[int, int] | None = None
    ) -> Answers:
        """Learn from the training samples which answers there are.

        Args:
            samples: of the training.
            positive: the class that counts as positive when there are two.
            grid: rows and columns of zones; None takes what their number suggests.

        Raises:
            BadData: the samples do not fit this task; the offending labels are named.
        """
        del grid
        return cls.read_answers([sample.label or "" for sample in samples], positive)

    @classmethod
    def outputs(cls, answers: Answers) -> int:
        """Get how many numbers the head must give."""
        return len(answers.classes)

    @abstractmethod
    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Turn labels into targets: `(N,)` int64 or float32, or `(N, K)` float32.

        Raises:
            BadData: a label that training did not know.
        """

    def targets_of(self, samples: Sequence[Sample]) -> np.ndarray:
        """Turn what is known of samples into targets; a task of more than labels takes them from here.

        Raises:
            BadData: an answer that training did not know.
        """
        return self.encode([sample.label or "" for sample in samples])

    def named(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Get the places of the samples whose label is known, and the targets of these labels as of `encode`."""
        return np.arange(len(targets)), targets

    def named_logits(self, logits: Any) -> Any:
        """Get the logits of the labels, `(N, K)`, of all logits of the task."""
        return logits

    def pooled(self, features: Tensor) -> Tensor:
        """Get of all features those `(N, head.width)` that the linear head answers by."""
        return features

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Get the loss of each sample, shape `(N,)`; logits float32."""

    @abstractmethod
    def word(self, probabilities: np.ndarray, logits: np.ndarray) -> tuple[str, float | None]:
        """Get (the answer in the user's words, a number where the answer is one) of one sample."""

    def balance(self, targets: np.ndarray, mode: str) -> np.ndarray | None:
        """Handle rare classes: set the loss weights, or get each sample's share for balanced drawing.

        Args:
            targets: encoded training targets.
            mode: "none", "weights" or "sampling".

        Returns:
            `(N,)` probabilities to draw each sample when mode is "sampling", else None.
        """
        del targets, mode
        return None

    def rarity(self, targets: np.ndarray) -> float | None:
        """Get how much rarer the rarest class is than the most common; None where classes are not weighed."""
        del targets
        return None

    def begin(self, targets: np.ndarray) -> None:
        """Set what the head starts from, given the encoded training targets."""
        del targets

    # ---- what all whole-image tasks share --------------------------------------

    @property
    def answer_kind(self) -> str:
        """The kind of target that the scores know: "binary", "multiclass", "labels", "ordinal" or "number"."""
        return "binary" if self.kind == "multiclass" and len(self.answers.classes) == 2 else self.kind

    def thaw(self, stages: int, *, rank: int = 0, seed: int = 0) -> None:
        """Let the last `stages` stages and the head learn; freeze the rest, BatchNorm statistics included.

        Args:
            stages: from the head down.
            rank: of adapters that learn in place of all stages' own weights, begun by `seed`; 0 for none.

        Raises:
            BadRecipe: the backbone has fewer stages, or does not take adapters.
        """
        freeze(self.backbone, thawed=stages)
        add_adapters(self.backbone, rank=rank, seed=seed)
        self.thawed, self.rank = stages, rank
        self.learning = sum(one.numel() for one in self.parameters() if one.requires_grad)

    def settle(self) -> None:
        """Make the net a plain one, with what adapters learnt in its weights."""
        merge_adapters(self.backbone)

    def train(self, mode: bool = True) -> ImageTask:
        super().train(mode)
        if mode:
            train_mode(self.backbone, thawed=self.thawed, frozen_norms=self.stored_norms)
        return self

    def parts(self) -> Parts:
        return Parts(tuple(self.backbone.stages), self.head)

    def forward(self, pixels: Tensor, start: int = 0, beside: Tensor | None = None) -> Tensor:
        """Get logits; arguments as in `features`."""
        features = self.features(pixels, start, beside=beside)
        with torch.autocast(features.device.type, enabled=False):  # few numbers: bfloat16 would only round the answer
            return self.answer(features.float())

    def answer(self, features: Tensor) -> Tensor:
        """Get the logits of pooled features `(N, F)`."""
        return self.head.logits(features)

    def features(self, pixels: Tensor, start: int = 0, *, beside: Tensor | None = None) -> Tensor:
        """Get the pooled features `(N, F)` that the head answers by.

        Args:
            pixels: network pixels, the output of stage `start - 1`, or the pooled features themselves
                when `start` is one more than the number of stages.
            start: the first stage to run.
            beside: what `below` gave beside the output of stage `start - 1`.
        """
        count = len(self.backbone.stages)
        if start > count:
            return pixels
        found = [] if beside is None else [beside]
        if start:
            found += self._part(pixels, start - 1)
        for stage in range(start, count):
            pixels = self.backbone.run(pixels, start=stage, stop=stage + 1)
            found += self._part(pixels, stage)
        return torch.cat(found, dim=1)

    def below(self, pixels: Tensor, stop: int) -> tuple[Tensor, Tensor | None]:
        """Run the stages before `stop`, so that `features` can go on from there.

        Returns:
            What stage `stop - 1` gives, and the pooled features of the levels below its own; None when the head
            looks at none of them. Where `stop` is one more than the number of stages: the pooled features, and None.
        """
        return next(self.cuts(pixels, (stop,)))

    def cuts(self, pixels: Tensor, stops: Sequence[int]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Run the encoder once and give what `below` gives at each stop, the lowest first.

        Use each before asking for the next: a stage may change its input in place.
        """
        found: list[Tensor] = []
        for stop in range(min(max(stops), len(self.backbone.stages)) + 1):
            if stop:
                pixels = self.backbone.run(pixels, start=stop - 1, stop=stop)
            if stop in stops:
                yield pixels, torch.cat(found, dim=1) if found else None
            if 0 < stop < max(stops):
                found += self._part(pixels, stop - 1)
        if max(stops) > len(self.backbone.stages):
            yield torch.cat(found, dim=1), None

    def _part(self, raw: Tensor, stage: int) -> list[Tensor]:
        """Pool at once: the next stage may change the tensor in place."""
        return [self.head.part(self.backbone.level(raw, stage), stage)] if self.head.widths[stage] else []

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        assert batch.targets is not None
        pixels, beside, targets = batch.pixels, batch.beside, batch.targets
        if self.mixup > 0:
            share = torch.distributions.Beta(self.mixup, self.mixup).sample()
            order = torch.randperm(len(targets)).to(targets.device)
            pixels = pixels * share + pixels[order] * (1 - share)
            beside = None if beside is None else beside * share + beside[order] * (1 - share)
            logits = self(pixels, batch.start, beside).float()
            each = self.mixed_loss(logits, (targets, targets[order]), share=share)
        else:
            each = self.loss(self(pixels, batch.start, beside).float(), targets)
        if batch.weights is not None:
            each = each * batch.weights
        yield "all", each.mean()

    def mixed_loss(self, logits: Tensor, targets: tuple[Tensor, Tensor], *, share: Tensor) -> Tensor:
        """Get the loss of each mixed sample: its two targets count by their shares."""
        first, second = targets
        return share * self.loss(logits, first) + (1 - share) * self.loss(logits, second)

    @torch.no_grad()
    def seen(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Get `(N, K)` float64 logits with the correction for weighted classes, and the pooled features, float32."""
        features = self.features(batch.pixels, batch.start, beside=batch.beside)
        with torch.autocast(features.device.type, enabled=False):
            raw = self.corrected(self.answer(features.float()).float())
        return raw.double().cpu().numpy(), self.pooled(features).float().cpu().numpy()

    def corrected(self, raw: Tensor) -> Tensor:
        """Take back from raw logits what weighing or drawing classes did to their odds."""
        return raw + self.adjust

    def logits(self, batch: Batch) -> np.ndarray:
        """Get `(N, K)` float64 logits with the correction for weighted classes."""
        return self.seen(batch)[0]

    def predict(self, batch: Batch) -> list[Prediction]:
        return self.interpret(batch.keys, self.logits(batch))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Turn `(N, K)` logits into `(N, classes)` probabilities at the task's temperature."""
        if self.kind == "number":
            return np.zeros((len(logits), 0))
        return to_probabilities(self.answer_kind, logits, temperature=np.asarray(self.temperature))

    def interpret(self, keys: Sequence[str], logits: np.ndarray) -> list[Prediction]:
        """Turn logits into predictions at the task's temperature and threshold."""
        probabilities = self.probabilities(logits)
        found = []
        for key, row, p in zip(keys, logits, probabilities, strict=True):
            word, value = self.word(p, row)
            found.append(Prediction(key, row, p, word, value))
        return found

    def meter(self) -> Meter:
        answers = self.answers
        return Meter(kind=self.answer_kind, classes=answers.classes, positive=answers.positive, scale=answers.scale)


def unknown_answers(strange: Sequence[str], labels: Sequence[str], *, known: Sequence[str], what: str) -> str:
    """Say which labels training did not know, how many images bear them, and what they may have meant.

    Example:
        >>> unknown_answers(["Ill"], ["Ill", "well"], known=["ill", "well"], what="class")
        "1 of 2 images has a class that training did not know: 'Ill' (is 'ill' meant?); it knew ill, well"
    """
    spelled = {name.strip().lower(): name for name in known}
    shown = []
    for name in strange[:5]:
        near = spelled.get(name.strip().lower())
        shown.append(f"{name!r}" + (f" (is {near!r} meant?)" if near else ""))
    count = sum(label in set(strange) for label in labels)
    have = "image has" if count == 1 and len(labels) == 1 else "images has" if count == 1 else "images have"
    more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
    listed = ", ".join(shown) + more
    return f"{count} of {len(labels)} {have} a {what} that training did not know: {listed}; it knew {', '.join(known)}"


def log_odds(share: np.ndarray) -> np.ndarray:
    """Get ln(p / (1 - p)); shares of 0 and 1 are held a little inside, so that nothing is infinite."""
    inside = np.clip(np.asarray(share, dtype=np.float64), 1e-6, 1 - 1e-6)
    return np.log(inside) - np.log1p(-inside)


def inverse_frequency(counts: np.ndarray) -> np.ndarray:
    """Get class weights proportional to 1/count whose mean over the samples is 1."""
    counts = np.maximum(counts.astype(np.float64), 1.0)
    return counts.sum() / (len(counts) * counts)
