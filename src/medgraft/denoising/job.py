"""The main job for noise that is taken away: plan, learn, judge beside filters, report; the folder is the usual one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import resuming, storage
from medgraft.denoising import told as words_of
from medgraft.denoising.blind import Blindspot
from medgraft.denoising.judge import AROUND, Around, Case, as_rows, case_of, filters_for, judged, noise_told
from medgraft.denoising.parts import DenoiseParts, assemble_planes, prepare_planes
from medgraft.denoising.references import clean_path
from medgraft.denoising.shown import sheet_of
from medgraft.detection.told import Times
from medgraft.files import save_png
from medgraft.gather import Listen
from medgraft.learn.loop import Fitted, Loop, Schedule
from medgraft.learn.resume import Checkpoints
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import DataSet
from medgraft.weights.tensors import save_model

_JUDGED = {"test": 60, "val": 3}  # images that are judged, and by which filters get their strengths, at most
_SHOWN = 6


def train_planes(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds.

    Args:
        out: the run folder, already locked and checked.
        dataset: noisy images; labels are not looked at.
        recipe: fields that are empty or "auto" are planned.
        listen: gets progress events.

    Raises:
        RunRefused: what a resumed run needs has changed.
        Stopped: it stopped safely and can be resumed.
    """
    recipe, found = prepare_planes(dataset, recipe, listen=listen)
    try:
        resuming.check_samples(out, found.samples, records=found.records)
        parts = assemble_planes(recipe, found, listen=listen)
        # Before anything is learnt, so that a clean image that is not there or does not fit is said at once.
        chosen = {split: _cases(parts, split, dataset.root, most=most) for split, most in _JUDGED.items()}
        resuming.begin(out, recipe, found=found)
        fitted = fit_planes(out, parts, listen=listen)
        return _finish(out, parts, fitted, chosen=chosen, listen=listen)
    finally:
        found.store.close()


def fit_planes(out: Path | None, parts: DenoiseParts, *, listen: Listen) -> Fitted:
    """Fit; the task then holds the weights of the best epoch.

    Args:
        out: the run folder; None keeps no checkpoints.
        parts: as assembled.
        listen: gets progress events.
    """
    fit = parts.recipe.fit
    schedule = Schedule(
        epochs=fit.epochs or 1,
        seed=parts.recipe.seed,
        warmup=fit.warmup,
        clip=fit.clip,
        ema=fit.ema or 0.0,
        patience=fit.patience or 0,
        save_seconds=parts.recipe.machine.save_seconds,
    )
    optimiser = torch.optim.AdamW(parts.task.parameters(), lr=fit.lr or 1e-3, weight_decay=0.0, fused=True)
    words: dict[str, Any] = {"train": parts.train, "val": parts.val, "schedule": schedule}
    return Loop(parts.task, parts.engine, optimisers={"all": optimiser}, folder=out, listen=listen, **words).run()


def _finish(
    out: Path, parts: DenoiseParts, fitted: Fitted, *, chosen: Mapping[str, list[Case]], listen: Listen
) -> dict[str, Any]:
    """Clean the test images beside filters and write everything; report.json comes last and says it is done."""
    recipe, times = parts.recipe, Times(train=fitted.seconds)
    parts.task.eval()
    cases, held = chosen["test"], chosen["val"]
    ours = Blindspot(parts.task, parts.engine, mirrored=recipe.denoise.mirrored)
    listen({"event": "say", "text": f"comparing with filters on {len(cases)} test images"})
    filters, strengths = filters_for(held)
    table = judged(cases, [ours, Around(), *filters], listen=listen)
    scores = table.scores(seed=recipe.seed, resamples=recipe.scores.resamples)
    began = time.perf_counter()
    made = [ours.parted(one.noisy, one.levels) for one in cases]
    times.predict_images_per_second = len(cases) / max(time.perf_counter() - began, 1e-9)
    noise = [
        {"key": one.key, **noise_told(one.noisy, clean), "kept": kept}
        for one, (clean, kept) in zip(cases, made, strict=True)
    ]
    told = {
        "methods": scores,
        "clean": any(one.clean is not None for one in cases),
        "n": len(cases),
        "settled_on": len(held),
        "strengths": strengths,
        "floor": AROUND,
        "noise": {name: _middle([row[name] for row in noise]) for name in noise[0] if name != "key"} if noise else {},
    }
    columns = ("key", "noise_before", "noise_after", "taken_away", "neighbours", "kept")
    storage.write_table(out / "noise.csv", noise, columns=columns)
    storage.write_table(out / "compared.csv", as_rows(scores), columns=tuple(as_rows(scores)[0]))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in parts.task.state_dict().items()}
    save_model(out / "model.safetensors", state=state, card=words_of.card_of(parts))
    sheet = sheet_of(cases[:_SHOWN], [clean for clean, _ in made[:_SHOWN]])
    save_png(out / "before-after.png", sheet)
    report = words_of.report_of(parts, fitted=fitted, times=times, told=told, out=out)
    curves: dict[str, Any] = {"train": fitted.history, "denoised": sheet}
    write_report(report, folder=out, curves=curves)
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    return report


def _middle(values: list[float]) -> dict[str, float]:
    """The quartiles of one fact of the test images."""
    low, middle, high = (float(one) for one in np.percentile(values, (25, 50, 75)))
    return {"low": low, "median": middle, "high": high}


def _cases(parts: DenoiseParts, split: str, root: Path, *, most: int) -> list[Case]:
    places = parts.found.of(split)
    chosen = [places[k] for k in np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(int))]
    known = parts.found.split_by == "patient"
    own = [parts.found.samples[place] for place in chosen]
    column = parts.recipe.denoise.clean_column
    return [
        case_of(one.image, clean_path(one, column, root), key=one.key, patient=one.patient if known else None)
        for one in own
    ]
