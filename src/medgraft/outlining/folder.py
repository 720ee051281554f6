"""The folder that `outline` and `measure` write: nothing of the user's is lost, nothing of a former call stays."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.errors import BadData
from medgraft.files.listing import ref_named

OUTLINE, MEASURE = "outline.json", "measure.json"
WRITTEN = "sha256"  # of each file beside the marker, in the marker
_NAMES = frozenset(
    [
        "mask.png",
        "mask.nii.gz",
        "outlines.geojson",
        "overlay.png",
        "measures.csv",
        "features.csv",
        "candidates.csv",
        OUTLINE,
        MEASURE,
    ]
)
_CANDIDATE = re.compile(r"candidate-\d+-\d+\.png")
_ANOTHER = "Give another --out."


def refuse_others(out: Path, *, marker: str, given: dict[str, Path]) -> None:
    """Refuse a folder in which files would be written over that are not of a former call of the same verb.

    Args:
        out: where is to be written; it need not exist, and may hold files of other names.
        marker: OUTLINE or MEASURE, the file that says which verb wrote the others.
        given: paths that were read, by what they are ("image", "mask").

    Raises:
        BadData: the folder is that of something that was read, holds our names without the marker, or a file that
            was changed since it was written, such as a mask that was corrected by hand.
    """
    for word, path in given.items():
        if out.resolve() == folder_of(path):
            raise BadData(f"this is the folder of the {word}", where=out, do=_ANOTHER)
    ours, told = _ours(out), _marked(out / marker)
    if ours and told is None:
        what = f"the folder holds {ours[0].name}, and no {marker} that says that medgraft wrote it"
        raise BadData(what, where=out, do=_ANOTHER)
    digests = (told or {}).get(WRITTEN)
    for name, digest in digests.items() if isinstance(digests, dict) else ():
        path = out / Path(str(name)).name
        if path.is_file() and storage.sha256_file(path) != digest:
            do = f"Move it elsewhere to keep it, or delete it. {_ANOTHER}"
            raise BadData("this file was changed since medgraft wrote it", where=path, do=do)


def seal(out: Path, marker: str) -> None:
    """Say in the marker what each file is like as it was written, so that a later call sees what was corrected."""
    told = _marked(out / marker) or {}
    digests = {path.name: storage.sha256_file(path) for path in _ours(out) if path.name != marker}
    storage.write_json(out / marker, {**told, WRITTEN: digests})


def folder_of(path: Path) -> Path:
    """Get the folder that a file is in; of a series its own, of an array in an npz that of the npz."""
    whole = path.resolve()
    while not whole.is_dir() and whole != whole.parent:
        whole = whole.parent
    return whole


def clear(out: Path) -> None:
    """Delete what a former call wrote, so that nothing of it stays beside what is written now."""
    for path in _ours(out):
        try:
            path.unlink()
        except OSError as error:
            raise storage.explained(error, path, needed_bytes=1) from error


def described(given: object) -> dict[str, Any] | None:
    """Get what says again which file was read: its absolute path, its frame, and the sha256 of its bytes.

    Args:
        given: a path, `FILE#2`, an array, or None. Of a folder it is the sha256 of those of its files by name, and of
            an array, which has no path, that of its values.
    """
    if given is None:
        return None
    if isinstance(given, np.ndarray):
        values = np.ascontiguousarray(given)
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        return {"path": None, "shape": list(values.shape), "kind": str(values.dtype), "sha256": digest}
    ref = ref_named(str(given))
    told = {"path": str(ref.path.resolve()), "frame": ref.index}
    if ref.path.is_dir():
        files = sorted(path for path in ref.path.iterdir() if path.is_file())
        return {**told, "sha256": storage.sha256_json({path.name: storage.sha256_file(path) for path in files})}
    file = ref.path if ref.path.is_file() else ref.path.parent  # an array in an npz
    return {**told, "sha256": storage.sha256_file(file)}


def _ours(out: Path) -> list[Path]:
    found = sorted(out.iterdir()) if out.is_dir() else []
    return [path for path in found if path.name in _NAMES or _CANDIDATE.fullmatch(path.name)]


def _marked(path: Path) -> dict[str, Any] | None:
    """Get what a JSON object says that medgraft wrote; None where there is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and "medgraft" in told else None
