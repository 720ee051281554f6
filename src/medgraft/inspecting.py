"""The head as the logistic regression it is, and the hierarchy below it, stage by stage, before and after tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import seeds, storage
from medgraft.errors import MedgraftError
from medgraft.explanation.hierarchy import Peaks, first_filters, levels, patch, telling_units
from medgraft.files import read_pixels
from medgraft.gather import Listen
from medgraft.learn import probe, stopping
from medgraft.learn.held import answers_of, held_score, score_name
from medgraft.learn.model import Pixels
from medgraft.nets.backbone import Backbone, Encoder, backbone
from medgraft.opened import Run
from medgraft.pages import images_of, samples_in
from medgraft.report.inspect_page import write_inspect_page
from medgraft.samples.loader import normalised
from medgraft.scores.standing import stand
from medgraft.tasks.base import ImageTask
from medgraft.values import ImageRef, InputSpec

MOST = 300  # images of each part
_UNITS, _PATCHES, _MAPS, _STRONGEST = 6, 6, 8, 10


@dataclass(frozen=True, eq=False)
class Shown:
    """Images to look at a net with.

    Attributes:
        rows: `(N, C, H, W)` uint8 or uint16 network pixels.
        keys: of the images.
        targets: what the task encoded, or None.
        training: `(N,)` booleans; the others judge.
        patients: N names, or None.
    """

    rows: np.ndarray
    keys: Sequence[str]
    targets: np.ndarray | None = None
    training: np.ndarray | None = None
    patients: Sequence[str] | None = None


def inspect_run(run: Run, *, out: Path, offline: bool, listen: Listen) -> dict[str, Any]:
    """Write inspect.json and inspect.html of a run: its head, its stages, and the encoder that it began from.

    Raises:
        BadData: the run's images are not where it found them.
    """
    shown = _of_run(run)
    net, spec = run.model.task.backbone, run.model.spec
    nets: dict[str, Encoder] = {"after tuning": net}
    before = _before(run, offline, listen)
    if before is not None and run.model.task.thawed:
        nets = {"before tuning": before, **nets}
    told, pictures = _stages(nets, spec, shown, listen=listen, task=run.model.task)
    told["head"], pictures["drivers"] = _head(run.model.task, spec, shown)
    return _written(told, pictures, out=out, title=str(run.folder.name), phantoms=bool(run.report.get("phantoms")))


def inspect_backbone(
    name: str, paths: Sequence[ImageRef], *, out: Path, image_size: int, offline: bool, listen: Listen
) -> dict[str, Any]:
    """Write inspect.json and inspect.html of a backbone, on images of any kind; without images, of its filters alone.

    Raises:
        UnknownName, BadWeights, Offline: the backbone cannot be had.
        BadImage: an image cannot be read.
    """
    net = backbone(name, image_size=image_size, offline=offline)
    words = Pixels((image_size, image_size), 3, "pad").words()
    rows = [read_pixels(ref, **words) for ref in paths[:MOST]]
    shown = Shown(np.stack(rows), [str(ref) for ref in paths[:MOST]]) if rows else None
    told, pictures = _stages({name: net}, net.spec, shown, listen=listen)
    return _written(told, pictures, out=out, title=name, phantoms=False)


def _of_run(run: Run) -> Shown:
    sheet = samples_in(run.folder)
    if run.model.task.answers.zones:
        sheet = [row for row in sheet if row["target"]]  # of the others the zones alone are known
    seed = int(run.report.get("seed") or 0)
    chosen = [row for split in ("train", "test") for row in _some([r for r in sheet if r["split"] == split], seed)]
    rows = np.stack([read_pixels(ref, **run.model.pixels.words()) for ref in images_of(run.folder, chosen)])
    known = any(row["patient"] for row in chosen)
    return Shown(
        rows,
        [row["key"] for row in chosen],
        run.model.task.encode([row["target"] for row in chosen]),
        np.array([row["split"] == "train" for row in chosen]),
        [row["patient"] or row["key"] for row in chosen] if known else None,
    )


def _some(rows: list[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """At most `MOST` of them in their order, drawn by lot: the files of a class may lie together."""
    return [rows[place] for place in sorted(seeds.permutation(len(rows), seed=seed, purpose="inspect")[:MOST].tolist())]


def _before(run: Run, offline: bool, listen: Listen) -> Backbone | None:
    """The encoder that the run began from, where it can be had."""
    card, pixels = run.model.card["backbone"], run.model.pixels
    try:
        found = backbone(str(card["name"]), channels=pixels.channels, image_size=pixels.size, offline=offline)
    except MedgraftError as error:
        listen({"event": "warning", "text": f"the encoder before tuning cannot be shown: {error}"})
        return None
    return found if found.sha256 == card["sha256"] else None


def _stages(
    nets: dict[str, Encoder], spec: InputSpec, shown: Shown | None, *, listen: Listen, task: ImageTask | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and pictures of each stage of each net."""
    last = list(nets)[-1]
    pictures: dict[str, Any] = {"filters": {name: first_filters(net) for name, net in nets.items()}}
    told: dict[str, Any] = {"stages": [name for name, _ in nets[last].stages], "nets": list(nets)}
    if shown is None:
        return told, pictures
    peaks = {}
    for name, net in nets.items():
        peaks[name] = found = Peaks()
        net.eval()
        for start in range(0, len(shown.rows), 32):
            stopping.check()
            found.add(net, normalised(shown.rows[start : start + 32], spec).to(next(net.parameters()).device))
            listen({"event": "inspect", "done": start, "of": len(shown.rows)})
    pictures["patches"] = {name: _patches(found, shown, told["stages"]) for name, found in peaks.items()}
    example = normalised(shown.rows[:1], spec).to(next(nets[last].parameters()).device)
    pictures["example"] = _picture(shown.rows[0])
    pictures["maps"] = [_maps(level[0].cpu().numpy()) for level in levels(nets[last], example)]
    if task is not None and shown.targets is not None:
        told["separability"] = {name: _separable(found, shown, task) for name, found in peaks.items()}
        told["score"] = score_name(task)
    return told, pictures


