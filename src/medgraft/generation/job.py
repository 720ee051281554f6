"""The main job for images that are drawn: plan, learn, draw, judge, audit, report; the run folder is the usual one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import resuming, storage
from medgraft.detection.told import Times
from medgraft.gather import Listen
from medgraft.generation import told
from medgraft.generation.fit import fit_images
from medgraft.generation.followed import Follower
from medgraft.generation.judge import Sets, judged
from medgraft.generation.latents import forget, given_back, in_latents
from medgraft.generation.maker import maker_of
from medgraft.generation.parts import DrawnParts, assemble_images, kinds_drawn, prepare_images, spread_out
from medgraft.generation.sheets import SAMPLES, shown, write_sheet, write_turing
from medgraft.learn.loop import Fitted
from medgraft.learn.resume import Checkpoints
from medgraft.nets.autoencoder import Autoencoder
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import DataSet
from medgraft.tasks.diffuse import Diffuse
from medgraft.weights.tensors import save_model

AUDIT = "audit.json"
_SHOWN, _TURING = 32, 20
_PAIRS = 8  # that are shown, the nearest first
_AUDITED = 64  # drawn images at least, that are asked whether they are copies
_MOST, _MOST_TRAIN = 500, 2000  # images that are drawn to be judged, and of the training that are compared


def train_images(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds.

    Args:
        out: the run folder, already locked and checked.
        dataset: images; labels are classes, where there are any.
        recipe: fields that are empty or "auto" are planned.
        listen: gets progress events.

    Raises:
        RunRefused: what a resumed run needs has changed.
        Stopped: it stopped safely and can be resumed.
    """
    recipe, found, answers = prepare_images(dataset, recipe, listen=listen)
    try:
        resuming.check_samples(out, found.samples, records=found.records)
        parts = assemble_images(recipe, found, answers)
        resuming.begin(out, parts.recipe, found=found)
        coded: dict[str, Any] = {}
        if coder_of(parts) is not None:
            parts, coded = in_latents(out, parts, listen=listen)
        fitted = fit_images(out, parts, listen=Follower(out / SAMPLES, parts, listen))
        return _finish(out, parts, fitted, coded=coded, listen=listen)
    finally:
        found.store.close()


def coder_of(parts: DrawnParts) -> Autoencoder | None:
    """Get what makes latents of images; None where pixels are drawn."""
    return parts.task.coder if isinstance(parts.task, Diffuse) else None


def _finish(out: Path, parts: DrawnParts, fitted: Fitted, *, coded: dict[str, Any], listen: Listen) -> dict[str, Any]:
    """Draw, judge, ask for copies and write everything; report.json comes last and says it is done."""
    recipe, found, times = parts.recipe, parts.found, Times(train=fitted.seconds + coded.get("seconds", 0.0))
    parts.task.eval()
    places = parts.some("test", _MOST)
    held = parts.real(places)
    numbers = {name: number for number, name in enumerate(parts.answers.classes)}
    kinds = np.array([numbers.get(str(found.samples[place].label), 0) for place in places])
    # Of each class as many as were held out: distances within a class that varies little are small, copies or not.
    shares = np.bincount(kinds, minlength=len(numbers)).tolist()
    further = kinds_drawn(max(0, _AUDITED - len(kinds)), parts.answers.classes, shares=shares)
    began, made = time.perf_counter(), []
    for image in maker_of(parts).images(np.concatenate([kinds, further]), seed=recipe.seed):
        made.append(image)
        listen({"event": "predict", "done": len(made), "of": len(kinds) + len(further)})
    times.predict_images_per_second = len(made) / max(time.perf_counter() - began, 1e-9)
    patients = [found.samples[place].patient for place in places]
    known = patients if found.split_by == "patient" else None
    learnt = parts.some("train", _MOST_TRAIN)
    train = parts.real(learnt)
    more = np.stack(made[len(kinds) :]) if len(further) else None
    sets = Sets(train, held, np.stack(made[: len(kinds)]), known, more, *_given_back(parts, train, held))
    listen({"event": "say", "text": "comparing with held-out images"})
    words: dict[str, Any] = {"encoders": recipe.generator.encoders, "offline": recipe.backbone.offline}
    result = judged(sets, **words, seed=recipe.seed)
    keys = [found.samples[place].key for place in learnt]
    audit, nearest = _with_pairs(out, result.pop("audit"), keys, sets)
    storage.write_json(out / AUDIT, audit)
    save_model(out / "model.safetensors", state=told.weights_of(parts), card=told.card_of(parts, audit))
    write_sheet(out / SAMPLES / "drawn.png", spread_out(made, _SHOWN))
    asked = [spread_out(part, _TURING) for part in (list(held), made[: len(held)])]
    write_turing(out / SAMPLES, *asked, seed=recipe.seed)
    report = told.report_of(parts, fitted=fitted, times=times, result=result | {"coded": coded}, audit=audit, out=out)
    curves: dict[str, Any] = {"train": fitted.history, "nearest": nearest}
    write_report(report, folder=out, curves=curves, augmented=[shown(image) for image in made[:16]])
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    forget(out)
    return report


def _given_back(parts: DrawnParts, *images: np.ndarray) -> list[np.ndarray | None]:
    """Images after a way through their latents; None each where pixels are drawn."""
    coder = coder_of(parts)
    return [None if coder is None else given_back(coder, parts.engine, one) for one in images]


def _with_pairs(
    out: Path, audit: dict[str, Any], keys: Sequence[str], sets: Sets
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the nearest pairs as pictures, a drawn image beside the training image that it is nearest to.

    Returns:
        The audit with pairs by name; of each space the pairs that were written, `image` and `distances`.
    """
    nearest: dict[str, Any] = {}
    for name in ("features", "pixels"):
        pairs = audit[name]["pairs"]
        rows = [row for drawn, real, _ in pairs[:_PAIRS] for row in (sets.audited[drawn], sets.train[real])]
        image = write_sheet(out / SAMPLES / f"nearest-{name}.png", rows)
        nearest[name] = {"image": image, "distances": [distance for _, _, distance in pairs[:_PAIRS]]}
        audit[name]["pairs"] = [
            {"drawn": drawn, "training": keys[real], "distance": distance} for drawn, real, distance in pairs[:50]
        ]
    return audit, nearest
