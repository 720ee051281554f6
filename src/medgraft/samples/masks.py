"""The layout of masks: images in one folder, and label maps of the same names in a folder beside it.

Folders of splits may lie above or inside; nnU-Net's and the Medical Segmentation Decathlon's names are known.

Source: https://github.com/MIC-DKFZ/nnUNet (documentation/dataset_format.md)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from medgraft.errors import BadData
from medgraft.samples.boxed import whole_splits
from medgraft.samples.dataset import Columns, DataSet, Problem, key_of, some, tolerated, without_sidecars, words_of
from medgraft.samples.mask_names import names_beside
from medgraft.samples.near import is_image, unwrapped
from medgraft.samples.words import split_word
from medgraft.values import ImageRef, Sample

_IMAGES = ("imagestr", "imagests", "images", "image", "imgs", "img", "jpegimages")
# The surest first: `labels` may hold boxes as text, and `annotations` outlines.
_MASKS = ("labelstr", "labelsts", "masks", "mask", "segmentationclass", "segmentations", "segmentation", "segs", "seg")
_MASKS += ("labelmaps", "labelmap", "groundtruth", "gt", "labels", "label", "annotations", "annotation")
_MASKS += ("instances", "instance", "instancemasks", "segmentationobject")
_PAIRS = {"imagestr": "labelstr", "imagests": "labelsts"}
_MASK_ENDING = re.compile(
    r"[-_. ](masks?|seg(mentation)?s?|labels?|lab|label_?maps?|gt|ground_?truth|annotations?|instances?|manual\d?)$",
    re.IGNORECASE,
)
_IMAGE_ENDING = re.compile(r"[-_. ](image|img|orig(inal)?|training|test)$", re.IGNORECASE)
_CHANNEL = re.compile(r"_\d{4}$", re.ASCII)
_TRIED = 50


class _Part(NamedTuple):
    """Folders that belong together, the label maps' likeliest first, their split, and others that hold images too."""

    images: Path
    masks: tuple[Path, ...]
    split: str | None = None
    others: tuple[str, ...] = ()


@dataclass
class _Reading:
    """What is known while one folder is read."""

    root: Path
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)

    def leave_out(self, path: Path, reason: object) -> None:
        self.problems.append(Problem(key_of(ImageRef(path), self.root), str(reason)))


class Masks:
    """A folder with images/ beside masks/ (or labels/, labelsTr/, instances/), with train, val and test or without."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """A folder of images beside one with images of the same names."""
        if not data.is_dir():
            return None
        parts = _parts(unwrapped(data))
        if not parts:
            return None
        first = parts[0]
        return 6, f"the folder holds {first.images.name}/ and label maps of the same names in {first.masks[0].name}/"

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Pair images and label maps by their names; an image without one has no mask.

        Raises:
            BadData: several folders may hold the masks, images have several channels, or too many masks have no image.
        """
        root = unwrapped(data) if data.is_dir() else data.parent
        asked = None if columns.mask is None or columns.mask.lower() == "none" else columns.mask.strip("/\\")
        parts = _parts(root, asked)
        if not parts:
            what = "label maps of the same names" if asked is None else f"the folder {asked!r}"
            do = "They lie in images/ and masks/ with the same names; see docs/guide/masks.md."
            raise BadData(f"no folder of images has {what} beside it", where=data, do=do)
        reading = _Reading(root)
        for part in parts:
            _read(part, reading, columns)
        masked = sum(sample.mask is not None for sample in reading.samples)
        problems = without_sidecars(reading.problems, reading.notes)
        strays = [problem for problem in problems if problem.reason.startswith(_STRAY)]
        if strays and len(strays) > tolerated(masked + len(strays), limit_bad):
            listed = some([problem.path for problem in strays])
            what = f"{len(strays)} of {masked + len(strays)} masks have no image of their name ({listed})"
            raise BadData(what, where=root, do="Give both the same name, or raise --limit-bad.")
        if reading.bare:
            reading.notes.append(f"{len(reading.bare)} images have no mask of their name ({some(reading.bare)})")
        samples = whole_splits(sorted(reading.samples, key=lambda sample: sample.key), reading.notes)
        names = names_beside(root, reading.notes)
        called = parts[0].masks[0].name
        if columns.mask is not None and asked is None:
            samples, called = [replace(sample, mask=None) for sample in samples], None
        words: dict[str, Any] = {
            "notes": tuple(reading.notes),
            "problems": tuple(problems),
            "mask_column": called,
            "mask_names": names,
        }
        return DataSet(tuple(samples), "masks", "", root, **words)


_STRAY = "no image has the name of this mask"


def _folders(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith((".", "__MACOSX")))


def _word(folder: Path) -> str:
    return "".join(words_of(folder.name))


def _parts(root: Path, asked: str | None = None) -> list[_Part]:
    """Folders of images and of their masks: here, or in the folders of splits."""
    folders = _folders(root)
    found = []
    for images in sorted((f for f in folders if _word(f) in _IMAGES), key=lambda f: _IMAGES.index(_word(f))):
        masks = _masks_of(images, [f for f in folders if f != images], asked)
        if masks:
            found.append(_Part(images, masks))
    if len(found) > 1 and _word(found[0].images) == "imagestr" and _word(found[1].images) == "imagests":
        return [found[0]._replace(split="train"), found[1]._replace(split="test")]
    if found:
        return [found[0]._replace(others=tuple(part.images.name for part in found[1:]))]
    splits = [(folder, word) for folder in folders if (word := split_word(folder.name))]
    return [part._replace(split=word) for folder, word in splits for part in _parts(folder, asked)]


