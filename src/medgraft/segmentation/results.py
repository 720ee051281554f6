"""What was drawn on new files, written: label maps, pictures with the label maps laid in, a table of measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medgraft import files, storage
from medgraft.errors import BadData
from medgraft.gallery import picture_of
from medgraft.predicted import Done
from medgraft.report.outlines import by_number, filled, things
from medgraft.samples.mask_grid import Laid, SolidFrame
from medgraft.samples.mask_meaning import MaskForm
from medgraft.segmentation.slides import DrawnSlide, slide_cells
from medgraft.segmentation.written import FOLDER, MaskWriter, columns_of, measures
from medgraft.values import ImageRef, Prediction

_ID = ("key", "path", "predicted", "mask")
_VOLUME, _PICTURE = ".nii.gz", ".png"


class MaskResults:
    """Gathers what was drawn on files, and writes it where `out` says.

    A folder gets `masks/`, a label map an image with the numbers of the training's own (PNG, or NIfTI on the grid of a
    volume), `overlays/`, and predictions.csv with what each class measures. `.csv` gets the table alone; `.png`, or of
    volumes `.nii.gz`, the label map of one image.

    Args:
        classes: names in order.
        form: what the numbers of label maps mean.
        out: a file of one of these endings, a folder, or None to keep the rows.
        volumes: whether volumes are drawn on, and not pictures.

    Attributes:
        count: files that were drawn on or tried.
        errors: how many of them could not be read, and `first` why the first one could not.

    Raises:
        BadData: an ending that label maps of these images are not written as.
    """

    def __init__(self, classes: tuple[str, ...], form: MaskForm, out: Path | None, *, volumes: bool = False) -> None:
        ending = "" if out is None else _ending(out, volumes=volumes)
        self.classes, self.form, self.out = classes, form, out
        self.count = self.errors = 0
        self.first = ""
        self.rows: list[dict[str, Any]] = []
        self._single = ending in (_VOLUME, _PICTURE)
        self._writer = None
        if out is not None and self._single:
            self._writer = MaskWriter(out.parent, form, name=out.name)
        elif out is not None and not ending:
            self._writer = MaskWriter(out / FOLDER, form)

    def add(self, ref: ImageRef, found: Prediction, laid: Laid) -> None:
        """Add one file's label map, with the image as the net saw it.

        Raises:
            BadData: there is a second image, and a file for one was asked for.
        """
        assert found.mask is not None
        if self._single and self.count:
            raise BadData(f"{self.out} holds the label map of one image", do="Give a folder for several.")
        self.count += 1
        cells = measures(found.mask, self.classes, laid.frame, apart=self.form.instances)
        row = {"key": str(ref), "path": str(ref.path), "predicted": found.predicted, **cells}
        if self._writer is not None:
            path = self._writer.write(ref, found.mask, laid.frame)
            row["mask"] = path.name if self._single else f"{FOLDER}/{path.name}"
            if not self._single and self.out is not None:
                stem = path.name.removesuffix(".gz").rpartition(".")[0]
                files.save_png(self.out / "overlays" / f"{stem}.png", self._overlay(found.mask, laid))
        self.rows.append(row)

    def add_slide(self, path: Path, drawn: DrawnSlide, target: Path | None) -> None:
        """Add what was drawn on a slide, whose label map was written to `target`, or to no file."""
        self.count += 1
        cells = slide_cells(drawn, self.classes)
        shown = [name for name, count in zip(self.classes, drawn.counts[1:].tolist(), strict=True) if count]
        row = {"key": str(path), "path": str(path), "predicted": "|".join(shown), **cells}
        self.rows.append(row)
        if target is not None and self.out is not None:
            row["mask"] = f"{FOLDER}/{target.name}"
            files.save_png(self.out / "overlays" / f"{target.stem}.png", drawn.picture)

    def slide_target(self, path: Path) -> Path | None:
        """Get where the label map of a slide goes, a TIFF in the folder; None where only the table is asked for.

        Raises:
            BadData: a file for one picture was asked for.
        """
        if self._single:
            what = f"the label map of a slide is a TIFF, and {self.out} is to hold that of a picture"
            raise BadData(what, where=path, do="Give a folder or .csv as --out.")
        return None if self._writer is None else self._writer.folder / f"{self._writer.free_name(ImageRef(path))}.tif"

    def _overlay(self, mask: np.ndarray, laid: Laid) -> np.ndarray:
        """A picture with the label map laid in; of a volume the slice that shows most."""
        frame = laid.frame
        if isinstance(frame, SolidFrame):
            solid = frame.laid(mask)
            place = int((solid > 0).sum(axis=(1, 2)).argmax())
            return filled(picture_of(laid.pixels[:, place]), by_number(solid[place], len(self.classes)))
        picture, drawn = picture_of(laid.pixels), frame.numbered(mask)
        return things(picture, drawn) if self.form.instances else filled(picture, by_number(drawn, len(self.classes)))

    def failed(self, key: str, error: str) -> None:
        """Add a file that could not be read."""
        self.count, self.errors, self.first = self.count + 1, self.errors + 1, self.first or error
        self.rows.append({"key": key, "path": key, "error": error})

    def done(self) -> Done:
        """Write the table and get what was done."""
        out = self.out
        if out is None:
            return Done(None, self.count, self.errors, self.rows)
        if not self._single:
            more = columns_of(self.classes, self.rows, apart=self.form.instances)
            table = out if out.suffix else out / "predictions.csv"
            storage.write_table(table, self.rows, columns=(*_ID, *more, "error"))
        return Done(out, self.count, self.errors, [])


def _ending(out: Path, *, volumes: bool) -> str:
    """Get how a file ends that label maps of these images are written as; empty of a folder.

    Raises:
        BadData: another ending.
    """
    fits, kind = (_VOLUME, "volumes") if volumes else (_PICTURE, "pictures")
    ending = _VOLUME if out.name.lower().endswith(_VOLUME) else out.suffix.lower()
    if ending not in ("", ".csv", fits):
        raise BadData(
            f"label maps of {kind} are not written as {ending}", where=out, do=f"Give a folder, .csv or {fits}."
        )
    return ending
