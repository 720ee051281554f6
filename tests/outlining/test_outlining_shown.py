"""Pictures with structures out of label maps: what nobody knows is no structure, and small parts are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from medgraft.outlining.shown import StructureForm, pictures_of
from medgraft.samples.mask_meaning import MaskForm
from medgraft.values import ImageRef, Sample


def sample(tmp_path: Path, labels: np.ndarray) -> Sample:
    Pillow.fromarray(np.full(labels.shape, 90, np.uint8)).save(tmp_path / "image.png")
    Pillow.fromarray(labels.astype(np.uint8)).save(tmp_path / "mask.png")
    return Sample("image", ImageRef(tmp_path / "image.png"), mask=ImageRef(tmp_path / "mask.png"))


def test_what_nobody_knows_is_no_structure(tmp_path: Path) -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[5:15, 5:15], labels[20:30, 20:30] = 7, 255
    [shown] = pictures_of(sample(tmp_path, labels), MaskForm(("lesion",), (7,), ignored=(255,)), StructureForm())
    assert shown.names == ("lesion",)
    assert (shown.mask(1) == (labels == 7)).all()
    assert (shown.numbers > 0).sum() == 100


def test_parts_are_structures_of_their_own_and_specks_are_none(tmp_path: Path) -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[5:15, 5:15], labels[20:26, 20:30], labels[35, 40] = 1, 1, 1
    masks = MaskForm(("lesion",), (1,))
    [parts] = pictures_of(sample(tmp_path, labels), masks, StructureForm(parts=True))
    assert [int(parts.mask(k).sum()) for k in (1, 2)] == [100, 60]
    assert len(parts.names) == 2
    [whole] = pictures_of(sample(tmp_path, labels), masks, StructureForm())
    assert [int(whole.mask(1).sum())] == [161]
