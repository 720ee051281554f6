"""How a trained model bears changes of the test images: the score at graded strengths of each kind of change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.learn.held import answers_of, held_score, score_name
from medgraft.samples.stress import CHANGES, changes_for, stressed
from medgraft.scores.standing import Standing, stand
from medgraft.tasks.base import ImageTask

MOST = 100  # images: enough for a curve, and the changes are many
_BATCH = 32
_PLAIN = "plain"


@dataclass(frozen=True, eq=False)
class Tested:
    """Test images as they are decoded, with their truth.

    Attributes:
        rows: places -> `(N, C, H, W)` network pixels.
        keys: of the images.
        targets: what the task encoded.
        patients: names, or None when unknown.
        channels: of the pixels.
    """

    rows: Callable[[Sequence[int]], np.ndarray]
    keys: Sequence[str]
    targets: np.ndarray
    patients: Sequence[str] | None
    channels: int


def curves(
    task: ImageTask,
    logits: Callable[[np.ndarray], np.ndarray],
    tested: Tested,
    *,
    seed: int,
    listen: Listen = lambda event: None,
) -> dict[str, Any]:
    """Score a model on changed test images.

    Args:
        task: says which score.
        logits: `(N, C, H, W)` float32 in 0..1 -> `(N, K)` logits.
        tested: at most `MOST` of the images are used, evenly spread.
        seed: of ways, noise and resampling.
        listen: gets progress events.

    Returns:
        "score", "images", "plain" (a score), "mean_drop" and "changes": [{"name", "title", "unit", "points":
        [{"strength", "score", "drop", "standard_error"}]}].

    Raises:
        Interrupted: the run was asked to stop.
    """
    chosen = np.unique(np.linspace(0, len(tested.keys) - 1, min(MOST, len(tested.keys))).astype(int))
    names = changes_for(tested.channels)
    jobs = [(_PLAIN, 0.0), *((name, strength) for name in names for strength in CHANGES[name].strengths)]
    answers = {}
    for done, job in enumerate(jobs):
        answers[job] = answers_of(task, _logits(logits, tested, chosen, job, seed))
        listen({"event": "stress", "done": done + 1, "of": len(jobs)})
    stood = _stand(task, tested, chosen, answers, seed)
    told = [_change(name, stood) for name in names]
    drops = [point["drop"] for change in told for point in change["points"] if point["drop"] is not None]
    return {
        "score": score_name(task),
        "images": len(chosen),
        "plain": stood.scores[_name(_PLAIN, 0.0)].to_dict(),
        "mean_drop": float(np.mean(drops)) if drops else None,
        "changes": told,
    }


def _logits(
    logits: Callable[[np.ndarray], np.ndarray], tested: Tested, chosen: np.ndarray, job: tuple[str, float], seed: int
) -> np.ndarray:
    found = []
    for start in range(0, len(chosen), _BATCH):
        stopping.check()
        places: list[int] = chosen[start : start + _BATCH].tolist()
        rows, keys = tested.rows(places), [tested.keys[place] for place in places]
        name, strength = job
        name, strength = ("rotation", 0.0) if name == _PLAIN else (name, strength)
        found.append(logits(stressed(rows, name, strength=strength, keys=keys, seed=seed).numpy()))
    return np.concatenate(found)


def _stand(
    task: ImageTask, tested: Tested, chosen: np.ndarray, answers: dict[tuple[str, float], np.ndarray], seed: int
) -> Standing:
    truth = tested.targets[chosen]
    patients = None if tested.patients is None else [tested.patients[place] for place in chosen.tolist()]

    def statistic(found: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda rows: np.atleast_1d(held_score(task, found, truth=truth, weights=rows))

    statistics = {_name(*job): statistic(found) for job, found in answers.items()}
    return stand(statistics, n=len(chosen), patients=patients, seed=seed, count=500)


def _name(name: str, strength: float) -> str:
    return f"{name} {strength:g}"


def _change(name: str, stood: Standing) -> dict[str, Any]:
    change, points = CHANGES[name], []
    for strength in change.strengths:
        gap, error = stood.behind(_name(name, strength), _name(_PLAIN, 0.0))
        score = stood.scores[_name(name, strength)]
        known = score.value is not None and np.isfinite(gap)
        points.append(
            {
                "strength": strength,
                "score": score.to_dict(),
                "drop": gap if known else None,
                "standard_error": error if known and np.isfinite(error) else None,
            }
        )
    return {"name": name, "title": change.title, "unit": change.unit, "points": points}
