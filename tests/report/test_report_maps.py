"""The stamp of a map that fails: words that can be read on pictures of any shape, on the page as in the file."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medgraft.report.maps import PAGE_PIXELS, STAMP, for_page, stamped, write_maps_page

RED = np.array([160, 0, 0])


def words_in(picture: np.ndarray) -> tuple[int, int]:
    """Get the columns between which the stamp's words lie."""
    bar = picture[(picture[:, -1] == RED).all(axis=1)].astype(int)
    columns = np.flatnonzero((bar.min(axis=2) > 200).any(axis=0))
    return int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("size", [(30, 30), (1, 40), (40, 1), (9, 300), (300, 9), (64, 64), (224, 224)])
def test_the_whole_stamp_is_read_and_the_picture_stays_seen(size: tuple[int, int]) -> None:
    under = np.full((*size, 3), (10, 90, 10), np.uint8)
    found = stamped(under, STAMP)
    wide = stamped(np.full((640, 640, 3), (10, 90, 10), np.uint8), STAMP)
    first, last = words_in(found)
    assert (found[-1, -1] == RED).all()
    assert (last - first) / found.shape[1] == pytest.approx(np.ptp(words_in(wide)) / 640, abs=0.06)
    assert last < found.shape[1] - 1 and last - first > 80
    seen = (found == under[0, 0]).all(axis=2)
    assert seen.sum() >= under.shape[0] * under.shape[1] * 0.7


def test_pictures_of_the_page_are_stamped_where_the_map_fails(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"key": name, "predicted": "ill", "randomised": 0.1, "deletion": 0.2, "insertion": 0.8, "faults": faults}
        for name, faults in (("good", []), ("bad", ["it says nothing"]))
    ]
    shown = [for_page(np.full((30, 30, 3), 90, np.uint8), faults=row["faults"]) for row in rows]
    path = write_maps_page({"images": rows, "count": 2, "failed": 1, "method": "x"}, shown, folder=tmp_path)
    found = [
        np.asarray(Picture.open(io.BytesIO(base64.b64decode(text))))
        for text in re.findall(r"data:image/\w+;base64,([^\"]+)", path.read_text())
    ]
    good, bad = (picture[-2, -2].astype(int) for picture in found)
    assert abs(good - 90).max() < 20 and abs(bad - RED).max() < 40
    assert max(found[1].shape) <= PAGE_PIXELS


def test_explain_stamps_its_page_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pictures that `explain` keeps for the page are those of `for_page`, with the faults of each map."""
    from medgraft import explaining

    sanity = type("S", (), {"faults": ("bad",), "randomised": 0.9, "deletion": 0.5, "insertion": 0.5, "chance": 0.1})
    said = type("P", (), {"predicted": "ill", "probabilities": np.array([1.0]), "abstain": False})
    words = {"key": "k", "prediction": said, "answer": "ill", "sanity": sanity, "pointed": None, "mask_fault": ""}
    words |= {"picture": np.zeros((30, 30), np.uint8), "map": np.zeros((30, 30), np.float32)}
    monkeypatch.setattr(explaining, "Explainer", lambda *_, **__: type("E", (), {"method": "x"}))
    monkeypatch.setattr(explaining, "_each", lambda _e, refs, *_: ((ref, type("F", (), words)) for ref in refs))
    monkeypatch.setattr(explaining, "write_map", lambda *_, **__: {})
    kept: list[np.ndarray] = []
    monkeypatch.setattr(explaining, "write_maps_page", lambda told, shown, *, folder: kept.extend(shown))
    run = type("R", (), {"folder": tmp_path, "predictor": None})
    explaining.explain(run, [explaining.ImageRef(tmp_path / "k.png")], out=tmp_path)  # type: ignore[arg-type]
    assert (kept[0][-1, -1] == RED).all()
