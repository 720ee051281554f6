"""What it takes to part two things: how deep a valley of votes, and how sure a seam; chosen on validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import torch

from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.mask_patches import MaskWholes
from medgraft.samples.things import SEAM, VALLEY, Parting, by_votes, cut
from medgraft.scores.instances import instance_scores
from medgraft.segmentation.drawing import thing_maps
from medgraft.tasks.segment import Segment

VALLEYS = (0.3, 0.45, 0.6, 0.75, 0.9)
SEAMS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)


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
    found: dict[tuple[float, float], list[float]] = {pair: [] for pair in product(VALLEYS, SEAMS)}
    for batch in wholes.epoch():
        key = batch.keys[0]
        with torch.inference_mode(), engine.autocast():
            moved = engine.move(replace(batch, targets=None))
            parts = [part.cpu().numpy() for _, part in task.chances(moved.pixels[0])]
        frame = frames[key]
        assert not isinstance(frame, SolidFrame)
        inside, seams, ways = thing_maps(np.concatenate(parts, axis=1), frame)
        for valley in VALLEYS:
            voted = by_votes(inside, ways, valley=valley)
            for seam in SEAMS:
                stopping.check()
                scores = instance_scores(truths[key], cut(voted, seams, seam=seam), key=key)
                found[valley, seam].append(float(scores.ap[0]))
    means = {pair: float(np.nanmean(values)) if values else 0.0 for pair, values in found.items()}
    return Parting(*max(means, key=lambda pair: (round(means[pair], 4), -_unusual(*pair))))


def _unusual(valley: float, seam: float) -> float:
    return abs(valley - VALLEY) + abs(seam - SEAM)
