"""A training with synthetic images: what draws them, the arms, the decision, and what it is that is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from medgraft import judge, pages, planning, storage
from medgraft.errors import BadRecipe, RunRefused
from medgraft.gather import Gathered, Listen
from medgraft.judge import Predicted
from medgraft.learn.resume import Checkpoints
from medgraft.recipe import Recipe, load
from medgraft.samples.dataset import DataSet
from medgraft.storage import sha256_file
from medgraft.synthetic import adding, sources
from medgraft.synthetic.adding import Ratio, added, counts_of, draw, enriched, most
from medgraft.synthetic.arms import (
    Arm,
    Decision,
    Learnt,
    bought,
    decide,
    fewer_epochs,
    folder_of,
    settle_prior,
    words_of,
)
from medgraft.synthetic.sources import INSIDE, Source
from medgraft.tasks.base import ImageTask

FILE = "enrichment.json"
_OURS = ("arms", adding.FOLDER, sources.FOLDER, FILE)


class Learn(Protocol):
    """Trains a classifier in a folder and answers with it."""

    def __call__(
        self, folder: Path, recipe: Recipe, found: Gathered, /, *, tune: Callable[[ImageTask], None]
    ) -> Learnt: ...


@dataclass(eq=False)
class Enriching:
    """What a run with synthetic images is made of.

    Attributes:
        out: the run folder.
        recipe: filled.
        found: the real images.
        data: as they were read.
        classes: that the classifier knows.
        learn: trains it; the first call is for real images alone.
        ask: learnt, split -> its answers.
        listen: gets progress events.
        held: what is to be closed at the end.
    """

    out: Path
    recipe: Recipe
    found: Gathered
    data: DataSet
    classes: tuple[str, ...]
    learn: Learn
    ask: Callable[[Learnt, str], Predicted]
    listen: Listen
    held: ExitStack
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts = counts_of(self.found)

    def run(self) -> tuple[Learnt, dict[str, Any]]:
        """Train with and without, let validation decide, and get the model and `enrichment` of report.json.

        Raises:
            RunRefused, BadRecipe, Leak: what draws the images cannot be used here.
            Stopped: it stopped safely and can be resumed.
        """
        ratios = self._ratios()
        if not ratios:
            what = f"nothing would be added to {self.counts} training images by this ratio"
            raise BadRecipe(what, do="Give --ratio 1, or leave it to auto.")
        inside, source = self.recipe.synthetic.run in INSIDE, None
        if not inside:
            source = self._outside()
        real = self._arm(0.0, {}, self.found)
        self.recipe = real.learnt.recipe
        if source is None:
            words: dict[str, Any] = {"data": self.data, "listen": self.listen}
            source = sources.trained_inside(self.out, self.recipe, self.found, **words)
            sources.check_classes(source.run, self.classes)
        asked = self.recipe.synthetic.ratio != "auto"
        made = draw(self.out, source, most(ratios, self.counts), seed=self.recipe.seed, listen=self.listen)
        arms = [real, *(self._with(ratio, made) for ratio in ratios)]
        scores = self.recipe.scores
        decision = decide(arms, asked=asked, seed=self.recipe.seed, resamples=scores.resamples)
        return self._told(decision, arms, source)

    def _ratios(self) -> list[Ratio]:
        """The ratios that are tried beside 0, each that adds something once."""
        own = self.recipe.synthetic
        wanted: list[Ratio] = list(own.tried) if own.ratio == "auto" else [own.ratio]
        found: dict[str, Ratio] = {}
        for ratio in wanted:
            images = added(ratio, self.counts)
            if any(images.values()):
                found.setdefault(str(sorted(images.items())), ratio)
        return list(found.values())

    def _outside(self) -> Source:
        return sources.opened_outside(self.recipe, self.found, classes=self.classes, listen=self.listen)

    def _arm(self, ratio: Ratio, images: Mapping[str, int], found: Gathered) -> Arm:
        folder = folder_of(self.out, ratio)
        recipe = self.recipe
        if (folder / "recipe.yaml").exists():
            recipe = load(folder / "recipe.yaml").changed({"machine": recipe.machine.model_dump()})
        elif images:
            real = sum(self.counts.values())
            recipe = fewer_epochs(recipe, real=real, all_images=real + sum(images.values()))
        self.listen({"event": "say", "text": f"training: {words_of(ratio)}"})
        learnt = self.learn(folder, recipe, found, tune=partial(settle_prior, real=self.counts, added=images))
        val = judge.named(learnt.parts.task, self.ask(learnt, "val"))
        judge.settle(learnt.parts.task, val, rule=recipe.scores.rule)
        return Arm(ratio, images, found, learnt, val)

    def _with(self, ratio: Ratio, made: adding.Made) -> Arm:
        images = added(ratio, self.counts)
        words: dict[str, Any] = {"cache_gb": self.recipe.machine.cache_gb, "listen": self.listen}
        found = enriched(self.found, made, images, **words)
        self.held.callback(found.store.close)
        return self._arm(ratio, images, found)

    def _told(self, decision: Decision, arms: list[Arm], source: Source) -> tuple[Learnt, dict[str, Any]]:
        """Write what was decided, and what it brought on the test part, which is looked at only now."""
        chosen, best = decision.chosen, decision.best
        self.listen({"event": "say", "text": f"synthetic images: {decision.why}"})
        tests = [(arm, judge.named(arm.learnt.parts.task, self.ask(arm.learnt, "test"))) for arm in arms]
        words: dict[str, Any] = {"seed": self.recipe.seed, "resamples": self.recipe.scores.resamples}
        told = [bought(one, tests[0], **words) for one in tests[1:]]
        test = next((one for (arm, _), one in zip(tests[1:], told, strict=True) if arm is best), {})
        for row, one in zip(decision.rows[1:], told, strict=True):
            row["test"] = one["difference"]
        card = source.run.card
        entry = {
            "generator": {
                "run": str(source.run.folder),
                "task": card["task"],
                "inside": source.inside,
                "sha256": sha256_file(source.run.folder / "model.safetensors"),
                "shape": list(source.run.shape),
                "audit": card.get("audit"),
                "images": source.run.report["data"]["images"],
            },
            "ratio": chosen.ratio,
            "chosen_by": "the user" if self.recipe.synthetic.ratio != "auto" else "validation",
            "why": decision.why,
            "compared": best.ratio,
            "compared_words": words_of(best.ratio),
            "real": self.counts,
            "synthetic": dict(chosen.images),
            "tried": decision.rows,
            "test": test,
            "epochs_planned": chosen.learnt.recipe.fit.epochs,
            "warnings": list(source.warnings),
        }
        storage.write_json(self.out / FILE, entry)
        pages.write_samples(self.out / "samples.csv", chosen.found)
        # The recipe is the one that all arms came from: done again, it makes this arm's epochs fewer by itself.
        settled = {"synthetic.ratio": chosen.ratio}
        if not source.inside:
            settled["synthetic.sha256"] = entry["generator"]["sha256"]
        chosen.learnt.recipe = planning.with_reasons(self.recipe.changed(settled), {"synthetic.ratio": decision.why})
        return chosen.learnt, entry


def check_folder(out: Path) -> None:
    """Refuse a new run in a folder that holds what such a run would write.

    Raises:
        RunRefused: it names it.
    """
    found = [name for name in _OURS if (out / name).exists()]
    if found and not (out / "recipe.yaml").exists():
        what = f"the folder holds something else already, such as {found[0]}"
        raise RunRefused(what, where=out, do="Give another --out.")


def clear(out: Path, recipe: Recipe, entry: Mapping[str, Any]) -> None:
    """Put away what only a resumed run needs, after report.json: the log and the recipe are then those of the model."""
    log = folder_of(out, entry["ratio"]) / "log.jsonl"
    if log.exists():
        storage.write_text(out / "log.jsonl", log.read_text(encoding="utf-8"))
    recipe.save(out / "recipe.yaml")
    for row in entry["tried"]:
        Checkpoints(folder_of(out, row["ratio"]) / "resume").clear()
