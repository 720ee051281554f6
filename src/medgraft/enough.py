"""How many more images? Heads on the untuned encoder's features, taught by ever larger parts of the training images.

It is asked before the fit, while the encoder has not seen the labels: the
features of images that a head is judged on must not know their answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.assemble import Parts
from medgraft.gather import Gathered, Listen
from medgraft.learn.certainty import features_of
from medgraft.learn.growth import grow
from medgraft.samples.split import group_of
from medgraft.scores.learning import cases_for_width, learning_curve

FILE = "learning.json"
GAIN = 0.02
_AHEAD = (2, 4)  # times as many cases as there are
_WIDTHS = (0.1, 0.05)


def ask(parts: Parts, found: Gathered, *, out: Path, seed: int, listen: Listen) -> None:
    """Write learning.json, unless it is there: the curve, what more cases would bring, or why that is not known.

    Raises:
        Interrupted: the run was asked to stop.
    """
    if (out / FILE).exists():
        return
    parts.task.eval()
    places, features = features_of(parts.task, parts.train, engine=parts.engine)
    storage.write_json(out / FILE, _entry(parts, found, places, features, seed=seed, listen=listen))


def _entry(
    parts: Parts, found: Gathered, places: np.ndarray, features: np.ndarray, *, seed: int, listen: Listen
) -> dict[str, Any]:
    names = group_of(found.samples, found.survey.duplicates)
    assert parts.train.targets is not None
    known, targets = parts.task.named(parts.train.targets.numpy()[places])
    places, features = places[known], features[known]
    groups = [names[parts.train.keys[int(place)]] for place in places]
    grown = grow(features, targets, groups=groups, task=parts.task, seed=seed, listen=listen)
    by_patient = found.split_by == "patient"
    if grown is None:
        return {"why": "there are too few training images to learn from parts of them"}
    counts = grown.patients if by_patient else grown.counts
    fitted = learning_curve(counts, grown.scores, folds=grown.folds, seed=seed)
    if fitted is None:
        return {"why": "fewer than three sizes of parts have a score"}
    training = [found.samples[index] for index in found.of("train")]
    now = len({sample.patient for sample in training}) if by_patient else len(training)
    return {
        "score": grown.score,
        "unit": "patient" if by_patient else "image",
        "now": now,
        "points": [
            {"count": n, **_ends(ends)} for n, ends in zip(fitted.counts, fitted.at_sizes(seed=seed), strict=True)
        ],
        "law": {"ceiling": fitted.law.ceiling, "drop": fitted.law.drop, "rate": fitted.law.rate},
        "ahead": [{"count": n, **_ends(fitted.at(n))} for n in _steps(fitted.counts[0], now)],
        "flat": fitted.is_flat(now),
        "fourfold": _ends(fitted.gain(now)),
        "gain": GAIN,
        "more": _ends(fitted.more_for(GAIN, now=now)),
    }


def _steps(first: int, now: int) -> list[int]:
    """Sizes to draw the law at: from the smallest part to four times as many as there are."""
    last = max(_AHEAD) * now
    steps = {round(first * (last / first) ** (k / 24)) for k in range(25)}
    return sorted(steps | {now, *(times * now for times in _AHEAD)})


def _ends(found: Sequence[float | None]) -> dict[str, float | None]:
    return dict(zip(("value", "low", "high"), found, strict=True))


def widths(scores: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """Get how many test cases would narrow a score's interval; None where it has none.

    Args:
        scores: of the test part.
        name: the score.
    """
    score = scores.get(name) or {}
    if score.get("low") is None or score.get("high") is None:
        return None
    now, count = score["high"] - score["low"], int(score["n_patients"] or score["n"])
    wanted = [width for width in _WIDTHS if width < now] if math.isfinite(now) else []
    return {
        "score": name,
        "width": now,
        "cases": count,
        "unit": "patient" if score["n_patients"] else "image",
        "wanted": [{"width": width, "cases": cases_for_width(width, now=now, count=count)} for width in wanted],
    }
