"""Killed with -9 at any instant and resumed, a run ends with the same bits as one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medgraft.storage import sha256_file

_OPTIONS = [
    "--backbone",
    "none:timm:test_resnet",
    "--image-size",
    "32",
    "--batch-size",
    "8",
    "--epochs",
    "10",
    "--augment",
    "generic",
    "--device",
    "cpu",
    "--label-column",
    "label",
    "--verbose",
    "--set",
    "fit.precision=fp32",
    "--set",
    "fit.channels_last=false",
    "--set",
    "fit.ema=0.9",
    "--set",
    "fit.mixup=0.2",
    "--set",
    "machine.save_seconds=0",
    "--set",
    "scores.resamples=200",
]


def start(
    table: Path, out: Path, *, depth: str, workers: int, resume: bool, more: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start `medgraft train` as a user would."""
    command = [sys.executable, "-c", "from medgraft.cli import main; main()", "train", str(table), "--out", str(out)]
    command += [*_OPTIONS, "--depth", depth, "--workers", str(workers), *(["--resume"] if resume else []), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def result(out: Path) -> tuple[str, Any]:
    """Get what must not depend on kills: the weights' bytes and the scores."""
    report = json.loads((out / "report.json").read_text())
    kept = {name: report[name] for name in ("scores", "operating_point", "calibration", "confusion")}
    return sha256_file(out / "model.safetensors"), kept


def finish(process: subprocess.Popen[str]) -> None:
    """Let a run end and check that it did well."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def kill(process: subprocess.Popen[str], out: Path, *, moment: str, luck: random.Random) -> str:
    """Kill the process at a moment: "random", "save" or "validation"; get what was caught."""
    assert process.stderr is not None
    if moment == "save":
        _wait_for_step(process, luck.randrange(1, 12))
        until = time.monotonic() + 20
        while time.monotonic() < until and process.poll() is None:
            if any((out / "resume").glob(".*.tmp")):
                break
    elif moment == "validation":
        last = 4 * luck.randrange(1, 8)  # four steps an epoch: the next thing is the validation
        _wait_for_step(process, last)
        time.sleep(luck.random() * 0.01)
    else:
        _wait_for_step(process, 1)
        time.sleep(luck.random() * 1.5)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    left = [path.name for path in (out / "resume").glob(".*.tmp")] if (out / "resume").is_dir() else []
    return f"{moment}{' (half-written file left)' if left else ''}{'' if alive else ' (had ended)'}"


def _wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step ") and int(line.split()[1].rstrip(":")) >= step:
            return


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_inside_a_save_and_a_validation(tiny_data: Path, tmp_path: Path, workers: int) -> None:
    finish(start(tiny_data, tmp_path / "whole", depth="all", workers=0, resume=False))
    luck = random.Random(workers)
    for number, moment in enumerate(("save", "validation")):
        kill(
            start(tiny_data, tmp_path / "cut", depth="all", workers=workers, resume=number > 0),
            tmp_path / "cut",
            moment=moment,
            luck=luck,
        )
    finish(start(tiny_data, tmp_path / "cut", depth="all", workers=workers, resume=True))
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


@pytest.mark.slow
def test_thirty_kills(tiny_data: Path, tmp_path: Path) -> None:
    kills = 0
    for depth in ("all", "1"):
        finish(start(tiny_data, tmp_path / f"whole {depth}", depth=depth, workers=0, resume=False))
    for turn in range(10):
        depth, workers, luck = ("all", "1")[turn % 2], (0, 2)[turn // 2 % 2], random.Random(turn)
        out = tmp_path / f"cut {turn}"
        caught = []
        for number in range(3):
            moment = ("random", "save", "validation")[(turn + number) % 3]
            process = start(tiny_data, out, depth=depth, workers=workers, resume=number > 0)
            caught.append(kill(process, out, moment=moment, luck=luck))
            kills += 1
            if (out / "report.json").exists():
                break
        else:
            finish(start(tiny_data, out, depth=depth, workers=workers, resume=True))
        assert result(out) == result(tmp_path / f"whole {depth}")
        print(f"run {turn}: depth {depth}, {workers} workers, killed in {', '.join(caught)}: the same bits")
    print(f"{kills} kills")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_3(tiny_data: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tiny_data, tmp_path / "run", depth="all", workers=2, resume=False)
    _wait_for_step(process, 5)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "--resume" in said and "Traceback" not in said
    assert list((tmp_path / "run" / "resume").glob("state-*"))


def test_a_second_process_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    first = start(tiny_data, tmp_path / "run", depth="all", workers=0, resume=False, more=("--epochs", "4000"))
    _wait_for_step(first, 1)
    second = start(tiny_data, tmp_path / "run", depth="all", workers=0, resume=True)
    _, said = second.communicate(timeout=120)
    assert second.returncode == 2 and "another process" in said
    first.kill()
    first.communicate()


def test_a_changed_recipe_or_file_is_refused_by_name(tiny_data: Path, tmp_path: Path) -> None:
    import medgraft as mg
    from medgraft.errors import RunRefused

    out = tmp_path / "run"
    kill(start(tiny_data, out, depth="all", workers=0, resume=False), out, moment="validation", luck=random.Random(0))
    with pytest.raises(RunRefused, match=r"fit\.batch_size is 4, the run has 8"):
        mg.train(tiny_data, out=out, resume=True, batch_size=4)
    (tiny_data.parent / "p00_0.png").write_bytes((tiny_data.parent / "p01_1.png").read_bytes())
    with pytest.raises(RunRefused, match=r"p00_0\.png"):
        mg.train(tiny_data, out=out, resume=True)
