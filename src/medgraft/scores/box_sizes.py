"""Sensitivity by the size of what is to be found: are only the large ones found?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medgraft.scores.boxes import Detections
from medgraft.scores.hits import HitRule, outcomes
from medgraft.scores.intervals import COUNT, proportion
from medgraft.scores.resample import known_patients
from medgraft.scores.score import Score
from medgraft.scores.subgroups import FEWEST_CASES, Subgroup

# Of nodules of the lung, in mm: below 6 no follow-up is advised, and above 10 it is a matter of weeks.
# Source: MacMahon et al., Radiology 2017 (Fleischner Society), with its groups of 6 to 8 and above 8 drawn wider.
EDGES_MM = (3.0, 6.0, 10.0)


def size_subgroups(
    found: Detections,
    diameters_mm: Sequence[np.ndarray],
    *,
    thresholds: Mapping[str, float],
    hit: HitRule | str,
    seed: int,
    count: int = COUNT,
) -> list[Subgroup]:
    """Get the share of true boxes that are found at the thresholds, of each band of sizes that has any.

    Args:
        found: truth and finds of test images.
        diameters_mm: n arrays, of the true boxes of each image.
        thresholds: class -> least score of a box that is called.
        hit: the rule of a hit.
        seed: the run's seed.
        count: resamples of patients.
    """
    told = outcomes(found, thresholds, hit=hit)
    seen, sizes, images = [], [], []
    for image, (one, own) in enumerate(zip(told, diameters_mm, strict=True)):
        right = np.zeros(len(own), dtype=bool)
        right[one.hits[:, 1]] = True
        kept = ~found.truth[image].ignored
        seen.append(right[kept])
        sizes.append(np.asarray(own, np.float64)[kept])
        images += [image] * int(kept.sum())
    right, size, place = np.concatenate([[], *seen]) > 0, np.concatenate([[], *sizes]), np.array(images, np.int64)
    table = []
    for low, high in zip((0.0, *EDGES_MM), (*EDGES_MM, np.inf), strict=True):
        chosen = np.flatnonzero((size >= low) & (size < high))
        if not len(chosen):
            continue
        people = None if found.patients is None else [found.patients[image] for image in place[chosen]]
        known = known_patients(people, len(chosen))
        if len(chosen) < FEWEST_CASES:
            why = f"{len(chosen)} boxes are too few for a group of their own (at least {FEWEST_CASES})"
            score = Score.missing(why, n=len(chosen), n_patients=known)
        else:
            score = proportion(right[chosen], patients=people, seed=seed, count=count)
        made = "by the side of the cube of the box's volume; n counts boxes"
        table.append(Subgroup("size", _band(low, high), made, len(chosen), known, {"recall": score}))
    return table


def _band(low: float, high: float) -> str:
    if not low:
        return f"below {high:g} mm"
    return f"{low:g} to {high:g} mm" if np.isfinite(high) else f"from {low:g} mm"
