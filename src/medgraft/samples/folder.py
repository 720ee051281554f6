"""The layout of folders: one folder a class, or train, val and test above them."""

from __future__ import annotations

from pathlib import Path

from medgraft.errors import BadData, MedgraftError
from medgraft.samples.dataset import Columns, DataSet, Problem, key_of, some, without_sidecars
from medgraft.samples.words import refuse_twin_classes, split_word
from medgraft.values import ImageRef, Sample

_NO_CLASSES = {"images", "image", "imgs", "masks", "mask", "labels", "annotations", "imagestr", "labelstr", "imagests"}
_NO_CLASSES |= {"instances", "labelsts"}


class Folder:
    """A folder with a folder per class, or with train/, val/ and test/ above them."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """A folder whose folders hold files; unsure when they are named images or masks."""
        if not data.is_dir():
            return None
        names = _folders(_unwrapped(data))
        if not names:
            return None
        if all(split_word(item.name) for item in names):
            words = ", ".join(item.name for item in names)
            inner = [item.name.lower() in _NO_CLASSES for folder in names for item in _folders(folder)]
            if inner and all(inner):
                return None
            return 4 if any(inner) else 6, f"the folder holds {words} with a folder per class in them"
        classes = [item for item in names if item.name.lower() not in _NO_CLASSES]
        if not classes:
            return None
        return 5, f"the folder holds a folder per class: {some([item.name for item in classes])}"

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read the images; the class is the folder's name.

        Raises:
            BadData: images lie directly in a split folder; an empty data set.
            BadTable: two class folders differ only by case or spaces.
        """
        root = _unwrapped(data)
        notes, problems = [], []
        if root != data:
            notes.append(f"the data lie in {root.relative_to(data).as_posix()}/")
        folders = _folders(root)
        splits = {item: word for item in folders if (word := split_word(item.name))}
        samples: list[Sample] = []
        if splits and "train" in splits.values() or splits and len(splits) == len(folders):
            others = [item.name for item in folders if item not in splits]
            if others:
                notes.append(f"folders beside train, val and test are not used: {some(others)}")
            _refuse_doubled_splits(root, splits)
            for item, word in splits.items():
                samples += _read_classes(item, root, word, problems, notes)
        else:
            samples = _read_classes(root, root, None, problems, notes)
        refuse_twin_classes(sorted({sample.label or "" for sample in samples}), path=root)
        samples.sort(key=lambda sample: sample.key)
        problems = without_sidecars(problems, notes)
        return DataSet(tuple(samples), "folder", "", root, tuple(notes), tuple(problems))


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones and what archive programs leave."""
    return sorted(
        item for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".") and item.name != "__MACOSX"
    )


def _unwrapped(data: Path) -> Path:
    """Step into a folder that only wraps one other, as archives make them."""
    for _ in range(3):
        items = [item for item in data.iterdir() if not item.name.startswith(".") and item.name != "__MACOSX"]
        if len(items) != 1 or not items[0].is_dir() or not _folders(items[0]):
            return data
        data = items[0]
    return data


def _refuse_doubled_splits(root: Path, splits: dict[Path, str]) -> None:
    for word in ("train", "val", "test"):
        named = [item.name for item in splits if splits[item] == word]
        if len(named) > 1:
            raise BadData(f"the folders {' and '.join(named)} both mean {word}", where=root, do="Merge them.")


def _read_classes(
    folder: Path, root: Path, split: str | None, problems: list[Problem], notes: list[str]
) -> list[Sample]:
    from medgraft import files

    def note_problem(path: Path, reason: object) -> None:
        problems.append(Problem(_relative(path, root), str(reason)))

    samples = []
    for item in _folders(folder):
        found: list[ImageRef] = []
        try:
            found = files.list_images(item, on_problem=note_problem)
        except MedgraftError as error:
            problems.append(Problem(_relative(item, root), str(error)))
        if not found:
            notes.append(f"the folder {_relative(item, root)}/ holds no image")
        samples += [Sample(key_of(ref, root), ref, label=item.name.strip(), split=split) for ref in found]
    loose = [item for item in folder.iterdir() if item.is_file() and not item.name.startswith(".")]
    stray = [
        item for item in loose if samples and item.suffix.lower() in {s.image.path.suffix.lower() for s in samples}
    ]
    if stray:
        notes.append(
            f"{len(stray)} images lie beside the class folders and are not used ({some([s.name for s in stray])})"
        )
    if not samples and loose and split:
        raise BadData(
            f"images lie directly in {folder.name}/",
            where=folder,
            do="Put them into a folder per class, or list them in a CSV.",
        )
    return samples


def _relative(path: Path, root: Path) -> str:
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return str(path)
