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
PLAIN = ("plain", 0.0)


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


def answers(
    task: ImageTask,
    logits: Callable[[np.ndarray], np.ndarray],
    tested: Tested,
    *,
    seed: int,
    most: int = MOST,
    listen: Listen = lambda event: None,
) -> tuple[np.ndarray, dict[tuple[str, float], np.ndarray]]:
    """Ask a model about changed test images.

    Args:
        task: says what the score orders cases by.
        logits: `(N, C, H, W)` float32 in 0..1 -> `(N, K)` logits.
        tested: the images.
        seed: of ways and noise.
        most: images that are used at most, evenly spread.
        listen: gets progress events.

    Returns:
        Places of the images that were used, and by (change, strength) what `held_score` takes; those of the images as
        they are under `PLAIN`.

    Raises:
        Interrupted: the run was asked to stop.
    """
    chosen = np.unique(np.linspace(0, len(tested.keys) - 1, min(most, len(tested.keys))).astype(int))
    names = changes_for(tested.channels)
    jobs = [PLAIN, *((name, strength) for name in names for strength in CHANGES[name].strengths)]
    found = {}
    for done, job in enumerate(jobs):
        found[job] = answers_of(task, _logits(logits, tested, chosen, job, seed))
        listen({"event": "stress", "done": done + 1, "of": len(jobs)})
    return chosen, found


def curves(
    task: ImageTask,
    logits: Callable[[np.ndarray], np.ndarray],
    tested: Tested,
    *,
    seed: int,
    listen: Listen = lambda event: None,
) -> dict[str, Any]:
    """Score a model on changed test images, at most `MOST` of them; arguments as in `answers`.

    Returns:
        "score", "images", "plain" (a score), "mean_drop" and "changes": [{"name", "title", "unit", "points":
        [{"strength", "score", "drop", "standard_error"}]}].

    Raises:
        Interrupted: the run was asked to stop.
    """
    chosen, found = answers(task, logits, tested, seed=seed, listen=listen)
    stood = _stand(task, tested, chosen, found, seed)
    told = [_change(name, stood) for name in changes_for(tested.channels)]
    drops = [point["drop"] for change in told for point in change["points"] if point["drop"] is not None]
    return {
        "score": score_name(task),
        "images": len(chosen),
        "plain": stood.scores[_name(*PLAIN)].to_dict(),
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
        name, strength = ("rotation", 0.0) if job == PLAIN else job
        found.append(logits(stressed(rows, name, strength=strength, keys=keys, seed=seed).numpy()))
    return np.concatenate(found)


def _stand(
    task: ImageTask, tested: Tested, chosen: np.ndarray, given: dict[tuple[str, float], np.ndarray], seed: int
) -> Standing:
    truth = tested.targets[chosen]
    patients = None if tested.patients is None else [tested.patients[place] for place in chosen.tolist()]

    def statistic(found: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda rows: np.atleast_1d(held_score(task, found, truth=truth, weights=rows))

    statistics = {_name(*job): statistic(found) for job, found in given.items()}
    return stand(statistics, n=len(chosen), patients=patients, seed=seed, count=500)


def _name(name: str, strength: float) -> str:
    return f"{name} {strength:g}"


def _change(name: str, stood: Standing) -> dict[str, Any]:
    change, points = CHANGES[name], []
    for strength in change.strengths:
        gap, error = stood.behind(_name(name, strength), _name(*PLAIN))
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
