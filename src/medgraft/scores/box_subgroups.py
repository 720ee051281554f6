"""Scores of found boxes by stain, by scanner, for men and women: where does it fail?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medgraft.scores.box_tables import box_table
from medgraft.scores.boxes import Detections
from medgraft.scores.hits import HitRule
from medgraft.scores.intervals import COUNT
from medgraft.scores.resample import known_patients
from medgraft.scores.score import Score
from medgraft.scores.subgroups import FEWEST_CASES, Subgroup, band, in_order

SHOWN = ("map50", "f1", "recall", "precision")


def box_subgroups(
    found: Detections,
    covariates: Mapping[str, Sequence[str | None]],
    *,
    thresholds: Mapping[str, float],
    hit: HitRule | str,
    seed: int,
    count: int = COUNT,
) -> list[Subgroup]:
    """Get scores for each group of each covariate; a column with a single group is left out.

    Args:
        found: truth and finds of test images.
        covariates: column -> n values as text.
        thresholds: class -> least score of a box that is called.
        hit: the rule of a hit.
        seed: the run's seed.
        count: resamples.
    """
    table = []
    for column, values in covariates.items():
        groups, banding = band(column, values)
        if len(set(groups)) < 2:
            continue
        for group in in_order(groups):
            some = found.take(np.array([each == group for each in groups], dtype=bool))
            n, known = len(some), known_patients(some.patients, len(some))
            if n < FEWEST_CASES:
                why = f"{n} images are too few for a group of its own (at least {FEWEST_CASES})"
                scores = {name: Score.missing(why, n=n, n_patients=known) for name in SHOWN}
            else:
                whole = box_table(some, thresholds=thresholds, hit=hit, seed=seed, count=count)
                scores = {name: score for name in SHOWN if isinstance(score := whole[name], Score)}
            table.append(Subgroup(column, group, banding, n, known, scores))
    return table
