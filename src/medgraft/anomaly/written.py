"""Scores and maps as files: a table, and of each image a picture under its map and the map's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.anomaly.judge import Judged
from medgraft.anomaly.seen import Seen
from medgraft.anomaly.told import heat
from medgraft.errors import BadImage
from medgraft.explaining import name_of
from medgraft.files import read_image, save_png
from medgraft.learn.model import Pixels
from medgraft.report.maps import laid_over
from medgraft.values import Image, ImageRef, Sample

FOLDER = "maps"
COLUMNS = ("key", "path", "predicted", "score", "threshold", "x", "y", "map")


class Maps:
    """Writes maps in the pixels of their files: `maps/NAME.npy`, float32, and `maps/NAME.png`, the picture under it.

    Args:
        out: the folder.
        pixels: how files became network pixels.
        reach: between which values colours rise.

    Attributes:
        names: text of an image's reference -> path of its map's numbers from the folder.
        hottest: the same -> (x, y) of the oddest pixel of the file.
    """

    def __init__(self, out: Path, pixels: Pixels, reach: Sequence[float]) -> None:
        self.out, self.pixels, self.reach = out, pixels, tuple(reach)
        self.names: dict[str, str] = {}
        self.hottest: dict[str, tuple[int, int]] = {}

    def add(self, ref: ImageRef, seen: Seen, *, number: int | None = None) -> None:
        """Write the map of one image; a picture of a file that went meanwhile is left out, its numbers are not.

        Args:
            ref: the image.
            seen: what was seen of it.
            number: stands before its name; None counts.
        """
        count = len(self.names) if number is None else number
        try:
            image = read_image(ref)
        except BadImage:
            return
        values = seen.in_file(image.pixels.shape[-2:], self.pixels)
        stem = self.out / FOLDER / f"{count:04d}-{name_of(ref)}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        numbers = stem.with_name(f"{stem.name}.npy")
        storage.write_atomic(numbers, lambda file: np.save(file, values))
        under = laid_over(picture_in(image), heat(values, self.reach))
        save_png(stem.with_name(f"{stem.name}.png"), under, text={"Software": "medgraft", "Comment": "anomaly map"})
        self.names[str(ref)] = f"{FOLDER}/{numbers.name}"
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        self.hottest[str(ref)] = (int(column), int(row))

    def add_oddest(self, samples: Sequence[Sample], seen: Sequence[Seen], *, most: int) -> None:
        """Write the maps of the images with the highest scores; in a file of many pixels each takes megabytes."""
        order = sorted(range(len(seen)), key=lambda place: -seen[place].score)
        for place in sorted(order[:most]):
            self.add(samples[place].image, seen[place], number=place)


def picture_in(image: Image) -> np.ndarray:
    """Get a picture of an image, uint8 `(H, W)` or `(H, W, 3)`."""
    shown = np.rint(image.display() * 255).astype(np.uint8)
    return shown.transpose(1, 2, 0) if len(shown) == 3 else shown[0]


def cells_of(ref: ImageRef, score: float, *, threshold: float, classes: Sequence[str], maps: Maps | None) -> dict:
    """Get the cells of a prediction."""
    key = str(ref)
    cells: dict[str, Any] = {"predicted": classes[int(score >= threshold)]}
    cells |= {"score": f"{score:.6g}", "threshold": f"{threshold:.6g}"}
    if maps is not None and key in maps.names:
        x, y = maps.hottest[key]
        cells |= {"map": maps.names[key], "x": str(x), "y": str(y)}
    return cells


def write_table(path: Path, parts: Mapping[str, Judged], *, maps: Maps) -> None:
    """Write predictions.csv: key, path, patient, split, target, predicted, score, threshold, oddest pixel, map."""
    rows = []
    for split, part in parts.items():
        for sample, seen in zip(part.samples, part.seen, strict=True):
            own = maps if split == "test" else None
            words: dict[str, Any] = {"threshold": part.threshold, "classes": part.classes, "maps": own}
            row = {"key": sample.key, "path": str(sample.image.path), "patient": sample.patient, "split": split}
            rows.append({**row, "target": sample.label, **cells_of(sample.image, seen.score, **words)})
    columns = ("key", "path", "patient", "split", "target", *COLUMNS[2:])
    storage.write_table(path, rows, columns=columns)
