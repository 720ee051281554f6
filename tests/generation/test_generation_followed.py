"""How near drawn images come while a net learns: found now and then, kept over a kill, shown on the page."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import medgraft as mg
from medgraft.generation.followed import Follower, followed
from medgraft.report import generated
from medgraft.scores.fidelity import fid
from tiny_data import make_tiny_data

OPTIONS: dict[str, Any] = {"device": "cpu", "offline": True, "image_size": 16, "batch_size": 8, "epochs": 3}
SETTINGS: dict[str, Any] = {"generator.looks": 1, "generator.widths": [8, 16], "generator.steps": 4}
SETTINGS |= {"generator.sheet": 1, "machine.save_seconds": 0, "split.val": 0.3}
SETTINGS |= {"fit.precision": "fp32", "fit.channels_last": False}


def test_what_was_followed_is_the_same_after_a_kill_and_is_not_drawn_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = make_tiny_data(tmp_path / "tiny", patients=28)
    words: dict[str, Any] = {"task": "diffuse", "label_column": "label", "settings": SETTINGS, **OPTIONS}

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["epoch"] == 1 and event["step"] == 2:
            raise RuntimeError("as if killed")

    mg.train(data, out=tmp_path / "a", **words)
    with pytest.raises(RuntimeError, match="as if killed"):
        mg.train(data, out=tmp_path / "b", listen=stop, **words)
    drawn: list[int] = []
    distances = Follower._distances
    monkeypatch.setattr(Follower, "_distances", lambda self, *own: (drawn.append(1), distances(self, *own))[1])
    mg.train(data, out=tmp_path / "b", resume=True, **words)
    assert len(drawn) == 2  # the first epoch was done before the kill
    rows = followed(tmp_path / "a" / "samples")
    assert rows == followed(tmp_path / "b" / "samples")
    assert [row["epoch"] for row in rows] == [1, 2, 3] and rows[1]["step"] == 2 * rows[0]["step"] > 0
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["generation"]["followed"] == rows
    for row in rows:
        for name in ("fid_embedded", "kid_embedded"):
            assert row[name]["low"] <= row[name]["value"] <= row[name]["high"] and row[name]["n"] >= 10
    page = (tmp_path / "a" / "report.html").read_text()
    assert "beside validation images" in page and "Two pictures of one thing would be a copy" in page
    # The pairs on the page are those of the file: light where it is light.
    uri = page.split('nearest to them"')[0].rsplit('src="data:image/jpeg;base64,', 1)[1].split('"')[0]
    shown = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(uri))).convert("RGB"), float)
    kept = np.asarray(Pillow.open(tmp_path / "a" / "samples" / "nearest-features.png").convert("RGB"), float)
    assert shown.shape == kept.shape and np.abs(shown - kept).mean() < 8


def test_it_falls_as_drawn_images_come_nearer():
    dice = np.random.default_rng(0)
    real = dice.normal(size=(40, 6))
    rows = [
        {"epoch": epoch, "fid_embedded": fid(real, dice.normal(shift, 1, (40, 6))).to_dict(), "kid_embedded": None}
        for epoch, shift in ((1, 3.0), (4, 1.0), (8, 0.0))
    ]
    (plot,) = generated._followed(rows)
    heights = [float(dot.split('cy="')[1].split('"')[0]) for dot in plot.split("<circle ")[1:]]
    assert heights == sorted(heights) and "FID" in plot  # rows are counted from the top: lower is nearer
    assert generated._followed(rows[:1]) == [] and generated._followed([]) == []
