"""Where a detector in volumes looked: a map a box in the file's own voxels, and what the map is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.detection.explaining import maker_for, surest
from medgraft.detection.scans.drawn import Warmth, three_planes
from medgraft.detection.volumes.job import look
from medgraft.detection.volumes.opened import VolumeRun
from medgraft.errors import BadImage
from medgraft.explaining import name_of, sanity_row, summary, write_picture
from medgraft.explanation.box_cams import AROUND, BoxMap, BoxMapMaker
from medgraft.explanation.sanity import Sanity
from medgraft.files import save_nifti
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.report.boxes import HIT
from medgraft.report.maps import for_page, write_maps_page
from medgraft.samples.framing import Frame, framed
from medgraft.samples.loader import normalised
from medgraft.samples.scan import Scan, Space, read_scan
from medgraft.tasks.detect_volume import DetectVolume
from medgraft.values import Batch, Boxes, ImageRef

_GAP, _PAGE_PIXELS = 2, 480
Three = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ExplainedScanBox:
    """A map of one box that was found in a scan.

    Attributes:
        key: the scan.
        predicted: what the run says of it.
        answer: the class of the box.
        method: how the map was made.
        corners: `(6,)` x0, y0, z0, x1, y1, z1 of the box in the file's own voxels.
        score: of the box.
        alone: the score that the same place has where the net sees nothing but the part.
        values: `(d, h, w)` float32 along the file's axes, at least 0, in parts of its largest value: the map of the
            part that the net was shown. Elsewhere the map is 0.
        start: (d, h, w) of the part's first voxel.
        space: of the file.
        sanity: what the map is worth.
        pointed: whether its largest value lies in the box.
        inside: the part of the map's sum that lies in the box.
        share: the part of what was looked at that the box takes.
    """

    key: str
    predicted: str
    answer: str
    method: str
    corners: np.ndarray
    score: float
    alone: float
    values: np.ndarray
    start: Three
    space: Space
    sanity: Sanity
    pointed: bool
    inside: float
    share: float

    @property
    def map(self) -> np.ndarray:
        """Get the map `(D, H, W)` of the whole file, float32."""
        whole = np.zeros(self.space.shape, np.float32)
        whole[tuple(slice(a, a + n) for a, n in zip(self.start, self.values.shape, strict=True))] = self.values
        return whole


def explain_volumes(
    run: VolumeRun,
    refs: Sequence[ImageRef],
    *,
    out: Path,
    method: str = "auto",
    target: str | None = None,
    listen: Listen = lambda event: None,
) -> dict[str, Any]:
    """Write a map a called box, the surest of each scan, explain.json and explain.html; get what explain.json holds.

    Args:
        run: the run.
        refs: the scans; one that cannot be read is named and passed over.
        out: the folder. `maps/` gets NAME-box0.png, three planes through the box without the map and under it, and
            NAME-box0.nii.gz, the map on the grid of the file.
        method: auto, hirescam, layercam, gradcam or gradcam++.
        target: a class, whose boxes alone are explained; None takes those of all.
        listen: gets progress events.

    Raises:
        UnknownName, BadRecipe: no such method, or one that is for whole images; no such class.
    """
    maker = maker_for(run, method=method, target=target)
    rows: list[dict[str, Any]] = []
    pictures, nothing = [], []
    for done, ref in enumerate(refs):
        stopping.check()
        try:
            found = list(explained_scan_boxes(run, maker, ref, target=target))
            scan = read_scan(ref) if found else None
        except BadImage as error:
            listen({"event": "warning", "text": str(error)})
            rows.append({"key": str(ref), "error": str(error)})
            continue
        nothing += [] if found else [str(ref)]
        for number, one in enumerate(found):
            assert scan is not None
            picture = planes_of(scan, one, window=_window(run, scan))
            stem = out / "maps" / f"{done:04d}-{name_of(ref)}-box{number}"
            rows.append({**_row(one), "files": _written(one, picture, stem)})
            pictures.append(for_page(picture, faults=one.sanity.faults, most=_PAGE_PIXELS))
        listen({"event": "explain", "done": done + 1, "of": len(refs)})
    said = {"of": "box", "aim": "box", "elsewhere": "the same map moved to ten other places around the box"}
    told = {"run": str(run.folder), "method": maker.method, "images": rows, "nothing": nothing, **said, **summary(rows)}
    storage.write_json(out / "explain.json", told)
    write_maps_page(told, pictures, folder=out, most=_PAGE_PIXELS)
    return told


def explained_scan_boxes(
    run: VolumeRun, maker: BoxMapMaker, ref: ImageRef, *, target: str | None = None
) -> Iterator[ExplainedScanBox]:
    """Yield the maps of the surest boxes that are called in a scan, the surest first.

    Args:
        run: the run.
        maker: of its task.
        ref: the scan.
        target: a class, whose boxes alone are explained; None takes those of all.

    Raises:
        BadImage: the scan cannot be read.
    """
    seen = framed(ref, run.form.frame)
    batch = run.engine.move(Batch(normalised(seen.voxels[None], run.task.backbone.spec), (str(ref),)))
    (prediction,) = look(run.task, run.engine, batch, [seen.frame])
    assert prediction.boxes is not None
    boxes = surest(run.task, prediction.boxes, target=target)
    inside = seen.frame.boxes(boxes.corners)
    shape = seen.frame.way.to_shape
    for row, corners in enumerate(inside):
        stopping.check()
        start, size = part_around(run.task, corners, shape=shape, patch=run.form.patch)
        part = run.task.part(batch.pixels, start=start, size=size)
        label = run.classes.index(boxes.labels[row])
        moved = corners - np.tile(start[::-1], 2)
        (made,) = maker.make(part, boxes=moved[None], labels=[label], before=row)
        values = made.map[tuple(slice(0, end - first) for end, first in zip(shape, start, strict=True))]
        words = {"key": str(ref), "predicted": prediction.predicted, "method": maker.method}
        yield _measured(made, values, start, boxes.take(np.array([row])), frame=seen.frame, **words)


def part_around(
    task: DetectVolume, corners: np.ndarray, *, shape: Three, patch: Three
) -> tuple[tuple[int, ...], Three]:
    """Get (start, size) of the part of a volume that shows a box: as large as a patch, or the box's surroundings.

    It lies by whole places of the coarsest map from where a window began in which the box may have been found, so that
    the net has its places where they were.

    Args:
        task: the detector.
        corners: `(6,)` of the box in the net's voxels.
        shape: (D, H, W) of the volume.
        patch: (D, H, W) that it learnt from.
    """
    found, sizes, begins = [], [], task.begins(shape)
    for axis, step in enumerate(task.steps):
        low, high = float(corners[2 - axis]), float(corners[5 - axis])
        window, middle = task.window[axis], (low + high) / 2
        size = min(max(patch[axis], math.ceil(AROUND * (high - low) / step) * step), max(patch[axis], window))
        begin = min(begins[axis], key=lambda one: abs(one + window / 2 - middle))
        last = math.ceil((shape[axis] - size - begin) / step)  # the first from which the volume's end is seen
        turn = min(round((middle - size / 2 - begin) / step), last)
        found.append(begin + max(turn, -(begin // step)) * step)
        sizes.append(size)
    return tuple(found), (sizes[0], sizes[1], sizes[2])


def _measured(
    made: BoxMap, values: np.ndarray, start: tuple[int, ...], box: Boxes, *, frame: Frame, **words: str
) -> ExplainedScanBox:
    assert box.scores is not None
    first, second, third = start
    own, begin = frame.part_back(values, (first, second, third))
    own = own / max(float(own.max()), 1e-12)
    total = float(own.sum())
    within = _within(own.shape, box.corners[0], begin)
    peak = np.unravel_index(int(own.argmax()), own.shape)
    hit = own.max() > 0 and all(part.start <= k < part.stop for part, k in zip(within, peak, strict=True))
    return ExplainedScanBox(
        **words,
        answer=box.labels[0],
        corners=box.corners[0],
        score=float(box.scores[0]),
        alone=1 / (1 + math.exp(-made.odds)),
        values=own,
        start=begin,
        space=frame.space,
        sanity=made.sanity,
        pointed=bool(hit),
        inside=float(own[within].sum()) / total if total else 0.0,
        share=own[within].size / own.size,
    )


def _within(shape: tuple[int, ...], corners: np.ndarray, start: Three) -> tuple[slice, ...]:
    """Voxels of a part that a box of the file touches."""
    low = np.floor(corners[2::-1]).astype(int) - start
    high = np.ceil(corners[:2:-1]).astype(int) - start
    return tuple(slice(max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, shape, strict=True))


def planes_of(scan: Scan, one: ExplainedScanBox, *, window: tuple[float, float]) -> np.ndarray:
    """Get three planes through a box, and below them the same under its map, `(H, W, 3)` uint8.

    Args:
        scan: the scan.
        one: the box and its map.
        window: (centre, width) of the scan's numbers that are shown.
    """
    plain = three_planes(scan, one.corners, HIT, window=window)
    warm = three_planes(scan, one.corners, HIT, window=window, warmth=Warmth(one.values, one.start))
    return np.concatenate([plain, np.zeros((_GAP, *plain.shape[1:]), np.uint8), warm])


def _window(run: VolumeRun, scan: Scan) -> tuple[float, float]:
    return run.form.frame.windows_hu[0] if run.form.frame.windows_hu else scan.window


def _written(one: ExplainedScanBox, picture: np.ndarray, stem: Path) -> dict[str, str]:
    png = write_picture(picture, one.sanity, stem=stem)
    nifti = stem.with_name(f"{stem.name}.nii.gz")
    space = one.space
    affine = None if space.affine is None else np.array(space.affine)
    note = f"medgraft {one.method} {one.answer}"
    save_nifti(nifti, one.map, affine=affine, spacing_mm=space.spacing_mm, note=note, effort=1)
    return {form: f"{stem.parent.name}/{path.name}" for form, path in (("png", png), ("nifti", nifti))}


def _row(one: ExplainedScanBox) -> dict[str, Any]:
    centre = one.space.ras_mm(one.corners[None])
    looked = [*one.start[::-1], *(a + n for a, n in zip(one.start[::-1], one.values.shape[::-1], strict=True))]
    return {
        "key": one.key,
        "predicted": one.predicted,
        "answer": one.answer,
        "score": one.score,
        "alone": one.alone,
        "box": [round(value, 2) for value in one.corners.tolist()],
        "centre_ras_mm": None if centre is None else [round(value, 2) for value in centre[0].tolist()],
        "looked": looked,
        **sanity_row(one.sanity, pointed=one.pointed),
        "inside": one.inside,
        "part": one.share,
        "abstain": None,
    }
