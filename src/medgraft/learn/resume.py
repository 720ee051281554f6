"""Checkpoints that survive kill -9 and a full disk, and are checked when read.

A checkpoint is one safetensors file whose name holds the hash of its bytes.
The best weights are a file of their own, which checkpoints name. The last two
checkpoints are kept; a damaged one is skipped for the one before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from medgraft.storage import write_atomic

_NAME = re.compile(r"^(state|best)-(\d{9})-([0-9a-f]{16})\.safetensors$")
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        tensors: flat names ("model/...", "optimiser/...", "ema/...") to tensors.
        facts: plain values: epoch, step, best score, length of the log ...
        best: the best weights so far, "model/..." names; empty before the first validation.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    best: Mapping[str, Tensor]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: `RUN/resume`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped: list[str] = []
        self._best: str | None = None
        self._wrote_best_for: object = None

    def save(self, checkpoint: Checkpoint, step: int) -> Path:
        """Write a checkpoint, then delete those that are no longer needed.

        Raises:
            DiskFull: there was no space; the former checkpoints are intact.
        """
        if checkpoint.best and self._wrote_best_for is not checkpoint.best:
            self._best = self._write("best", step, checkpoint.best, {})
            self._wrote_best_for = checkpoint.best
        facts = {**checkpoint.facts, "best_file": self._best if checkpoint.best else None}
        name = self._write("state", step, checkpoint.tensors, facts)
        self._clean()
        return self.folder / name

    def latest(self) -> Checkpoint | None:
        """Get the newest checkpoint that is whole; damaged ones are named in `skipped`."""
        for name in self._names("state"):
            read = self._read(name)
            if read is None:
                continue
            tensors, facts = read
            best_name = facts.pop("best_file", None)
            best = self._read(best_name) if best_name else ({}, {})
            if best is None:
                continue
            self._best, self._wrote_best_for = best_name, best[0]
            return Checkpoint(tensors, facts, best[0])
        return None

    def clear(self) -> None:
        """Delete all checkpoints of a finished run."""
        for name in [*self._names("state"), *self._names("best")]:
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _write(self, kind: str, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
        plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        # One key: safetensors does not keep the order of several, and the bytes must be a function of the state.
        data = tensor_bytes(plain, metadata={"facts": json.dumps(facts, allow_nan=False)})
        name = f"{kind}-{step:09d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        write_atomic(self.folder / name, lambda file: _put(file, data), needed_bytes=len(data))
        return name

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        match = _NAME.match(name)
        try:
            data = (self.folder / name).read_bytes()
            if match is None or hashlib.sha256(data).hexdigest()[:16] != match[3]:
                self.skipped.append(name)
                return None
            size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + size])
            return load_tensors(data), json.loads(header["__metadata__"]["facts"])
        except (OSError, SafetensorError, ValueError, KeyError):
            self.skipped.append(name)
            return None

    def _names(self, kind: str) -> list[str]:
        if not self.folder.is_dir():
            return []
        found = [path.name for path in self.folder.iterdir() if _NAME.match(path.name)]
        return sorted((name for name in found if name.startswith(kind)), reverse=True)

    def _clean(self) -> None:
        states = self._names("state")
        kept = states[:_KEPT]
        needed = {self._best}
        for name in kept:
            needed.add(_best_named_in(self.folder / name))
        stale = [name for name in self._names("best") if name not in needed]
        leftovers = [path.name for path in self.folder.glob(".*.tmp")]
        for name in [*states[_KEPT:], *stale, *leftovers]:
            (self.folder / name).unlink(missing_ok=True)


def _best_named_in(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        return json.loads(header["__metadata__"]["facts"]).get("best_file")
    except (OSError, ValueError, KeyError):
        return None


def _put(file: Any, data: bytes) -> None:
    file.write(data)


def optimiser_tensors(optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Get the optimisers' moments as flat named tensors."""
    found = {}
    for name, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                found[f"optimiser/{name}/{index}/{key}"] = torch.as_tensor(value)
    return found


def restore_optimisers(optimisers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    for name, optimiser in optimisers.items():
        whole = optimiser.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        for path, tensor in tensors.items():
            parts = path.split("/")
            if parts[0] == "optimiser" and parts[1] == name:
                state.setdefault(int(parts[2]), {})[parts[3]] = tensor.clone()
        whole["state"] = state
        optimiser.load_state_dict(whole)
        for parameter, own in optimiser.state.items():
            for key, value in own.items():
                # Fused optimisers read raw memory: a moment must lie as its weight does, channels last for instance.
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    own[key] = torch.empty_like(parameter).copy_(value)
