"""The layout of MedMNIST: one npz with train_images, train_labels and so on.

Source: Yang et al., "MedMNIST v2", Scientific Data 2023.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from medgraft.errors import BadData
from medgraft.samples.dataset import Columns, DataSet
from medgraft.values import ImageRef, Sample

SPLITS = ("train", "val", "test")


class Medmnist:
    """An npz with `<split>_images` and `<split>_labels`; a row is one image.

    An `ImageRef` names the array as if the npz were a folder (`data.npz/train_images`), and its index the row.
    """

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """An npz with these keys, or a folder with one such npz and no folder of classes."""
        path = _archive(data)
        if path is None or not any(f"{word}_images" in _members(path) for word in SPLITS):
            return None
        if path == data:
            return 10, f"{data.name} holds arrays named as in MedMNIST"
        return 4, f"the folder holds the MedMNIST file {path.name}"

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read the labels; the images stay in the file.

        Raises:
            BadData: labels are missing or do not fit the images.
        """
        path = _archive(data)
        if path is None:
            raise BadData("there is no single .npz in this folder", where=data, do="Give the path of the .npz itself.")
        members = _members(path)
        samples: list[Sample] = []
        for split in SPLITS:
            if f"{split}_images" in members:
                samples += _read_split(path, split, members)
        notes = () if columns.split != "none" else ("the file's own splits are not used",)
        if columns.split == "none":
            samples = [Sample(s.key, s.image, label=s.label) for s in samples]
        return DataSet(tuple(samples), "medmnist", "", path.parent, notes)


def _archive(data: Path) -> Path | None:
    if data.is_file():
        return data if data.suffix.lower() == ".npz" and zipfile.is_zipfile(data) else None
    found = [item for item in data.iterdir() if item.suffix.lower() == ".npz"]
    return found[0] if len(found) == 1 and zipfile.is_zipfile(found[0]) else None


def _members(path: Path) -> dict[str, tuple[int, ...]]:
    """Array names and shapes, from the headers alone: images may be larger than memory."""
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith(".npy"):
                    continue
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
                    read = read or np.lib.format.read_array_header_2_0
                    shapes[name.removesuffix(".npy")] = read(member)[0]
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}
    return shapes


def _read_split(path: Path, split: str, members: dict[str, tuple[int, ...]]) -> list[Sample]:
    name = f"{split}_labels"
    count = members[f"{split}_images"][0]
    if name not in members:
        raise BadData(f"{split}_images has no {name}", where=path, do="A MedMNIST file holds both.")
    with np.load(path, allow_pickle=False) as arrays:
        try:
            labels = np.asarray(arrays[name])
        except ValueError as error:
            raise BadData(f"{name} holds Python objects, which are never loaded", where=path) from error
    if labels.shape[0] != count or labels.ndim > 2:
        raise BadData(f"{name} has the shape {labels.shape} for {count} images", where=path)
    texts = label_texts(labels)
    return [
        Sample(f"{split}_images/{row}", ImageRef(path / f"{split}_images", index=row), label=texts[row], split=split)
        for row in range(count)
    ]


def label_texts(labels: np.ndarray) -> list[str]:
    """Get labels as text: `(N,)` or `(N, 1)` numbers as they are, `(N, K)` zeros and ones as `0|3`.

    Example:
        >>> label_texts(np.array([[0, 1, 1], [0, 0, 0]]))
        ['1|2', '']
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        return ["|".join(str(k) for k in np.flatnonzero(row)) for row in labels]
    flat = labels.reshape(-1)
    whole = np.issubdtype(flat.dtype, np.integer) or bool(np.all(flat == np.rint(flat)))
    return [str(int(value)) if whole else repr(float(value)) for value in flat]
