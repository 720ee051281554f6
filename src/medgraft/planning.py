"""The data decide: survey -> recipe, each choice with its reason.

Only fields that are empty or "auto" are filled; what a person wrote stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgraft.errors import BadRecipe
from medgraft.recipe import Recipe

# Sides that every backbone divides evenly; larger ones cost time without gain on most sets of a few thousand images.
_SIZES = (96, 128, 160, 192, 224)
_STEPS_WANTED = 1200
# What the labels are, as the samples room says it, and the task that answers it.
TASK_OF = {
    "classes": "classify",
    "several": "multilabel",
    "grades": "grade",
    "numbers": "regress",
    "boxes": "detect",
    "masks": "segment",
}
_FEW_IN_COLOUR = 0.01
_FEWEST_EPOCHS, _MOST_EPOCHS = 12, 60
_AVERAGED = 8  # weights are averaged over one in so many of the steps
FEWEST_TO_SEARCH = 30  # patients: a third of fewer says nothing of a difference between depths
_RATE_STEP = 3.0
LORA_RATE = 1e-3
HEAD_VIEWS, _TUNED_VIEWS = 2, 16  # views of an image that a head learns from, and that tuned stages do
_FEWEST_FOR_NORMS = 16  # images: a variance of fewer says more of these images than of all


@dataclass(frozen=True)
class Facts:
    """What the plan needs to know of data and backbone.

    Attributes:
        train_images: number of images to train on.
        train_patients: number of patients among them; of images when patients are unknown.
        modality: name of the augmentation preset that fits, and `modality_reason` why.
        stages: number of stages of the backbone.
        random: True when the backbone starts from random numbers.
        procedural: True when its weights were made on procedural images, as those that come with medgraft.
        pyramid: True when the levels that a head may look at differ in resolution.
        norms: True when the backbone has BatchNorm with stored statistics.
        folded_norms: True when BatchNorm was folded into the convolutions before the weights were saved.
        class_ratio: largest to smallest class, or negatives to positives of the rarest label; None without classes
            that could be weighed.
        regions: True when the task has a head on places too, which the probe does not find.
        transformer: True when the backbone is made of blocks of attention.
    """

    train_images: int
    train_patients: int
    modality: str
    modality_reason: str
    stages: int
    random: bool
    procedural: bool
    pyramid: bool
    norms: bool
    folded_norms: bool
    class_ratio: float | None
    regions: bool = False
    transformer: bool = False


def choose_input(recipe: Recipe, *, side: int, gray: bool) -> Recipe:
    """Fill image size and channels, which decoding needs first.

    Args:
        recipe: what was asked for.
        side: median of the shorter sides of the images, in pixels.
        gray: True when no image has colour.
    """
    changes: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if recipe.input.image_size is None:
        changes["input.image_size"] = size = next((s for s in _SIZES if s >= side), _SIZES[-1])
        reasons["input.image_size"] = f"{size} pixels: the median shorter side of the images is {side}"
    if recipe.input.channels == "auto":
        changes["input.channels"] = 1 if gray else 3
        reasons["input.channels"] = "1: no image has colour" if gray else "3: there are images in colour"
    return with_reasons(recipe.changed(changes), reasons)


def colour_after_all(records: Sequence[Mapping[str, Any]]) -> str:
    """Say why gray pixels will not do, now that every image was seen; "" when they will.

    A few tinted scans among thousands of gray ones lose nothing as gray; more than that is a kind of its own.
    """
    coloured = sum(not record["gray"] for record in records)
    if coloured <= _FEW_IN_COLOUR * len(records):
        return ""
    return f"3: {coloured} of {len(records)} images have colour, though none of those looked at first"


def with_reasons(recipe: Recipe, reasons: Mapping[str, str]) -> Recipe:
    """Get the recipe with more reasons."""
    return recipe.changed({"reasons": {**recipe.reasons, **reasons}})


def choose_rest(recipe: Recipe, facts: Facts) -> Recipe:
    """Fill depth, augmentation, balance and the schedule."""
    changes: dict[str, Any] = {}
    reasons: dict[str, str] = {}

    def fill(field: str, value: Any, why: str) -> None:
        changes[field], reasons[field] = value, why

    if recipe.augment.preset == "auto":
        fill("augment.preset", facts.modality, facts.modality_reason)
    if recipe.fit.balance == "auto":
        fill("fit.balance", *balance_rule(facts.class_ratio))
    thawed = recipe.depth.thaw
    if thawed == "auto":
        thawed, why = depth_rule(facts, epochs=recipe.fit.epochs)
        fill("depth.thaw", thawed, why)
    if thawed == "auto":  # what is left depends on the depth
        return with_reasons(recipe.changed(changes), reasons)
    whole = thawed in ("all", "lora")
    frozen = 0 if whole else facts.stages - (0 if thawed == "head" else int(thawed))
    if recipe.backbone.pooling == "auto":
        fill("backbone.pooling", *pooling_rule(facts, frozen))
    probed = recipe.fit.probe
    if probed is None:
        probed, why = probe_rule(facts, frozen)
        fill("fit.probe", probed, why)
    if recipe.backbone.recalibrate is None:
        fill("backbone.recalibrate", *recalibrate_rule(facts, frozen, probed=probed))
    elif recipe.backbone.recalibrate and (why := unmeasurable(facts)):
        raise BadRecipe(f"BatchNorm cannot be measured anew: {why}", do="Leave backbone.recalibrate out.")
    _fill_schedule(recipe, facts, fill, head_only=frozen == facts.stages, probed=probed)
    if recipe.depth.views is None:
        fill("depth.views", *views_rule(thawed, epochs=recipe.fit.epochs or changes.get("fit.epochs") or 1))
    return with_reasons(recipe.changed(changes), reasons)


def depth_rule(facts: Facts, *, epochs: int | None = None) -> tuple[str, str]:
    """Choose the depth where there is nothing to search, else leave it "auto"."""
    if epochs == 0:
        return "head", "no epochs are asked for"
    if facts.random:
        return "all", "the backbone starts from random numbers, so every layer has to learn"
    if facts.regions:
        return "all", "a map of severities needs layers that learn what it is of; no depth is searched for it"
    if facts.train_patients < FEWEST_TO_SEARCH:
        return "head", f"{facts.train_patients} training patients are too few to compare depths on parts of them"
    return "auto", f"train tries depths on parts of the {facts.train_images} training images"


def rates_tried(recipe: Recipe, *, adapters: bool = False) -> tuple[float, ...]:
    """Get the learning rates that a depth is tried at: the planned one and another, or the one that was asked for.

    Args:
        recipe: planned for the whole net.
        adapters: of low-rank adapters, which begin at zero.
    """
    lr = recipe.fit.lr or 1e-3
    if "fit.lr" not in recipe.reasons:
        return (lr,)
    if adapters:
        return (LORA_RATE, LORA_RATE * _RATE_STEP)
    procedural = recipe.backbone.name.startswith("embedded:")
    other = lr / _RATE_STEP if procedural else lr * _RATE_STEP
    return lr, float(f"{other:.2g}")


def pooling_rule(facts: Facts, frozen: int) -> tuple[str, str]:
    """Choose what the head sees of an encoder with so many frozen stages."""
    if not facts.pyramid:
        return "avg", "the levels of this encoder have one resolution, so the last says what the others say"
    if facts.random and frozen < facts.stages:
        return "avg", "layers that start from random numbers bring into the last level what the head needs"
    return "levels", "the last level has left out what the levels below it, and the largest values in it, still show"


def unmeasurable(facts: Facts) -> str:
    """Say why BatchNorm's statistics cannot be measured anew; "" where they can."""
    if not facts.norms:
        return "this encoder has no BatchNorm"
    if facts.folded_norms:
        return "BatchNorm is folded into these weights, so there is nothing to measure"
    if facts.train_images < _FEWEST_FOR_NORMS:
        return f"{facts.train_images} training images are too few to measure BatchNorm's statistics on"
    return ""


