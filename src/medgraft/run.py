"""The run folder, and the main job from end to end: read, plan, assemble, fit, judge, report."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import (
    caching,
    changed,
    depth_finder,
    depth_rounds,
    enough,
    judge,
    pages,
    places,
    reporting,
    resuming,
    severity,
    shortcuts,
    storage,
)
from medgraft.assemble import Parts, assemble
from medgraft.explanation.maker import MapMaker
from medgraft.explanation.methods import class_method
from medgraft.gallery import gallery, told_of
from medgraft.gather import Gathered, Listen
from medgraft.judge import Predicted
from medgraft.learn import model as models
from medgraft.learn import stopping
from medgraft.learn.certainty import features_of
from medgraft.learn.engine import Engine, memory_said
from medgraft.learn.loop import Fitted, Loop, Schedule
from medgraft.learn.model import Model
from medgraft.learn.prefix import Frozen
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.learn.resume import Checkpoints
from medgraft.learn.start import begin
from medgraft.nets import parameter_groups
from medgraft.planning import HEAD_VIEWS
from medgraft.preparing import opened, prepare
from medgraft.recipe import Recipe
from medgraft.report.choices import probe_words
from medgraft.samples.dataset import DataSet
from medgraft.samples.loader import Loader, normalised
from medgraft.samples.split import group_of
from medgraft.synthetic import enriching
from medgraft.synthetic.arms import Learnt
from medgraft.synthetic.enriching import Enriching
from medgraft.tasks import TASKS
from medgraft.tasks.base import ImageTask
from medgraft.values import Batch, Sample

Tune = Callable[[ImageTask], None]


@dataclass
class Times:
    """Seconds that the steps of a run took; those of the frozen stages include measuring their statistics.

    Attributes:
        questions: by the question, of those that were asked beside the score.
    """

    train: float = 0.0
    prefix: float = 0.0
    predict_images_per_second: float | None = None
    questions: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, question: str) -> Iterator[None]:
        """Count what is done inside as the time of a question beside the score."""
        began = time.perf_counter()
        yield
        self.questions[question] = round(time.perf_counter() - began, 2)


def train(
    data: Path, recipe: Recipe, *, out: Path, resume: bool = False, asked: Iterable[str] = (), listen: Listen
) -> dict[str, Any]:
    """Do the main job and get what report.json holds.

    Args:
        data: labelled images.
        recipe: fields that are empty or "auto" are planned.
        out: the run folder.
        resume: go on with the run in `out`.
        asked: dotted fields that were asked for; when resuming, they must be those of the run.
        listen: gets progress events.

    Raises:
        RunRefused: the folder holds another run, or what `resume` needs has changed.
        Stopped: it stopped safely and can be resumed.
    """
    with storage.lock(out), stopping.watching(), memory_said():
        recipe = resuming.opened(out, recipe, resume=resume, asked=asked, data=data)
        dataset, recipe = opened(data, recipe, listen=listen)
        if TASKS[recipe.task].places:
            return places.train(out, dataset, recipe=recipe, listen=listen)
        return _train_whole(out, dataset, recipe, listen)


def _train_whole(out: Path, dataset: DataSet, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the job for answers to whole images, with real images alone or with synthetic ones beside them."""
    recipe, found, task, pixels = prepare(Path(dataset.root), recipe, dataset=dataset, listen=listen)
    with ExitStack() as held:
        held.callback(found.store.close)
        resuming.check_samples(out, found.samples, records=found.records)
        added = recipe.synthetic.run is not None and recipe.synthetic.ratio != 0
        if added:
            enriching.check_folder(out)
        recipe, depths = depth_finder.settle(recipe, found, task, pixels, out=out, listen=listen)

        def learn(folder: Path, own: Recipe, images: Gathered, *, tune: Tune = lambda task: None) -> Learnt:
            net = copy.deepcopy(task) if added else task  # each arm begins as it was
            own, parts = assemble(own, images, net, pixels)
            for part in (parts.train, parts.val, parts.test):
                held.callback(part.close)
            tune(parts.task)
            times = Times()
            _recalibrate(own, parts, times, listen)
            own = caching.settle(folder, own, parts, images, listen)
            if images is found:
                if depths is not None:
                    storage.write_json(out / depth_rounds.FILE, depths)
                resuming.begin(out, own, found=found)
                _ask_first(out, own, parts, found, times, listen)
            if folder != out:
                own.save(folder / "recipe.yaml")
            return Learnt(own, parts, _fit(folder, own, parts, images, times, listen), times)

        if not added:
            return _finish(out, learn(out, recipe, found), found, {}, listen)
        began = time.perf_counter()
        job = Enriching(out, recipe, found, dataset, task.answers.classes, learn, _asked(found), listen, held)
        learnt, entry = job.run()
        learnt.times.questions["enrichment"] = round(time.perf_counter() - began - learnt.times.train, 2)
        report = _finish(out, learnt, found, entry, listen)
        enriching.clear(out, learnt.recipe, entry)
        return report


