"""Whole slides of kidneys that no one had: pyramids of any size, with a box around every glomerulus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medgraft.errors import BadRecipe
from medgraft.files.pyramid import STRIP, write_pyramid
from medgraft.files.write_boxes import Pictured, write_geojson
from medgraft.phantoms.case import STAMP
from medgraft.phantoms.cortex import bodies_in
from medgraft.phantoms.endless import Plane, Window
from medgraft.phantoms.glomeruli import CLASS, LEAST_SEEN
from medgraft.phantoms.outline import area_of
from medgraft.phantoms.pieces import PIECES, Tissue, piece_of
from medgraft.phantoms.section import outline_of, section
from medgraft.phantoms.stains import STAINS, Look, look_of
from medgraft.seeds import permutation
from medgraft.storage import write_table
from medgraft.values import Boxes

SIZE = 8000
UM_PER_PX = 0.5
_STEP = 1024  # columns that are painted at a time
_SMALLEST = 256
_FIRST = 1_000_000  # slides are numbered from here, so that no field of `glomeruli` shows the same kidney
_FILES = (
    "slides/       the slides: pyramids in BigTIFF files; beside each its boxes, as GeoJSON for QuPath and as a table\n"
    "manifest.csv  path, label, patient, stain, micrometres a pixel, file of the boxes\n"
)
COLUMNS = ("path", "label", "x0", "y0", "x1", "y1", "ignored")


@dataclass(frozen=True, eq=False)
class SlidePlan:
    """All that a slide will show.

    Attributes:
        plane: the kidney.
        tissue: where there is tissue.
        look: how it was stained.
        size: (width, height) in pixels.
        um_per_px: micrometres a pixel.
    """

    plane: Plane
    tissue: Tissue
    look: Look
    size: tuple[int, int]
    um_per_px: float

    def window(self, x: int, y: int, *, width: int, height: int) -> np.ndarray:
        """Paint a part, uint8 `(height, width, 3)`; its first pixel is column `x` of row `y`."""
        part = Window(y, x, height, width, self.um_per_px)
        return section(self.plane, part, self.look, tissue=self.tissue).pixels

    def boxes(self) -> Boxes:
        """Get a box around each glomerulus in pixels, exact to the edge of what is painted of it."""
        width, height = self.size
        corners, ignored = [], []
        extent = (0.0, 0.0, height * self.um_per_px, width * self.um_per_px)
        for body in bodies_in(self.plane, extent):
            if body.kind not in (CLASS, "sclerosed"):
                continue
            reach = body.radius * 1.25 + 26
            low = [int(np.floor((middle - reach) / self.um_per_px)) for middle in body.centre]
            high = [int(np.ceil((middle + reach) / self.um_per_px)) for middle in body.centre]
            top, left = max(0, low[0]), max(0, low[1])
            bottom, right = min(height, high[0]), min(width, high[1])
            if top >= bottom or left >= right:
                continue
            window = Window(top, left, bottom - top, right - left, self.um_per_px)
            spots = np.argwhere(outline_of(self.plane, body, window, tissue=self.tissue))
            if len(spots):
                (y0, x0), (y1, x1) = spots.min(axis=0), spots.max(axis=0) + 1
                corners.append((x0 + left, y0 + top, x1 + left, y1 + top))
                ignored.append(len(spots) * self.um_per_px**2 < LEAST_SEEN * area_of(body))
        count = len(corners)
        return Boxes(np.array(corners, float).reshape(-1, 4), (CLASS,) * count, None, np.array(ignored, bool))


def slide_of(
    number: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (SIZE, SIZE),
    um_per_px: float = UM_PER_PX,
    stain: str | None = None,
    piece: str | None = None,
) -> SlidePlan:
    """Get what slide `number` shows; nothing is painted yet.

    Args:
        number: which slide of the set; also its patient.
        seed: of the set.
        size: (width, height) in pixels.
        um_per_px: micrometres a pixel.
        stain: "H&E", "PAS", "trichrome" or "silver"; each four slides in turn have one of each when None.
        piece: "kidney" or "cores"; in turn when None.

    Raises:
        BadRecipe: there is no such stain or piece, or the size cannot be.
    """
    turn, rank = divmod(number, len(STAINS))
    order = permutation(len(STAINS), seed=seed, purpose="phantom-slide-stain", epoch=turn)
    stain = STAINS[order[rank]] if stain is None else stain
    piece = PIECES[number % len(PIECES)] if piece is None else piece
    for word, known in ((stain, STAINS), (piece, PIECES)):
        if word not in known:
            raise BadRecipe(f"no phantom slide has {word!r}", do=f"Choose one of {', '.join(known)}.")
    if min(size) < _SMALLEST or not 0.05 <= um_per_px <= 20:
        raise BadRecipe(
            f"a slide of {size[0]} x {size[1]} pixels of {um_per_px:g} um cannot be made",
            do=f"Ask for at least {_SMALLEST} pixels a side, of 0.05 to 20 um.",
        )
    extent = (size[1] * um_per_px, size[0] * um_per_px)
    plane, tissue = piece_of(Plane(seed, _FIRST + number), piece, extent=extent)
    return SlidePlan(plane, tissue, look_of(plane, stain), size, um_per_px)


def write_slide(path: Path, plan: SlidePlan, *, progress: Callable[[int, int], None] | None = None) -> Boxes:
    """Paint a slide into a file, and get its boxes; beside it go `NAME.geojson` and `NAME.boxes.csv`.

    Memory holds one strip of 512 rows at a time, whatever the size.

    Args:
        path: the file, NAME.tif.
        plan: from `slide_of`.
        progress: is told (strips done, strips in all).

    Raises:
        DiskFull: there is no space; nothing is left behind.
    """
    text = f"{STAMP} | MPP = {plan.um_per_px:g} | stain = {plan.look.stain}"
    strips = _strips(plan, progress)
    write_pyramid(path, strips, size=plan.size, um_per_px=plan.um_per_px, description=text)
    boxes = plan.boxes()
    write_geojson(path.with_suffix(".geojson"), Pictured(path.name, plan.size, boxes), kind="annotation")
    rows: list[dict[str, object]] = [
        dict(zip(COLUMNS, (path.name, label, *(round(v) for v in corners), int(ignored)), strict=True))
        for corners, label, ignored in zip(boxes.corners.tolist(), boxes.labels, boxes.ignored, strict=True)
    ]
    write_table(path.with_suffix(".boxes.csv"), rows, columns=COLUMNS)
    return boxes


def write_slides(
    count: int,
    *,
    out: Path,
    seed: int,
    size: int | None,
    claim: Callable[..., None],
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Write `count` slides and their table into a folder; get the path of `manifest.csv`.

    Args:
        count: how many; the first n of a longer set are the same slides.
        out: the folder.
        seed: another seed, other slides.
        size: width and height in pixels; 8000 when None.
        claim: says what the folder will hold, and refuses one that holds something else.
        progress: is told (strips done, strips in all).
    """
    size = SIZE if size is None else size
    plans = [slide_of(number, seed=seed, size=(size, size)) for number in range(count)]
    claim(f"kind glomeruli, count {count}, seed {seed}, size {size}, form slide", parts=_FILES)
    strips = -(-size // STRIP)
    rows = []
    for number, plan in enumerate(plans):
        name = f"phantom_slide_{number + 1:04d}"
        done = number * strips
        told = None if progress is None else lambda k, _, done=done: progress(done + k, count * strips)
        boxes = write_slide(out / "slides" / f"{name}.tif", plan, progress=told)
        rows.append(
            {
                "path": f"slides/{name}.tif",
                "label": CLASS if len(boxes) else "none",
                "patient": f"phantom-{_FIRST + number + 1}",
                "stain": plan.look.stain,
                "thickness_um": f"{plan.look.thickness_um:g}",
                "um_per_px": f"{plan.um_per_px:g}",
                "annotation": f"slides/{name}.geojson",
            }
        )
    write_table(out / "manifest.csv", rows, columns=list(rows[0]))
    return out / "manifest.csv"


def _strips(plan: SlidePlan, progress: Callable[[int, int], None] | None) -> Iterator[np.ndarray]:
    width, height = plan.size
    for top in range(0, height, STRIP):
        rows = min(STRIP, height - top)
        strip = np.empty((rows, width, 3), np.uint8)
        for left in range(0, width, _STEP):
            wide = min(_STEP, width - left)
            strip[:, left : left + wide] = plan.window(left, top, width=wide, height=rows)
        if progress:
            progress(top // STRIP + 1, -(-height // STRIP))
        yield strip