def recalibrate_rule(facts: Facts, frozen: int, *, probed: bool) -> tuple[bool, str]:
    """Choose whether BatchNorm's statistics are measured anew."""
    if why := unmeasurable(facts):
        return False, why
    if not frozen and not probed:
        return False, "every stage is tuned, and measures its statistics while it learns"
    if not frozen:
        # The head is standardised by what it saw; seeing other numbers in the first step, it would begin far off.
        return True, "the probe sees the stored statistics and the first step those of its batch; now they are alike"
    return True, "frozen stages normalise by what they store, and these images differ from those they learnt from"


def probe_rule(facts: Facts, frozen: int) -> tuple[bool, str]:
    """Choose whether the head is put at its optimum before anything is tuned."""
    if facts.random and frozen < facts.stages:
        return False, "the best head for random features is in the way of the layers that are to replace them"
    return True, "the best head for untuned features is found in seconds, and kept where tuning does no better"


def views_rule(thawed: str | int, *, epochs: int) -> tuple[int, str]:
    """Choose how many views of an image the frozen layers are run on: each costs a pass over the training images."""
    if thawed in ("head", 0):
        why = (
            "the image as it is and augmented once: for a head alone more made no sure difference, see docs/results.md"
        )
        return HEAD_VIEWS, why
    if epochs < _TUNED_VIEWS:
        views = max(HEAD_VIEWS, epochs)
        return views, f"the image as it is and augmented: {epochs} epochs show no more than so many"
    return _TUNED_VIEWS, "the image as it is and augmented fifteen times: of four, tuned layers learn too much by heart"


