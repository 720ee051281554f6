"""The data decide for boxes: how large the picture, which maps, which anchors, how long; each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.planning import FEWEST_TO_SEARCH, Facts, average_rule, decay_rule, unmeasurable, with_reasons
from medgraft.recipe import Recipe
from medgraft.values import Boxes, Sample

_SMALL_SIDE = 24  # network pixels that a small box should have: three places of the finest usual map
_SIDES = (256, 1024)  # of the network's picture, and multiples of 64 between
_LARGEST_GROWTH = 2.0
_WHOLE = 768  # a picture up to this side is learnt as a whole
_WINDOW = 512
_STEPS_WANTED = 1500
_FEWEST_EPOCHS, _MOST_EPOCHS = 12, 60
_FINEST, _COARSEST = 4, 64
_ANCHOR = 4  # places of a map that an anchor is wide


@dataclass(frozen=True)
class BoxFacts:
    """What boxes there are, in network pixels or in the file's.

    Attributes:
        sides: square roots of areas: the 5th, 50th and 98th of a hundred.
        ratios: heights by widths: the 10th, 50th and 90th of a hundred.
        most: boxes in the image that has most.
        count: boxes in all.
    """

    sides: tuple[float, float, float]
    ratios: tuple[float, float, float]
    most: int
    count: int


def facts_of(boxes: Sequence[Boxes]) -> BoxFacts:
    """Measure boxes; there has to be one. Ignored ones, and pieces at the left and upper edge, tell of no size."""
    corners = np.concatenate([one.corners[:, :4] for one in boxes])
    whole = ~np.concatenate([one.ignored for one in boxes]) & (corners[:, :2] > 1).all(axis=1)
    corners = corners[whole] if whole.any() else corners
    wide, high = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    sides, ratios = np.sqrt(wide * high), high / wide
    return BoxFacts(
        tuple(np.percentile(sides, (5, 50, 98)).tolist()),  # type: ignore[arg-type]
        tuple(np.percentile(ratios, (10, 50, 90)).tolist()),  # type: ignore[arg-type]
        max(len(one) for one in boxes),
        len(corners),
    )


def choose_picture(recipe: Recipe, samples: Sequence[Sample], *, longest: int, gray: bool) -> Recipe:
    """Fill the size of the network's picture and its channels, which decoding needs first.

    Args:
        recipe: what was asked for.
        samples: with boxes in the files' pixels.
        longest: median of the longer sides of the images.
        gray: True when no image has colour.
    """
    changes: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if recipe.boxes.arm == "auto":
        changes["boxes.arm"], reasons["boxes.arm"] = "faster_rcnn", "these are flat images"
    if recipe.boxes.hit == "auto":
        changes["boxes.hit"], reasons["boxes.hit"] = "iou", "where the edges are matters in a flat image"
    boxes = [sample.boxes for sample in samples if sample.boxes is not None and len(sample.boxes)]
    if recipe.input.image_size is None and boxes:
        small = facts_of(boxes).sides[0]
        scale = min(_LARGEST_GROWTH, _SMALL_SIDE / small)
        side = int(np.clip(64 * math.ceil(longest * scale / 64), *_SIDES))
        changes["input.image_size"] = side
        reasons["input.image_size"] = (
            f"{side} pixels: small boxes are {small:.0f} pixels wide in images of {longest}, "
            f"and get {small * side / longest:.0f}"
        )
    if recipe.input.channels == "auto":
        changes["input.channels"] = 1 if gray else 3
        reasons["input.channels"] = "1: no image has colour" if gray else "3: there are images in colour"
    return with_reasons(recipe.changed(changes), reasons)


def choose_rest(recipe: Recipe, facts: Facts, boxes: BoxFacts) -> Recipe:
    """Fill maps, anchors, depth and the schedule.

    Args:
        recipe: what was asked for.
        facts: of images and backbone.
        boxes: of the training images, in network pixels.
    """
    changes: dict[str, Any] = {}
    reasons: dict[str, str] = {}

    def fill(field: str, value: Any, why: str) -> None:
        changes[field], reasons[field] = value, why

    own, side = recipe.boxes, recipe.input.image_size or 0
    if own.strides is None:
        fill("boxes.strides", *strides_rule(boxes))
    if own.ratios is None:
        low, middle, high = (round(value, 2) for value in boxes.ratios)
        fill("boxes.ratios", sorted({low, middle, high}), "of the flat, the usual and the tall boxes of the training")
    if own.most is None:
        most = max(100, 2 * boxes.most)
        fill("boxes.most", most, f"twice as many as the image with most has ({boxes.most}), and a hundred at least")
    if own.crop is None:
        crop = _WINDOW if side > _WHOLE else 0
        why = f"windows of the picture of {side} pixels, as many boxes a second as of a small one"
        fill("boxes.crop", crop, why if crop else f"a picture of {side} pixels is learnt as a whole")
    if recipe.augment.preset == "auto":
        fill("augment.preset", facts.modality, facts.modality_reason)
    if recipe.depth.thaw == "auto":
        fill("depth.thaw", *depth_rule(facts))
    if recipe.backbone.recalibrate is None:
        why = unmeasurable(facts)
        fill("backbone.recalibrate", not why, why or "a step sees too few images to normalise by its own statistics")
    _fill_schedule(recipe, facts, fill)
    return with_reasons(recipe.changed(changes), reasons)


def strides_rule(boxes: BoxFacts) -> tuple[list[int], str]:
    """Choose the maps in which boxes of these sides, in network pixels, are looked for."""
    small, _, large = boxes.sides
    finest = _FINEST
    while finest < _COARSEST // 4 and 2 * finest * _ANCHOR <= 1.5 * small:
        finest *= 2
    strides = [finest]
    while strides[-1] < _COARSEST and (len(strides) < 2 or strides[-1] * _ANCHOR * 2 < large):
        strides.append(2 * strides[-1])
    return strides, f"boxes are {small:.0f} to {large:.0f} network pixels wide (5th to 98th of a hundred)"


def depth_rule(facts: Facts) -> tuple[str | int, str]:
    """Choose how many stages are tuned where there is nothing to search, else leave it "auto"."""
    if not facts.random and facts.train_patients >= FEWEST_TO_SEARCH:
        return "auto", f"train tries depths on parts of the {facts.train_images} training images"
    return untried_rule(stages=facts.stages, random=facts.random, procedural=facts.procedural)


def untried_rule(*, stages: int, random: bool, procedural: bool) -> tuple[str | int, str]:
    """Choose how many stages are tuned without a trial: boxes need places, and those are in the early stages too.

    Args:
        stages: of the backbone.
        random: True where it starts from random numbers.
        procedural: True where its weights never saw a real image.
    """
    if random:
        return "all", "the backbone starts from random numbers, so every layer has to learn"
    if procedural:
        return "all", "no layer has seen a real image yet"
    keep = 2 if stages > 3 else 1
    return stages - keep, f"the first {keep} stages, edges and textures, serve all images and stay"


def _fill_schedule(recipe: Recipe, facts: Facts, fill: Any) -> None:
    fit, count = recipe.fit, facts.train_images
    batch = fit.batch_size
    if batch is None:
        batch = 8 if count >= 64 else 4
        fill("fit.batch_size", batch, f"{batch} images a step for {count} training images")
    epochs = fit.epochs
    if epochs is None:
        steps = math.ceil(count / batch)
        epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(_STEPS_WANTED / steps)))
        fill("fit.epochs", epochs, f"about {epochs * steps} steps at most; it stops earlier when validation says so")
    if fit.norms == "auto":
        fill("fit.norms", "stored", "a step sees too few images to normalise by its own statistics")
    if fit.patience is None:
        fill("fit.patience", max(10, math.ceil(epochs / 2)), "half of the epochs: the falling rate still brings gains")
    if fit.lr is None:
        untrained = facts.random or facts.procedural
        why = "layers that have seen no real image learn faster"
        careful = (2e-4, "attention falls apart at higher rates" if facts.transformer else "trained layers keep much")
        fill("fit.lr", *((5e-4, why) if untrained and not facts.transformer else careful))
    if fit.head_lr is None:
        fill("fit.head_lr", 1e-3, "pyramid and detector are new")
    if fit.layer_decay is None:
        fill("fit.layer_decay", *decay_rule(facts))
    if fit.ema is None:
        fill("fit.ema", *average_rule(epochs * math.ceil(count / batch)))
