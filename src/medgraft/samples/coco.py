"""The layout of COCO: boxes in JSON files, with `images`, `annotations` and `categories`.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgraft.errors import BadData, BadTable
from medgraft.samples.boxed import Annotated, Found, as_dataset
from medgraft.samples.boxes import Written
from medgraft.samples.dataset import Columns, DataSet, some
from medgraft.samples.near import IMAGE_FOLDERS, Near, unwrapped
from medgraft.samples.roles import column_named
from medgraft.samples.words import split_word
from medgraft.values import ImageRef

_MAX_BYTES = 1 << 30
_PEEKED = 1 << 18
_KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"bbox"', b'"image_id"', b'"file_name"')
_FOLDERS = ("annotations", "annotation", "labels", "coco")


class Coco:
    """A COCO JSON file, or a folder with one or several: one a split, beside each other or in the splits' folders."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """A JSON file with the keys of COCO; or a folder with one."""
        found = _documents(data)
        if not found:
            return None
        if data.is_file():
            return 10, f"{data.name} has the keys of COCO"
        return 7, f"the folder holds boxes as COCO JSON: {some([path.name for path in found], 3)}"

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read images and boxes; crowds are ignored, images without annotations have no boxes.

        Raises:
            BadTable: a file is no COCO JSON, or too many boxes cannot be used.
            BadData: too many images are missing.
        """
        documents = [data] if data.is_file() else _documents(data)
        if not documents:
            raise BadData("no COCO JSON is in this folder", where=data, do="Give the path of the JSON itself.")
        root = data.parent if data.is_file() else unwrapped(data)
        found = Found(root, "coco")
        splits = _splits(documents, columns, found.notes)
        unused: set[str] = set()
        used: set[str] = set()
        for path, split in splits.items():
            document = _load(path)
            names = _categories(document["categories"], path)
            before = len(found.images)
            _read(document, names, path, split, columns=columns, found=found)
            boxes = [box for one in found.images[before:] for box in one.boxes or ()]
            used |= {box.label for box in boxes}
            unused |= set(names.values())
        if unused - used:
            found.notes.append(f"{len(unused - used)} categories have no box ({some(sorted(unused - used))})")
        return as_dataset(found, limit_bad=limit_bad)


def _documents(data: Path) -> list[Path]:
    """The COCO files that `data` is or holds; of the sets of cocodataset.org those of instances only."""
    if data.is_file():
        return [data] if data.suffix.lower() == ".json" and _looks_coco(data) else []
    root = unwrapped(data)
    folders = [root, *(item for item in sorted(root.iterdir()) if item.is_dir() and _may_hold(item))]
    paths = [path for folder in folders for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    paths = [path for path in paths if _looks_coco(path)]
    instances = [path for path in paths if path.name.lower().startswith("instances")]
    return instances or paths


def _may_hold(folder: Path) -> bool:
    return folder.name.lower() in _FOLDERS or split_word(re.sub(r"[\d_-]+$", "", folder.name)) is not None


def _looks_coco(path: Path) -> bool:
    """Look at both ends of the file only; it may be large."""
    try:
        with open(path, "rb") as file:
            ends = file.read(_PEEKED)
            size = file.seek(0, 2)
            file.seek(max(0, size - _PEEKED))
            ends += file.read()
    except OSError:
        return False
    return ends.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") and sum(key in ends for key in _KEYS) >= 2


def _splits(documents: list[Path], columns: Columns, notes: list[str]) -> dict[Path, str | None]:
    """Which split each file is of, by its name or that of its folder; those of none are left out beside others."""
    words = {path: _split_of(path) for path in documents}
    if columns.split == "none":
        return dict.fromkeys(documents)
    named = {path: word for path, word in words.items() if word}
    if not named or len(documents) == 1:
        return dict.fromkeys(documents)
    others = [path.name for path in documents if path not in named]
    if others:
        notes.append(f"{some(others)} beside the files of splits are not used")
    return dict(named)


def _split_of(path: Path) -> str | None:
    for text in (path.stem, path.parent.name):
        words = {split_word(word) for word in re.split(r"[^a-zA-Z]+", text)} - {None}
        if len(words) == 1:
            return words.pop()
    return None


def _load(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_BYTES:
        raise BadTable("the file is larger than 1 GiB", where=path, do="Split it.")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadTable(f"this is no JSON ({error})", where=path) from error
    absent = [key for key in ("images", "annotations", "categories") if not isinstance(_get(document, key), list)]
    if absent:
        raise BadTable(
            f"this is no COCO file of boxes: it has no list {' and no list '.join(map(repr, absent))}",
            where=path,
            do="It needs images, annotations and categories.",
        )
    return document


def _get(thing: Any, key: str) -> Any:
    return thing.get(key) if isinstance(thing, Mapping) else None


def _categories(categories: list[Any], path: Path) -> dict[object, str]:
    names: dict[object, str] = {}
    for number, one in enumerate(categories, start=1):
        word, name = _id(_get(one, "id")), _get(one, "name")
        if word is None or not isinstance(name, str) or not name.strip():
            raise BadTable(f"category {number} has no id or no name", where=path)
        if word in names:
            raise BadTable(f"two categories have the id {word!r}: {names[word]!r} and {name!r}", where=path)
        names[word] = name.strip()
    return names


def _id(value: Any) -> int | str | None:
    """An id that can be looked up; 7.0 is 7."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _read(
    document: dict[str, Any],
    names: dict[object, str],
    path: Path,
    split: str | None,
    *,
    columns: Columns,
    found: Found,
) -> None:
    boxes: dict[object, list[Written]] = {}
    for number, one in enumerate(document["images"], start=1):
        word = _id(_get(one, "id"))
        if word is None or not isinstance(_get(one, "file_name"), str):
            raise BadTable(f"image {number} has no id or no file_name", where=path)
        if word in boxes:
            raise BadTable(f"two images have the id {word!r}", where=path, do="Give every image its own id.")
        boxes[word] = []
    strangers = []
    for number, one in enumerate(document["annotations"], start=1):
        box = _box(one, number, names)
        word = _id(_get(one, "image_id"))
        if word in boxes:
            boxes[word].append(box)
        else:
            strangers.append(box.where)
    if strangers:
        found.notes.append(f"{len(strangers)} annotations in {path.name} are of no image of it ({some(strangers)})")
    near = Near(_image_folders(path, found.root))
    patient = _patient_key(document["images"], columns)
    for one in document["images"]:
        image = near.named(one["file_name"])
        if image is None:
            found.leave_out(one["file_name"], f"{near.why(one['file_name'])} (image {one['id']} of {path.name})")
            continue
        said = _size(one)
        who = str(one.get(patient) or "").strip() or None if patient else None
        found.images.append(Annotated(ImageRef(image), path, boxes[_id(one["id"])], said, split, who))


