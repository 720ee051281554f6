"""Label maps of slides that no memory holds: window by window where there is tissue, written strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medgraft.errors import BadData, BadImage
from medgraft.files import Slide, network_pixels, open_slide
from medgraft.files.label_tiff import write_label_tiff
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.report.outlines import by_number, filled
from medgraft.samples.loader import normalised
from medgraft.samples.picture_grid import PictureForm, levels_of
from medgraft.samples.tissue import tissue_mask
from medgraft.segmentation.written import stored
from medgraft.tasks.windows import slabs_of
from medgraft.values import Image

if TYPE_CHECKING:
    from medgraft.segmentation.opened import MaskRun

_OVERVIEW = 1600
_BUDGET = 0.01  # part of the windows that may be damaged


@dataclass(frozen=True, eq=False)
class DrawnSlide:
    """What was drawn on a slide.

    Attributes:
        counts: network pixels of background and each class.
        um_per_px: micrometres of such a pixel, or None.
        shrink: pixels of the slide for one of the label map.
        picture: uint8 `(h, w, 3)`, the slide small with the label map laid in.
        windows: how many were looked at.
        damaged: how many could not be read.
    """

    counts: np.ndarray
    um_per_px: float | None
    shrink: float
    picture: np.ndarray
    windows: int
    damaged: int


def draw_slide(run: MaskRun, path: Path, out: Path | None, *, listen: Listen) -> DrawnSlide:
    """Draw on a slide and write its label map as a tiled TIFF at the resolution that the net draws at.

    Args:
        run: a trained run on pictures.
        path: the slide.
        out: the TIFF to write, or None to measure alone.
        listen: gets progress events.

    Raises:
        BadData: the run draws on volumes, tells things apart, or learnt from whole images of one size.
        BadImage: it is no slide, or too many of its windows are damaged.
        DiskFull: there is no space.
    """
    grid = _grid(run)
    with open_slide(path) as slide:
        shrink = shrink_of(grid, slide)
        if shrink is None:
            listen({"event": "warning", "text": f"{path}: it is not known how large a pixel is, so none is resized"})
            shrink = 1.0
        job = _Job(run, slide, shrink, listen)
        um = None if slide.um_per_px is None else slide.um_per_px * shrink
        if out is None:
            for _ in job.strips():
                pass
        else:
            job.write(out, um)
        return DrawnSlide(job.counts, um, shrink, job.picture(), job.windows, len(job.damage))


def _grid(run: MaskRun) -> PictureForm:
    grid = run.form.grid
    if not isinstance(grid, PictureForm):
        raise BadData("this run draws on volumes, and a slide is flat", where=run.folder)
    if run.masks.instances:
        raise BadData("things are told apart in images, not yet in slides", where=run.folder, do="Cut the slide up.")
    if grid.side is not None:
        what = f"this run learnt from whole images, each {grid.side} pixels long, and a slide is looked at in parts"
        raise BadData(what, where=run.folder, do="Train it with --set masks.scale=1.")
    return grid


def shrink_of(grid: PictureForm, slide: Slide) -> float | None:
    """Get how many pixels of the slide one of the net is, or None where that is not known."""
    if grid.um_per_px is None:
        return 1.0 / (grid.scale or 1.0)
    return grid.um_per_px / slide.um_per_px if slide.um_per_px else None


class _Job:
    """One slide while it is drawn on."""

    def __init__(self, run: MaskRun, slide: Slide, shrink: float, listen: Listen) -> None:
        self.run, self.slide, self.shrink, self.listen = run, slide, shrink, listen
        width, height = slide.size
        self.shape = (max(1, round(height / shrink)), max(1, round(width / shrink)))
        self.overview = slide.overview(_OVERVIEW)
        self.tissue = tissue_mask(self.overview)
        small = Image(self.overview.transpose(2, 0, 1).astype(np.float32), (0.0, 255.0), str(slide.path))
        self.levels = levels_of(small) if _grid(run).own_levels else small.range
        self.small = np.zeros(self.overview.shape[:2], np.uint8)
        self.counts = np.zeros(1 + len(run.classes), np.int64)
        self.windows, self.damage = 0, list[str]()

    def write(self, out: Path, um_per_px: float | None) -> None:
        """Write the label map with the numbers of the user's own maps."""
        masks = self.run.masks
        numbers = stored(np.arange(1 + len(self.run.classes), dtype=np.uint8), masks)
        said = ", ".join(f"{k} {name}" for k, name in zip(numbers[1:].tolist(), self.run.classes, strict=True))
        note = f"label map by medgraft: {said}".encode("ascii", "replace").decode()
        out.parent.mkdir(parents=True, exist_ok=True)
        strips = (stored(labels, masks) for labels in self.strips())
        size = (self.shape[1], self.shape[0])
        write_label_tiff(out, strips, size=size, kind=numbers.dtype, um_per_px=um_per_px, note=note)

    def strips(self) -> Iterator[np.ndarray]:
        """Yield the label map from the top down, uint8: 0 is background, k the k-th class."""
        count = 1 + len(self.run.classes)
        blank = torch.zeros(count, device=self.run.device)
        blank[0] = 1.0
        for begin, part in self._slabs(blank):
            stopping.check()
            labels = part.max(dim=0).indices.to(torch.uint8).cpu().numpy()
            self.counts += np.bincount(labels.ravel(), minlength=count)
            self._keep_small(begin, labels)
            self.listen({"event": "predict", "done": begin + len(labels), "of": self.shape[0]})
            yield labels

    def _slabs(self, blank: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        run = self.run

        def told(windows: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode(), run.engine.autocast():
                return run.task.told(windows.to(run.device))

        yield from slabs_of(self.shape, self._cut, sweep=run.task.sweep, run=told, blank=blank)

    def _cut(self, begin: tuple[int, ...], size: tuple[int, ...]) -> torch.Tensor | None:
        """Read a window; None where there is no tissue, or where it cannot be read."""
        if not self._touches(begin, size):
            return None
        self.windows += 1
        try:
            pixels = self._read(begin, size)
        except BadImage as error:
            self.damage.append(str(error))
            if len(self.damage) > max(1, _BUDGET * self.windows):
                what = f"{len(self.damage)} of {self.windows} windows are damaged, such as: {self.damage[0]}"
                raise BadImage(what, where=self.slide.path, do="Copy the slide again from the scanner.") from None
            return None
        return normalised(pixels[None], self.run.task.backbone.spec)[0]

    def _touches(self, begin: tuple[int, ...], size: tuple[int, ...]) -> bool:
        high, wide = self.tissue.shape
        rows = slice(begin[0] * high // self.shape[0], -(-(begin[0] + size[0]) * high // self.shape[0]))
        columns = slice(begin[1] * wide // self.shape[1], -(-(begin[1] + size[1]) * wide // self.shape[1]))
        return bool(self.tissue[rows, columns].any())

    def _read(self, begin: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
        """Read a window from the smallest level that has as many pixels as the net looks at."""
        level = max(k for k, one in enumerate(self.slide.levels) if k == 0 or one.downsample <= self.shrink * 1.01)
        factor = self.shrink / self.slide.levels[level].downsample
        y, x = round(begin[0] * factor), round(begin[1] * factor)
        height, width = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        rows = self.slide.read(x, y, width=width, height=height, level=level)
        image = Image(rows.transpose(2, 0, 1).astype(np.float32), self.levels, str(self.slide.path))
        channels = self.run.form.grid.channels
        return network_pixels(image, size=(size[0], size[1]), channels=channels, fit="stretch")

    def _keep_small(self, begin: int, labels: np.ndarray) -> None:
        """Keep what the overview shows: of each of its pixels the label at the centre."""
        high, wide = self.overview.shape[:2]
        rows = ((np.arange(high) + 0.5) * self.shape[0] / high).astype(int)
        columns = np.minimum(((np.arange(wide) + 0.5) * self.shape[1] / wide).astype(int), self.shape[1] - 1)
        here = np.flatnonzero((rows >= begin) & (rows < begin + len(labels)))
        self.small[here] = labels[rows[here] - begin][:, columns]

    def picture(self) -> np.ndarray:
        """Get the overview with the label map laid in."""
        return filled(self.overview, by_number(self.small, len(self.run.classes)))


def slide_cells(drawn: DrawnSlide, names: tuple[str, ...]) -> dict[str, Any]:
    """Get what each class measures, as cells: pixels of the label map, and mm2 where sizes are known."""
    cells: dict[str, Any] = {}
    for name, count in zip(names, drawn.counts[1:].tolist(), strict=True):
        cells[f"pixels_{name}"] = count
        if drawn.um_per_px is not None:
            cells[f"mm2_{name}"] = f"{count * (drawn.um_per_px / 1000) ** 2:.4g}"
    if drawn.damaged:
        cells["error"] = f"{drawn.damaged} of {drawn.windows} windows could not be read"
    return cells
