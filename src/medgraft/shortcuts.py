"""What answers without the finding: heads on metadata, on the border of the image, and on it without its centre.

They learn from the training images and are scored on the test images, as the
model is. Where one of them comes near the model, the answer may lie in how the
images were made. The encoder is the untuned one: it has not learnt to use any
of this, so what its features show is there to be used.

Source: Zech et al., "Variable generalization performance of a deep learning
model to detect pneumonia in chest radiographs", PLoS Med 2018;15:e1002683;
DeGrave, Janizek, Lee, "AI for radiographic COVID-19 detection selects shortcuts
over signal", Nat Mach Intell 2021;3:610.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import storage
from medgraft.assemble import Parts
from medgraft.gather import Gathered, Listen
from medgraft.judge import Predicted, known_patients
from medgraft.judge import table as table_of
from medgraft.learn import probe, stopping
from medgraft.learn.held import score_name
from medgraft.samples.circumstances import properties, table
from medgraft.samples.loader import normalised
from medgraft.samples.split import group_of
from medgraft.tasks.base import ImageTask
from medgraft.values import Batch

FILE = "shortcuts.json"
BORDER, CENTRE = 0.1, 0.6  # of the side: the frame that is left, and the square that is hidden
_MOST = 2000  # training images: a shortcut that needs more is none


def ask(parts: Parts, found: Gathered, *, out: Path, seed: int, resamples: int, listen: Listen) -> None:
    """Write shortcuts.json, unless it is there; before the fit, as the encoder must not know the labels.

    Raises:
        Interrupted: the run was asked to stop.
    """
    if (out / FILE).exists():
        return
    parts.task.eval()
    training, test = _chosen(parts.task, found)
    rows: dict[str, dict[str, Any]] = {}
    numbers, used = table(properties(found.samples, found.records), training)
    words = {"parts": parts, "found": found, "training": training, "test": test, "seed": seed, "resamples": resamples}
    if numbers.shape[1]:
        rows["metadata"] = {**_score(numbers, **words), "properties": used}
    for name, hide in (("border", _border), ("centre_hidden", _centre_hidden)):
        features = np.zeros((len(found.samples), parts.task.head.width), np.float32)
        for places in (training, test):
            features[places] = _features(parts, found, places, hide, listen)
        rows[name] = _score(features, **words)
    storage.write_json(out / FILE, {"score": score_name(parts.task), "border": BORDER, "centre": CENTRE, "heads": rows})


def _chosen(task: ImageTask, found: Gathered) -> tuple[list[int], list[int]]:
    """Images whose label is known."""
    own = {split: found.of(split) for split in ("train", "test")}
    known = {split: task.named(task.targets_of([found.samples[i] for i in rows]))[0] for split, rows in own.items()}
    training, test = ([own[split][row] for row in known[split]] for split in ("train", "test"))
    step = max(1, -(-len(training) // _MOST))
    return training[::step], test


def _border(rows: np.ndarray, gray: np.ndarray) -> np.ndarray:
    """All but a frame is one gray."""
    height, width = (round(BORDER * side) for side in rows.shape[-2:])
    hidden = rows.copy()
    hidden[..., height:-height, width:-width] = gray
    return hidden


def _centre_hidden(rows: np.ndarray, gray: np.ndarray) -> np.ndarray:
    """A square in the middle is one gray."""
    height, width = (round((1 - CENTRE) / 2 * side) for side in rows.shape[-2:])
    hidden = rows.copy()
    hidden[..., height:-height, width:-width] = gray
    return hidden


def _features(
    parts: Parts,
    found: Gathered,
    places: Sequence[int],
    hide: Callable[[np.ndarray, np.ndarray], np.ndarray],
    listen: Listen,
) -> np.ndarray:
    spec, features = parts.task.backbone.spec, []
    for start in range(0, len(places), 32):
        stopping.check()
        rows = found.store.rows([found.places[index] for index in places[start : start + 32]])
        top = {"u": np.iinfo(rows.dtype).max if rows.dtype.kind == "u" else 1.0}.get(rows.dtype.kind, 1.0)
        gray = (np.array(spec.mean).reshape(-1, 1, 1) * top).astype(rows.dtype)
        batch = Batch(normalised(hide(rows, gray), spec), keys=("",) * len(rows))
        with torch.inference_mode(), parts.engine.autocast():
            features.append(parts.task.seen(parts.engine.move(batch))[1])
        listen({"event": "shortcuts", "done": start + len(rows), "of": len(places)})
    return np.concatenate(features)


def _score(
    features: np.ndarray,
    *,
    parts: Parts,
    found: Gathered,
    training: Sequence[int],
    test: Sequence[int],
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """The score on the test images of the best head for these features on the training images."""
    task: ImageTask = parts.task
    names = group_of(found.samples, found.survey.duplicates)
    targets = task.encode([found.samples[index].label or "" for index in [*training, *test]])
    groups = [names[found.samples[index].key] for index in training]
    head = probe.solve(features[training], targets[: len(training)], groups=groups, task=task, seed=seed)
    own = [found.samples[index] for index in test]
    judged = Predicted(
        keys=tuple(sample.key for sample in own),
        logits=head.logits(features[test], task),
        targets=targets[len(training) :],
        patients=known_patients(own),
        covariates={},
        features=features[test],
    )
    return table_of(task, judged, seed=seed, resamples=resamples)[score_name(task)]
