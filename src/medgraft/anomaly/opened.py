"""A run that finds what is unlike normal images, opened: its report, its net, scores and maps of new images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.anomaly.parts import area_of, load_task
from medgraft.anomaly.seen import Seen, seen_of
from medgraft.anomaly.written import COLUMNS, Maps, cells_of
from medgraft.errors import BadData, BadWeights
from medgraft.files import list_images, network_pixels, read_many, read_measured
from medgraft.learn.engine import Engine, precision_here, resolve_device
from medgraft.learn.infer import image_of
from medgraft.learn.model import Pixels
from medgraft.opened import (
    Listen,
    Predictions,
    check_folder,
    images_in,
    path_of,
    paths_of,
    report_in,
    rows_of,
    say_passed,
    several,
    write_rows,
)
from medgraft.predicted import Done
from medgraft.values import ImageRef, Prediction

Looked = tuple[ImageRef, Seen | Exception, tuple[int, int]]
_ERROR = (*COLUMNS, "error")
_AT_ONCE = 32  # files that are read before they are looked at together


class AnomalyRun:
    """A finished run that finds what is unlike normal images.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.
        card: what the model says of itself.
        task: the net.
        pixels: how files become network pixels.
        threshold: a score from which an image counts as not normal.

    Raises:
        RunRefused: no such folder, or the run is not finished.
        BadWeights: the model is damaged.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        path = self.folder / "model.safetensors"
        self.task, self.card = load_task(path)
        try:
            self.pixels = Pixels.from_dict(self.card["pixels"])
            self.threshold, self.reach = float(self.card["threshold"]), tuple(self.card["heat"])
            self.normal = str(self.card["normal"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadWeights(f"the card of this model does not fit ({error})", where=path) from error
        here = resolve_device(device)
        precision = precision_here(self.card.get("precision"), here)
        self.engine = Engine(here, precision=precision, channels_last=False)
        self.device = self.engine.device
        self.engine.place(self.task)

    @property
    def classes(self) -> tuple[str, str]:
        """Names of the two answers: the normal class, and all else."""
        normal, other = self.card["classes"]
        return normal, other

    def looked(self, rows: Sequence[np.ndarray], shapes: Sequence[Sequence[int]]) -> list[Seen]:
        """Look at network pixels `(C, H, W)` of files of these shapes (H, W); each kind of number keeps its bits."""
        found: list[Seen | None] = [None] * len(rows)
        for kind in {row.dtype for row in rows}:
            places = [k for k, row in enumerate(rows) if row.dtype == kind]
            sizes = [shapes[k] for k in places]
            area = np.stack([area_of(size, self.pixels) for size in sizes])
            own = seen_of(self.task, self.engine, np.stack([rows[k] for k in places]), area, shapes=sizes)
            for place, one in zip(places, own, strict=True):
                found[place] = one
        return [one for one in found if one is not None]

    def predict(self, images: Sequence[str | Path | np.ndarray] | str | Path | np.ndarray) -> Predictions:
        """Get one prediction an image: files, folders, or arrays `(H, W)` or `(H, W, 3)`.

        Returns:
            Predictions whose `value` is the score and whose `logits` hold it; `maps` gives maps.

        Raises:
            BadData: something is neither a path nor an array.
            BadImage: one of them cannot be read.
        """
        return Predictions([self._told(key, seen) for key, seen, _ in self._each(images)])

    def maps(self, images: Sequence[str | Path | np.ndarray] | str | Path | np.ndarray) -> list[np.ndarray]:
        """Get the map of each image in its own pixels, `(H, W)` float32; arguments and errors as in `predict`."""
        return [seen.in_file(shape, self.pixels) for _, seen, shape in self._each(images)]

    def _each(self, images: Any) -> Iterator[tuple[str, Seen, tuple[int, int]]]:
        items: list[Any] = [images] if isinstance(images, np.ndarray) else several(images)
        for number, item in enumerate(items):
            if isinstance(item, np.ndarray):
                image = image_of(item, f"array {number}")
                shape = (int(image.pixels.shape[-2]), int(image.pixels.shape[-1]))
                words = {name: value for name, value in self.pixels.words().items() if name != "window"}
                yield f"array {number}", self.looked([network_pixels(image, **words)], [shape])[0], shape
                continue
            for ref, seen, shape in self.files(list_images(path_of(item), series=False, frames=True), workers=0):
                if isinstance(seen, Exception):
                    raise seen
                yield str(ref), seen, shape

    def _told(self, key: str, seen: Seen) -> Prediction:
        answer = self.classes[int(seen.score >= self.threshold)]
        return Prediction(key, np.array([seen.score]), np.zeros(0), answer, value=seen.score)

    def files(
        self, refs: Sequence[ImageRef], *, workers: int = 2, listen: Listen = lambda event: None
    ) -> Iterator[Looked]:
        """Yield each file with what was seen of it, or with why it cannot be read, and its shape (H, W)."""
        work = partial(read_measured, **self.pixels.words())
        held: list[tuple[ImageRef, Any]] = []
        for index, got in read_many(refs, work, workers=workers):
            held.append((refs[index], got))
            if len(held) == _AT_ONCE:
                yield from self._batch(held)
                held = []
            listen({"event": "predict", "done": index + 1, "of": len(refs)})
        yield from self._batch(held)

    def _batch(self, held: Sequence[tuple[ImageRef, Any]]) -> Iterator[Looked]:
        good = [got for _, got in held if not isinstance(got, Exception)]
        seen = iter(self.looked([pixels for pixels, *_ in good], [shape for _, shape, _ in good]) if good else [])
        for ref, got in held:
            if isinstance(got, Exception):
                yield ref, got, (0, 0)
            else:
                yield ref, next(seen), got[1]

    def predict_to(
        self,
        out: Path | None,
        paths: Sequence[str | Path] | str | Path,
        *,
        workers: int = 2,
        listen: Listen = lambda event: None,
    ) -> Done:
        """Score files; a folder gets predictions.csv and maps/, a file (.csv) the table alone.

        Args:
            out: a folder, a .csv file, or None to get the rows.
            paths: images (of several frames each, or `FILE#2`) and folders.
            workers: processes that read files.
            listen: gets progress events.

        Raises:
            BadData: no image could be read.
        """
        refs, passed = images_in(paths)
        say_passed(passed, listen)
        folder = out if out is not None and not out.suffix else None
        maps = None if folder is None else Maps(folder, self.pixels, self.reach)
        rows = chain(self._rows(refs, maps, workers, listen), rows_of(passed))
        if out is None:
            found = list(rows)
            first = next((row["error"] for row in found if row.get("error")), "")
            done = Done(None, len(found), sum(bool(row.get("error")) for row in found), found)
        else:
            path = out if folder is None else folder / "predictions.csv"
            count, failed, first = write_rows(path, columns=_ERROR, rows=rows)
            done = Done(path, count, failed, [])
        if done.failed == done.count:
            raise BadData(f"none of the {done.count} images could be read ({first})", where=paths_of(paths)[0])
        return done

    def _rows(
        self, refs: Sequence[ImageRef], maps: Maps | None, workers: int, listen: Listen
    ) -> Iterator[dict[str, Any]]:
        for number, (ref, seen, _) in enumerate(self.files(refs, workers=workers, listen=listen)):
            row: dict[str, Any] = {"key": str(ref), "path": str(ref.path)}
            if isinstance(seen, Exception):
                yield row | {"error": str(seen)}
                continue
            if maps is not None:
                maps.add(ref, seen, number=number)
            yield row | cells_of(ref, seen.score, threshold=self.threshold, classes=self.classes, maps=maps)

    def _repr_html_(self) -> str:
        score = self.report["scores"]["test"].get("auroc") or {}
        said = f"AUROC {score['value']:.3f}" if score.get("value") is not None else ""
        return f"<b>medgraft run</b> {self.folder}: anomaly {said}"