def _picture(rows: np.ndarray) -> np.ndarray:
    seen = rows if rows.dtype == np.uint8 else (rows >> 8).astype(np.uint8)
    return seen[0] if len(seen) == 1 else seen.transpose(1, 2, 0)


def _patches(found: Peaks, shown: Shown, stages: Sequence[str]) -> list[list[list[np.ndarray]]]:
    """For each stage and each of a few units the patches that excite it most."""
    rows = shown.rows if shown.rows.dtype == np.uint8 else (shown.rows >> 8).astype(np.uint8)
    side = rows.shape[-1]
    every = []
    for stage in range(len(stages)):
        size = max(8, min(side, round(side / 2 ** (len(stages) - 1 - stage) / 1.5)))
        units = telling_units(found.largest(stage), count=_UNITS)
        peaks = [found.of(stage, int(unit), count=_PATCHES) for unit in units]
        every.append([[patch(rows[peak.image], peak, side=size) for peak in own] for own in peaks])
    return every


def _maps(level: np.ndarray) -> list[np.ndarray]:
    """A few feature maps of one image, each stretched: those that vary most."""
    order = np.argsort(-level.std(axis=(1, 2)), kind="stable")[:_MAPS]
    span = np.ptp(level[order], axis=(1, 2))[:, None, None]
    return list(
        np.rint(255 * (level[order] - level[order].min(axis=(1, 2), keepdims=True)) / np.maximum(span, 1e-9)).astype(
            np.uint8
        )
    )


def _separable(found: Peaks, shown: Shown, task: ImageTask) -> list[dict[str, Any]]:
    """The test score of a head on the averages of each stage alone."""
    assert shown.targets is not None and shown.training is not None
    train, test = np.flatnonzero(shown.training), np.flatnonzero(~shown.training)
    names = list(shown.patients or shown.keys)
    statistics = {}
    for stage in range(len(found.values)):
        features = found.pooled(stage)
        head = probe.solve(features[train], shown.targets[train], groups=[names[k] for k in train], task=task)
        answers = answers_of(task, head.logits(features[test], task))
        truth = shown.targets[test]

        def statistic(rows: np.ndarray, answers: np.ndarray = answers, truth: np.ndarray = truth) -> np.ndarray:
            return np.atleast_1d(held_score(task, answers, truth=truth, weights=rows))

        statistics[str(stage)] = statistic
    patients = None if shown.patients is None else [names[k] for k in test]
    stood = stand(statistics, n=len(test), patients=patients, seed=0)
    return [stood.scores[name].to_dict() for name in statistics]


def _head(task: ImageTask, spec: InputSpec, shown: Shown) -> tuple[list[dict[str, Any]], list[list[np.ndarray]]]:
    """The strongest weights of the head, and the training images that drive each."""
    with torch.no_grad():
        device = next(task.parameters()).device
        batches = [
            task.pooled(task.features(normalised(shown.rows[start : start + 32], spec).to(device)))
            for start in range(0, len(shown.rows), 32)
        ]
        features = task.head.standard(torch.cat(batches).float()).cpu().numpy()
    weights = task.head.linear.weight.detach().float().cpu().numpy()
    if task.answer_kind == "binary":
        positive = task.answers.classes.index(task.answers.positive or task.answers.classes[1])
        weights, names = (weights[positive] - weights[1 - positive])[None], [task.answers.classes[positive]]
    else:
        one = "the grade" if task.answer_kind == "ordinal" else "the value"
        names = list(task.answers.classes) if len(task.answers.classes) == len(weights) else [one] * len(weights)
    rows, drivers = [], []
    for k, unit in _strongest(weights):
        order = np.argsort(-features[:, unit] * np.sign(weights[k, unit]), kind="stable")[:_PATCHES]
        rows.append({"answer": names[k], "feature": _feature(task, int(unit)), "weight": float(weights[k, unit])})
        drivers.append([_picture(shown.rows[place]) for place in order])
    return rows, drivers


def _strongest(weights: np.ndarray) -> list[tuple[int, int]]:
    order = np.argsort(-np.abs(weights), axis=None, kind="stable")[:_STRONGEST]
    rows, columns = np.unravel_index(order, weights.shape)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _feature(task: ImageTask, unit: int) -> str:
    """Which channel of which stage a feature is, and how it was pooled."""
    stages = [name for name, _ in task.backbone.stages]
    for stage, width in enumerate(task.head.widths):
        if unit < width:
            channels = task.head.channels[stage]
            return f"{stages[stage]}, channel {unit % channels}, {'largest' if unit >= channels else 'mean'}"
        unit -= width
    return "unknown"


def _written(
    told: dict[str, Any], pictures: dict[str, Any], *, out: Path, title: str, phantoms: bool
) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    write_inspect_page(told, pictures, folder=out, title=title, phantoms=phantoms)
    storage.write_json(out / "inspect.json", told)
    return told
