"""A trained run, opened: its report, its model, and predictions for new images."""

from __future__ import annotations

import csv
import html
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.errors import BadData, RunRefused
from medgraft.files import list_images
from medgraft.files.listing import is_there, ref_named
from medgraft.files.sniff import KNOWN_SUFFIXES
from medgraft.learn.engine import resolve_device
from medgraft.learn.infer import Predictor, from_array
from medgraft.learn.model import Model, load
from medgraft.pages import prediction_columns, prediction_row, read_json
from medgraft.storage import inert, write_atomic
from medgraft.values import ImageRef, Prediction

_NAMED = 3  # files passed over that are named one by one
_SHOWN = 20  # rows of a table in a notebook
_IMAGE_ENDINGS = {ending for endings in KNOWN_SUFFIXES.values() for ending in endings}
Listen = Callable[[dict[str, Any]], None]


class Predictions(list[Prediction]):
    """Predictions in the order of the images; a table in a notebook."""

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(one.key)}</td><td>{html.escape(one.predicted)}</td>"
            f"<td>{', '.join(f'{p:.3f}' for p in one.probabilities)}</td></tr>"
            for one in self[:_SHOWN]
        )
        more = f"<p>and {len(self) - _SHOWN} more</p>" if len(self) > _SHOWN else ""
        return f"<table><tr><th>image</th><th>predicted</th><th>probabilities</th></tr>{rows}</table>{more}"


