"""Killed with -9 at any instant and resumed, a run ends with the same bits as one that was left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import medgraft as mg
from medgraft.errors import RunLocked, RunRefused
from medgraft.learn.resume import Checkpoints
from whole_runs import finish, result, start, stops, wait_for_step


def kill(process: subprocess.Popen[str], out: Path, *, moment: str, luck: random.Random, epochs: int = 10) -> str:
    """Kill the process at a moment: "random", "save" or "validation"; get what was caught."""
    assert process.stderr is not None
    if moment == "save":
        wait_for_step(process, luck.randrange(1, epochs + 2))
        until = time.monotonic() + 20
        while time.monotonic() < until and process.poll() is None:
            if any((out / "resume").glob(".*.tmp")):
                break
    elif moment == "validation":
        last = 4 * luck.randrange(1, max(2, epochs - 2))  # four steps an epoch: the next thing is the validation
        wait_for_step(process, last)
        time.sleep(luck.random() * 0.004)  # a validation takes some milliseconds
    else:
        wait_for_step(process, 1)
        time.sleep(luck.random() * 1.5)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    left = [path.name for path in (out / "resume").glob(".*.tmp")] if (out / "resume").is_dir() else []
    return f"{moment}{' (half-written file left)' if left else ''}{'' if alive else ' (had ended)'}"


@pytest.mark.slow
def test_killed_inside_a_save_and_a_validation(tiny_data: Path, tmp_path: Path) -> None:
    finish(start(tiny_data, tmp_path / "whole", epochs=4))
    luck, out = random.Random(0), tmp_path / "cut"
    for moment, workers in (("save", 0), ("validation", 2)):
        process = start(tiny_data, out, epochs=4, workers=workers, resume=moment == "validation")
        caught = kill(process, out, moment=moment, luck=luck, epochs=4)
        assert "had ended" not in caught
    said = finish(start(tiny_data, out, epochs=4, workers=2, resume=True))
    assert "going on from epoch" in said
    assert result(out) == result(tmp_path / "whole")


@pytest.mark.slow
def test_thirty_kills(tiny_data: Path, tmp_path: Path) -> None:
    kills = 0
    words = {"all": {"fit.precision": "fp32"}, "1": {"fit.precision": "bf16"}}  # both channels last
    for depth, settings in words.items():
        finish(start(tiny_data, tmp_path / f"whole {depth}", depth=depth, settings=settings))
    for turn in range(10):
        depth, workers, luck = ("all", "1")[turn % 2], (0, 2)[turn // 2 % 2], random.Random(turn)
        settings = words[depth]
        out = tmp_path / f"cut {turn}"
        caught = []
        for number in range(3):
            moment = ("random", "save", "validation")[(turn + number) % 3]
            process = start(tiny_data, out, depth=depth, workers=workers, resume=number > 0, settings=settings)
            caught.append(kill(process, out, moment=moment, luck=luck))
            kills += 1
            if (out / "report.json").exists():
                break
        else:
            finish(start(tiny_data, out, depth=depth, workers=workers, resume=True, settings=settings))
        assert result(out) == result(tmp_path / f"whole {depth}")
        print(f"run {turn}: depth {depth}, {workers} workers, killed in {', '.join(caught)}: the same bits")
    print(f"{kills} kills")


def asked(table: Path, out: Path, **more: Any) -> None:
    """Ask for the same run again, from this process."""
    mg.train(table, out=out, resume=True, **more)


def test_a_run_is_guarded_and_stops_when_told(tiny_data: Path, tmp_path: Path) -> None:
    """One long run: others are refused meanwhile, SIGTERM saves it, and it goes on with nothing but its own."""
    out = tmp_path / "run"
    process = start(tiny_data, out, workers=2, epochs=4000)
    wait_for_step(process, 5)
    with pytest.raises(RunLocked, match="another process"):
        asked(tiny_data, out)
    process.send_signal(signal.SIGTERM)
    said = stops(process)
    assert "SIGTERM" in said and "--resume" in said
    found = Checkpoints(out / "resume").latest()
    assert found is not None and found.facts["epoch"] * 4 + found.facts["step"] >= 5
    with pytest.raises(RunRefused, match="unfinished run"):
        mg.train(tiny_data, out=out)
    with pytest.raises(RunRefused, match=r"fit\.batch_size is 4, the run has 8"):
        asked(tiny_data, out, batch_size=4)
    (tiny_data.parent / "p00_0.png").write_bytes((tiny_data.parent / "p01_1.png").read_bytes())
    with pytest.raises(RunRefused, match=r"p00_0\.png"):
        asked(tiny_data, out)


@pytest.mark.slow
def test_interrupt_from_the_keyboard_saves_as_well(tiny_data: Path, tmp_path: Path) -> None:
    process = start(tiny_data, tmp_path / "run", epochs=4000)
    wait_for_step(process, 1)
    process.send_signal(signal.SIGINT)
    said = stops(process)
    assert "SIGINT" in said and "--resume" in said
    assert Checkpoints(tmp_path / "run" / "resume").latest() is not None
