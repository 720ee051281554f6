"""A data set cleaned image by image: read, ask runs what they draw, write pictures, tables, before and after."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.cleaning.form import FORM, MASKS, CleanedSet, CleanForm
from medgraft.cleaning.picture import Cleaned, cleaned
from medgraft.errors import BadData, RunRefused, UserError
from medgraft.files import save_png
from medgraft.files.label_map import LabelMap, read_label_map
from medgraft.learn import stopping
from medgraft.opened import images_in, say_passed
from medgraft.outlining.seen import Seen, seen_ref
from medgraft.samples.dataset import Columns, DataSet, is_claimed, key_of, read_samples, tolerated
from medgraft.samples.label_maps import check_mask
from medgraft.samples.mask_grid import laid
from medgraft.segmentation.opened import MaskRun
from medgraft.values import ImageRef, Sample

Listen = Callable[[dict[str, Any]], None]
_KINDS = {"keep": (str, type(None)), "hide": (str, type(None)), "marks": (bool,), "crop": (bool,)}
_KINDS |= {"margin": (int, float), "blank": (bool,)}  # what the file of settings may hold
_LARGEST = 65535  # number that a PNG holds
_LONGEST = 120  # bytes of a name
_SHEET, _SIDE = 12, 320  # pictures before and after that are shown, and how large


def clean_all(data: Path, work: Work, *, columns: dict[str, Any], limit_bad: float, listen: Listen) -> CleanedSet:
    """Clean every image of a data set and write the tables; arguments and errors as of the verb."""
    dataset = _read(data, columns, limit_bad=limit_bad, listen=listen)
    for note in dataset.notes:
        listen({"event": "say", "text": note})
    done = CleanedSet(work.folder, problems=[(problem.path, problem.reason) for problem in dataset.problems])
    known = len(done.problems)
    for number, sample in enumerate(dataset.samples):
        stopping.check()
        try:
            done.rows.append(work.one(sample))
        except UserError as error:
            done.problems.append((str(sample.image), str(error)))
            failed = len(done.problems) - known  # what could not be read is told, and was tolerated when it was read
            if failed > tolerated(len(dataset.samples), limit_bad):
                what = f"{failed} of {len(dataset.samples)} images failed ({error})"
                raise BadData(what, where=data, do="Look at them, or raise --limit-bad.") from error
        listen({"event": "frames", "done": number + 1, "of": len(dataset.samples)})
    if not done.rows:
        raise BadData(f"no image could be cleaned ({done.problems[0][1]})", where=data)
    _write(done, work, dataset)
    return done


def settings_of(folder: Path) -> tuple[CleanForm, str | None, str | None]:
    """Get what a folder was cleaned by: the form, what was kept, and what was hidden.

    Raises:
        BadData: it was not, or what it says has no meaning.
    """
    try:
        told = json.loads((folder / FORM).read_text(encoding="utf-8"))
        found = {name: told[name] for name in _KINDS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"this folder holds no {FORM}", where=folder, do="Give a folder of medgraft clean.") from error
    for name, kinds in _KINDS.items():
        if type(found[name]) not in kinds:
            raise BadData(f"{name} is {found[name]!r} there", where=folder / FORM, do="Clean the first images anew.")
    keep, hide = found.pop("keep"), found.pop("hide")
    return CleanForm(**found), keep, hide


def drawer(given: str | Path | None, device: str) -> MaskRun | None:
    """Open a run that draws label maps.

    Raises:
        RunRefused: it is another kind of run.
    """
    if given is None or str(given) == MASKS:
        return None
    from medgraft.places import open_any

    run = open_any(Path(given), device=device)
    if not isinstance(run, MaskRun) or run.volumes:
        what = "this run does not draw label maps of flat images"
        raise RunRefused(what, where=given, do="Train one: medgraft train DATA --task segment.")
    return run


def _read(data: Path, columns: dict[str, str | None], *, limit_bad: float, listen: Listen) -> DataSet:
    """A data set; of images that no layout takes for its own, samples without labels."""
    names = {"label_column": "label", "patient_column": "patient", "split_column": "split", "mask_column": "mask"}
    given: dict[str, Any] = {names[name]: value for name, value in columns.items() if name in names}
    try:
        return read_samples(data, columns=Columns(**given), limit_bad=limit_bad)
    except BadData as error:
        if not data.exists() or is_claimed(data):
            raise
        refs, passed = images_in([data])
        say_passed(passed, listen)
        listen({"event": "say", "text": f"no labels were found ({error}); the images are cleaned alone"})
        root = data if data.is_dir() else data.parent
        return DataSet(tuple(Sample(key_of(ref, root), ref) for ref in refs), "images", "", root)


@dataclass(eq=False)
class Work:
    """What is done image by image.

    Attributes:
        folder: that is written.
        form: what is done.
        keep: as it was asked for.
        keeper: the run that draws what is kept.
        hider: the run that draws what is hidden.
    """

    folder: Path
    form: CleanForm
    keep: Any
    keeper: MaskRun | None
    hider: MaskRun | None
    shown: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def one(self, sample: Sample) -> dict[str, Any]:
        """Clean one image and write it; get its row.

        Raises:
            BadImage, BadData: it cannot be read, or is a volume, or has boxes, or no label map where one is needed, or
                one of another size or with numbers that a PNG does not hold.
        """
        if sample.boxes is not None:
            raise BadData("boxes would not fit the cleaned picture", where=sample.image.path, do="Give images alone.")
        image = seen_ref(sample.image)
        if not image.flat:
            raise BadData("this is a volume, and flat images are cleaned", where=sample.image.path)
        picture, seen = _read_picture(image)
        told = None if sample.mask is None else read_label_map(sample.mask)
        labels = None if told is None else told.values
        if told is not None:
            check_mask(told, picture.shape[:2])
            _check_numbers(told)
        if str(self.keep) == MASKS and labels is None:
            raise BadData("there is no label map beside it", where=sample.image.path)
        keep = labels > 0 if str(self.keep) == MASKS and labels is not None else _drawn(self.keeper, sample.image)
        done = cleaned(picture, self.form, keep=keep, hide=_drawn(self.hider, sample.image), seen=seen)
        deep = picture.dtype == np.uint16
        name = self._name(sample)
        save_png(self.folder / "images" / name, _in_16_bits(done.picture, image) if deep else done.picture)
        row: dict[str, Any] = {"path": f"images/{name}", "source": str(sample.image), **done.told}
        row |= {"key": sample.key, "patient": sample.patient}
        if told is not None:
            row["mask"] = self._mask(name, told, done)
        if len(self.shown) < _SHEET:
            self.shown.append((seen, image.coloured(done.picture[None]) if deep else done.picture))
        return row

    def _name(self, sample: Sample) -> str:
        """A name of its own, which no file system finds too long: two folders may hold files of one name."""
        stem = Path(sample.key).with_suffix("").as_posix().strip("/").replace("/", "_").replace("#", "_") or "image"
        if len(os.fsencode(stem)) > _LONGEST:
            sign = hashlib.sha256(os.fsencode(sample.key)).hexdigest()[:8]
            stem = f"{os.fsencode(stem)[:_LONGEST].decode('utf-8', 'ignore')}-{sign}"
        name, number = f"{stem}.png", 1
        while name in self.names:
            name, number = f"{stem}-{number}.png", number + 1
        self.names.add(name)
        return name

    def _mask(self, name: str, labels: LabelMap, done: Cleaned) -> str:
        """Write a label map cut alike, with the numbers or the colours of the user's own."""
        x0, y0, x1, y1 = done.box
        cut = labels.values[y0:y1, x0:x1]
        if labels.colours:
            stored = np.stack([cut >> shift & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)
        else:
            stored = cut.astype(np.uint16 if int(labels.values.max(initial=0)) > 255 else np.uint8)
        save_png(self.folder / "masks" / name, stored)
        return f"masks/{name}"


def _read_picture(image: Seen) -> tuple[np.ndarray, np.ndarray]:
    """A picture that is written, with the numbers of the file where they are grays of more bits than 8, and as seen."""
    seen = image.picture
    pixels = image.image.pixels
    if (pixels != pixels[:1]).any():
        return seen, seen
    stored = 8 < image.image.bits <= 16 and image.image.unit == "stored"
    if stored and pixels.min() >= 0 and pixels.max() <= _LARGEST and (pixels == np.rint(pixels)).all():
        return pixels[0].astype(np.uint16), seen[..., 0]
    return seen[..., 0], seen[..., 0]


def _in_16_bits(picture: np.ndarray, image: Seen) -> np.ndarray:
    """Numbers as a PNG of 16 bits has them: where the file says that it uses fewer, they are stretched."""
    white = float((1 << image.image.bits) - 1)
    return np.rint(np.minimum(picture * (_LARGEST / white), _LARGEST)).astype(np.uint16)


def _check_numbers(labels: LabelMap) -> None:
    high = int(labels.values.max(initial=0))
    if not labels.colours and high > _LARGEST:
        what = f"the mask holds the number {high}, and a PNG holds none above {_LARGEST}"
        raise BadData(what, where=labels.source, do="Number the labels anew, from 1.")


def _drawn(run: MaskRun | None, ref: ImageRef) -> np.ndarray | None:
    """What a run draws on an image, all classes together."""
    if run is None:
        return None
    found = run.drawn(str(ref), laid(ref, run.form.grid)).mask
    assert found is not None
    return found > 0


def _write(done: CleanedSet, work: Work, dataset: DataSet) -> None:
    """Write the tables and the pictures before and after."""
    by_source = {str(sample.image): sample for sample in dataset.samples}
    rows = []
    for row in done.rows:
        sample = by_source[row["source"]]
        cells: dict[str, Any] = {"path": row["path"], "label": sample.label, "patient": sample.patient}
        cells |= {"split": sample.split, "mask": row.get("mask")}
        rows.append(cells | {name: value for name, value in sample.covariates.items() if name not in cells})
    names = list(dict.fromkeys(name for row in rows for name in row))
    filled = [name for name in names if any(row.get(name) is not None for row in rows)]
    storage.write_table(done.out / "manifest.csv", rows, columns=filled or ["path"])
    facts = ["path", "source", "kept", "hidden", "marks", "x0", "y0", "x1", "y1", "why"]
    storage.write_table(done.out / "cleaned.csv", done.rows, columns=facts)
    storage.write_table(
        done.out / "quarantine.csv",
        [{"path": path, "reason": reason} for path, reason in done.problems],
        columns=("path", "reason"),
    )
    if work.shown:
        save_png(done.out / "before-after.png", np.concatenate(list(_pairs(work.shown))))


def _pairs(shown: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    """Rows of three pairs, each before and after, all in squares."""
    tiles = [np.concatenate([_square(one), _square(other)], axis=1) for one, other in shown]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 3)
    for start in range(0, len(tiles), 3):
        yield np.concatenate(tiles[start : start + 3], axis=1)


def _square(picture: np.ndarray) -> np.ndarray:
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    scale = (_SIDE - 4) / max(colour.shape[:2])
    sizes = [max(1, round(side * scale)) for side in colour.shape[:2]]
    rows, columns = (
        np.minimum((np.arange(n) / scale).astype(int), m - 1) for n, m in zip(sizes, colour.shape, strict=False)
    )
    tile = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    tile[2 : 2 + sizes[0], 2 : 2 + sizes[1]] = colour[rows][:, columns]
    return tile
