"""Where a run that finds boxes looked: a map a box in the file's own pixels, and what the map is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.detection.job import in_file
from medgraft.detection.opened import BoxRun
from medgraft.detection.volumes.opened import VolumeRun
from medgraft.errors import BadImage, BadRecipe, UnknownName
from medgraft.explaining import name_of, sanity_row, summary, write_map
from medgraft.explanation.box_cams import BoxMapMaker
from medgraft.explanation.cams import WAYS
from medgraft.explanation.explainer import Explained, Source, shown
from medgraft.explanation.names import OF_ATTENTION, SEVERITY
from medgraft.files import network_corners, network_pixels, read_image, way_back
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.report.boxes import HIT, with_boxes
from medgraft.report.maps import for_page, laid_over, write_maps_page
from medgraft.samples.loader import normalised
from medgraft.tasks.detect import Detect
from medgraft.values import Boxes, ImageRef

MOST = 5  # boxes of an image that get a map: the surest


@dataclass(frozen=True, eq=False)
class ExplainedBox:
    """A map of one box that was found.

    Attributes:
        found: the map as of a whole image; "pointed" says whether its largest value lies in the box.
        corners: `(4,)` x0, y0, x1, y1 in the file's own pixels.
        score: of the box.
        inside: the part of the map's sum that lies in the box.
        area: the part of the image that the box takes.
    """

    found: Explained
    corners: np.ndarray
    score: float
    inside: float
    area: float


def explain_boxes(
    run: BoxRun,
    refs: Sequence[ImageRef],
    *,
    out: Path,
    method: str = "auto",
    target: str | None = None,
    nifti: bool = False,
    listen: Listen = lambda event: None,
) -> dict[str, Any]:
    """Write a map a called box, the surest of each image, explain.json and explain.html; get what explain.json holds.

    Args:
        run: the run.
        refs: the images; one that cannot be read is named and passed over.
        out: the folder. `maps/` gets NAME-box0.png, the picture under its map with the box, and the map's numbers.
        method: auto, hirescam, layercam, gradcam or gradcam++.
        target: a class, whose boxes alone are explained; None takes those of all.
        nifti: True writes NIfTI of files that are none, too.
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
            found = list(explained_boxes(run, maker, ref, target=target))
        except BadImage as error:
            listen({"event": "warning", "text": str(error)})
            rows.append({"key": str(ref), "error": str(error)})
            continue
        nothing += [] if found else [str(ref)]
        for number, one in enumerate(found):
            picture = with_boxes(laid_over(one.found.picture, one.found.map), [(one.corners, HIT)], least=1)
            stem = out / "maps" / f"{done:04d}-{name_of(ref)}-box{number}"
            rows.append({**_row(one), "files": write_map(one.found, ref, picture, stem, nifti=nifti)})
            pictures.append(for_page(picture, faults=one.found.sanity.faults))
        listen({"event": "explain", "done": done + 1, "of": len(refs)})
    said = {"of": "box", "aim": "box", "elsewhere": "the same map moved to ten other places around the box"}
    told = {"run": str(run.folder), "method": maker.method, "images": rows, "nothing": nothing, **said, **summary(rows)}
    storage.write_json(out / "explain.json", told)
    write_maps_page(told, pictures, folder=out)
    return told


def maker_for(run: BoxRun | VolumeRun, *, method: str, target: str | None) -> BoxMapMaker:
    """Get what makes the maps of a run's boxes; arguments and errors as in `explain_boxes`."""
    how = _method_for(method)
    if target is not None and target not in run.classes:
        raise UnknownName(f"there is no class {target!r}", do=f"Known: {', '.join(run.classes)}.")
    return BoxMapMaker(run.task, method=how, seed=int(run.card.get("seed") or 0))


def _method_for(word: str) -> str:
    if word == "auto":
        return "hirescam"
    if word not in WAYS:
        known = f"Known for boxes: auto, {', '.join(WAYS)}."
        if word in (*OF_ATTENTION, SEVERITY, "occlusion"):
            raise BadRecipe(f"the method {word} is for answers about whole images", do=known)
        raise UnknownName(f"there is no method {word!r}", do=known)
    return word


def explained_boxes(
    run: BoxRun, maker: BoxMapMaker, ref: ImageRef, *, target: str | None = None
) -> Iterator[ExplainedBox]:
    """Yield the maps of the surest boxes that are called in an image, the surest first.

    Args:
        run: the run.
        maker: of its task.
        ref: the image.
        target: a class, whose boxes alone are explained; None takes those of all.

    Raises:
        BadImage: the image cannot be read.
    """
    pixels = run.pixels
    image = read_image(ref, window=pixels.window)
    words = {name: value for name, value in pixels.words().items() if name != "window"}
    rows = network_pixels(image, **words)[None]
    size = (int(image.pixels.shape[1]), int(image.pixels.shape[2]))
    (told,) = run.found(rows, [str(ref)])
    prediction = in_file(run.task, told, pixels, size)
    assert prediction.boxes is not None
    boxes = surest(run.task, prediction.boxes, target=target)
    if not len(boxes):
        return
    inside = network_corners(boxes.corners, size=size, network=pixels.size, fit=pixels.fit)
    entering = normalised(rows, run.task.backbone.spec).to(run.device).contiguous(memory_format=run.layout)
    made = maker.make(entering, boxes=inside, labels=[run.classes.index(label) for label in boxes.labels])
    source, under = Source(image.affine, image.spacing_mm, image.facts), shown(image)
    for row, one in enumerate(made):
        own = way_back(one.map, size=size, fit=pixels.fit)
        own = own / max(float(own.max()), 1e-12)
        label, hit = boxes.labels[row], _points(own, boxes, row)
        found = Explained(str(ref), prediction, label, maker.method, own, under, one.sanity, source, hit)
        yield _measured(found, boxes, row)


def surest(task: Detect, boxes: Boxes, *, target: str | None) -> Boxes:
    """Get the boxes of an image that get a map: those that are called, of one class or all, the surest first."""
    called = task.called(boxes)
    kept = np.array([target in (None, label) for label in called.labels], dtype=bool)
    return called.take(np.flatnonzero(kept)[:MOST])


def _measured(found: Explained, boxes: Boxes, row: int) -> ExplainedBox:
    assert boxes.scores is not None
    within, total = _within(found.map.shape, boxes.corners[row]), float(found.map.sum())
    share = float(found.map[within].sum()) / total if total else 0.0
    area = found.map[within].size / found.map.size
    return ExplainedBox(found, boxes.corners[row], float(boxes.scores[row]), share, area)


def _points(values: np.ndarray, boxes: Boxes, row: int) -> bool:
    """Whether the largest value lies in a box; nowhere where all are 0."""
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    rows, columns = _within(values.shape, boxes.corners[row])
    return bool(values.max() > 0 and rows.start <= y < rows.stop and columns.start <= x < columns.stop)


def _within(shape: tuple[int, ...], corners: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the pixels that a box touches."""
    x0, y0, x1, y1 = (float(value) for value in corners)
    return (
        slice(int(np.floor(y0)), min(shape[0], int(np.ceil(y1)))),
        slice(int(np.floor(x0)), min(shape[1], int(np.ceil(x1)))),
    )


def _row(one: ExplainedBox) -> Mapping[str, Any]:
    return {
        "key": one.found.key,
        "predicted": one.found.prediction.predicted,
        "answer": one.found.answer,
        "score": one.score,
        "box": [round(value, 2) for value in one.corners.tolist()],
        **sanity_row(one.found.sanity, pointed=one.found.pointed),
        "inside": one.inside,
        "area": one.area,
        "abstain": None,
    }
