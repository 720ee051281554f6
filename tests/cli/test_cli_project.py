"""`medgraft project` as a person types it, of a run whose nets have learnt nothing."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.files import save_png
from medgraft.nets.stylegan import StyleForm
from medgraft.tasks.answers import Answers
from medgraft.tasks.stylegan import Play, Stylegan
from medgraft.weights.tensors import save_model


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in this process and get its exit code."""
    from medgraft.cli import main

    monkeypatch.setattr(sys, "argv", ["medgraft", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Get the folder of a run, as a training leaves it."""
    torch.manual_seed(0)
    form = StyleForm(16, 1, 8, 16, 16, 2)
    task = Stylegan(form, Answers(), play=Play())
    way = {"steps": 2, "sampler": "dpm", "guidance": 0.0, "truncation": 1.0}
    card = {"task": "stylegan", "classes": [], "net": form.to_dict(), "shape": [1, 16, 16], "way": way, "seed": 0}
    folder = tmp_path / "run"
    save_model(folder / "model.safetensors", state=task.state_dict(), card=card)
    (folder / "report.json").write_text(json.dumps({"task": "stylegan", "scores": {"test": {}}}))
    return folder


def test_it_writes_its_folder_and_says_how_near_it_came(monkeypatch, capsys, tmp_path, trained):
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (20, 20)).astype(np.uint8)
        save_png(tmp_path / "images" / f"{name}.png", pixels)
    out = tmp_path / "out"
    code = run(monkeypatch, "project", trained, tmp_path / "images", "--out", out, "--steps", 2, "--json")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0 and told["count"] == 2 and told["failed"] == 0 and told["scores"]["features"]["n"] == 2
    names = {path.name for path in out.iterdir()}
    assert names == {"images", "pairs.png", "projected.csv", "projected.json", "styles.npz"}
    with open(out / "projected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.png"] and not any(row["label"] for row in rows)
    mean = np.mean([float(row["pixels"]) for row in rows])
    assert told["scores"]["pixels"]["value"] == pytest.approx(mean, abs=1e-5)


def test_mistakes_end_in_words(monkeypatch, capsys, tmp_path, trained):
    save_png(tmp_path / "a.png", np.zeros((20, 20), np.uint8))
    wrong = {
        "no such file": (trained, tmp_path / "none.png"),
        "no class 'x'": (trained, tmp_path / "a.png", "--label", "x"),
        "no run folder": (tmp_path / "nowhere", tmp_path / "a.png"),
    }
    for words, given in wrong.items():
        assert run(monkeypatch, "project", *given, "--out", tmp_path / "out") == 2
        said = capsys.readouterr().err
        assert words in said and "Traceback" not in said, said
    assert not (tmp_path / "out").exists()
