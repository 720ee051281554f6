"""A trained run with a detector in volumes, opened: its report, its model, and boxes in new scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medgraft.detection.scans.opened import ScanRun
from medgraft.detection.volumes.framed import frames_of
from medgraft.detection.volumes.job import look
from medgraft.files import list_images
from medgraft.learn import stopping
from medgraft.learn.engine import Engine, resolve_device
from medgraft.learn.volume_detector import load_volume_detector
from medgraft.opened import Listen, check_folder, path_of, report_in, several
from medgraft.samples.framing import Frame
from medgraft.samples.loader import normalised
from medgraft.values import Batch, ImageRef, Prediction


class VolumeRun(ScanRun):
    """A finished run with a detector in volumes; arguments, attributes and errors as of `ScanRun`.

    Attributes:
        form: how scans become voxels and windows.
        engine: device and precision.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        self.task, self.form, self.card = load_volume_detector(self.folder / "model.safetensors")
        self.engine = Engine(
            resolve_device(device), precision=self.card["precision"], channels_last=self.card["channels_last"]
        )
        self.device = self.engine.device
        self.engine.place(self.task)

    def files(
        self, refs: Sequence[ImageRef], *, workers: int = 2, listen: Listen = lambda event: None
    ) -> Iterator[tuple[ImageRef, tuple[Prediction, Frame] | Exception]]:
        """Yield each scan with its prediction and where its voxels are, or with why it cannot be read."""
        each = frames_of(refs, self.form.frame, workers=workers)
        for done, (ref, one) in enumerate(zip(refs, each, strict=True), start=1):
            stopping.check()
            if isinstance(one, Exception):
                yield ref, one
                continue
            batch = Batch(normalised(one.voxels[None], self.task.backbone.spec), (str(ref),))
            yield ref, (look(self.task, self.engine, batch, [one.frame])[0], one.frame)
            listen({"event": "scans", "done": done, "of": len(refs)})

    def explain(
        self, scans: Sequence[str | Path] | str | Path, *, method: str = "auto", target: str | None = None
    ) -> list[Any]:
        """Get a map of each of the surest boxes that are called in scans, with what it is worth.

        Args:
            scans: NIfTI files, folders of DICOM series.
            method: as in `mg.explain`.
            target: as in `mg.explain`.

        Returns:
            `detection.volumes.explained.ExplainedScanBox`, scan by scan.

        Raises:
            BadData: something is no path.
            BadImage: one of them cannot be read.
        """
        from medgraft.detection.explaining import maker_for
        from medgraft.detection.volumes.explained import explained_scan_boxes

        refs = [ref for item in several(scans) for ref in list_images(path_of(item))]
        maker = maker_for(self, method=method, target=target)
        return [one for ref in refs for one in explained_scan_boxes(self, maker, ref, target=target)]
