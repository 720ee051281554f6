"""Finished runs on changed test images, laid over each other: what one training bought against another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import changed, storage
from medgraft.errors import BadData, RunRefused
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.opened import Run
from medgraft.pages import images_of, read_json, samples_in
from medgraft.report.stress import write_stress_page
from medgraft.samples.loader import normalised
from medgraft.samples.store import GIGABYTE, Store
from medgraft.values import Batch, ImageRef


def compare(runs: Sequence[Run], *, out: Path, listen: Listen, cache_gb: float = 20.0) -> dict[str, Any]:
    """Write stress.json and stress.html for the test images of the first run; get what stress.json holds.

    Args:
        runs: trained on the same task; none may have learnt from the first one's test images.
        out: the folder.
        listen: gets progress events.
        cache_gb: disk budget for decoded images.

    Raises:
        BadData: the test images are not where the run found them, or a run answers other questions.
        RunRefused: a run learnt from one of these images.
    """
    with stopping.watching():
        rows = [row for row in samples_in(runs[0].folder) if row["split"] == "test"]
        if runs[0].model.task.answers.zones:
            rows = [row for row in rows if row["target"]]  # of the others the zones alone are known
        refs = images_of(runs[0].folder, rows)
        told = {}
        for name, run in zip(_names(runs), runs, strict=True):
            _check(run, runs[0], {row["key"] for row in rows})
            told[name] = _of(run, refs, rows, listen=listen, cache_gb=cache_gb)
    first = next(iter(told.values()))
    if first["plain"]["value"] is None:
        raise BadData(f"the test images give no score ({first['plain'].get('why')})", where=runs[0].folder)
    out.mkdir(parents=True, exist_ok=True)
    phantoms = bool(runs[0].report.get("phantoms"))
    write_stress_page(told, folder=out, phantoms=phantoms)
    storage.write_json(out / "stress.json", {"runs": told})
    return {"runs": told}


def _names(runs: Sequence[Run]) -> list[str]:
    """Short names that differ: folders, and how they were augmented."""
    found = []
    for place, run in enumerate(runs):
        preset = (run.report.get("augment") or {}).get("preset") or "none"
        name = f"{run.folder.name} (augmentation: {preset})"
        found.append(name if name not in found else f"{name}, {place + 1}")
    return found


def _check(run: Run, first: Run, test: set[str]) -> None:
    if run.report["task"] != first.report["task"] or run.classes != first.classes:
        raise BadData("these runs answer different questions", where=run.folder)
    learnt = {key for key, values in read_json(run.folder / "samples.json").items() if values[3] in ("train", "val")}
    again = sorted(test & learnt)
    if again:
        what = f"this run learnt from {len(again)} test images of {first.folder}, such as {again[0]}"
        raise RunRefused(what, where=run.folder, do="Compare runs with the same split.")


def _of(
    run: Run, refs: Sequence[ImageRef], rows: Sequence[dict[str, str]], *, listen: Listen, cache_gb: float
) -> dict[str, Any]:
    with tested_on(run, refs, rows, cache_gb=cache_gb) as (logits, tested):
        seed = int(run.report.get("seed") or 0)
        return changed.curves(run.model.task, logits, tested, seed=seed, listen=listen)


@contextmanager
def tested_on(
    run: Run, refs: Sequence[ImageRef], rows: Sequence[dict[str, str]], *, cache_gb: float = 20.0
) -> Iterator[tuple[Callable[[np.ndarray], np.ndarray], changed.Tested]]:
    """Give what `changed` asks of a finished run: its logits of changed pixels, and the images.

    Args:
        run: whose model is asked.
        refs: N images.
        rows: N rows of samples.csv, for key, patient and truth.
        cache_gb: disk budget for decoded images.
    """
    task, pixels = run.model.task, run.model.pixels
    store = Store.open(refs, pixels.to_dict(), budget_bytes=int(cache_gb * GIGABYTE), workers=2)
    known = any(row["patient"] for row in rows)

    def logits(pixels_changed: np.ndarray) -> np.ndarray:
        entering = normalised(pixels_changed, run.model.spec).to(run.predictor.device)
        with torch.inference_mode():
            return task.logits(Batch(entering, keys=("",) * len(pixels_changed)))

    tested = changed.Tested(
        rows=store.rows,
        keys=[row["key"] for row in rows],
        targets=task.encode([row["target"] for row in rows]),
        patients=[row["patient"] or row["key"] for row in rows] if known else None,
        channels=pixels.channels,
    )
    try:
        yield logits, tested
    finally:
        store.close()