def _fill_schedule(recipe: Recipe, facts: Facts, fill: Any, *, head_only: bool, probed: bool) -> None:
    fit, count = recipe.fit, facts.train_images
    batch = fit.batch_size
    if batch is None:
        batch = 32 if count >= 128 else 16
        fill("fit.batch_size", batch, f"{batch} images a step for {count} training images")
    epochs = fit.epochs
    if epochs is None and head_only and probed and not facts.regions:
        epochs = 0
        fill("fit.epochs", 0, "the probe is the best head that a frozen encoder can have, so nothing is left to train")
    elif epochs is None:
        steps = math.ceil(count / batch)
        epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(_STEPS_WANTED / steps)))
        fill("fit.epochs", epochs, f"about {epochs * steps} steps at most; it stops earlier when validation says so")
    if fit.norms == "auto":
        stored = facts.folded_norms
        why = (
            "BatchNorm is folded into these weights, so batches would undo it"
            if stored
            else "each batch has enough images"
        )
        fill("fit.norms", "stored" if stored else "batch", why)
    if epochs:
        _fill_rates(recipe, facts, fill, epochs=epochs, head_only=head_only, probed=probed)
        if fit.ema is None:
            fill("fit.ema", *average_rule(epochs * math.ceil(count / batch)))


def _fill_rates(recipe: Recipe, facts: Facts, fill: Any, *, epochs: int, head_only: bool, probed: bool) -> None:
    fit = recipe.fit
    if fit.patience is None:
        waited = max(10, math.ceil(epochs / 2))
        fill("fit.patience", waited, "half of the epochs: the falling rate still brings late gains")
    lr, adapters = fit.lr, recipe.depth.thaw == "lora"
    if lr is None:
        lr, why = (LORA_RATE, "adapters begin at zero and have few numbers") if adapters else rate_rule(facts)
        fill("fit.lr", lr, why)
    if fit.head_lr is None and facts.regions:
        fill(
            "fit.head_lr",
            2e-3,
            "the head of the severities is new; one that the probe found learns as the encoder does",
        )
    elif fit.head_lr is None and probed:
        fill("fit.head_lr", lr, "as the encoder's, since the probe has found the head already")
    elif fit.head_lr is None:
        rate = 1e-3 if head_only or facts.random else 2e-3
        fill("fit.head_lr", rate, "the head is new and starts from zero")
    if fit.layer_decay is None:
        fill("fit.layer_decay", *((1.0, "every adapter is new") if adapters else decay_rule(facts)))


def rate_rule(facts: Facts) -> tuple[float, str]:
    """Choose the learning rate of the stage next to the head."""
    if facts.random:
        return 1e-3, "random layers learn faster"
    if facts.procedural and facts.transformer:
        return 3e-4, "weights from procedural images are where to start, and attention falls apart at higher rates"
    if facts.procedural:
        return 1e-3, "weights from procedural images are where to start, not what to keep"
    return 2e-4, "trained layers are changed with care"


def decay_rule(facts: Facts) -> tuple[float, str]:
    """Choose how much slower each stage further down learns."""
    if facts.random:
        return 1.0, "all layers are equally new"
    if facts.procedural:
        return 1.0, "no layer has seen a real image yet, the first as little as the last"
    return 0.75, "earlier features serve all images and change least"


def average_rule(steps: int) -> tuple[float, str]:
    """Choose over how many of so many steps the weights are averaged."""
    decay = min(0.9999, max(0.0, round(1 - _AVERAGED / steps, 4)))
    if not decay:
        return 0.0, f"{steps} steps are too few to average over"
    return decay, "the average of the weights over an eighth of the steps wavers less than the weights of the last one"


def balance_rule(ratio: float | None) -> tuple[str, str]:
    """Choose how rare classes are handled, and say it in a sentence."""
    if ratio is None:
        return "none", "numbers and grades have an order, so rare ones share strength with their neighbours"
    if ratio < 1.5:
        return "none", f"the classes are balanced (ratio {ratio:.1f})"
    return "weights", f"rare classes weigh more in the loss (ratio {ratio:.1f}); probabilities are corrected for it"


def filled(recipe: Recipe, planned: dict[str, tuple[Any, str]]) -> Recipe:
    """Fill what a recipe leaves empty or "auto".

    Args:
        recipe: what was asked for.
        planned: field -> the value, and why.
    """
    tree = recipe.model_dump()
    empty = [name for name in planned if tree[name.partition(".")[0]][name.partition(".")[2]] in (None, "auto")]
    changed = recipe.changed({name: planned[name][0] for name in empty})
    return with_reasons(changed, {name: planned[name][1] for name in empty})
