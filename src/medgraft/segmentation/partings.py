"""What it takes to part two things, and to be one: how deep a valley of votes, how sure a seam, how many pixels.

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
from medgraft.samples.things import LEAST, SEAM, VALLEY, Parting, by_votes, cut
from medgraft.scores.instances import MATCH, Overlaps, overlaps
from medgraft.segmentation.drawing import file_pixels, thing_maps
from medgraft.tasks.segment import Segment

VALLEYS = (0.3, 0.45, 0.6, 0.75, 0.9)
SEAMS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
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
    found: dict[tuple[float, float, float], list[float]] = {one: [] for one in product(VALLEYS, SEAMS, leasts)}
    for batch in wholes.epoch():
        key = batch.keys[0]
        with torch.inference_mode(), engine.autocast():
            moved = engine.move(replace(batch, targets=None))
            parts = [part.cpu().numpy() for _, part in task.chances(moved.pixels[0])]
        frame = _flat(frames[key])
        inside, seams, ways = thing_maps(np.concatenate(parts, axis=1), frame)
        share = file_pixels(frame)
        for valley in VALLEYS:
            voted = by_votes(inside, ways, valley=valley)
            for seam in SEAMS:
                stopping.check()
                these = overlaps(truths[key], cut(voted, seams, seam=seam), key=key)
                for least, ap in zip(leasts, precisions(these, [one * share for one in leasts]), strict=True):
                    found[valley, seam, least].append(ap)
    means = {one: float(np.mean(values)) if values else 0.0 for one, values in found.items()}
    return Parting(*max(means, key=lambda one: (round(means[one], 4), -_unusual(*one))))


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


def precisions(these: Overlaps, leasts: Sequence[float]) -> list[float]:
    """Get the average precision at an IoU of .50 if found things of fewer pixels were none, for each number of them."""
    matched = these.finds[these.pairs[these.iou > MATCH, 1]]
    found = []
    for least in leasts:
        hits, finds = np.count_nonzero(matched >= least), np.count_nonzero(these.finds >= least)
        either = len(these.truths) + finds - hits
        found.append(hits / either if either else 1.0)
    return found


def _flat(frame: GridFrame) -> PictureFrame:
    assert not isinstance(frame, SolidFrame)
    return frame


def _unusual(valley: float, seam: float, least: float) -> float:
    return abs(valley - VALLEY) + abs(seam - SEAM) + least * 1e-6
