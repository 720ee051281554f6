"""Whole runs in processes of their own, as a user starts them, for the tests that kill, starve and resume them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medgraft.storage import sha256_file

# Every step draws from every source of randomness, and every step is saved.
_OPTIONS: dict[str, Any] = {
    "backbone": "none:timm:test_resnet",
    "image-size": 32,
    "batch-size": 8,
    "augment": "generic",
    "device": "cpu",
    "label-column": "label",
}
_SETTINGS: dict[str, Any] = {
    "fit.precision": "fp32",
    "fit.channels_last": "true",
    "fit.ema": 0.9,
    "fit.mixup": 0.2,
    "fit.probe": "false",  # a probe may be better than every epoch, and then the weights would not tell of a lost step
    "machine.save_seconds": 0,
    "scores.resamples": 200,
}


def start(
    table: Path,
    out: Path,
    *,
    depth: str = "all",
    workers: int = 0,
    epochs: int = 10,
    resume: bool = False,
    more: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:
    """Start `medgraft train`.

    Args:
        table: labelled images; 48 tiny ones make four steps an epoch.
        out: the run folder.
        more: further words of the command.
        settings: further fields of the recipe.
        environment: variables that differ from this process's own.
        before: called in the new process, such as to limit it.
    """
    command = [sys.executable, "-c", "from medgraft.cli import main; main()", "train", str(table), "--out", str(out)]
    options = {**_OPTIONS, "depth": depth, "workers": workers, "epochs": epochs}
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    chosen = {**_SETTINGS, **(settings or {})}
    command += [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    command += ["--verbose", *(["--resume"] if resume else []), *more]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        preexec_fn=before,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Let a run end, check that it did well, and get what it said."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def stops(process: subprocess.Popen[str], code: int = 3) -> str:
    """Let a run end, check that it stopped with this code and plain words, and get its last line."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    return said.strip().splitlines()[-1]


def result(out: Path) -> tuple[str, Any]:
    """Get what must not depend on how often a run was stopped: the weights' bytes and the scores."""
    report = json.loads((out / "report.json").read_text())
    names = ("scores", "operating_point", "calibration", "confusion", "per_class")
    kept = {name: report[name] for name in names if name in report}  # of boxes there is no confusion
    return sha256_file(out / "model.safetensors"), kept


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    """Read what a run says until it has done this many steps."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step ") and int(line.split()[1].rstrip(":")) >= step:
            return
