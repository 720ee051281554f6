"""Boxes in slides that no memory holds: tile by tile where there is tissue, and put together again across the seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medgraft.errors import BadData, BadImage, MedgraftError
from medgraft.files import Slide, network_pixels, open_slide
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.opened import images_in
from medgraft.samples.tiles import Tile, merge_seams, tiles_of
from medgraft.samples.tissue import tissue_mask
from medgraft.values import Boxes, Image, ImageRef, Prediction

if TYPE_CHECKING:
    from medgraft.detection.opened import BoxRun

_ENDINGS = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"}
_MAYBE = {".tif", ".tiff", ".btf"}
_LARGE = 4096  # pixels of a side from which a TIFF is looked at in tiles
_BATCH = 8
_LEAST = 0.05  # a score below is nothing that anyone would look at among a slide's thousands
_ROOM = 1.2  # of the largest box: what neighbours share
_BUDGET = 0.01  # part of the tiles that may be damaged
_OVERVIEW = 1600


@dataclass(frozen=True, eq=False)
class Seen:
    """What was found in a slide.

    Attributes:
        prediction: boxes in pixels of level 0.
        size: (H, W) of level 0.
        spacing_mm: millimetres a pixel along both, or None.
        overview: uint8 `(h, w, 3)`, the slide small.
        tiles: how many were looked at.
        damaged: how many could not be read.
    """

    prediction: Prediction
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    overview: np.ndarray
    tiles: int
    damaged: int


def is_slide(path: Path) -> bool:
    """Say whether a file is to be looked at in tiles: a slide scanner's, or a TIFF that is a pyramid or very large."""
    ending = path.suffix.lower()
    if ending in _ENDINGS:
        return True
    if ending not in _MAYBE or not path.is_file():
        return False
    try:
        with open_slide(path) as slide:
            return len(slide.levels) > 1 or max(slide.size) > _LARGE
    except MedgraftError:
        return False


def slides_in(path: Path) -> list[Path]:
    """Get the slides that a path is or holds, sorted."""
    if not path.is_dir():
        return [path] if is_slide(path) else []
    return sorted(file for file in path.rglob("*") if file.is_file() and is_slide(file))


def beside(
    given: Sequence[Path], slides: Sequence[Path], *, volumes: bool = False
) -> tuple[list[ImageRef], list[tuple[str, str]]]:
    """Get the images of paths that are no slides, and (path, reason) of files that are no images.

    Args:
        given: files and folders.
        slides: those among them that are slides.
        volumes: True takes files with all their frames, and the slices of a series, as one image.

    Raises:
        BadData: there is neither an image nor a slide.
    """
    others = [path for path in given if path not in slides]
    if not others:
        return [], []
    try:
        refs, passed = images_in(others, volumes=volumes)
    except BadData:
        if slides:
            return [], []
        raise
    known = {str(slide) for slide in slides}
    return [ref for ref in refs if str(ref.path) not in known], [row for row in passed if row[0] not in known]


def look(run: BoxRun, path: Path, *, listen: Listen) -> Seen:
    """Find boxes in a slide.

    A tile shows as much as an image of the training did: as many pixels, or, where both say how large a pixel is, as
    many micrometres. Neighbours share a little more than the largest box of the training.

    Args:
        run: a trained run.
        path: the slide.
        listen: gets progress events.

    Raises:
        BadImage: it is no slide, or too many of its tiles are damaged.
    """
    with open_slide(path) as slide:
        scale = scale_of(run, slide)
        if scale is None:
            listen({"event": "warning", "text": f"{path}: it is not known how large a pixel is, so none is resized"})
        side = round(run.card["field"]["side"] * (scale or 1.0))
        overlap = min(side // 2, round(run.card["field"]["largest"] * _ROOM * (scale or 1.0)))
        overview = slide.overview(_OVERVIEW)
        tiles = tiles_of(slide.size, tissue_mask(overview), side=side, overlap=overlap)
        found: list[Boxes] = []
        damage: list[str] = []
        for start in range(0, len(tiles), _BATCH):
            stopping.check()
            found += _batch(run, slide, tiles[start : start + _BATCH], damage=damage)
            if len(damage) > max(1, _BUDGET * len(tiles)):
                what = f"{len(damage)} of {len(tiles)} tiles are damaged, such as: {damage[0]}"
                raise BadImage(what, where=path, do="Copy the slide again from the scanner.")
            listen({"event": "predict", "done": len(found), "of": len(tiles)})
        boxes = merge_seams(found, tiles, size=slide.size)
        um, size = slide.um_per_px, (slide.size[1], slide.size[0])
    scores = np.zeros(0) if boxes.scores is None else boxes.scores
    boxes = replace(boxes, scores=scores)
    told = Prediction(str(path), scores, np.zeros(0), run.task.said(boxes), boxes=boxes)
    return Seen(told, size, None if um is None else (um / 1000, um / 1000), overview, len(tiles), len(damage))


def scale_of(run: BoxRun, slide: Slide) -> float | None:
    """Get how many pixels of the slide one of the training is, or None where it is not known."""
    learnt, here = run.card["field"].get("um_per_px"), slide.um_per_px
    return float(learnt) / here if learnt and here else None


def _batch(run: BoxRun, slide: Slide, tiles: Sequence[Tile], *, damage: list[str]) -> list[Boxes]:
    """Look at a few tiles: the boxes of each, in pixels of the slide; none in one that cannot be read."""
    from medgraft.detection.job import in_file

    pixels: list[np.ndarray] = []
    good: list[int] = []
    for place, tile in enumerate(tiles):
        try:
            pixels.append(_network(run, slide, tile))
            good.append(place)
        except BadImage as error:
            damage.append(str(error))
    told = run.found(np.stack(pixels), [str(place) for place in good]) if good else []
    found = [Boxes(np.zeros((0, 4)), (), np.zeros(0)) for _ in tiles]
    for place, one in zip(good, told, strict=True):
        tile = tiles[place]
        boxes = in_file(run.task, one, run.pixels, (tile.height, tile.width)).boxes
        assert boxes is not None and boxes.scores is not None
        boxes = boxes.take(np.flatnonzero(boxes.scores >= _LEAST))
        found[place] = replace(boxes, corners=boxes.corners + np.array([tile.x, tile.y, tile.x, tile.y]))
    return found


def _network(run: BoxRun, slide: Slide, tile: Tile) -> np.ndarray:
    """Read a tile from the smallest level that still has as many pixels as the net looks at."""
    wanted = max(tile.width, tile.height) / max(run.pixels.size)
    level = max(k for k, one in enumerate(slide.levels) if k == 0 or one.downsample <= wanted)
    down = slide.levels[level].downsample
    x, y = round(tile.x / down), round(tile.y / down)
    width, height = max(1, round(tile.width / down)), max(1, round(tile.height / down))
    rows = slide.read(x, y, width=width, height=height, level=level)
    image = Image(rows.transpose(2, 0, 1).astype(np.float32), (0.0, 255.0), str(slide.path))
    words = {name: value for name, value in run.pixels.words().items() if name != "window"}
    return network_pixels(image, **words)