def _asked(found: Gathered) -> Callable[[Learnt, str], Predicted]:
    """Get what asks a trained classifier for its answers to the real images of a split."""

    def ask(learnt: Learnt, split: str) -> Predicted:
        parts = learnt.parts
        parts.task.settle()
        parts.task.eval()
        return predicted(parts.task, parts.engine, getattr(parts, split), found.samples)[0]

    return ask


# ---- the fit --------------------------------------------------------------------------


def _recalibrate(recipe: Recipe, parts: Parts, times: Times, listen: Listen) -> None:
    """Before the frozen layers are cached: the cache is named by their statistics too."""
    if recipe.backbone.recalibrate:
        began = time.perf_counter()
        recalibrate_on(parts.task.backbone, parts.train, engine=parts.engine, listen=listen)
        times.prefix += time.perf_counter() - began


def _ask_first(out: Path, recipe: Recipe, parts: Parts, found: Gathered, times: Times, listen: Listen) -> None:
    """Ask what can only be asked of an encoder that has not learnt from these labels."""
    scores = recipe.scores
    if scores.learning:
        with times.of("learning"):
            enough.ask(parts, found, out=out, seed=recipe.seed, listen=listen)
    if scores.shortcuts:
        with times.of("shortcuts"):
            shortcuts.ask(parts, found, out=out, seed=recipe.seed, resamples=scores.resamples, listen=listen)


def _fit(out: Path, recipe: Recipe, parts: Parts, found: Gathered, times: Times, listen: Listen) -> Fitted:
    began = time.perf_counter()
    train_source, val_source = caching.sources(recipe, parts, found, listen)
    times.prefix += time.perf_counter() - began
    fit, beside = recipe.fit, parts.task.parts().beside
    lr = fit.lr or 1e-3
    groups = parameter_groups(
        parts.task.backbone,
        parts.task.head,
        thawed=parts.task.thawed,
        lr=lr,
        head_lr=lr if beside is not None and fit.probe else fit.head_lr,
        layer_decay=fit.layer_decay or 1.0,
        weight_decay=fit.weight_decay,
    )
    if beside is not None:
        words: dict[str, Any] = {"thawed": 0, "lr": fit.head_lr or lr, "weight_decay": fit.weight_decay}
        groups += [{**one, "name": "beside"} for one in parameter_groups(parts.task.backbone, beside, **words)]
    schedule = Schedule(
        epochs=1 if fit.epochs is None else fit.epochs,
        seed=recipe.seed,
        warmup=fit.warmup,
        clip=fit.clip,
        ema=fit.ema or 0.0,
        patience=fit.patience or 0,
        save_seconds=recipe.machine.save_seconds,
        judge_start=bool(fit.probe),
    )
    loop = Loop(
        parts.task,
        parts.engine,
        optimisers={"all": torch.optim.AdamW(groups, fused=True)},
        train=train_source,
        val=val_source,
        schedule=schedule,
        folder=out,
        listen=listen,
        start=partial(_start, recipe, parts, found, train_source, listen),
    )
    fitted = loop.run()
    times.train = fitted.seconds
    return fitted


def _start(recipe: Recipe, parts: Parts, found: Gathered, source: Loader | Frozen, listen: Listen) -> dict[str, Any]:
    """Set the head that the fit begins with, and get what is to be told of it."""
    if not recipe.fit.probe and parts.task.head.pooling != "levels":
        return {}
    names = group_of(found.samples, found.survey.duplicates)
    views = source.views if isinstance(source, Frozen) else 1
    told = begin(
        parts.task,
        parts.engine,
        source=source,
        views=min(views, HEAD_VIEWS) if parts.task.thawed else views,  # tuning goes on from here
        groups=[names[key] for key in source.keys] if recipe.fit.probe else None,
        listen=listen,
    )
    if told:
        listen({"event": "say", "text": f"probe: {probe_words(told)}, in {told['seconds']:.1f} s"})
    return told


# ---- after the fit --------------------------------------------------------------------


