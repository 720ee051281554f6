"""What it takes to part two things: how deep a valley of votes, how sure a seam; and to be one: how large, how sure.

Chosen on validation images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch

from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.mask_patches import MaskWholes
from medgraft.samples.picture_grid import PictureFrame
from medgraft.samples.things import LEAST, SEAM, SURE, VALLEY, Parting, by_votes, certainties, cut
from medgraft.scores.instances import MATCH, Overlaps, overlaps
from medgraft.segmentation.drawing import file_pixels, thing_maps
from medgraft.tasks.segment import Segment
from medgraft.values import Batch

VALLEYS = (0.3, 0.45, 0.6, 0.75, 0.9)
SEAMS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
SURES = (SURE, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
_SMALLEST = (0.005, 0.02, 0.05)  # shares of the true things; the size that so many are below may be the least


def best_parting(
    task: Segment,
    engine: Engine,
    wholes: MaskWholes,
    truths: Mapping[str, np.ndarray],
    *,
    frames: Mapping[str, GridFrame],
) -> Parting:
    """Get the parting with the best mean over images of the average precision at an IoU of .50.

    Args:
        task: in eval mode.
        engine: device and precision.
        wholes: validation images.
        truths: numbers of things on the grid of each file, by key.
        frames: where network pixels are in each file, by key.
    """
    sizes = [sizes_of(things) / file_pixels(_flat(frames[key])) for key, things in truths.items()]
    leasts = leasts_of(np.concatenate([np.zeros(0), *sizes]))
    tried = list(product(VALLEYS, SEAMS, leasts, SURES))
    found = [
        _tried(task, engine, batch, truths[batch.keys[0]], frame=_flat(frames[batch.keys[0]]), leasts=leasts)
        for batch in wholes.epoch()
    ]
    means = dict(zip(tried, np.mean(found, axis=0).ravel().tolist() if found else [0.0] * len(tried), strict=True))
    return Parting(*max(means, key=lambda one: (round(means[one], 4), -_unusual(*one))))


def _tried(
    task: Segment, engine: Engine, batch: Batch, truth: np.ndarray, *, frame: PictureFrame, leasts: Sequence[float]
) -> np.ndarray:
    """Get the average precision on one image of each valley, seam, least size and certainty, an axis each."""
    with torch.inference_mode(), engine.autocast():
        moved = engine.move(replace(batch, targets=None))
        parts = [part.cpu().numpy() for _, part in task.chances(moved.pixels[0])]
    inside, seams, ways = thing_maps(np.concatenate(parts, axis=1), frame)
    small = [least * file_pixels(frame) for least in leasts]
    rows = []
    for valley in VALLEYS:
        voted = by_votes(inside, ways, valley=valley)
        for seam in SEAMS:
            stopping.check()
            things = cut(voted, seams, seam=seam)
            these, certain = overlaps(truth, things, key=batch.keys[0]), certainties(things, inside)
            rows.append(precisions(these, certain, leasts=small, sures=SURES))
    return np.reshape(rows, (len(VALLEYS), len(SEAMS), len(leasts), len(SURES)))


def parting_before(masks: Sequence[np.ndarray]) -> Parting:
    """Get the parting that epochs are judged by, from numbers of things of training images in network pixels."""
    return Parting(least=leasts_of(np.concatenate([np.zeros(0), *map(sizes_of, masks)]))[:2][-1])


def leasts_of(sizes: np.ndarray) -> list[float]:
    """Get how many pixels the least thing may have, rising: as few as can be, and those of small true things.

    Example:
        >>> leasts_of(np.arange(100.0, 301.0))
        [4.0, 101.0, 104.0, 110.0]
    """
    small = np.quantile(sizes, _SMALLEST) if len(sizes) else []
    return sorted({LEAST, *(round(float(one), 1) for one in small if one > LEAST)})


def sizes_of(things: np.ndarray) -> np.ndarray:
    """Get how many pixels each thing has; those below 0 are of none."""
    counts = np.bincount(np.maximum(things, 0).ravel())[1:]
    return counts[counts > 0]


def precisions(these: Overlaps, certain: np.ndarray, *, leasts: Sequence[float], sures: Sequence[float]) -> np.ndarray:
    """Get the average precision at an IoU of .50 if found things that are small or not sure were none.

    Args:
        these: true things and found ones.
        certain: `(D,)` how sure each found one is.
        leasts: L numbers of pixels; what has fewer is none.
        sures: S probabilities; what is less sure is none.

    Returns:
        `(L, S)`.
    """
    matched = these.pairs[these.iou > MATCH, 1]
    large, sure = these.finds >= np.array(leasts)[:, None], certain >= np.array(sures)[:, None]
    kept = large[:, None] & sure[None]
    hits, finds = kept[..., matched].sum(axis=2), kept.sum(axis=2)
    either = len(these.truths) + finds - hits
    return np.divide(hits, either, out=np.ones(either.shape), where=either > 0)


def _flat(frame: GridFrame) -> PictureFrame:
    assert not isinstance(frame, SolidFrame)
    return frame


def _unusual(valley: float, seam: float, least: float, sure: float) -> float:
    return abs(valley - VALLEY) + abs(seam - SEAM) + least * 1e-6 + sure
