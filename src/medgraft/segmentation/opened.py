"""A trained run that draws label maps, opened: its report, its model, and label maps of new images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.detection.slides import beside, slides_in
from medgraft.errors import BadData, BadImage, MissingExtra
from medgraft.files import list_images, network_pixels, read_many
from medgraft.learn import stopping
from medgraft.learn.engine import Engine, precision_here, resolve_device
from medgraft.learn.infer import image_of
from medgraft.learn.segmenter import load_segmenter
from medgraft.opened import Listen, Predictions, check_folder, path_of, paths_of, report_in, say_passed, several
from medgraft.predicted import Done
from medgraft.samples.loader import normalised
from medgraft.samples.mask_grid import Laid, laid
from medgraft.samples.mask_meaning import MaskForm
from medgraft.samples.picture_grid import PictureForm, PictureFrame, levels_of
from medgraft.samples.things import Parting
from medgraft.segmentation.drawing import draw
from medgraft.segmentation.judge import Rules
from medgraft.segmentation.results import MaskResults
from medgraft.segmentation.slides import draw_slide
from medgraft.values import Batch, ImageRef, Prediction

_SECONDS = 300.0  # for one image


class MaskRun:
    """A finished run that draws label maps.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.
        task: the net.
        form: how files become its pixels, and its windows.
        masks: what the numbers of label maps mean.
        rules: how label maps are scored.

    Raises:
        RunRefused: no such folder, or the run is not finished.
        BadWeights: the model is damaged.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        self.task, self.form, self.card = load_segmenter(self.folder / "model.safetensors")
        self.task.parting = Parting(**self.card.get("parting", {}))
        self.masks = MaskForm.from_dict(self.card["masks"])
        own = self.card["rules"]
        self.rules = Rules(
            self.classes, float(own["tolerance"]), str(own["unit"]), bool(own["thin"]), self.masks.instances
        )
        here = resolve_device(device)
        precision = precision_here(self.card["precision"], here)
        self.engine = Engine(here, precision=precision, channels_last=self.card["channels_last"])
        self.device = self.engine.device
        self.engine.place(self.task)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what can be drawn."""
        return self.task.answers.classes

    @property
    def volumes(self) -> bool:
        """Whether it draws on volumes."""
        return self.form.axes == 3

    def drawn(self, key: str, one: Laid) -> Prediction:
        """Get what is drawn on an image that was brought onto the net's grid; the label map is the file's."""
        batch = Batch(normalised(np.array(one.pixels)[None], self.task.backbone.spec), (key,))
        return draw(self.task, self.engine, batch, one.frame)

    def predict(self, images: Sequence[str | Path | np.ndarray] | str | Path | np.ndarray) -> Predictions:
        """Get one prediction an image: files, folders, or arrays `(H, W)` or `(H, W, 3)` of flat images.

        Returns:
            Predictions whose `mask` is on the image's own grid: 0 is background, k the k-th class.

        Raises:
            BadData: something is neither a path nor an array that can be drawn on.
            BadImage: one of them cannot be read.
        """
        items: list[Any] = [images] if isinstance(images, np.ndarray) else several(images)
        told = Predictions()
        for number, item in enumerate(items):
            if isinstance(item, np.ndarray):
                told.append(self.drawn(f"array {number}", self._of_array(item, f"array {number}")))
                continue
            refs = list_images(path_of(item), series=self.volumes, frames=not self.volumes)
            for _, answer in self.files(refs, workers=1):
                if isinstance(answer, Exception):
                    raise answer
                told.append(answer[0])
        return told

    def _of_array(self, array: np.ndarray, name: str) -> Laid:
        grid = self.form.grid
        if not isinstance(grid, PictureForm):
            raise BadData("an array does not say how large its voxels are", do="Give a NIfTI file or a DICOM series.")
        if array.ndim not in (2, 3):
            raise BadImage(f"{name} has the shape {array.shape}, and (H, W) or (H, W, C) is wanted")
        shape = (int(array.shape[0]), int(array.shape[1]))
        to_shape = grid.shape_for(shape, None)
        image = image_of(array, name)
        image = replace(image, range=levels_of(image)) if grid.own_levels else image
        pixels = network_pixels(image, size=to_shape, channels=grid.channels, fit="stretch")
        return Laid(pixels, PictureFrame(shape, to_shape))

    def files(
        self, refs: Sequence[ImageRef], *, workers: int = 2, listen: Listen = lambda event: None
    ) -> Iterator[tuple[ImageRef, tuple[Prediction, Laid] | Exception]]:
        """Yield each file with its prediction and the image as the net saw it, or with why it cannot be read."""
        words: dict[str, Any] = {"workers": workers, "timeout_s": _SECONDS, "prefetch": workers}
        for index, got in read_many(refs, partial(laid, form=self.form.grid), **words):
            stopping.check()
            ref = refs[index]
            yield ref, got if isinstance(got, Exception) else (self.drawn(str(ref), got), got)
            listen({"event": "predict", "done": index + 1, "of": len(refs)})

    def predict_to(
        self,
        out: Path | None,
        paths: Sequence[str | Path] | str | Path,
        *,
        workers: int = 2,
        listen: Listen = lambda event: None,
    ) -> Done:
        """Draw on files and write label maps: see `segmentation.results.MaskResults`.

        Args:
            out: a folder, a .csv file, a .png or of volumes .nii.gz file, or None to get the rows.
            paths: images (of several frames each, or `FILE#2`), folders, slides; of volumes NIfTI files, DICOM series.
            workers: processes that read files.
            listen: gets progress events.

        Raises:
            BadData: no image could be read, or `out` ends as label maps of these images are not written.
        """
        results = MaskResults(self.classes, self.masks, out, volumes=self.volumes)
        given = paths_of(paths)
        slides = [] if self.volumes else [one for path in given for one in slides_in(path)]
        for slide in slides:
            self._draw_slide(slide, results, listen)
        refs, passed = beside(given, slides, volumes=self.volumes)
        say_passed(passed, listen)
        for ref, answer in self.files(refs, workers=workers, listen=listen):
            if isinstance(answer, Exception):
                results.failed(str(ref), str(answer))
            else:
                results.add(ref, *answer)
        for path, reason in passed:
            results.failed(path, reason)
        if results.count == results.errors:
            raise BadData(f"none of the {results.count} images could be read ({results.first})", where=given[0])
        return results.done()

    def _draw_slide(self, slide: Path, results: MaskResults, listen: Listen) -> None:
        target = results.slide_target(slide)
        try:
            results.add_slide(slide, draw_slide(self, slide, target, listen=listen), target)
        except (BadData, BadImage, MissingExtra) as error:
            results.failed(str(slide), str(error))

    def _repr_html_(self) -> str:
        score = self.report["scores"]["test"].get("dice") or {}
        said = f"Dice {score['value']:.3f}" if score.get("value") is not None else ""
        return f"<b>medgraft run</b> {self.folder}: segment {said}"
