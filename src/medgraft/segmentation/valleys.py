"""How deep a valley of votes is that parts two things: chosen on validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.mask_patches import MaskWholes
from medgraft.samples.things import VALLEY, told_apart
from medgraft.scores.instances import instance_scores
from medgraft.tasks.segment import Segment

TRIED = (0.3, 0.45, 0.6, 0.75, 0.9)


def best_valley(
    task: Segment,
    engine: Engine,
    wholes: MaskWholes,
    truths: Mapping[str, np.ndarray],
    *,
    frames: Mapping[str, GridFrame],
) -> float:
    """Get the valley with the best mean over images of the average precision at an IoU of .50.

    Args:
        task: in eval mode.
        engine: device and precision.
        wholes: validation images.
        truths: numbers of things on the grid of each file, by key.
        frames: where network pixels are in each file, by key.
    """
    found = {valley: [] for valley in TRIED}
    for batch in wholes.epoch():
        stopping.check()
        key = batch.keys[0]
        with torch.inference_mode(), engine.autocast():
            moved = engine.move(replace(batch, targets=None))
            parts = [part.cpu().numpy() for _, part in task.chances(moved.pixels[0])]
        frame = frames[key]
        assert not isinstance(frame, SolidFrame)
        whole = np.concatenate(parts, axis=1)
        inside, ways = 1 - frame.back(whole[:1])[0], frame.ways_back(whole[-2:])
        for valley in TRIED:
            things = told_apart(inside, ways, valley=valley)
            found[valley].append(float(instance_scores(truths[key], things, key=key).ap[0]))
    means = {valley: float(np.nanmean(values)) if values else 0.0 for valley, values in found.items()}
    return max(TRIED, key=lambda valley: (round(means[valley], 4), -abs(valley - VALLEY)))
