"""A run that draws images, asked on data whether it copies those that it learnt from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import pages, storage
from medgraft.errors import BadData, BadImage
from medgraft.generation.copies import Space, audited
from medgraft.generation.features import Features, features_of
from medgraft.generation.judge import pixel_rows
from medgraft.generation.opened import GeneratorRun
from medgraft.generation.parts import fitting, spread_out
from medgraft.generation.sheets import write_sheet
from medgraft.learn import stopping
from medgraft.samples.dataset import read_samples
from medgraft.samples.facts import source_sha256
from medgraft.values import Sample

_MOST = 2000  # images of either kind
_SHOWN = 8
Known = tuple[str, str | None, np.ndarray]  # key, label and pixels of an image


def audit_run(
    run: GeneratorRun,
    data: Path,
    *,
    out: Path | None,
    count: int,
    seed: int,
    fewest: int,
    listen: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Do what `synthetic.verbs.audit` says; arguments and errors as there."""
    parts = _parts_of(run, data, listen)
    train, held = parts["train"], parts["held"]
    for word, images in (("that it learnt from", train), ("that it did not see", held)):
        if len(images) < fewest:
            what = f"{len(images)} images {word} are here, {fewest} are needed"
            raise BadData(what, where=data, do="Give the images of the training and others of the same kind.")
    shares = _shares(run, held)
    made = np.stack([image for _, image in run.draw(count, shares=shares, seed=seed)])
    listen({"event": "say", "text": f"{len(train)} training images, {len(held)} held-out ones, {count} drawn"})
    net = Features(channels=run.shape[0], offline=True)
    real = {word: np.stack([image for _, _, image in images]) for word, images in parts.items()}
    rows = [features_of(net, part) for part in (real["train"], real["held"], made)]
    spaces = [Space("features", *rows), Space("pixels", *(pixel_rows(p) for p in (real["train"], real["held"], made)))]
    told = audited(spaces)
    for name in ("features", "pixels"):
        pairs = told[name]["pairs"]
        if out is not None:
            shown = [image for k, n, _ in pairs[:_SHOWN] for image in (made[k], real["train"][n])]
            write_sheet(out / f"nearest-{name}.png", shown, columns=4)
        told[name]["pairs"] = [
            {"drawn": k, "training": train[n][0], "distance": distance} for k, n, distance in pairs[:50]
        ]
    told = {"run": str(run.folder), "training": len(train), "held_out": len(held), "drawn": count, "seed": seed, **told}
    if out is not None:
        storage.write_json(out / "audit.json", told)
    return told


def _shares(run: GeneratorRun, held: list[Known]) -> list[int]:
    """How often each class is to be drawn: as often as it is held out, or was learnt from where labels are lacking.

    Distances within a class that varies little are small, so a set of other shares would look like copies.
    """
    labels = [label for _, label, _ in held]
    if not all(label in run.classes for label in labels):
        labels = [row["target"] for row in pages.samples_in(run.folder) if row["split"] == "train"]
    return [labels.count(name) for name in run.classes]


def _parts_of(run: GeneratorRun, data: Path, listen: Callable[[dict[str, Any]], None]) -> dict[str, list[Known]]:
    """Images of the data by what they were to the run; those that chose its epoch, and broken ones, are neither."""
    most, done = min(_MOST, fitting(run.shape)), 0
    places = {kind: spread_out(some, most) for kind, some in _kinds_of(run, data, listen).items()}
    found: dict[str, list[Known]] = {"train": [], "held": []}
    for kind, samples in places.items():
        for sample in samples:
            stopping.check()
            try:
                found[kind].append((sample.key, sample.label, run.seen(sample.image)))
            except (BadImage, OSError) as error:
                listen({"event": "say", "text": f"{sample.key} is left out: {error}"})
            done += 1
            listen({"event": "decode", "done": done, "of": sum(map(len, places.values()))})
    return found


def _kinds_of(run: GeneratorRun, data: Path, listen: Callable[[dict[str, Any]], None]) -> dict[str, list[Sample]]:
    """All samples that were learnt from, and all that the run has not seen."""
    split = pages.splits_in(run.folder)
    found: dict[str, list[Sample]] = {"train": [], "held": []}
    for sample in read_samples(data).samples:
        stopping.check()
        try:
            own = split.get(pages.identity(source_sha256(sample.image), sample.image))
        except (BadImage, OSError) as error:
            listen({"event": "say", "text": f"{sample.key} is left out: {error}"})
            continue
        if own != "val":
            found["train" if own == "train" else "held"].append(sample)
    return found
