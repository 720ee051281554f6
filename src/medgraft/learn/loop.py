"""The only training loop.

It asks a task for its losses one at a time and steps the optimiser that each
names; it knows no task. Lightning Fabric brings devices and precision.
Everything random is a function of (seed, purpose, epoch, step), so a killed
run that is resumed ends with the same bits.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medgraft import seeds
from medgraft.errors import NotFinite, Stopped
from medgraft.learn import stopping
from medgraft.learn.engine import Engine, memory_said
from medgraft.learn.log import Log
from medgraft.learn.resume import Checkpoint, Checkpoints, optimiser_tensors, restore_optimisers
from medgraft.tasks.base import Task
from medgraft.values import Batch


class Source(Protocol):
    """Batches by epoch; the same ones however often and wherever it starts."""

    def __len__(self) -> int: ...
    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from `start_step` on."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: at most.
        warmup: part of all steps in which the rate rises from zero; then a half cosine to zero.
        clip: largest norm of the gradient; 0 = no limit.
        ema: decay of averaged weights; 0 = off.
        patience: epochs without a better validation score; 0 = never stop early.
        save_seconds: time between checkpoints.
        judge_start: the weights before the first step are validated too, and kept if no epoch is better.
        falls: False keeps the rate after its rise, as two nets that play against each other need.
    """

    epochs: int
    seed: int = 0
    warmup: float = 0.1
    clip: float = 1.0
    ema: float = 0.0
    patience: int = 0
    save_seconds: float = 30.0
    judge_start: bool = False
    falls: bool = True

    def rate(self, step: int, total: int) -> float:
        """Get the factor on the peak learning rate at one step of `total`."""
        rising = max(1, round(self.warmup * total))
        if step < rising:
            return (step + 1) / rising
        if not self.falls:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


@dataclass
class Fitted:
    """What came of it.

    Attributes:
        best_epoch: the epoch whose weights the task now holds, counted from 0; -1 = those before the first step.
        history: one row an epoch: epoch (from 1; 0 = before the first step), loss, val_loss, val_score, learning_rate.
        images_per_second: training images over training time, validation left out.
        seconds: of all sessions together, validation included; work that a kill undid is not counted.
        stopped: why it ended, one sentence.
        start: what was told of the weights before the first step.
    """

    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    images_per_second: float | None = None
    seconds: float = 0.0
    stopped: str = ""
    start: dict[str, Any] = field(default_factory=dict)