class Run:
    """A finished run.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.

    Raises:
        RunRefused: no such folder, or the run is not finished.
        BadWeights: the model is damaged.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        self.model: Model = load(self.folder / "model.safetensors")
        self.predictor = Predictor(self.model, device=resolve_device(device))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the answers, in the order of the probabilities; empty for numbers."""
        return self.model.task.answers.classes

    def predict(
        self, images: Sequence[str | Path | np.ndarray] | str | Path | np.ndarray, *, batch_size: int = 32
    ) -> Predictions:
        """Get one prediction an image: files (of several frames each, or FILE#2), folders or arrays.

        Raises:
            BadData: something is neither a path nor an array.
            BadImage: one of them cannot be read; `predict_files` goes on instead.
        """
        items: list[Any] = [images] if isinstance(images, np.ndarray) else several(images)
        found = Predictions()
        refs: list[ImageRef] = []
        for number, item in enumerate(items):
            if isinstance(item, np.ndarray):
                found += self._of_files(refs, batch_size)  # answers come in the order of the images
                refs, name = [], f"array {number}"
                found += self.predictor.predict(from_array(item, self.model.pixels, name=name)[None], [name])
            else:
                refs += list_images(path_of(item), series=False, frames=True)
        return Predictions([*found, *self._of_files(refs, batch_size)])

    def explain(
        self, images: Sequence[str | Path] | str | Path, *, method: str = "auto", target: str | None = None
    ) -> list[Any]:
        """Get a map an image with what it is worth (`explanation.explainer.Explained`); arguments as in `mg.explain`.

        Raises:
            BadData: something is no path.
            BadImage: one of them cannot be read.
        """
        from medgraft.explanation.explainer import Explainer

        paths = paths_of(images)
        explainer = Explainer(self.predictor, method=method, target=target)
        return [explainer.explain(ref) for path in paths for ref in list_images(path, series=False, frames=True)]

    def _of_files(self, refs: Sequence[ImageRef], batch_size: int) -> list[Prediction]:
        found = []
        for _, answer in self.predictor.files(refs, batch_size=batch_size, workers=0) if refs else ():
            if not isinstance(answer, Prediction):
                raise answer
            found.append(answer)
        return found

    def predict_files(
        self, refs: Sequence[ImageRef], *, batch_size: int = 32, workers: int = 2, listen: Listen = lambda event: None
    ) -> Iterator[dict[str, Any]]:
        """Yield a row of cells a file, in order; one that cannot be read has its reason under `error`."""
        answers = self.predictor.files(refs, batch_size=batch_size, workers=workers, listen=listen)
        for index, answer in answers:
            row: dict[str, Any] = {"key": str(refs[index]), "path": str(refs[index].path)}
            if isinstance(answer, Prediction):
                yield row | prediction_row(self.model.task, answer)
            else:
                yield row | {"error": str(answer)}

    def columns(self) -> list[str]:
        """Get the columns of `predict_files`."""
        return ["key", "path", *prediction_columns(self.model.task), "error"]

    def _repr_html_(self) -> str:
        score = self.report["scores"]["test"].get("auroc") or {}
        said = f"AUROC {score['value']:.3f}" if score.get("value") is not None else ""
        return f"<b>medgraft run</b> {html.escape(str(self.folder))}: {html.escape(self.report['task'])} {said}"


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no finished run.

    Raises:
        RunRefused: no such folder, or the run is not finished.
    """
    if all((folder / name).exists() for name in ("model.safetensors", "report.json")):
        return
    unfinished = (folder / "recipe.yaml").exists()
    raise RunRefused(
        "this run is not finished" if unfinished else "this is no run folder of medgraft",
        where=folder,
        do="Finish it with medgraft train --resume." if unfinished else "Give the --out folder of a training.",
    )


def report_in(folder: Path) -> dict[str, Any]:
    """Get what report.json of a run holds.

    Raises:
        RunRefused: it is missing or damaged.
    """
    try:
        return dict(read_json(folder / "report.json"))
    except (OSError, ValueError, TypeError) as error:
        what = "it is missing or damaged, and this run is not whole without it"
        raise RunRefused(what, where=folder / "report.json", do="Copy the run folder again, or train anew.") from error


def paths_of(given: Any) -> list[Path]:
    """Get one path, or several, as a list.

    Raises:
        BadData: something is no path.

    Example:
        >>> [str(path) for path in paths_of("a.png")], [str(path) for path in paths_of(["a.png", "b.png"])]
        (['a.png'], ['a.png', 'b.png'])
    """
    return [path_of(item) for item in several(given)]


def several(given: Any) -> list[Any]:
    """Get what was given as a list; a text is one path, not its letters."""
    if isinstance(given, str | os.PathLike):
        return [given]
    try:
        return list(given)
    except TypeError:
        return [given]


def path_of(item: Any) -> Path:
    """Get a path.

    Raises:
        BadData: it is none.
    """
    try:
        return Path(item)
    except TypeError as error:
        what = f"a path was expected, not {type(item).__name__}"
        raise BadData(what, do="Give files or folders as texts or paths.") from error


def images_in(
    paths: Sequence[str | Path] | str | Path, *, volumes: bool = False
) -> tuple[list[ImageRef], list[tuple[str, str]]]:
    """Get the images of files (of several frames each, or `FILE#2`), folders and series: also (path, reason) passed by.

    Args:
        paths: files and folders.
        volumes: True takes the slices of a DICOM series together, and files with their frames, as volumes.

    Raises:
        BadData: a path is not there, or there is no image at all.
    """
    refs: list[ImageRef] = []
    passed: list[tuple[str, str]] = []
    given = paths_of(paths)
    for path in given:
        if not is_there(ref_named(path).path):
            raise BadData("there is no such file or folder", where=path)
        refs += list_images(
            path,
            series=volumes,
            frames=not volumes,
            on_problem=lambda where, reason: passed.append((str(where), reason)),
        )
    if not refs:
        reason = f" ({passed[0][0]}: {passed[0][1]})" if passed else ""
        raise BadData(f"no image was found{reason}", where=", ".join(map(str, given)))
    return refs, passed


def say_passed(passed: Sequence[tuple[str, str]], listen: Listen) -> None:
    """Name a few files that are no images; all of them with --verbose."""
    if len(passed) > _NAMED:
        where, reason = passed[0]
        listen({"event": "warning", "text": f"{len(passed)} files are no images, such as {where}: {reason}"})
    for where, reason in passed:
        listen({"event": "warning" if len(passed) <= _NAMED else "detail", "text": f"{where}: {reason}"})


def rows_of(passed: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield a row with its error for each file that was passed over although it is named like an image."""
    for path, reason in passed:
        if Path(path).suffix.lower().lstrip(".") in _IMAGE_ENDINGS:
            yield {"key": path, "path": path, "error": reason}


def write_rows(path: Path, *, columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> tuple[int, int, str]:
    """Write a CSV row by row, whole or not at all: (rows, rows with an error, the first error)."""
    counts, errors = [0, 0], [""]

    def write(file: Any) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([inert(name) for name in columns])
        for row in rows:
            writer.writerow([inert(row.get(name)) for name in columns])
            counts[0] += 1
            if row.get("error"):
                counts[1] += 1
                errors[0] = errors[0] or str(row["error"])
        text.detach()

    write_atomic(path, write)
    return counts[0], counts[1], errors[0]
