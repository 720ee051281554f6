"""From which learnt distance on a pixel is in the middle of its thing: chosen on validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.mask_patches import MaskWholes
from medgraft.samples.things import told_apart
from medgraft.scores.instances import instance_scores
from medgraft.tasks.segment import Segment

TRIED = (0.3, 0.4, 0.5, 0.6, 0.7)


def best_middle(
    task: Segment,
    engine: Engine,
    wholes: MaskWholes,
    truths: Mapping[str, np.ndarray],
    *,
    frames: Mapping[str, GridFrame],
) -> float:
    """Get the distance with the best mean over images of the average precision at an IoU of .50.

    Args:
        task: in eval mode.
        engine: device and precision.
        wholes: validation images.
        truths: numbers of things on the grid of each file, by key.
        frames: where network pixels are in each file, by key.
    """
    found = {middle: [] for middle in TRIED}
    for batch in wholes.epoch():
        stopping.check()
        key = batch.keys[0]
        with torch.inference_mode(), engine.autocast():
            moved = engine.move(replace(batch, targets=None))
            parts = [part.cpu().numpy() for _, part in task.chances(moved.pixels[0])]
        frame = frames[key]
        assert not isinstance(frame, SolidFrame)
        whole = frame.back(np.concatenate(parts, axis=1))
        for middle in TRIED:
            things = told_apart(1 - whole[0], whole[-1], middle=middle)
            found[middle].append(float(instance_scores(truths[key], things, key=key).ap[0]))
    means = {middle: float(np.nanmean(values)) if values else 0.0 for middle, values in found.items()}
    return max(TRIED, key=lambda middle: (round(means[middle], 4), -abs(middle - 0.5)))
