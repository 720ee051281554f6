"""A trained run that finds boxes in volumes, opened: its report, its model, and boxes in new scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medgraft.detection.scans.results import ScanResults
from medgraft.detection.scans.seen import Seen, see
from medgraft.errors import BadData
from medgraft.files import list_images
from medgraft.learn.candidate_finder import load_finder
from medgraft.learn.engine import resolve_device
from medgraft.opened import Listen, Predictions, check_folder, images_in, path_of, report_in, say_passed, several
from medgraft.predicted import Done
from medgraft.samples.planes import Errand
from medgraft.values import ImageRef, Prediction


class ScanRun:
    """A finished run that finds boxes in volumes.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.
        task: the finder.

    Raises:
        RunRefused: no such folder, or the run is not finished.
        BadWeights: the model is damaged.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        self.task, self.card = load_finder(self.folder / "model.safetensors", device=resolve_device(device))
        self.device = self.task.engine.device

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what can be found."""
        return self.task.answers.classes

    def predict(self, scans: Sequence[str | Path] | str | Path) -> Predictions:
        """Get one prediction a scan: NIfTI files, folders of DICOM series.

        Returns:
            Predictions whose `boxes`, all that reach a score of .001, are in the file's own voxels.

        Raises:
            BadData: something is no path.
            BadImage: one of them cannot be read.
        """
        refs = [ref for item in several(scans) for ref in list_images(path_of(item))]
        told = Predictions()
        for _, answer in self.files(refs, workers=1):
            if isinstance(answer, Exception):
                raise answer
            told.append(answer[0])
        return told

    def files(
        self, refs: Sequence[ImageRef], *, workers: int = 2, listen: Listen = lambda event: None
    ) -> Iterator[tuple[ImageRef, tuple[Prediction, Seen] | Exception]]:
        """Yield each scan with its prediction and what was seen of it, or with why it cannot be read."""
        each = see(self.task, [Errand(ref) for ref in refs], workers=workers, listen=listen)
        for ref, one in zip(refs, each, strict=True):
            yield ref, one if isinstance(one, Exception) else (one.told(self.task, str(ref)), one)

    def predict_to(
        self,
        out: Path | None,
        paths: Sequence[str | Path] | str | Path,
        *,
        workers: int = 2,
        listen: Listen = lambda event: None,
    ) -> Done:
        """Predict scans and write what was found: see `detection.scans.results.ScanResults`.

        Args:
            out: a .csv or .json file, a folder for both and pictures, or None to get the rows.
            paths: NIfTI files, folders of DICOM series.
            workers: processes that read and search scans.
            listen: gets progress events.

        Raises:
            BadData: no scan could be read, or the ending of `out` is not known.
        """
        results = ScanResults(self.task, out)
        refs, passed = images_in(paths, volumes=True)
        say_passed(passed, listen)
        for ref, answer in self.files(refs, workers=workers, listen=listen):
            if isinstance(answer, Exception):
                results.failed(str(ref), str(answer))
            else:
                results.add(ref, answer[0], answer[1].space)
        for path, reason in passed:
            results.failed(path, reason)
        if results.count == results.errors:
            raise BadData(f"none of the {results.count} scans could be read ({results.first})", where=refs[0])
        return results.done()

    def _repr_html_(self) -> str:
        score = self.report["scores"]["test"].get("froc") or {}
        said = f"FROC score {score['value']:.3f}" if score.get("value") is not None else ""
        return f"<b>medgraft run</b> {self.folder}: detect {said}"
