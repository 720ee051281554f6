"""What a person sees while a command works: bars on a terminal, plain lines elsewhere, all on stderr."""

from __future__ import annotations

import json as json_text
import sys
import time
from collections.abc import Sequence
from typing import Any


class Screen:
    """Shows events of the lower floors; results alone go to stdout.

    Args:
        json: print one JSON object as the last line of stdout, and nothing else there.
        quiet: show no progress.
        verbose: show every event.
    """

    def __init__(self, *, json: bool, quiet: bool, verbose: bool) -> None:
        self.json, self.quiet, self.verbose = json, quiet, verbose
        self.terminal = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._task: Any = None
        self._phase = ""
        self._note = ""
        self._last_line = time.monotonic()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def results(self, lines: Sequence[str], values: dict[str, Any]) -> None:
        """Print the results to stdout."""
        self._close()
        if self.json:
            self._out(json_text.dumps(values, ensure_ascii=False))
        else:
            for line in lines:
                self._out(line)

    def listen(self, event: dict[str, Any]) -> None:
        """Show one event: {"event": kind, ...}."""
        kind = event["event"]
        if self.quiet and kind != "warning":
            return
        if kind == "detail" and self.verbose:
            self._say(str(event["text"]))
        if kind in {"say", "warning", "resumed", "start", "epoch"}:
            self._say(_words(event))
        if kind in {"start", "epoch"}:
            self._note = f"  score {event['val_score']:.3f}"
        if kind == "step":
            self._step(event)
        if kind == "validate" and self._task is not None and self._phase == _TRAINING:
            self._bar.update(self._task, note=f"epoch {event['epoch'] + 1} of {event['epochs']}  validating")
        if kind in _PHASES:
            self._progress(_PHASES[kind], event["done"], event["of"], "")

    def _step(self, event: dict[str, Any]) -> None:
        """One bar over all epochs, so that the time left is that of the run."""
        done, total = event["epoch"] * event["steps"] + event["step"], event["epochs"] * event["steps"]
        note = f"loss {event['loss']:.3f}{self._note}  {event['images_per_second']:.0f} images/s"
        self._progress(_TRAINING, done, total, f"epoch {event['epoch'] + 1} of {event['epochs']}  {note}")
        if self.verbose and not self.terminal:
            self._say(f"step {done}: loss {event['loss']:.4f}")

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def _progress(self, phase: str, done: int, total: int, note: str) -> None:
        if not self.terminal:
            self._plain(phase, done, total, note)
            return
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
        if phase != self._phase:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task, self._phase = self._bar.add_task(phase, total=total, note=note), phase
        self._bar.update(self._task, completed=done, total=total, note=note)

    def _plain(self, phase: str, done: int, total: int, note: str) -> None:
        """A line at the end of a phase, and one each ten seconds of a long one."""
        long_ago = time.monotonic() - self._last_line > 10
        ends = done >= total and phase != _TRAINING
        if ends or long_ago:
            self._say(f"{phase}: {done} of {total}  {note}".rstrip())
            self._last_line = time.monotonic()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @staticmethod
    def _out(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


_TRAINING = "training"
_PHASES = {
    "decode": "reading images",
    "frames": "reading images",
    "norms": "measuring the statistics of BatchNorm",
    "prefix": "running the frozen layers",
    "features": "running the encoder for the head",
    "depth": "trying depths",
    "shortcuts": "looking for shortcuts",
    "stress": "changing test images",
    "growth": "learning from parts of the data",
    "explain": "making maps",
    "inspect": "looking at each stage",
    "predict": "predicting",
    "outline": "outlining",
    "draw": "drawing phantoms",
}


def _words(event: dict[str, Any]) -> str:
    if event["event"] == "epoch":
        return (
            f"epoch {event['epoch']:>3} of {event['epochs']}: loss {event['loss']:.4f}, validation loss "
            f"{event['val_loss']:.4f}, score {event['val_score']:.4f}, {event['images_per_second']:.0f} images/s"
        )
    if event["event"] == "start":
        begun = f"the probe: loss {event['loss']:.4f}" if "loss" in event else "before the first epoch"
        return f"{begun}, validation loss {event['val_loss']:.4f}, score {event['val_score']:.4f}"
    if event["event"] == "resumed":
        return f"going on from epoch {event['epoch'] + 1}, step {event['step']}"
    if event["event"] == "warning":
        return f"warning: {event['text']}"
    return str(event["text"])


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
