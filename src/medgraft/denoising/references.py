"""Where the clean image of a noisy one is: a column of its table, or a folder with files of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgraft.errors import BadData
from medgraft.files import list_images
from medgraft.samples.dataset import DataSet
from medgraft.values import Sample


def references_of(dataset: DataSet, compare: str) -> tuple[dict[str, Path], str | None]:
    """Get key -> clean image of each sample that has one, and the column that said so, if it was one.

    Raises:
        BadData: there is no such column or folder, or no clean image is there.
    """
    if any(compare in sample.covariates for sample in dataset.samples):
        paths = {one.key: clean_path(one, compare, dataset.root) for one in dataset.samples}
        found = {key: path for key, path in paths.items() if path is not None}
        lost = next((path for path in found.values() if not path.exists()), None)
        if lost is not None:
            raise BadData("this clean image is not there", where=lost, do=f"Correct the column {compare!r}.")
        return found, compare
    folder = Path(compare)
    if not folder.is_dir():
        names = sorted({name for sample in dataset.samples for name in sample.covariates})
        known = f"; the columns are {', '.join(names)}" if names else ""
        raise BadData(f"there is no folder and no column of this name{known}", where=compare)
    found = _by_name(dataset.samples, folder)
    if not found:
        raise BadData("no file here is named like one of the images", where=folder)
    return found, None


def clean_path(sample: Sample, column: str | None, root: Path) -> Path | None:
    """Get where the clean image of a sample is, by a column of its table; paths are relative to the table."""
    cell = sample.covariates.get(column) if column is not None else None
    if not cell:
        return None
    return (root if root.is_dir() else root.parent) / str(cell)


def _by_name(samples: Sequence[Sample], folder: Path) -> dict[str, Path]:
    """Files by their path below the folder, else by their names, where no two have one name."""
    refs = [ref.path for ref in list_images(folder)]
    whole = {path.relative_to(folder).with_suffix("").as_posix(): path for path in refs}
    stems: dict[str, list[Path]] = {}
    for path in refs:
        stems.setdefault(_stem(path), []).append(path)
    found = {}
    for one in samples:
        own = whole.get(Path(one.key).with_suffix("").as_posix())
        several = stems.get(_stem(one.image.path), [])
        if own is not None or len(several) == 1:
            found[one.key] = own or several[0]
    return found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name
