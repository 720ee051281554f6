"""The layout of YOLO: a text file an image, one line a box: the number of its class, centre, width and height.

The four numbers are parts of the image's width and height, so the image's header is needed to get pixels. A line with
more numbers is an outline, of which the surrounding box is taken.

Source: https://docs.ultralytics.com/datasets/detect/ and, for names in `obj.names`, https://github.com/AlexeyAB/darknet
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from medgraft.errors import BadData, BadTable
from medgraft.samples.boxed import Annotated, Found, as_dataset
from medgraft.samples.boxes import Written, numbers_of
from medgraft.samples.dataset import Columns, DataSet, as_number, some
from medgraft.samples.near import is_image, unwrapped
from medgraft.samples.words import split_word
from medgraft.samples.yolo_names import Names, description_in, names_in
from medgraft.values import ImageRef

_MAX_BYTES = 16 << 20
_BOX = ("class", "cx", "cy", "w", "h")
_FAR = 2.0  # no part of an image: the numbers are pixels
_PICTURES = ("images", "jpegimages", "imgs")
_LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")


@dataclass(frozen=True)
class _Places:
    """Images of one split, in the order of their paths."""

    images: tuple[Path, ...]
    split: str | None


class Yolo:
    """A folder with labels/ beside images/ (train, val and test inside or above), or with texts beside the images."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """A data.yaml with names; or a folder where an image has a text file as of YOLO."""
        if data.is_file():
            named = data.suffix.lower() in (".yaml", ".yml") and description_in(data) is not None
            return (10, f"{data.name} describes a data set of YOLO") if named else None
        root = unwrapped(data)
        described = names_in(root).source is not None
        labels = islice(_labels(root), 20 if described else 3)
        if not any(_looks_yolo(path) for path in labels):
            return None
        return 7, "the folder holds boxes as YOLO text files" + (" and the names of their classes" if described else "")

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read images and boxes; an image without a text file, where others of its folder have one, has no boxes.

        Raises:
            BadTable: the names cannot be read, or too many boxes cannot be used.
            BadData: there are no text files, or too many images or text files cannot be used.
        """
        root = unwrapped(data) if data.is_dir() else data.parent
        names = names_in(root, data if data.is_file() else None)
        found = Found(root, "yolo", notes=list(names.notes))
        places = _described(root, names, found) or _listed(root, found) or _lying(root)
        bare, total = 0, 0
        filled = _folders_with_text(image for place in places for image in place.images)
        for place in places:
            for image in place.images:
                label = label_of_image(image)
                there = label.is_file()
                bare += not there and label.parent in filled
                total += there
                split = None if columns.split == "none" else place.split
                _read(image, label if there else None, names, split, found=found, empty=label.parent in filled)
        if not total:
            raise BadData(
                "no image has a text file with boxes",
                where=root,
                do="They lie in labels/ beside images/ with the same names, or beside the images.",
            )
        if bare:
            found.notes.append(f"{bare} images have no text file where others have one: they count as without boxes")
        return as_dataset(found, limit_bad=limit_bad)


def read_yolo(path: Path, names: Names) -> tuple[Written, ...]:
    """Read one text file, corners in parts of the image.

    Raises:
        BadTable: it is no text, too large, or none of its lines has the form of YOLO; the first is named.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadTable(f"the file is larger than {_MAX_BYTES >> 20} MiB", where=path)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadTable(f"the file cannot be read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise BadTable("this is no text file", where=path) from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    boxes = tuple(_box(words, f"line {number}", names) for number, words in lines)
    if boxes and not any(_has_form(words) for _, words in lines):
        raise BadTable(
            f"{boxes[0].where} {boxes[0].wrong}", where=path, do="A line of YOLO reads: class cx cy w h, in parts of 1."
        )
    return boxes


def _has_form(words: Sequence[str]) -> bool:
    return len(words) >= len(_BOX) and as_number(words[0]) is not None


def _box(words: Sequence[str], where: str, names: Names) -> Written:
    if len(words) < len(_BOX):
        return Written(where, wrong=f"holds {len(words)} numbers ({' '.join(words)[:40]}), not class cx cy w h")
    number = as_number(words[0])
    label = names.of(number)
    if label is None:
        return Written(where, wrong=f"has the class {words[0][:20]!r}, which is {names.missing(number)}")
    if len(words) > 6 and len(words) % 2 and not names.keypoints:
        values, wrong = numbers_of(words[1:], ["outline"] * (len(words) - 1))
        corners = _around(values) if values else ()
    else:
        values, wrong = numbers_of(words[1:5], _BOX[1:])
        corners = _edges(*values) if values else ()
    if not wrong and any(abs(value) > _FAR for value in values):
        wrong = f"holds {' '.join(words[1:5])}: parts of the image go from 0 to 1, these look like pixels"
    return Written(where, label, corners, wrong=wrong)


def _edges(cx: float, cy: float, width: float, height: float) -> tuple[float, ...]:
    return (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)


def _around(values: Sequence[float]) -> tuple[float, ...]:
    across, down = values[::2], values[1::2]
    return (min(across), min(down), max(across), max(down))


def label_of_image(image: Path) -> Path:
    """Get where the text file of an image lies: under labels/ where the image lies under images/, else beside it."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() in _PICTURES:
            parts[place] = "labels"
            return beside if beside.is_file() and not Path(*parts).is_file() else Path(*parts)
    return beside