def _masks_of(images: Path, others: Sequence[Path], asked: str | None) -> tuple[Path, ...]:
    """The folders that hold label maps of these images."""
    if asked is not None:
        return tuple(folder for folder in others if folder.name.lower() == asked.lower())
    stems = _plain_stems(images)
    wanted = _PAIRS.get(_word(images))
    if wanted is not None:
        return tuple(folder for folder in others if _word(folder) == wanted and _fit(folder, stems) > 0)
    known = [folder for folder in others if _word(folder) in _MASKS and _fit(folder, stems) > 0]
    if known:
        return tuple(sorted(known, key=lambda folder: _MASKS.index(_word(folder))))
    strange = [folder for folder in others if _word(folder) not in _IMAGES and not split_word(folder.name)]
    return tuple(folder for folder in strange if _fit(folder, stems) > 0.5)


def _plain_stems(images: Path) -> set[str]:
    """Names of images without their endings, those of folders too: a series is a folder."""
    return {key for path in images.rglob("*") if not path.name.startswith(".") for key in _keys_of_image(path, images)}


def _fit(masks: Path, stems: set[str]) -> float:
    """Which part of the first files of a folder have the name of an image; JPEGs in labels/ are drawings of boxes."""
    paths = sorted(path for path in masks.rglob("*") if is_image(path) and path.is_file())[:_TRIED]
    if _word(masks) in ("labels", "label", "annotations", "annotation"):
        paths = [path for path in paths if path.suffix.lower() not in (".jpg", ".jpeg")]
    fits = [any(key in stems for key in _keys_of_mask(path, masks)) for path in paths]
    return sum(fits) / len(fits) if fits else 0.0


def _stem(path: Path, folder: Path) -> str:
    inside = path.relative_to(folder)
    if not inside.name:  # one series fills the folder
        return ""
    name = inside.name.removesuffix(".gz")
    return inside.with_name(Path(name).stem if is_image(Path(name)) else inside.name).as_posix()


def _keys_of_image(path: Path, folder: Path) -> list[str]:
    """The names that its mask may have, the surest first."""
    stem = _stem(path, folder)
    return list(dict.fromkeys((stem, _IMAGE_ENDING.sub("", stem), _CHANNEL.sub("", stem))))


def _keys_of_mask(path: Path, folder: Path) -> list[str]:
    stem = _stem(path, folder)
    return list(dict.fromkeys((stem, _MASK_ENDING.sub("", stem))))


def _read(part: _Part, reading: _Reading, columns: Columns) -> None:
    from medgraft import files

    masks = _chosen(part, reading, asked=columns.mask is not None)
    if part.others:
        reading.notes.append(f"images are read from {part.images.name}/, and not from {some(part.others)}")
    images = files.list_images(part.images, on_problem=reading.leave_out)
    maps = files.list_images(masks, on_problem=reading.leave_out, series=False)
    index: dict[str, list[ImageRef]] = defaultdict(list)
    for ref in maps:
        for key in _keys_of_mask(ref.path, masks):
            index[key].append(ref)
    taken: dict[ImageRef, list[ImageRef]] = defaultdict(list)
    for ref in images:
        path = ref.path
        found = next((index[key] for key in _keys_of_image(path, part.images) if index.get(key)), [])
        exact = [mask for mask in found if _stem(mask.path, masks) == _stem(path, part.images)]
        found = exact or found
        if len(found) > 1:
            names = some([mask.path.name for mask in found])
            reading.leave_out(path, f"several masks have its name ({names}): draw them into one label map")
            taken |= {mask: [*taken[mask], ref] for mask in found}
            continue
        if found:
            taken[found[0]].append(ref)
        else:
            reading.bare.append(key_of(ref, reading.root))
        split = part.split or split_word(path.relative_to(part.images).parent.as_posix().split("/")[0])
        split = None if columns.split == "none" else split
        reading.samples.append(Sample(key_of(ref, reading.root), ref, split=split, mask=found[0] if found else None))
    _refuse_channels(taken, reading.root)
    for ref in maps:
        if not taken[ref]:
            reading.leave_out(ref.path, _STRAY)


def _chosen(part: _Part, reading: _Reading, *, asked: bool) -> Path:
    first, others = part.masks[0], [folder.name for folder in part.masks[1:]]
    if others and not asked and _word(first) not in _MASKS:
        raise BadData(
            f"{some([folder.name for folder in part.masks])} hold images of the same names as {part.images.name}/",
            where=part.images.parent,
            do=f"Say which are the masks, such as --mask-column {first.name}.",
        )
    note = f"masks are read from {first.name}/, and not from {some(others)}; --mask-column names another folder"
    if others and note not in reading.notes:
        reading.notes.append(note)
    return first


def _refuse_channels(taken: Mapping[ImageRef, Iterable[ImageRef]], root: Path) -> None:
    """Two images for one mask: the channels of nnU-Net, or copies in two formats."""
    for mask, refs in taken.items():
        paths = sorted(ref.path for ref in refs)
        if len(paths) < 2:
            continue
        names = [path.name for path in paths]
        channels = all(_CHANNEL.search(_stem(path, path.parent)) for path in paths)
        raise BadData(
            f"the mask {key_of(mask, root)} belongs to {len(names)} images ({some(names)})"
            + (": several channels of one case, and one is supported" if channels else ""),
            where=root,
            do="Keep the files of one channel (_0000), or put three into one colour image."
            if channels
            else "Keep one of them.",
        )
