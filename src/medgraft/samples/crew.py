"""Worker processes that prepare batches, on torch's DataLoader.

They ignore Ctrl-C and SIGTERM (the run decides when to stop), end by
themselves when the run is killed, and when one dies the run says of what.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from medgraft.errors import MedgraftError, OutOfMemory


class _Making:
    """A data set whose items are steps: torch asks for the list of one."""

    def __init__(self, make: Callable[[Any], torch.Tensor]) -> None:
        self.make = make

    def __getitem__(self, step: Any) -> Any:
        try:
            return self.make(step)
        except MedgraftError as error:
            return error  # torch would rebuild it from its text and lose where and what to do


class _Steps:
    """The steps of the epoch to come; persistent workers read them anew each time."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class Crew:
    """Processes that make tensors from steps, in order, a few ahead; they stay from epoch to epoch.

    Args:
        make: step -> tensor.
        workers: how many, at least 1.
    """

    def __init__(self, make: Callable[[Any], torch.Tensor], workers: int) -> None:
        from torch.utils.data import DataLoader

        self._steps = _Steps()
        self._loader: DataLoader | None = DataLoader(
            _Making(make),  # type: ignore[arg-type]
            sampler=self._steps,  # type: ignore[arg-type]
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_settle,
            persistent_workers=True,
            prefetch_factor=2,
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            generator=torch.Generator(),  # the main process's own stream is not touched
        )

    def run(self, steps: list[Any]) -> Iterator[torch.Tensor]:
        """Yield the tensor of each step, in order. One run at a time: a new one ends the one before.

        Raises:
            OutOfMemory: a worker was killed or found no shared memory.
            MedgraftError: what `make` raised, or another death of a worker.
        """
        if self._loader is None:
            raise ValueError("the crew was closed")
        self._steps.steps = steps
        try:
            with _own_child_signal(), _held_back(signal.SIGINT, signal.SIGTERM):
                found = iter(self._loader)
            for result in found:
                if isinstance(result, MedgraftError):
                    raise result
                yield result
        except RuntimeError as error:
            if "worker" not in str(error):
                raise
            self.close()
            raise _death(str(error)) from error

    @property
    def closed(self) -> bool:
        """Whether its processes were ended, or one of them died."""
        return self._loader is None

    def close(self) -> None:
        """End the processes."""
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None:
            with contextlib.suppress(Exception):
                iterator._shutdown_workers()


@contextlib.contextmanager
def _own_child_signal() -> Iterator[None]:
    """Keep torch from raising a worker's death in the middle of other code: it is found when a batch is waited for."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


@contextlib.contextmanager
def _held_back(*signals: signal.Signals) -> Iterator[None]:
    """Let the signals wait: a process started meanwhile inherits that, and is safe before it can ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle(worker: int) -> None:
    """Ignore the signals that stop the run, and leave when the run is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _death(said: str) -> MedgraftError:
    """Say of what a worker died."""
    first = said.split("\n", 1)[0].rstrip(".")
    if "bus error" in said.lower() or "shared memory" in said.lower():
        free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
        return OutOfMemory(
            f"a process that prepares batches found no shared memory (/dev/shm has {free / 1e6:.0f} MB free)",
            do="Enlarge /dev/shm, or use --workers 0; then go on with --resume.",
        )
    if "signal: Killed" in said or "exited unexpectedly" in said:
        return OutOfMemory(
            f"a process that prepares batches was killed, probably because memory ran out ({first})",
            do="Use fewer --workers or a smaller --batch-size, then go on with --resume.",
        )
    return MedgraftError(
        f"a process that prepares batches died ({first})", do="Use --workers 0 to see where, or --resume to go on."
    )
