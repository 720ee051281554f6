"""What is drawn and what it is compared with: classes by number, real images of all classes, batches of few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.generation import job, maker
from medgraft.generation.judge import Sets
from medgraft.generation.parts import fitting, kinds_drawn, spread_out
from tiny_data import make_tiny_data

OPTIONS: dict[str, Any] = {"device": "cpu", "offline": True, "image_size": 16, "epochs": 1}
SETTINGS: dict[str, Any] = {"generator.looks": 1, "generator.widths": [8], "generator.steps": 2}


def test_a_number_has_the_same_class_however_many_are_drawn():
    shares = [1, 2, 7]
    every = kinds_drawn(101, "abc", shares=shares)
    assert np.bincount(every).tolist() == [10, 20, 71]
    np.testing.assert_array_equal(kinds_drawn(30, "abc", shares=shares, first=40), every[40:70])
    assert kinds_drawn(0, "abc").tolist() == [] and kinds_drawn(2, "").tolist() == [0, 0]


def test_some_of_many_are_of_all_of_them():
    chosen = spread_out(range(10_000), 500)
    assert len(chosen) == len(set(chosen)) == 500 and (chosen[0], chosen[-1]) == (0, 9999)
    assert spread_out([], 3) == [] and fitting((3, 256, 256)) < 2000 <= fitting((1, 256, 256))


def test_drawn_images_are_compared_with_real_ones_of_all_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = make_tiny_data(tmp_path / "tiny")
    rows = sorted(data.read_text().splitlines()[1:], key=lambda row: row.split(",")[1])  # as folders of classes lie
    (data.parent / "sorted.csv").write_text("\n".join([data.read_text().splitlines()[0], *rows]))
    seen: list[Sets] = []
    judged = job.judged
    monkeypatch.setattr(job, "judged", lambda sets, **words: (seen.append(sets), judged(sets, **words))[1])
    monkeypatch.setattr(job, "_MOST", 4)
    kinds: list[np.ndarray] = []
    images = maker.Maker.images

    def drawn(self: maker.Maker, own: np.ndarray, **words: Any) -> Any:
        kinds.append(own)
        return images(self, own, **words)

    monkeypatch.setattr(maker.Maker, "images", drawn)
    settings = {**SETTINGS, "generator.sheet": 2}
    # A batch of more images than there are is all of them.
    words: dict[str, Any] = {**OPTIONS, "batch_size": 64, "settings": settings}
    mg.train(data.parent / "sorted.csv", out=tmp_path / "run", task="stylegan", label_column="label", **words)
    assert len(seen[0].held) == 4 and set(kinds[-1][:4].tolist()) == {0, 1}
