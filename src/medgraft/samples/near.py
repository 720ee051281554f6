"""Finds the image that an annotation names, in the folders where it may lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from medgraft.files.sniff import KNOWN_SUFFIXES

IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "img", "data")
_SUFFIXES = {f".{ending}" for endings in KNOWN_SUFFIXES.values() for ending in endings}


class Near:
    """Images by the name or stem that an annotation gives.

    Args:
        folders: where they may lie, the likeliest first; those that are not there are passed over.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        self._names: dict[Path, dict[str, Path]] = {}
        self._stems: dict[Path, dict[str, list[Path]]] = {}

    def named(self, name: str) -> Path | None:
        """Get the image of a name as written, else of its last part: folders of another machine do not count."""
        text = name.strip().replace("\\", "/")
        if not text or "\x00" in text:
            return None
        for wanted in dict.fromkeys((text, PurePosixPath(text).name)):
            for folder in self.folders:
                place = Path(os.path.normpath(folder / wanted))
                if place.name in self._listing(place.parent):
                    return place
        return None

    def of_stem(self, stem: str) -> Path | None:
        """Get the one image whose name without its ending is `stem`, which may name a folder too."""
        for folder in self.folders:
            place = Path(os.path.normpath(folder / stem))
            self._listing(place.parent)
            found = self._stems[place.parent].get(place.name, [])
            if len(found) == 1:
                return found[0]
        return None

    def why(self, name: str) -> str:
        """Get why there is no image of this name, with the one that differs by capital letters."""
        wanted = PurePosixPath(name.replace("\\", "/")).name
        for folder in self.folders:
            for other in self._listing(folder):
                if other.lower() == wanted.lower():
                    return f"the image {name!r} is not there, but {other!r} is: capital letters matter"
        return f"the image {name!r} is not there"

    def images(self) -> list[Path]:
        """Get every file in the folders that has the ending of an image."""
        return sorted({path for folder in self.folders for path in self._listing(folder).values() if is_image(path)})

    def _listing(self, folder: Path) -> dict[str, Path]:
        if folder not in self._names:
            names = {}
            if folder.is_dir():
                with os.scandir(folder) as items:
                    names = {item.name: folder / item.name for item in items if item.is_file()}
            stems: dict[str, list[Path]] = {}
            for path in sorted(names.values()):
                if is_image(path):
                    stems.setdefault(_stem(path.name), []).append(path)
            self._names[folder], self._stems[folder] = names, stems
        return self._names[folder]


def is_image(path: Path) -> bool:
    """Tell whether a file has the ending of an image; hidden files are none."""
    name = path.name.lower().removesuffix(".gz")
    return not name.startswith(".") and Path(name).suffix in _SUFFIXES


def _stem(name: str) -> str:
    return Path(name.removesuffix(".gz")).stem


def unwrapped(data: Path) -> Path:
    """Step into a folder that only wraps one other, as archives make them."""
    for _ in range(3):
        items = [item for item in data.iterdir() if not item.name.startswith(".") and item.name != "__MACOSX"]
        if len(items) != 1 or not items[0].is_dir():
            return data
        data = items[0]
    return data
