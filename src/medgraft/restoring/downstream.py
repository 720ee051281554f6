"""What a model that answers for whole images makes of them noisy, without their noise, and clean."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.errors import BadData
from medgraft.opened import Run
from medgraft.restoring.form import Denoised
from medgraft.scores.intervals import bootstrap
from medgraft.scores.ranking import auroc
from medgraft.scores.resample import Value
from medgraft.values import ImageRef, Prediction, Sample


def open_judge(folder: Path, device: str) -> Run:
    """Open a run that answers for whole images.

    Raises:
        RunRefused: there is none, or it does not answer for whole images.
    """
    from medgraft.places import open_any, whole_only

    return whole_only(open_any(folder, device=device), verb="denoise --judge")


def judged_by(
    folder: Path,
    samples: Sequence[Sample],
    done: Denoised,
    clean: Mapping[str, Path],
    *,
    device: str,
    seed: int,
) -> dict[str, Any]:
    """Get AUROCs with intervals, and the differences on the same images.

    Args:
        folder: of the run.
        samples: with their labels.
        done: what was written.
        clean: key -> clean image, where there are any.
        device: of the run.
        seed: of the intervals.

    Raises:
        RunRefused: the run does not answer for whole images.
        BadData: there are no labels that it knows, or of one class alone.
    """
    run = open_judge(folder, device)
    written = {row["key"]: done.out / row["path"] for row in done.rows}
    known = [one for one in samples if one.key in written and one.label]
    learnt = _learnt_from(folder)
    fresh = [one for one in known if not _is_known(one, clean.get(one.key), learnt)]
    fresh = [one for one in fresh if clean and one.key in clean or not clean]
    classes = run.classes
    truth = np.array([[name in str(one.label).split("|") for name in classes] for one in fresh]).reshape(
        len(fresh), len(classes)
    )
    if len(classes) < 2 or not len(fresh) or not (truth.any(axis=0) & ~truth.all(axis=0)).all():
        what = f"of {len(known)} labelled images {len(fresh)} are new to the run, and they are not of all its classes"
        raise BadData(what, where=folder, do="Give labelled images of each class that it did not learn from.")
    sides = {"noisy": [one.image for one in fresh], "denoised": [ImageRef(written[one.key]) for one in fresh]}
    if clean:
        sides["clean"] = [ImageRef(clean[one.key]) for one in fresh]
    chances = {name: _chances(run, refs) for name, refs in sides.items()}
    named = [one.patient or one.key for one in fresh]
    words: dict[str, Any] = {"patients": named if any(one.patient for one in fresh) else None, "seed": seed}
    found = {name: bootstrap(auroc, [truth, own], **words).to_dict() for name, own in chances.items()}
    pairs = [("denoised", "noisy"), *([("denoised", "clean"), ("noisy", "clean")] if clean else [])]
    for one, other in pairs:
        found[f"{one} - {other}"] = bootstrap(_gained, [truth, chances[one], chances[other]], **words).to_dict()
    return {"run": str(folder.resolve()), "images": len(fresh), "learnt_from": len(known) - len(fresh), "auroc": found}


def _gained(truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, *, weights: np.ndarray | None) -> Value:
    return auroc(truth, ours, weights=weights) - auroc(truth, theirs, weights=weights)


def _chances(run: Run, refs: Sequence[ImageRef]) -> np.ndarray:
    """Probabilities `(N, classes)`."""
    found = []
    for _, answer in run.predictor.files(refs, batch_size=16, workers=0):
        if not isinstance(answer, Prediction):
            raise answer
        found.append(answer.probabilities)
    return np.stack(found)


def _learnt_from(folder: Path) -> set[str]:
    """Contents of the images that a run learnt from or chose by."""
    path = folder / "samples.csv"
    if not path.exists():
        return set()
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return {row["sha256"] for row in rows if row.get("split") != "test"}


def _is_known(sample: Sample, clean: Path | None, learnt: set[str]) -> bool:
    paths = [sample.image.path, *([clean] if clean is not None else [])]
    return any(path.is_file() and storage.sha256_file(path) in learnt for path in paths)
