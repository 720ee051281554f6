"""Images and their label maps brought onto the grid of a net, each kept on disk as soon as it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.files import read_many
from medgraft.files.label_map import read_label_map
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.samples.label_maps import encoded
from medgraft.samples.mask_grid import GridForm, GridFrame, PictureFrame, frame_from, laid
from medgraft.samples.mask_meaning import MaskForm
from medgraft.shelf import Shelf
from medgraft.values import ImageRef, Sample

_SECONDS = 300.0  # for one image


@dataclass(frozen=True, eq=False)
class Case:
    """An image as a net sees it, and its label map on the same grid.

    Attributes:
        pixels: `(C, [D,] H, W)`.
        mask: `([D,] H, W)` uint8, or int32 numbers of things that are told apart.
        frame: where they are in the file.
    """

    pixels: np.ndarray
    mask: np.ndarray
    frame: GridFrame


class CaseShelf:
    """Cases in a folder.

    Args:
        folder: of the run; it is made.
        grid: how files become network pixels.
        form: what the numbers of label maps mean.
    """

    def __init__(self, folder: Path, grid: GridForm, form: MaskForm) -> None:
        self.shelf, self.grid, self.form = Shelf(folder), grid, form

    def fill(self, samples: Sequence[Sample], prints: Sequence[str], *, workers: int, listen: Listen) -> list[Case]:
        """Get all cases, mapped from the folder; what is not there yet is read and brought onto the grid.

        Args:
            samples: with label maps.
            prints: a hash of each image's content.
            workers: processes that read.
            listen: gets progress events.

        Raises:
            BadImage, BadData: one cannot be read.
            Interrupted: it was asked to stop; what was done is kept.
        """
        how = [self.grid.to_dict(), self.form.to_dict()]
        names = [
            storage.sha256_json([one, str(sample.image), _stamp(sample.mask), *how])[:32]
            for sample, one in zip(samples, prints, strict=True)
        ]
        missing = [place for place, name in enumerate(names) if self.shelf.get(name) is None]
        masks = {samples[place].image: samples[place].mask for place in missing}
        work = partial(_case, masks=masks, grid=self.grid, form=self.form)
        words: dict[str, Any] = {"workers": workers, "timeout_s": _SECONDS, "prefetch": workers}
        for done, (index, one) in enumerate(
            read_many([samples[place].image for place in missing], work, **words), start=1
        ):
            stopping.check()
            if isinstance(one, Exception):
                raise one
            arrays = {"pixels": one.pixels, "mask": one.mask}
            self.shelf.put(names[missing[index]], arrays, one.frame.to_dict())
            listen({"event": "frames", "done": len(samples) - len(missing) + done, "of": len(samples)})
        return [self._get(name) for name in names]

    def clear(self) -> None:
        """Delete what is kept, of a run that is finished."""
        self.shelf.clear()

    def _get(self, name: str) -> Case:
        kept = self.shelf.get(name)
        assert kept is not None
        return Case(kept.arrays["pixels"], kept.arrays["mask"], frame_from(kept.facts))


def _stamp(ref: ImageRef | None) -> list[Any]:
    """Get what changes when a label map does."""
    assert ref is not None
    return [str(ref), storage.sha256_file(ref.path)]


def _case(ref: ImageRef, *, masks: Mapping[ImageRef, ImageRef | None], grid: GridForm, form: MaskForm) -> Case:
    """Bring one image and its label map onto the grid.

    Raises:
        BadImage, BadData: one of them cannot be read.
    """
    one, mask = laid(ref, grid), masks[ref]
    assert mask is not None
    labels = encoded(read_label_map(mask), form)
    if isinstance(one.frame, PictureFrame) and form.instances:
        return Case(one.pixels, one.frame.numbered(labels), one.frame)
    return Case(one.pixels, one.frame.laid(labels), one.frame)


def truth_of(sample: Sample, form: MaskForm) -> np.ndarray:
    """Read the label map of a sample on the grid of its file: `([D,] H, W)`.

    Raises:
        BadImage, BadData: it cannot be read.
    """
    assert sample.mask is not None
    return encoded(read_label_map(sample.mask), form)
