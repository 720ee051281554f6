"""Maps beside masks: of the file's own pixels, and no mask that lies elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgraft.anomaly.judge import Judged, check_masks, pixel_table
from medgraft.anomaly.seen import Seen
from medgraft.errors import BadData
from medgraft.files import save_png
from medgraft.learn.model import Pixels
from medgraft.values import ImageRef, Sample

PIXELS = Pixels((16, 16), 1, "pad")


def test_a_normal_image_counts_by_its_own_pixels_with_a_mask_or_without(tmp_path: Path):
    save_png(tmp_path / "odd.png", np.pad(np.ones((8, 8), np.uint8), ((0, 24), (0, 56))))
    save_png(tmp_path / "none.png", np.zeros((32, 64), np.uint8))
    warm = np.zeros((16, 16), np.float32)
    warm[4:12] = np.random.default_rng(0).uniform(0.1, 1, (8, 16))  # what is above and below is padding
    seen = [Seen(1.0, warm, (32, 64)), Seen(0.5, warm[:, ::-1].copy(), (32, 64))]
    tables = []
    for mask in (tmp_path / "none.png", None):
        samples = [
            Sample("odd", ImageRef(tmp_path / "a"), label="odd", mask=ImageRef(tmp_path / "odd.png")),
            Sample("plain", ImageRef(tmp_path / "b"), label="normal", mask=mask and ImageRef(mask)),
        ]
        judged = Judged(samples, seen, "normal", ("normal", "not normal"), 0.7)
        tables.append(pixel_table(judged, PIXELS, seed=0, count=50))
    assert tables[0]["pixel_auroc"].value == pytest.approx(tables[1]["pixel_auroc"].value, abs=1e-12)
    assert tables[0]["aupro"].value == pytest.approx(tables[1]["aupro"].value, abs=1e-12)


def test_a_mask_of_another_size_is_refused(tmp_path: Path):
    save_png(tmp_path / "mask.png", np.ones((20, 10), np.uint8))
    sample = Sample("a.png", ImageRef(tmp_path / "a.png"), label="odd", mask=ImageRef(tmp_path / "mask.png"))
    check_masks([sample], [{"shape": [1, 20, 10]}])
    with pytest.raises(BadData, match=r"mask has 10 x 20 pixels and its image a.png 20 x 10"):
        check_masks([sample], [{"shape": [1, 10, 20]}])
