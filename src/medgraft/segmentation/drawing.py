"""From an image on the grid of a net to its label map in the file's own pixels or voxels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.picture_grid import PictureFrame
from medgraft.samples.things import told_apart
from medgraft.tasks.segment import Segment
from medgraft.values import Batch, Prediction


def draw(task: Segment, engine: Engine, batch: Batch, frame: GridFrame) -> Prediction:
    """Get what is drawn on one image: its label map on the grid of the file, stretched once.

    Args:
        task: in eval mode.
        engine: device and precision.
        batch: one image `(1, C, [D,] H, W)` of any size, normalised.
        frame: where its pixels are in the file.
    """
    with torch.inference_mode(), engine.autocast():
        moved = engine.move(batch)
        chances = _gathered(task, moved.pixels[0], whole=_is_whole(frame))
    mask = _things(task, chances, frame) if task.apart else _classes(chances, frame)
    said = task.said((mask > 0).astype(np.uint8) if task.apart else mask)
    return Prediction(batch.keys[0], np.zeros(0), np.zeros(0), said, mask=mask)


def _is_whole(frame: GridFrame) -> bool:
    """Whether the grids are one, up to a turn: then classes are enough, and no probabilities need be kept."""
    if isinstance(frame, SolidFrame):
        return frame.frame.way.shape == frame.frame.way.to_shape
    return frame.shape == frame.to_shape


def _gathered(task: Segment, pixels: torch.Tensor, *, whole: bool) -> np.ndarray:
    """Get probabilities `(K, [D,] H, W)`; where classes are enough, these alone, `([D,] H, W)` uint8."""
    parts = []
    for _, part in task.chances(pixels):
        stopping.check()
        if whole and not task.apart:
            # Over the first axis argmax is ten times slower on processors.
            parts.append(part.max(dim=0).indices.to(torch.uint8).cpu().numpy())
        else:
            # Half precision holds probabilities to a two-thousandth, at half the memory.
            parts.append(part.to(torch.float16).cpu().numpy() if pixels.ndim == 4 else part.cpu().numpy())
    axis = 0 if whole and not task.apart else 1
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


def _classes(chances: np.ndarray, frame: GridFrame) -> np.ndarray:
    if chances.dtype == np.uint8:
        if isinstance(frame, SolidFrame):
            return frame.placed(chances)
        return chances
    return frame.drawn(chances)


def _things(task: Segment, chances: np.ndarray, frame: GridFrame) -> np.ndarray:
    assert not isinstance(frame, SolidFrame)
    inside, seams, ways = thing_maps(chances, frame)
    return told_apart(inside, ways, seams=seams, parting=task.parting.on(file_pixels(frame)))


def file_pixels(frame: PictureFrame) -> float:
    """Get how many pixels of the file a network pixel is."""
    return math.prod(frame.shape) / math.prod(frame.to_shape)


def thing_maps(chances: np.ndarray, frame: PictureFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Get what tells things apart in the file's own pixels: `(H, W)` inside, `(H, W)` seams, `(2, H, W)` ways.

    Args:
        chances: `(outputs, H, W)` as `Segment.chances` gives them.
        frame: where network pixels are in the file.
    """
    found = chances.astype(np.float32)
    return 1 - frame.back(found[:1])[0], frame.back(found[-3:-2])[0], frame.ways_back(found[-2:])


def drawn_all(
    task: Segment, engine: Engine, batches: Iterable[Batch], frames: dict[str, GridFrame]
) -> Iterable[Prediction]:
    """Yield what is drawn on image after image, each in its file's own pixels."""
    for batch in batches:
        stopping.check()
        yield draw(task, engine, replace(batch, targets=None), frames[batch.keys[0]])


def label_map_facts(frame: GridFrame) -> dict[str, Any]:
    """Get what places a label map of a file: its affine and spacing, as a writer wants them."""
    if isinstance(frame, SolidFrame):
        affine = frame.frame.space.affine
        return {"affine": None if affine is None else np.array(affine), "spacing_mm": frame.spacing_mm}
    return {"affine": None, "spacing_mm": frame.spacing_mm}
