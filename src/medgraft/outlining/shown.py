"""Images and their label maps as pictures with structures, each kept on disk as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.files.label_map import read_label_map
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.outlining.form import AXES
from medgraft.outlining.seen import seen_ref
from medgraft.samples.label_maps import encoded
from medgraft.samples.mask_meaning import UNKNOWN, MaskForm
from medgraft.samples.prompted import Shown
from medgraft.samples.showing import parts_of
from medgraft.shelf import Shelf
from medgraft.values import Sample

_MOST_PARTS = 64  # of one class in one picture


@dataclass(frozen=True)
class StructureForm:
    """What of a label map is a structure.

    Attributes:
        parts: True where each connected part of a class is one, False where all of a class in an image is.
        least: pixels that a structure has at least.
        slices: of a volume, how many slices of each class are looked at; evenly over those that show it.
        axis: along which slices follow each other.
    """

    parts: bool = False
    least: int = 16
    slices: int = 3
    axis: str = AXES[0]


class PictureShelf:
    """Pictures with structures in a folder.

    Args:
        folder: of the run; it is made.
        masks: what the numbers of label maps mean.
        form: what is a structure.
    """

    def __init__(self, folder: Path, masks: MaskForm, form: StructureForm) -> None:
        self.shelf, self.masks, self.form = Shelf(folder), masks, form

    def fill(self, samples: Sequence[Sample], prints: Sequence[str], *, listen: Listen) -> list[list[Shown]]:
        """Get the pictures of each sample, mapped from the folder: one of a picture, some slices of a volume.

        Args:
            samples: with label maps.
            prints: a hash of each image's content.
            listen: gets progress events.

        Raises:
            BadImage, BadData: one cannot be read.
            Interrupted: it was asked to stop; what was done is kept.
        """
        found = []
        for done, (sample, content) in enumerate(zip(samples, prints, strict=True), start=1):
            stopping.check()
            assert sample.mask is not None
            mask = storage.sha256_file(sample.mask.path)
            how = [self.masks.to_dict(), self.form.parts, self.form.least, self.form.slices, self.form.axis]
            name = storage.sha256_json([content, str(sample.image), str(sample.mask), mask, *how])[:32]
            found.append(self._kept(name) or self._made(name, sample))
            listen({"event": "frames", "done": done, "of": len(samples)})
        return found

    def clear(self) -> None:
        """Delete what is kept, of a run that is finished."""
        self.shelf.clear()

    def _kept(self, name: str) -> list[Shown] | None:
        told = self.shelf.get(name)
        if told is None:
            return None
        return [
            Shown(row["key"], told.arrays[f"picture{k}"], told.arrays[f"numbers{k}"], tuple(row["names"]))
            for k, row in enumerate(told.facts["pictures"])
        ]

    def _made(self, name: str, sample: Sample) -> list[Shown]:
        pictures = list(pictures_of(sample, self.masks, self.form))
        arrays: dict[str, np.ndarray] = {}
        for k, one in enumerate(pictures):
            arrays |= {f"picture{k}": one.picture, f"numbers{k}": one.numbers}
        self.shelf.put(name, arrays, {"pictures": [{"key": one.key, "names": list(one.names)} for one in pictures]})
        kept = self._kept(name)
        assert kept is not None
        return kept


def pictures_of(sample: Sample, masks: MaskForm, form: StructureForm) -> Iterator[Shown]:
    """Get the pictures of a sample with their structures.

    Raises:
        BadImage, BadData: the image or its label map cannot be read.
    """
    assert sample.mask is not None
    image, labels = seen_ref(sample.image), encoded(read_label_map(sample.mask), masks)
    if not masks.instances:
        labels = np.where(labels == UNKNOWN, 0, labels)  # nobody knows what it shows, so nobody would show it
    if image.flat:
        yield _shown(sample.key, image.picture, labels, masks, form)
        return
    upright = image.along(labels, form.axis)
    for level in _levels(upright, form.slices):
        yield _shown(f"{sample.key}#{level}", image.slice(level, form.axis), upright[level], masks, form)


def _levels(upright: np.ndarray, count: int) -> list[int]:
    """Slices that show a class, of each class evenly over those where it is not small."""
    chosen: set[int] = set()
    for number in np.unique(upright[upright > 0]).tolist():
        sizes = (upright == number).reshape(len(upright), -1).sum(axis=1)
        there = np.flatnonzero(sizes >= 0.25 * sizes.max())
        chosen |= {int(there[int(k)]) for k in np.linspace(0, len(there) - 1, min(count + 2, len(there)))[1:-1].round()}
        chosen.add(int(sizes.argmax()))
    return sorted(chosen)


def _shown(key: str, picture: np.ndarray, labels: np.ndarray, masks: MaskForm, form: StructureForm) -> Shown:
    numbers = np.zeros(labels.shape, np.uint16)
    names: list[str] = []
    for number in np.unique(labels[labels > 0]).tolist():
        whole: Any = labels == number
        called = masks.names[0] if masks.instances else masks.names[number - 1]
        pieces = parts_of(whole, most=_MOST_PARTS) if form.parts and not masks.instances else [whole]
        for piece in pieces:
            if int(piece.sum()) >= form.least:
                names.append(called)
                numbers[piece] = len(names)
    return Shown(key, picture, numbers, tuple(names))