class Loop:
    """One fit: `Loop(...).run()`.

    Args:
        task: parts to train; parameters that do not require gradients stay as they are.
        engine: device and precision.
        optimisers: by the names that the task's losses give.
        train: batches in random order.
        val: batches to choose the best epoch by; None keeps the last weights, averaged where the schedule says so.
        schedule: how long and how fast.
        folder: the run folder; checkpoints and the log go there. None keeps neither, for fits of a few seconds.
        listen: gets each event (a plain dict) for progress bars; at "validate" the task holds the weights that are
            judged.
        start: sets the weights to begin with, once: not where a checkpoint brings them. What it gives is kept as
            `Fitted.start`; its "loss" is the training loss of these weights, where it is known.
    """

    def __init__(
        self,
        task: Task,
        engine: Engine,
        *,
        optimisers: Mapping[str, torch.optim.Optimizer],
        train: Source,
        val: Source | None,
        schedule: Schedule,
        folder: Path | None,
        listen: Callable[[dict[str, Any]], None] = lambda event: None,
        start: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.task, self.engine, self.optimisers = task, engine, dict(optimisers)
        self.train, self.val, self.schedule = train, val, schedule
        self.checkpoints = None if folder is None else Checkpoints(folder / "resume")
        self.log = None if folder is None else Log(folder / "log.jsonl")
        self.listen, self.begin = listen, start
        self.start: dict[str, Any] = {}
        self.peaks = {name: [group["lr"] for group in o.param_groups] for name, o in self.optimisers.items()}
        self.epoch = self.step = self.trained_images = 0
        self.trained_seconds = self.loss_sum = self.seconds = 0.0
        self.best_score, self.best_epoch = -math.inf, -1
        self.best: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.ema: dict[str, Tensor] = {}
        self.recent: Sequence[str] = ()
        self.last_saved = self.last_looked = time.monotonic()

    def run(self) -> Fitted:
        """Train to the end, from the newest checkpoint when there is one; the task then holds the best weights.

        Raises:
            Interrupted, DiskFull, OutOfMemory, NotFinite: it stopped safely; the last checkpoint is good.
        """
        restored = self._restore()
        self.last_looked = time.monotonic()
        epochs = self.schedule.epochs
        stopped = f"all {epochs} epochs done" if epochs != 1 else "its one epoch done"
        with memory_said():
            if not restored:
                self._begin()
            while self.epoch < self.schedule.epochs:
                if self._is_patience_over():
                    since = f"epoch {self.best_epoch + 1}" if self.best_epoch >= 0 else "the start"
                    stopped = f"no better validation score for {self.schedule.patience} epochs after {since}"
                    break
                self._train_epoch()
                self._end_epoch()
        self._save()
        self._load(self.best if self.val is not None else self.ema)
        speed = self.trained_images / self.trained_seconds if self.trained_seconds else None
        best = self.best_epoch if self.val is not None else len(self.history) - 1
        return Fitted(best, self.history, speed, self.seconds, stopped, self.start)

    def _begin(self) -> None:
        """Set the weights to begin with, and judge them like those of an epoch where the schedule says so."""
        self.start = self.begin()
        if not self.schedule.judge_start:
            return
        loss = {"loss": self.start["loss"]} if "loss" in self.start else {}
        row = {"epoch": 0, **loss, **self._validate(), "learning_rate": 0.0}
        self._keep(row, epoch=-1)
        self._write({"event": "start", "step": 0, **row, **self.start})
        self.listen({"event": "start", **row})
        self._save()  # what it took is not done again

    # ---- one epoch ---------------------------------------------------------------

    def _train_epoch(self) -> None:
        steps = len(self.train)
        self.task.train()
        batches = self.train.epoch(self.epoch, start_step=self.step)
        began = time.perf_counter()
        with contextlib.closing(batches):  # type: ignore[type-var]
            for batch in batches:
                loss = self._step(batch)
                self.loss_sum += loss
                self.step += 1
                self.trained_images += len(batch.keys)
                self.trained_seconds += time.perf_counter() - began
                began = time.perf_counter()
                speed = self.trained_images / max(self.trained_seconds, 1e-9)
                facts = {"epoch": self.epoch, "epochs": self.schedule.epochs, "step": self.step, "steps": steps}
                self.listen({"event": "step", **facts, "loss": loss, "images_per_second": speed})
                if stopping.asked():
                    self._save()
                    stopping.check()
                if time.monotonic() - self.last_saved > self.schedule.save_seconds and self.step < steps:
                    self._save()

    def _step(self, batch: Batch) -> float:
        batch, self.recent = self.engine.move(batch), batch.keys
        total = self.schedule.epochs * len(self.train)
        now = self.epoch * len(self.train) + self.step
        factor = self.schedule.rate(now, total)
        torch.manual_seed(seeds.torch_seed(self.schedule.seed, "step", self.epoch, self.step))
        losses, sum_of_losses = self.task.losses(batch), 0.0
        while True:
            with self.engine.autocast():
                named = next(losses, None)
            if named is None:
                break
            name, loss = named
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._not_finite(f"the loss became {value} at step {self.step + 1}", self.recent)
            self._descend(name, loss, factor)
            sum_of_losses += value
        self._average()
        return sum_of_losses

    def _descend(self, name: str, loss: Tensor, factor: float) -> None:
        optimiser = self.optimisers[name]
        for group, peak in zip(optimiser.param_groups, self.peaks[name], strict=True):
            group["lr"] = peak * factor
        optimiser.zero_grad(set_to_none=True)
        self.engine.backward(loss)
        if self.schedule.clip > 0:
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
        optimiser.step()

    def _not_finite(self, what: str, keys: Sequence[str]) -> NotFinite:
        shown = ", ".join(keys[:8]) + (" ..." if len(keys) > 8 else "")
        return NotFinite(
            f"{what} in epoch {self.epoch + 1}; the samples were {shown}",
            do="Look at these files, or train anew with a lower --set fit.lr=... (the last checkpoint is from before).",
        )

    def _average(self) -> None:
        if self.schedule.ema <= 0:
            return
        state = self._thawed()
        if not self.ema:
            self.ema = {name: tensor.detach().clone() for name, tensor in state.items()}
        for name, tensor in state.items():
            if tensor.is_floating_point():
                self.ema[name].lerp_(tensor.detach(), 1 - self.schedule.ema)
            else:
                self.ema[name].copy_(tensor)

    def _end_epoch(self) -> None:
        raw = {name: tensor.detach().clone() for name, tensor in self._thawed().items()} if self.ema else {}
        if self.ema:
            self._load(self.ema)
        try:
            scores = self._validate()
        except Stopped:
            self._load(raw)
            self._save()  # all steps of the epoch are done: on resume only the validation is
            raise
        total = self.schedule.epochs * len(self.train)
        factor = self.schedule.rate((self.epoch + 1) * len(self.train) - 1, total)  # of the epoch's last step
        row = {
            "epoch": self.epoch + 1,
            "loss": self.loss_sum / max(1, len(self.train)),
            **scores,
            "learning_rate": factor * max(max(peaks) for peaks in self.peaks.values()),
        }
        self._keep(row, epoch=self.epoch)
        if raw:
            self._load(raw)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        speed = self.trained_images / max(self.trained_seconds, 1e-9)
        step = self.epoch * len(self.train)
        self._write({"event": "epoch", "step": step, **row, "images_per_second": round(speed, 1)})
        self.listen({"event": "epoch", **row, "epochs": self.schedule.epochs, "images_per_second": speed})
        if time.monotonic() - self.last_saved > self.schedule.save_seconds:
            self._save()

    def _keep(self, row: dict[str, float], *, epoch: int) -> None:
        """Add a row to the history, and remember its weights if they are the best so far."""
        if self.val is not None and row["val_score"] > self.best_score:
            self.best_score, self.best_epoch = row["val_score"], epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self._thawed().items()}
        self.history.append(row)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        if self.val is None:
            return {}
        self.task.eval()
        self.listen({"event": "validate", "epoch": self.epoch, "epochs": self.schedule.epochs})
        meter = self.task.meter()
        for batch in self.val.epoch(0):
            if stopping.asked():
                stopping.check()
            batch = self.engine.move(batch)
            with self.engine.autocast():
                predictions = self.task.predict(batch)
            assert batch.targets is not None
            strange = [p.key for p in predictions if not np.isfinite(p.logits).all()]
            if strange:
                raise self._not_finite("answers in validation are not finite", strange)
            meter.update(predictions, batch.targets.cpu().numpy())
        loss, score = meter.watch()
        return {"val_loss": loss, "val_score": score}

    def _is_patience_over(self) -> bool:
        waited = self.epoch - 1 - self.best_epoch
        return 0 < self.schedule.patience <= waited and self.step == 0

    # ---- state --------------------------------------------------------------------

    def _write(self, event: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(event)

    def _thawed(self) -> dict[str, Tensor]:
        """The parameters that learn, and all buffers: frozen parameters are the backbone's own."""
        learning = {name for name, p in self.task.named_parameters() if p.requires_grad}
        buffers = {name for name, _ in self.task.named_buffers()}
        return {name: t for name, t in self.task.state_dict().items() if name in learning or name in buffers}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        own = self.task.state_dict()
        with torch.no_grad():
            for name, tensor in state.items():
                own[name].copy_(tensor)

    def _save(self) -> None:
        tensors = {f"model/{name}": tensor for name, tensor in self._thawed().items()}
        tensors |= {f"ema/{name}": tensor for name, tensor in self.ema.items()}
        tensors |= optimiser_tensors(self.optimisers)
        if not all(bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point()):
            # Saved, they would push out the good checkpoints.
            raise self._not_finite(f"weights became infinite at step {self.step}", self.recent)
        now = time.monotonic()
        self.seconds, self.last_looked = self.seconds + now - self.last_looked, now
        if self.checkpoints is None:
            return
        facts = {name: getattr(self, name) for name in _COUNTERS}
        facts["best_score"] = self.best_score if math.isfinite(self.best_score) else None
        facts["log_bytes"] = self.log.size() if self.log is not None else 0
        step = self.epoch * len(self.train) + self.step
        self.checkpoints.save(Checkpoint(tensors, facts, self.best), step)
        self.last_saved = time.monotonic()

    def _restore(self) -> bool:
        if self.checkpoints is None or self.log is None:
            return False
        found = self.checkpoints.latest()
        for name in self.checkpoints.skipped:
            self.listen({"event": "warning", "text": f"checkpoint {name} is damaged; the one before it is used"})
        if found is None:
            self.log.cut(0)
            return False
        self._load(_under("model/", found.tensors))
        self.ema = {name: t.to(self.engine.device) for name, t in _under("ema/", found.tensors).items()}
        restore_optimisers(self.optimisers, found.tensors)
        for name in _COUNTERS:
            setattr(self, name, found.facts[name])
        self.best_score = -math.inf if found.facts["best_score"] is None else found.facts["best_score"]
        self.best = dict(found.best)
        self.log.cut(found.facts["log_bytes"])
        self.listen({"event": "resumed", "epoch": self.epoch, "step": self.step})
        return True


_COUNTERS = (
    "epoch",
    "step",
    "trained_images",
    "trained_seconds",
    "seconds",
    "loss_sum",
    "best_epoch",
    "history",
    "start",
)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
