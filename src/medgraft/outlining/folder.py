"""The folder that `outline` and `measure` write: nothing of the user's is lost, nothing of a former call stays."""

from __future__ import annotations

import json
import re
from pathlib import Path

from medgraft import storage
from medgraft.errors import BadData

OUTLINE, MEASURE = "outline.json", "measure.json"
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
        BadData: the folder is that of something that was read, or holds our names without the marker.
    """
    for word, path in given.items():
        if out.resolve() == folder_of(path):
            raise BadData(f"this is the folder of the {word}", where=out, do=_ANOTHER)
    ours = _ours(out)
    if ours and not _is_marked(out / marker):
        what = f"the folder holds {ours[0].name}, and no {marker} that says that medgraft wrote it"
        raise BadData(what, where=out, do=_ANOTHER)


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


def _ours(out: Path) -> list[Path]:
    found = sorted(out.iterdir()) if out.is_dir() else []
    return [path for path in found if path.name in _NAMES or _CANDIDATE.fullmatch(path.name)]


def _is_marked(path: Path) -> bool:
    """Whether it is a JSON object that medgraft wrote."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and "medgraft" in told
