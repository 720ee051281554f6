"""Draws on images whose truth is known: scores each, writes its label map and row, and keeps what the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.learn.engine import Engine
from medgraft.samples.loader import normalised
from medgraft.samples.mask_grid import GridFrame
from medgraft.samples.mask_meaning import MaskForm
from medgraft.segmentation.cases import truth_of
from medgraft.segmentation.drawing import draw
from medgraft.segmentation.judge import Judged, Rules
from medgraft.segmentation.shown import Gallery
from medgraft.segmentation.written import FOLDER, MaskWriter, columns_of, measures
from medgraft.tasks.segment import Segment
from medgraft.values import Batch, Sample

_ID = ("key", "path", "patient", "split", "target", "predicted", "mask", "dice")


class Drawer:
    """Draws image after image.

    Args:
        out: the run folder.
        task: in eval mode.
        engine: device and precision.
        form: what the numbers of the true label maps mean.
        rules: how label maps are scored.

    Attributes:
        judged: scores, by the part of the data.
        gallery: what the page shows of the test part.
    """

    def __init__(self, out: Path, task: Segment, engine: Engine, *, form: MaskForm, rules: Rules) -> None:
        self.out, self.task, self.engine, self.form, self.rules = out, task, engine, form, rules
        self.judged: dict[str, Judged] = {}
        self.gallery = Gallery(rules)
        self._writer, self._rows = MaskWriter(out / FOLDER, form), list[dict[str, Any]]()

    def add(self, split: str, sample: Sample, pixels: np.ndarray, frame: GridFrame) -> None:
        """Draw on one image, given its network pixels `(C, [D,] H, W)`.

        Raises:
            BadImage, BadData: its true label map cannot be read.
            DiskFull: there is no space for the label map.
        """
        batch = Batch(normalised(np.array(pixels)[None], self.task.backbone.spec), (sample.key,))
        found = draw(self.task, self.engine, batch, frame)
        assert found.mask is not None
        truth = truth_of(sample, self.form)
        judged = self.judged.setdefault(split, Judged())
        judged.add(sample, truth, found.mask, frame=frame, rules=self.rules)
        path = self._writer.write(sample.image, found.mask, frame)
        dice = float(judged.dice()[-1])
        self._rows.append(
            {
                "key": sample.key,
                "path": str(sample.image.path),
                "patient": sample.patient,
                "split": split,
                "target": sample.label,
                "predicted": found.predicted,
                "mask": path.relative_to(self.out).as_posix(),
                "dice": f"{dice:.4f}" if np.isfinite(dice) else "",
                **measures(found.mask, self.rules.classes, frame, apart=self.rules.apart),
            }
        )
        if split == "test":
            self.gallery.add(judged, pixels, truth, found.mask, frame)

    def write_table(self) -> None:
        """Write predictions.csv: a row an image, with its label map's file and what it measures."""
        more = columns_of(self.rules.classes, self._rows, apart=self.rules.apart)
        storage.write_table(self.out / "predictions.csv", self._rows, columns=(*_ID, *more))

    def curves(self) -> list[dict[str, Any]]:
        """Get what the page draws of the test images: a row an image and class with Dice and both volumes."""
        test = self.judged["test"]
        return [
            row
            for sample, one in zip(test.samples, test.masks, strict=True)
            for row in rows_of(sample.key, self.rules.classes, one)
        ]


def rows_of(key: str, classes: Sequence[str], one: Any) -> list[dict[str, Any]]:
    """Get of one image a row a class: its Dice and how much of it is true and was found."""
    names = ("dice", "true_volume", "found_volume")
    columns = [one[name].tolist() for name in names]
    return [
        {"key": key, "class": name, **dict(zip(names, values, strict=True))}
        for name, *values in zip(classes, *columns, strict=True)
    ]
