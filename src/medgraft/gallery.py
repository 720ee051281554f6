"""The most certain mistakes and right answers, with their images, and maps of where the net looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medgraft.explanation.maker import MapMaker
from medgraft.gather import Listen
from medgraft.judge import Predicted
from medgraft.learn import stopping
from medgraft.tasks.base import ImageTask
from medgraft.values import Prediction, Sample

_SHOWN = {"mistake": 12, "right": 6}
MAPPED = 6  # mistakes that get a map: each costs about a hundred passes of one image through the net


def gallery(
    task: ImageTask,
    samples: Sequence[Sample],
    *,
    test: Predicted,
    picture: Callable[[int], np.ndarray],
    maker: MapMaker | None = None,
    listen: Listen = lambda event: None,
) -> list[dict[str, Any]]:
    """Get the most certain mistakes and right answers with their images, and maps of the first few mistakes.

    Args:
        task: says what the logits mean.
        samples: among them those of `test`.
        test: predictions.
        picture: position in `samples` -> network pixels.
        maker: makes the maps; None makes none.
        listen: gets progress events.

    Raises:
        Interrupted: the run was asked to stop.
    """
    place = {sample.key: i for i, sample in enumerate(samples)}
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _SHOWN}
    judged = {"number": _off_by, "labels": _surest_label, "ordinal": _grades_apart}.get(task.answer_kind, _sure)
    for prediction in task.interpret(test.keys, test.logits):
        sample = samples[place[prediction.key]]
        row = {"key": sample.key, "truth": sample.label or "(none)", "predicted": prediction.predicted or "(none)"}
        rank, right, more = judged(task, prediction, sample)
        rows["right" if right else "mistake"].append({**row, "patient": sample.patient, "rank": rank, **more})
    if task.answer_kind == "number":  # no number is right; the nearest are shown as such
        rows["right"] = [{**row, "rank": -row["rank"]} for row in rows["mistake"]]
    surest = {kind: sorted(found, key=lambda row: -row["rank"]) for kind, found in rows.items()}
    surest["right"] = _of_each_class(surest["right"]) if task.answer_kind != "number" else surest["right"]
    chosen = [{**row, "kind": kind} for kind, count in _SHOWN.items() for row in surest[kind][:count]]
    mistakes = min(MAPPED, sum(row["kind"] == "mistake" for row in chosen))
    shown: list[dict[str, Any]] = []
    for row in chosen:
        stopping.check()
        pixels = picture(place[row["key"]])
        mapped = row["kind"] == "mistake" and len(shown) < MAPPED
        shown.append({**row, "image": picture_of(pixels), **(_map(maker, row, pixels) if maker and mapped else {})})
        if maker and mapped:
            listen({"event": "explain", "done": len(shown), "of": mistakes})
    return shown


def _map(maker: MapMaker, row: Mapping[str, Any], pixels: np.ndarray) -> dict[str, Any]:
    """The map of the answer that was wrong, and what is wrong with the map."""
    made = maker.make(pixels[None], answer=row.get("answer"))
    return {"map": made.map / max(float(made.map.max()), 1e-12), "faults": list(made.sanity.faults)}


def told_of(shown: Sequence[Mapping[str, Any]], *, method: str) -> dict[str, Any]:
    """Get `maps` of report.json: how many maps stand beside mistakes, and how many of them fail their checks."""
    made = [row for row in shown if "map" in row]
    return {"method": method, "images": len(made), "failed": sum(bool(row["faults"]) for row in made)}


Judged = tuple[float, bool, dict[str, Any]]


def _sure(task: ImageTask, prediction: Prediction, sample: Sample) -> Judged:
    """How sure the answer was, whether it was right, and what the card says beside it."""
    answer = task.answers.classes.index(prediction.predicted)
    sure = float(prediction.probabilities[answer])
    more = {"probability": sure, "answer": answer, "shows": f"speaks for {prediction.predicted}"}
    return sure, prediction.predicted == sample.label, more


def _grades_apart(task: ImageTask, prediction: Prediction, sample: Sample) -> Judged:
    """By how many grades it was off; of equally many the surer answer comes first."""
    classes = task.answers.classes
    said = classes.index(prediction.predicted)
    true = int(task.encode([sample.label or ""])[0])
    sure = float(prediction.probabilities[said])
    apart = abs(said - true)
    more = {"note": f"off by {apart}" if apart else None, "shows": _raises("grade", said - true)}
    return apart + sure / 2, apart == 0, more


def _surest_label(task: ImageTask, prediction: Prediction, sample: Sample) -> Judged:
    """The label it was surest and wrong about; right when all labels are."""
    chances, truth = prediction.probabilities, task.encode([sample.label or ""])[0] > 0
    called = np.isin(task.answers.classes, prediction.predicted.split("|"))
    wrong = np.flatnonzero(called != truth)
    if not len(wrong):
        return float(np.where(truth, chances, 1 - chances).min()), True, {}
    worst = max(wrong, key=lambda k: chances[k] if called[k] else 1 - chances[k])
    name = task.answers.classes[worst]
    shows = f"speaks for {name}, which it {'called' if called[worst] else 'did not call'}"
    more = {"note": f"{name}: {chances[worst]:.0%} said", "answer": int(worst), "shows": shows}
    return float(chances[worst] if called[worst] else 1 - chances[worst]), False, more


def _off_by(task: ImageTask, prediction: Prediction, sample: Sample) -> Judged:
    """The size of the error."""
    off = float(prediction.value or 0.0) - float(sample.label or 0.0)
    return abs(off), False, {"note": f"off by {off:+.3g}", "shows": _raises("number", off)}


def _raises(what: str, off: float) -> str:
    """What a map of a number shows: what raises it, also where the mistake is that it is too low."""
    return f"raises the {what}, which is too {'high' if off > 0 else 'low'}"


def _of_each_class(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The surest of each class, then the second of each: one easy class shall not fill the row."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in rows:
        ranked.append((seen[row["truth"]], row))
        seen[row["truth"]] += 1
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def picture_of(pixels: np.ndarray) -> np.ndarray:
    """Turn network pixels `(C, H, W)` into uint8 `(H, W)` or `(H, W, 3)`."""
    shown = pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
    return shown[0] if shown.shape[0] == 1 else np.moveaxis(shown, 0, -1)
