"""How a head on frozen features gets better with more patients: scores of heads that learnt from parts of the data.

Every head learns from whole patients and is judged on patients that none of
the heads of its fold has seen. Within a fold the parts are nested: a larger
one holds the smaller ones, so that a curve differs from point to point by what
was added alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft import seeds
from medgraft.learn import probe, stopping
from medgraft.learn.held import answers_of, held_score, score_name
from medgraft.tasks.base import ImageTask

_FOLDS, _DRAWS = 5, 2  # of the data; orders of the patients in each
_SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
_FEWEST = 16  # images in the smallest part
_MOST = 1000  # images in all; more would take longer than they tell


@dataclass(frozen=True, eq=False)
class Growth:
    """Scores by size.

    Attributes:
        counts: images that a head learnt from, on the mean over the draws; rising.
        patients: patients likewise.
        scores: `(D, S)` a draw a row; NaN where a score could not be computed.
        folds: of each draw.
        score: its name, as in the tables.
    """

    counts: tuple[int, ...]
    patients: tuple[int, ...]
    scores: np.ndarray
    folds: tuple[int, ...]
    score: str


def grow(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    groups: Sequence[str],
    task: ImageTask,
    seed: int = 0,
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Growth | None:
    """Train heads on nested parts of the data; None where there are too few images or patients.

    Args:
        features: `(N, F)` of images as they are, from an encoder that learnt from none of their labels.
        targets: what the task encoded.
        groups: N names of patients.
        task: its loss and head; not changed.
        seed: of folds and orders.
        listen: gets progress events.
    """
    chosen = np.sort(seeds.permutation(len(groups), seed=seed, purpose="growth")[:_MOST])
    names = np.asarray(groups)[chosen]
    rows, truth = np.asarray(features)[chosen], np.asarray(targets)[chosen]
    parts = probe.folds_of(truth, names.tolist(), seed=seed, folds=_FOLDS)
    folds = int(parts.max(initial=0)) + 1
    if folds < 2 or len(chosen) * (folds - 1) / folds * _SHARES[0] < 2:
        return None
    least = len(parts) - int(np.bincount(parts).max())
    shares = [share for share in _SHARES if share * least >= min(_FEWEST, least)]
    scores, sizes, people = [], [], []
    for fold in range(folds):
        inside = parts != fold
        strength = probe.solve(
            rows[inside], truth[inside], groups=names[inside].tolist(), task=task, seed=seed
        ).strength
        for draw in range(_DRAWS):
            kept = _ordered(names, inside, seed=seed, draw=fold * _DRAWS + draw)
            ends = [_whole(names[kept], round(share * len(kept))) for share in shares]
            # A penalty beside the mean loss that weighs alike in parts of all sizes.
            words = {"task": task, "seed": seed, "penalty": strength * len(kept)}
            scores.append([_judged(rows, truth, names, kept[:end], parts == fold, **words) for end in ends])
            sizes.append(ends)
            people.append([len(set(names[kept[:end]])) for end in ends])
            listen({"event": "growth", "done": len(scores), "of": folds * _DRAWS})
    counts, patients = (tuple(int(n) for n in np.mean(found, axis=0).round()) for found in (sizes, people))
    of_draw = tuple(draw // _DRAWS for draw in range(len(scores)))
    return Growth(counts, patients, np.array(scores), of_draw, score_name(task))


def _ordered(names: np.ndarray, inside: np.ndarray, *, seed: int, draw: int) -> np.ndarray:
    """The images of a fold's training part, patients in random order and each one's images together."""
    rows = np.flatnonzero(inside)
    own, member = np.unique(names[rows], return_inverse=True)
    place = np.argsort(seeds.permutation(len(own), seed=seed, purpose=f"growth {draw}"))
    return rows[np.argsort(place[member], kind="stable")]


def _whole(names: np.ndarray, count: int) -> int:
    """At least `count` images, and no patient in part."""
    end = max(1, count)
    while end < len(names) and names[end] == names[end - 1]:
        end += 1
    return end


def _judged(
    rows: np.ndarray, truth: np.ndarray, names: np.ndarray, kept: np.ndarray, held: np.ndarray, **words: Any
) -> float:
    """The score on the held images of a head that learnt from the kept ones; NaN where classes are missing."""
    stopping.check()
    task: ImageTask = words["task"]
    strengths = (words.pop("penalty") / len(kept),)
    if task.answer_kind != "number" and not _every_answer(truth, kept):
        return float("nan")
    found = probe.solve(rows[kept], truth[kept], groups=names[kept].tolist(), strengths=strengths, **words)
    answers = answers_of(task, found.logits(rows[held], task))
    return float(held_score(task, answers, truth=truth[held]))


def _every_answer(truth: np.ndarray, kept: np.ndarray) -> bool:
    if truth.ndim == 2:
        return bool(((truth[kept] > 0).any(axis=0) == (truth > 0).any(axis=0)).all())
    return len(np.unique(truth[kept])) == len(np.unique(truth))
