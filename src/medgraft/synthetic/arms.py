"""The classifier with and without synthetic images, and validation as the judge of whether they are let in.

Every arm is trained from the same start with the same number of steps, so that what differs is what it saw. Test
images are looked at once the decision has been made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import judge, planning
from medgraft.assemble import Parts
from medgraft.gather import Gathered
from medgraft.judge import Predicted
from medgraft.learn.loop import Fitted
from medgraft.recipe import Recipe
from medgraft.scores.intervals import bootstrap
from medgraft.scores.paired import differences, highest_mean, losses
from medgraft.scores.probabilities import weighted_mean
from medgraft.scores.score import Score
from medgraft.scores.summary import score_table
from medgraft.synthetic.adding import Ratio

REAL = "real"
SCORES = ("auroc", "balanced_accuracy")


@dataclass(eq=False)
class Learnt:
    """A classifier that was trained.

    Attributes:
        recipe: it was trained by.
        parts: with the best weights.
        fitted: how training went.
        times: of `medgraft.run`.
    """

    recipe: Recipe
    parts: Parts
    fitted: Fitted
    times: Any


@dataclass(eq=False)
class Arm:
    """One way to train, with or without synthetic images.

    Attributes:
        ratio: of synthetic images; 0 is real images alone.
        images: synthetic ones of each class.
        found: the data that it learnt from and is judged on.
        learnt: the classifier.
        val: its answers to the validation images.
    """

    ratio: Ratio
    images: Mapping[str, int]
    found: Gathered
    learnt: Learnt
    val: Predicted

    @property
    def words(self) -> str:
        """What it is called."""
        return words_of(self.ratio)

    def cases(self, found: Predicted) -> Any:
        """Get answers at the temperature and threshold that validation settled for this arm."""
        return judge.cases_of(self.learnt.parts.task, found)


def words_of(ratio: Ratio) -> str:
    """Get what an arm is called."""
    if ratio == "balance":
        return "rare classes filled up"
    return "real images alone" if not ratio else f"{ratio:g} synthetic for one real"


def stem_of(ratio: Ratio) -> str:
    """Get the name of an arm's folder."""
    return REAL if not ratio else f"ratio-{ratio}" if isinstance(ratio, str) else f"ratio-{ratio:g}"


def fewer_epochs(recipe: Recipe, *, real: int, all_images: int) -> Recipe:
    """Get the recipe with as many steps as real images alone have: each of its epochs is longer."""
    fit, share = recipe.fit, real / all_images
    if not fit.epochs:
        return recipe
    changes = {"fit.epochs": max(1, round(fit.epochs * share))}
    if fit.patience:
        changes["fit.patience"] = max(1, round(fit.patience * share))
    why = "as many steps as with real images alone: an epoch shows synthetic ones too"
    return planning.with_reasons(recipe.changed(changes), dict.fromkeys(changes, why))


def settle_prior(task: Any, *, real: Mapping[str, int], added: Mapping[str, int]) -> None:
    """Take back from the odds what added images did to the shares of the classes: those of real patients count."""
    shares = [
        np.array([counts[name] for name in task.answers.classes], float)
        for counts in (real, {name: real[name] + added.get(name, 0) for name in real})
    ]
    true, learnt = (share / share.sum() for share in shares)
    task.adjust.add_(task.adjust.new_tensor(np.log(true) - np.log(learnt)))


@dataclass(frozen=True, eq=False)
class Decision:
    """What validation said.

    Attributes:
        chosen: the arm whose model the run is.
        best: the arm with synthetic images that is compared on the test part: the chosen one, or the nearest to it.
        why: one sentence.
        rows: what is told of each arm.
    """

    chosen: Arm
    best: Arm
    why: str
    rows: list[dict[str, Any]]


