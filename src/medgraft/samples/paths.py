"""From the cells of a path column to files, with a hint for each way it can fail."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from medgraft.errors import BadTable
from medgraft.files.listing import FRAME, is_there
from medgraft.samples.dataset import some
from medgraft.values import ImageRef

_SEARCHED_FILES = 50_000  # a hint is not worth walking a whole disk


class Places:
    """Finds the files that a table names, relative to the table's folder.

    Attributes:
        notes: what was odd about paths that were found.
        missing: (row number, path as written, why) of every file that was not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []
        self.missing: list[tuple[int, str, str]] = []
        self._listings: dict[Path, dict[str, list[str]]] = {}
        self._case: list[tuple[str, str]] = []

    def find(self, cells: Sequence[str], numbers: Sequence[int]) -> list[ImageRef | None]:
        """Get one reference a cell, None where there is no such file.

        Raises:
            BadTable: a path is empty, or names a folder with several images.
        """
        refs: list[ImageRef | None] = []
        outside, backslash, guessed, absolute = [], [], [], 0
        for cell, number in zip(cells, numbers, strict=True):
            text = cell.strip()
            if not text or "\x00" in text:
                raise BadTable(f"row {number} has no path", where=self.root, do="Fill it, or delete the row.")
            bare, index = self._frame(text)
            path, how = self._resolve(bare)
            if path is None:
                self.missing.append((number, text, how))
                refs.append(None)
                continue
            if how == "backslash":
                backslash.append(number)
            elif how == "suffix":
                guessed.append(number)
            if Path(text).is_absolute():
                absolute += 1
            elif ".." in PurePosixPath(text.replace("\\", "/")).parts and not self._inside(path):
                outside.append(number)
            refs.append(self._ref(path, number) if index is None else ImageRef(path, index))
        self._note(outside, backslash, guessed, absolute)
        return refs

    def _note(self, outside: list[int], backslash: list[int], guessed: list[int], absolute: int) -> None:
        if outside:
            self.notes.append(f"{len(outside)} paths lead out of the table's folder by ../ (rows {some(outside)})")
        if absolute:
            self.notes.append(f"{absolute} paths are absolute; the table works on this machine only")
        if backslash:
            self.notes.append(f"{len(backslash)} paths are written with backslashes; they were read as /")
        if guessed:
            self.notes.append(f"{len(guessed)} paths have no file ending; the one file of that name was taken")

    def _inside(self, path: Path) -> bool:
        return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(self.root))

    def _frame(self, text: str) -> tuple[str, int | None]:
        """The path without its `#2`, and the 2; a file that has this name itself comes first."""
        match = FRAME.fullmatch(text)
        if match is None:
            return text, None
        own = self._resolve(text)[0]
        named_so = own is not None and own.exists()  # an array of an npz does not exist, whatever its name
        return (text, None) if named_so else (match[1], int(match[2]))

    def _resolve(self, text: str) -> tuple[Path | None, str]:
        """The file and how it was found, or None and why it was not."""
        path = self.root / text
        try:
            if path.exists():
                plain = Path(os.path.normpath(path))  # so that one file has one spelling
                return plain if plain.exists() and plain.samefile(path) else path, ""
        except OSError as error:
            return None, error.strerror or "no such path"
        if "\\" in text and (self.root / text.replace("\\", "/")).exists():
            return self.root / text.replace("\\", "/"), "backslash"
        parent = path.parent
        if is_there(path):  # an array in an npz
            return path, ""
        if not parent.is_dir():
            return None, "its folder is not there"
        listing = self._listing(parent)
        same = listing.get(path.name.lower(), [])
        if same:
            self._case.append((text, same[0]))
            return None, f"there is {same[0]!r}, which differs by capital letters"
        stems = [name for names in listing.values() for name in names if name.rpartition(".")[0] == path.name]
        if "." not in path.name[-5:] and len(stems) == 1:
            return parent / stems[0], "suffix"
        return None, "no such file"

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            names: dict[str, list[str]] = {}
            for item in folder.iterdir():
                names.setdefault(item.name.lower(), []).append(item.name)
            self._listings[folder] = names
        return self._listings[folder]

    def _ref(self, path: Path, number: int) -> ImageRef:
        if not path.is_dir():
            return ImageRef(path)
        from medgraft import files

        found = files.list_images(path)
        if len(found) != 1:
            raise BadTable(
                f"row {number} names a folder with {len(found)} images",
                where=path,
                do="Give one row an image; a folder stands for one DICOM series.",
            )
        return found[0]

    def hint(self) -> str:
        """Get the likeliest reason why files are missing, or an empty text."""
        if self._case:
            text, name = self._case[0]
            return f"The row says {text!r}, the file is {name!r}: capital letters matter."
        for _, text, _ in self.missing[:3]:
            name = PurePosixPath(text.replace("\\", "/")).name
            for path in _walk(self.root):
                if path.name == name or path.stem == name:
                    relative = path.relative_to(self.root).as_posix()
                    return f"{text!r} was found as {relative!r}: paths are relative to the table."
        return ""


def _walk(root: Path):
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            count += 1
            if count > _SEARCHED_FILES:
                return
            yield Path(folder) / name


def extra_files(root: Path, refs: Sequence[ImageRef]) -> list[str]:
    """Get a note on images that lie beside the listed ones but are not in the table; an empty list when there are none.

    Only the folders of listed files are looked at, so masks in a folder of their own are no extras.
    """
    listed = {path for ref in refs for path in (ref.files or (ref.path,))}
    kinds = {path.suffix.lower() for path in listed if path.suffix}
    extra = []
    for folder in sorted({path.parent for path in listed if path.parent.is_dir()}):  # an npz is no folder
        for item in sorted(folder.iterdir()):
            hidden = item.name.startswith(".")
            if not hidden and item.suffix.lower() in kinds and item not in listed and item.is_file():
                extra.append(os.path.relpath(item, root))
    return [f"{len(extra)} images in the folder are not in the table and are not used ({some(extra)})"] if extra else []
