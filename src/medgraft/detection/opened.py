"""A trained run that finds boxes, opened: its report, its model, and boxes in new images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft.detection.job import in_file
from medgraft.detection.results import Results
from medgraft.detection.slides import beside, look, slides_in
from medgraft.errors import BadData, BadImage, MissingExtra
from medgraft.files import list_images, read_many, read_measured
from medgraft.learn.detector import load_detector
from medgraft.learn.engine import keep_memory, precision_here, resolve_device
from medgraft.learn.infer import from_array
from medgraft.opened import (
    Listen,
    Predictions,
    check_folder,
    path_of,
    paths_of,
    report_in,
    say_passed,
    several,
)
from medgraft.predicted import Done
from medgraft.samples.loader import normalised
from medgraft.values import Batch, ImageRef, Prediction

Measured = tuple[np.ndarray, tuple[int, int], tuple[float, ...] | None]
_BATCH = 8


class BoxRun:
    """A finished run that finds boxes.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.
        task: the detector.
        pixels: how a file becomes network pixels.

    Raises:
        RunRefused: no such folder, or the run is not finished.
        BadWeights: the model is damaged.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        self.task, self.pixels, self.card = load_detector(self.folder / "model.safetensors")
        self.device = torch.device(resolve_device(device))
        if self.device.type == "cpu":
            keep_memory()
        self.bf16 = precision_here(self.card.get("precision"), self.device) == "bf16"
        self.layout = torch.channels_last if self.card.get("channels_last") else torch.contiguous_format
        self.task.to(self.device)
        self.task.to(memory_format=self.layout)  # type: ignore[call-overload]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what can be found."""
        return self.task.answers.classes

    def found(self, pixels: np.ndarray, keys: Sequence[str]) -> list[Prediction]:
        """Get a prediction for each of `(N, C, H, W)` network pixels, its boxes in network pixels."""
        moved = normalised(pixels, self.task.backbone.spec).to(self.device).contiguous(memory_format=self.layout)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.task.predict(Batch(moved, tuple(keys)))

    def predict(self, images: Sequence[str | Path | np.ndarray] | str | Path | np.ndarray) -> Predictions:
        """Get one prediction an image: files (of several frames each, or FILE#2), folders or arrays.

        Returns:
            Predictions whose `boxes`, all that reach a score of .01, are in the image's own pixels.

        Raises:
            BadData: something is neither a path nor an array.
            BadImage: one of them cannot be read.
        """
        items: list[Any] = [images] if isinstance(images, np.ndarray) else several(images)
        told = Predictions()
        for number, item in enumerate(items):
            if isinstance(item, np.ndarray):
                name = f"array {number}"
                pixels = from_array(item, self.pixels, name=name)[None]
                (one,) = self.found(pixels, [name])
                told.append(in_file(self.task, one, self.pixels, (int(item.shape[0]), int(item.shape[1]))))
                continue
            for _, answer in self.files(list_images(path_of(item), series=False, frames=True), workers=0):
                if isinstance(answer, Exception):
                    raise answer
                told.append(answer[0])
        return told

    def files(
        self, refs: Sequence[ImageRef], *, workers: int = 2, listen: Listen = lambda event: None
    ) -> Iterator[tuple[ImageRef, tuple[Prediction, Measured] | Exception]]:
        """Yield each file with its prediction, in its own pixels, and its measures; or with why it cannot be read."""
        words = {name: value for name, value in self.pixels.words().items() if name != "window"}
        work = partial(read_measured, window=self.pixels.window, **words)
        group: list[tuple[ImageRef, Any]] = []
        for index, got in read_many(refs, work, workers=workers):
            group.append((refs[index], got))
            if len(group) == _BATCH or index == len(refs) - 1:
                yield from self._answer(group)
                group = []
                listen({"event": "predict", "done": index + 1, "of": len(refs)})

    def _answer(self, group: list[tuple[ImageRef, Any]]) -> Iterator[tuple[ImageRef, Any]]:
        answers: dict[int, Prediction] = {}
        good = [place for place, (_, got) in enumerate(group) if not isinstance(got, Exception)]
        for kind in {group[place][1][0].dtype for place in good}:  # 8-bit and deeper images keep their own bits
            places = [place for place in good if group[place][1][0].dtype == kind]
            rows = np.stack([group[place][1][0] for place in places])
            found = self.found(rows, [str(group[place][0]) for place in places])
            answers |= dict(zip(places, found, strict=True))
        for place, (ref, got) in enumerate(group):
            if place in answers:
                yield ref, (in_file(self.task, answers[place], self.pixels, got[1]), got)
            else:
                yield ref, got

    def predict_to(
        self,
        out: Path | None,
        paths: Sequence[str | Path] | str | Path,
        *,
        workers: int = 2,
        listen: Listen = lambda event: None,
    ) -> Done:
        """Predict files and slides and write what was found: see `detection.results.Results`.

        Args:
            out: a .csv, .json or .geojson file, a folder for all of them, or None to get the rows.
            paths: images (of several frames each, or `FILE#2`), folders, slides.
            workers: processes that read files.
            listen: gets progress events.

        Raises:
            BadData: no image could be read, or the ending of `out` is not known.
        """
        results = Results(self.task, out, pixels=self.pixels)
        given = paths_of(paths)
        slides = [one for path in given for one in slides_in(path)]
        refs, passed = beside(given, slides)
        say_passed(passed, listen)
        for slide in slides:
            try:
                results.add_slide(slide, look(self, slide, listen=listen))
            except (BadImage, MissingExtra) as error:
                results.failed(str(slide), str(error))
        for ref, answer in self.files(refs, workers=workers, listen=listen):
            if isinstance(answer, Exception):
                results.failed(str(ref), str(answer))
            else:
                results.add(ref, answer[0], answer[1])
        for path, reason in passed:
            results.failed(path, reason)
        if results.count == results.errors:
            raise BadData(f"none of the {results.count} images could be read ({results.first})", where=given[0])
        return results.done()

    def _repr_html_(self) -> str:
        score = self.report["scores"]["test"].get("map50") or {}
        said = f"AP at IoU .50 {score['value']:.3f}" if score.get("value") is not None else ""
        return f"<b>medgraft run</b> {self.folder}: detect {said}"