def decide(arms: Sequence[Arm], *, asked: bool, seed: int, resamples: int) -> Decision:
    """Decide by validation which arm the run's model is: by default real images alone.

    Synthetic images are let in only where the paired difference of the validation loss is below zero at the upper end
    of its interval, which is as wide as the number of arms demands. Of several such the lowest loss wins.

    Args:
        arms: real images alone first, then those with synthetic images.
        asked: True where the ratio was asked for; it is then taken whatever validation says, which is told.
        seed: of the resamples.
        resamples: for intervals that are told.
    """
    real, others = arms[0], arms[1:]
    plain, patients = losses(real.cases(real.val)), real.val.patients
    rows, gains = [_row(real, seed=seed, resamples=resamples)], []
    for arm in others:
        cases = arm.cases(arm.val)
        gap = losses(cases) - plain
        high = highest_mean(gap, patients=patients, seed=seed, tries=len(others))
        gains.append((float(gap.mean()), high))
        told = differences(cases, real.cases(real.val), seed=seed, count=resamples)
        rows.append(
            {
                **_row(arm, seed=seed, resamples=resamples),
                "difference": {name: score.to_dict() for name, score in told.items()},
                "highest": high if np.isfinite(high) else None,
                "admitted": high < 0,
            }
        )
    best = int(np.argmin([mean for mean, _ in gains]))
    admitted = [place for place, (_, high) in enumerate(gains) if high < 0]
    winner = min(admitted, key=lambda place: gains[place][0]) if admitted else None
    if asked:
        said = "better by more than chance" if 0 in admitted else "not better by more than chance"
        return Decision(others[0], others[0], f"as asked; on validation it was {said}", rows)
    if winner is None:
        tried = "it is" if len(others) == 1 else f"none of {len(others)} ratios is"
        why = f"real images alone: on {len(plain)} validation images {tried} better by more than chance"
        return Decision(real, others[best], why, rows)
    why = (
        f"{others[winner].words}: its validation loss is lower by more than chance "
        f"({gains[winner][0]:+.3f}, at most {gains[winner][1]:+.3f})"
    )
    return Decision(others[winner], others[winner], why, rows)


def _row(arm: Arm, *, seed: int, resamples: int) -> dict[str, Any]:
    cases = arm.cases(arm.val)
    table = score_table(cases, seed=seed, count=resamples)
    loss = _loss(cases, seed=seed, resamples=resamples)
    return {
        "ratio": arm.ratio,
        "words": arm.words,
        "images": dict(arm.images),
        "epochs": sum(row["epoch"] > 0 for row in arm.learnt.fitted.history),
        "val": {**{name: table[name].to_dict() for name in SCORES}, "log_loss": loss.to_dict()},
    }


def _loss(cases: Any, *, seed: int, resamples: int) -> Score:
    return bootstrap(weighted_mean, (losses(cases),), patients=cases.patients, seed=seed, count=resamples)


def bought(
    with_them: tuple[Arm, Predicted], without: tuple[Arm, Predicted], *, seed: int, resamples: int
) -> dict[str, Any]:
    """Get what synthetic images bought on the test part: both models' scores, and their paired differences.

    Args:
        with_them: the arm that is compared, and its answers to the test images.
        without: real images alone, and its answers to the same.
        seed: of the resamples.
        resamples: how many.
    """
    told = {}
    for name, (arm, test) in (("with", with_them), ("without", without)):
        cases = arm.cases(test)
        table = score_table(cases, seed=seed, count=resamples)
        loss = _loss(cases, seed=seed, resamples=resamples)
        told[name] = {**{word: table[word].to_dict() for word in SCORES}, "log_loss": loss.to_dict()}
    first, second = (arm.cases(test) for arm, test in (with_them, without))
    found = differences(first, second, seed=seed, count=resamples)
    return {**told, "difference": {word: score.to_dict() for word, score in found.items()}}


def folder_of(out: Path, ratio: Ratio) -> Path:
    """Get where an arm is trained."""
    return out / "arms" / stem_of(ratio)