def _read(image: Path, label: Path | None, names: Names, split: str | None, *, found: Found, empty: bool) -> None:
    source = label or image
    try:
        boxes = read_yolo(label, names) if label else () if empty else None
    except BadTable as error:
        found.leave_out(source, error)
        return
    found.images.append(Annotated(ImageRef(image), source, boxes, split=split, parts=True))


def _folders_with_text(images: Iterator[Path]) -> set[Path]:
    labels = [label_of_image(image) for image in images]
    return {label.parent for label in labels if label.is_file()}


def _described(root: Path, names: Names, found: Found) -> list[_Places]:
    """Images where the entries train, val and test of data.yaml lead."""
    places, lost = [], []
    for word, entries in names.entries.items():
        for entry in entries:
            target = _target(root, names.base, entry)
            if target is None:
                lost.append(entry)
                continue
            places.append(_Places(_images_of(target, found), word))
    if lost:
        found.notes.append(f"{some(lost)} of {names.source.name if names.source else 'data.yaml'} is not there")
    return places if not lost or any(place.images for place in places) else []


def _target(root: Path, base: str, entry: str) -> Path | None:
    """The folder or list of an entry: programs write it relative to other folders than the file's own."""
    plain = str(PurePosixPath(*[part for part in PurePosixPath(entry).parts if part not in ("..", "/")]))
    for place in (root / base / entry, root / entry, root / plain):
        if place.is_dir() or place.suffix == ".txt" and place.is_file():
            return place.resolve() if ".." in place.parts else place
    return None


def _images_of(target: Path, found: Found) -> tuple[Path, ...]:
    if target.is_dir():
        return tuple(_images_in(target))
    lines = target.read_text(encoding="utf-8", errors="replace").splitlines()
    images = []
    for line in dict.fromkeys(line.strip() for line in lines if line.strip()):
        image = next((place for place in _spellings(target.parent, line) if place.is_file()), None)
        if image is None:
            found.leave_out(line, f"the image is not there, and {target.name} names it")
        else:
            images.append(image)
    return tuple(images)


def _spellings(folder: Path, line: str) -> Iterator[Path]:
    """A list may name images relative to itself, or to a folder above that it was written in."""
    parts = [part for part in PurePosixPath(line.replace("\\", "/")).parts if part not in ("/", ".")]
    yield folder / line
    for start in range(len(parts)):
        yield folder.joinpath(*parts[start:])


def _listed(root: Path, found: Found) -> list[_Places]:
    """Images that train.txt, val.txt and test.txt in the folder name."""
    paths = [root / name for name in _LISTS if (root / name).is_file() and not _looks_yolo(root / name)]
    return [_Places(_images_of(path, found), split_word(path.stem)) for path in paths]


def _lying(root: Path) -> list[_Places]:
    """Images below the folder, with the split that the first folder of such a name says."""
    places: dict[str | None, list[Path]] = {}
    for image in _images_in(root):
        words = [split_word(part) for part in image.relative_to(root).parts[:-1]]
        places.setdefault(next((word for word in words if word), None), []).append(image)
    return [_Places(tuple(images), word) for word, images in places.items()]


def _images_in(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if is_image(path) and path.is_file())
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _labels(root: Path) -> Iterator[Path]:
    """Text files that may hold boxes, few of them looked for: in labels/ at the top or in splits, or beside images."""
    folders = [root / "labels", root / "obj_train_data"]
    folders += [item / "labels" for item in sorted(root.iterdir()) if item.is_dir() and split_word(item.name)]
    for folder in folders:
        if folder.is_dir():
            yield from (path for path in folder.rglob("*.txt") if path.name != "classes.txt")
    yield from (path for path in sorted(root.glob("*.txt")) if any(map(is_image, root.glob(f"{path.stem}.*"))))


def _looks_yolo(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(4096)
    words = head.decode("utf-8", errors="replace").split("\n")[0].split()
    values = [as_number(word) for word in words]
    shares: Mapping[int, float] = {i: value for i, value in enumerate(values) if value is not None and i}
    return len(values) >= len(_BOX) and None not in values and all(abs(value) <= _FAR for value in shares.values())