def _image_folders(path: Path, root: Path) -> list[Path]:
    """Where the images of a JSON file may lie: beside it, above it, in a folder of images or of the split's name."""
    bases = [path.parent, root, path.parent.parent]
    words = [word for word in re.split(r"[_.]+", path.stem) if split_word(re.sub(r"\d+$", "", word))]
    inner = [*IMAGE_FOLDERS, *words]
    folders = [*bases, *(base / name for base in bases for name in inner)]
    return folders + [base / name / word for base in bases for name in IMAGE_FOLDERS for word in words]


def _patient_key(images: list[dict[str, Any]], columns: Columns) -> str | None:
    keys = list(dict.fromkeys(key for one in images[:1000] for key in one))
    if columns.patient is not None:
        return columns.patient if columns.patient in keys else None
    return column_named("patient", keys)


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    good = all(isinstance(side, int | float) and side > 0 and side == int(side) for side in (width, height))
    return (int(width), int(height)) if good and width is not None and height is not None else None


def _box(one: Any, number: int, names: dict[object, str]) -> Written:
    where = f"annotation {_get(one, 'id')}" if _id(_get(one, "id")) is not None else f"the annotation number {number}"
    word = _id(_get(one, "category_id"))
    numbers = _get(one, "bbox")
    if word is None or word not in names:
        return Written(where, wrong=f"has the category_id {_get(one, 'category_id')!r}, which is not in categories")
    if not isinstance(numbers, list) or len(numbers) != 4:
        return Written(where, wrong="has no bbox of four numbers")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
        return Written(where, wrong=f"has the bbox {numbers}, which are not four numbers")
    x, y, width, height = map(float, numbers)
    return Written(where, names[word], (x, y, x + width, y + height), bool(_get(one, "iscrowd")))
