"""What goes to stdout and what to stderr: results, one JSON object, plain lines, bars on a terminal."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medgraft.cli.show import Screen

EPOCH = {
    "event": "epoch",
    "epoch": 1,
    "epochs": 3,
    "loss": 0.5,
    "val_loss": 0.6,
    "val_score": 0.75,
    "images_per_second": 12.0,
}


def step(number: int) -> dict[str, Any]:
    facts = {"epoch": 0, "epochs": 3, "step": number, "steps": 4}
    return {"event": "step", **facts, "loss": 0.7, "images_per_second": 31.0}


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    from medgraft.cli import main

    monkeypatch.setattr(sys, "argv", ["medgraft", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_results_go_to_stdout_and_events_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(json=False, quiet=False, verbose=False) as screen:
        screen.listen({"event": "say", "text": "hello"})
        screen.listen(EPOCH)
        screen.results(["auroc 0.9"], {"auroc": 0.9})
    out, err = capsys.readouterr()
    assert out == "auroc 0.9\n"
    assert err.splitlines()[0] == "hello"
    assert "epoch   1 of 3" in err and "validation loss 0.6000" in err and "12 images/s" in err


def test_the_probe_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(json=False, quiet=False, verbose=False) as screen:
        screen.listen({"event": "start", "epoch": 0, "loss": 0.3, "val_loss": 0.4, "val_score": 0.875})
    assert capsys.readouterr().err == "the probe: loss 0.3000, validation loss 0.4000, score 0.8750\n"


def test_json_is_the_only_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(json=True, quiet=False, verbose=False) as screen:
        screen.listen({"event": "decode", "done": 5, "of": 5})
        screen.results(["auroc 0.9"], {"auroc": 0.9, "name": "Ödem"})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"auroc": 0.9, "name": "Ödem"}
    assert err == "reading images: 5 of 5\n"


def test_quiet_says_warnings_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(json=False, quiet=True, verbose=False) as screen:
        screen.listen({"event": "say", "text": "hello"})
        screen.listen(EPOCH)
        screen.listen({"event": "decode", "done": 5, "of": 5})
        screen.listen({"event": "warning", "text": "look here"})
    assert capsys.readouterr().err == "warning: look here\n"


def test_steps_are_not_lines_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(json=False, quiet=False, verbose=False) as screen:
        for number in range(1, 5):
            screen.listen(step(number))
        screen.listen({"event": "detail", "text": "one of many"})
    assert capsys.readouterr().err == ""
    with Screen(json=False, quiet=False, verbose=True) as screen:
        for number in range(1, 5):
            screen.listen(step(number))
        screen.listen({"event": "detail", "text": "one of many"})
    assert capsys.readouterr().err.splitlines() == [
        *(f"step {n}: loss 0.7000" for n in range(1, 5)),
        "one of many",
    ]


def test_a_terminal_gets_a_bar_and_no_step_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    with Screen(json=False, quiet=False, verbose=False) as screen:
        for number in range(1, 5):
            screen.listen(step(number))
        screen.listen(EPOCH)
    shown = terminal.getvalue()
    assert "epoch 1 of 3" in shown and "4/12" in shown and "\x1b[" in shown
    assert "epoch   1 of 3: loss 0.5000" in shown


@pytest.mark.parametrize("quiet", [False, True])
def test_json_of_a_real_command(
    quiet: bool, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["survey", tiny_data, "--label-column", "label", "--out", tmp_path / "facts", "--json"]
    assert run(monkeypatch, *words, *(["--quiet"] if quiet else [])) == 0
    out, err = capfd.readouterr()
    values = json.loads(out)
    assert out.count("\n") == 1
    assert (values["images"], values["patients"], values["leaks"]) == (48, 24, 0)
    assert values["classes"] == {"ill": 24, "well": 24}
    assert (tmp_path / "facts" / "survey.html").exists()
    assert ("reading images: 48 of 48" in err) is not quiet


def test_phantoms_and_backbones_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "phantoms", "skin", "--count", 2, "--size", 48, "--out", tmp_path / "skin", "--json") == 0
    made = json.loads(capfd.readouterr().out)
    assert made["count"] == 2 and Path(made["manifest"]).exists()
    assert run(monkeypatch, "backbones", "resnet10t", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert {"name", "architecture"} <= set(found["default"])
    assert any(row["architecture"] == "timm:resnet10t" for row in found["backbones"])


@pytest.mark.skipif(shutil.which("script") is None, reason="needs the program script, which makes a terminal")
def test_a_real_terminal_shows_bars(tiny_data: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from medgraft.cli import main; main()"]
    command = shlex.join([*program, "survey", str(tiny_data), "--label-column", "label"])
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    words = ["script", "-qec", command, os.devnull]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout
    assert "reading images" in done.stdout and "\x1b[" in done.stdout
    assert "48 images" in done.stdout