def _finish(out: Path, learnt: Learnt, found: Gathered, enrichment: dict[str, Any], listen: Listen) -> dict[str, Any]:
    """Calibrate on validation, judge on test, write everything; report.json comes last and says it is done."""
    recipe, parts, fitted, times = learnt.recipe, learnt.parts, learnt.fitted, learnt.times
    parts.task.settle()
    parts.task.eval()
    all_val, _ = predicted(parts.task, parts.engine, parts.val, found.samples)
    all_test, times.predict_images_per_second = predicted(parts.task, parts.engine, parts.test, found.samples)
    val, test = judge.named(parts.task, all_val), judge.named(parts.task, all_test)
    calibration, point = judge.settle(parts.task, val, rule=recipe.scores.rule)
    with times.of("certainty"):
        sure = judge.settle_certainty(
            parts.task,
            val,
            features_of(parts.task, parts.train, engine=parts.engine)[1],
            coverage=recipe.certainty.coverage,
            share=recipe.certainty.familiar,
        )
    severity.settle(parts.task, all_val, coverage=recipe.certainty.coverage)
    scores = recipe.scores
    result = judge.verdicts(
        parts.task, test, point, seed=recipe.seed, resamples=scores.resamples, prevalence=scores.prevalence
    )
    result["scores"]["val"] = judge.table(parts.task, val, seed=recipe.seed, resamples=scores.resamples)
    result["calibration"] = judge.calibration_entry(
        parts.task, test, calibration, seed=recipe.seed, resamples=scores.resamples
    )
    result["certainty"] = judge.certainty_entry(parts.task, sure, test, seed=recipe.seed, resamples=scores.resamples)
    result["severity"] = severity.entry(
        parts.task, all_test, coverage=recipe.certainty.coverage, seed=recipe.seed, resamples=scores.resamples
    )
    if recipe.scores.stress:
        with times.of("stress"):
            result["stress"] = _stress(recipe, parts, found, test, listen)
    card = pages.card_of(recipe, parts)
    models.save(out / "model.safetensors", Model(parts.task, parts.pixels, parts.task.backbone.spec, card, sure))
    storage.write_json(out / "calibration.json", card["calibration"])
    every = (("val", all_val), ("test", all_test))
    told = {split: judge.predictions_of(parts.task, sure, part) for split, part in every}
    pages.write_predictions(out / "predictions.csv", parts.task, found.samples, told)
    report = reporting.report_of(recipe, parts, found, fitted, times=times, result=result, out=out)
    report["enrichment"] = enrichment
    if enrichment:
        report["training"]["epochs_planned"] = enrichment["epochs_planned"]
    report["warnings"] += enrichment.get("warnings", [])
    report["alarms"] = reporting.alarms(report)
    drawn = {**judge.curves(parts.task, test, seed=recipe.seed), "train": fitted.history}
    drawn |= _severities(parts, found, all_test)
    shown = _gallery(recipe, parts, found, test, report, listen)
    pages.write_pages(out, report, parts=parts, curves=drawn, shown=shown)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    depth_rounds.clear(out)
    return report


def _severities(parts: Parts, found: Gathered, test: Predicted) -> dict[str, Any]:
    """Get what the page draws of zones, and maps of them."""
    place = {sample.key: found.places[i] for i, sample in enumerate(found.samples)}
    maps = severity.shown(parts.task, test, pixels=lambda index: found.store[place[test.keys[index]]])
    return {**severity.curves(parts.task, test), "maps": maps}


def _gallery(
    recipe: Recipe, parts: Parts, found: Gathered, test: Predicted, report: dict[str, Any], listen: Listen
) -> list[dict[str, Any]]:
    """Get mistakes and right answers with their images, and maps beside mistakes, which the report then tells of."""
    words: dict[str, Any] = {"device": parts.engine.device, "method": class_method(parts.task), "seed": recipe.seed}
    maker = MapMaker(parts.task, **words) if recipe.scores.maps else None
    picture = lambda index: found.store[found.places[index]]  # noqa: E731
    shown = gallery(parts.task, found.samples, test=test, picture=picture, maker=maker, listen=listen)
    report["maps"] = told_of(shown, method=maker.method) if maker else {}
    return shown


def _stress(recipe: Recipe, parts: Parts, found: Gathered, test: Predicted, listen: Listen) -> dict[str, Any]:
    """Score the model on changed test images whose labels are known."""
    place_of = {found.samples[index].key: found.places[index] for index in found.of("test")}
    places = [place_of[key] for key in test.keys]

    def logits(pixels: np.ndarray) -> np.ndarray:
        batch = Batch(normalised(pixels, parts.task.backbone.spec), keys=("",) * len(pixels))
        with torch.inference_mode(), parts.engine.autocast():
            return parts.task.logits(parts.engine.move(batch))

    tested = changed.Tested(
        rows=lambda chosen: found.store.rows([places[index] for index in chosen]),
        keys=test.keys,
        targets=test.targets,
        patients=test.patients,
        channels=parts.pixels.channels,
    )
    return changed.curves(parts.task, logits, tested, seed=recipe.seed, listen=listen)


def predicted(
    task: ImageTask, engine: Engine, loader: Loader, samples: Sequence[Sample]
) -> tuple[Predicted, float | None]:
    """Run the whole net over a loader: (logits beside the truth, images per second)."""
    seen, began = [], time.perf_counter()
    for batch in loader.epoch(0):
        stopping.check()
        with torch.inference_mode(), engine.autocast():
            seen.append(task.seen(engine.move(batch)))
    seconds = time.perf_counter() - began
    by_key = {sample.key: sample for sample in samples}
    own = [by_key[key] for key in loader.keys]
    columns = sorted({name for sample in own for name in sample.covariates})
    return Predicted(
        keys=tuple(loader.keys),
        logits=np.concatenate([logits for logits, _ in seen]) if seen else np.zeros((0, 1)),
        targets=np.asarray(loader.targets),
        patients=judge.known_patients(own),
        covariates={name: [sample.covariates.get(name) or None for sample in own] for name in columns},
        features=np.concatenate([features for _, features in seen]) if seen else np.zeros((0, task.head.width)),
    ), (len(own) / seconds if own and seconds else None)
