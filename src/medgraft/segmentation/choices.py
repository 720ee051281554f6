"""The data decide for label maps: resolution, patches, mirrors, decoder and schedule, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medgraft.detection.choices import untried_rule
from medgraft.detection.scans.choices import WINDOWS_HU
from medgraft.errors import BadRecipe
from medgraft.learn.segmenter import DrawForm
from medgraft.nets.decoder import ARMS, DecoderForm
from medgraft.nets.depth import plan_depth
from medgraft.nets.mask_heads import WHOLE
from medgraft.planning import Facts, average_rule, decay_rule, filled, unmeasurable
from medgraft.recipe import Recipe
from medgraft.samples.framing import FrameForm
from medgraft.samples.mask_grid import GridForm
from medgraft.samples.picture_grid import PictureForm
from medgraft.segmentation.facts import MaskFacts
from medgraft.segmentation.room import room_of
from medgraft.tasks.segment import Losses

_MOST_SIDE = 1024  # network pixels of a picture's longer side
_VIEW = 384  # of pictures that a structure fills
_FILLS = 0.25  # of the longer side: what is larger needs to be seen with its surroundings
_SMALL, _MOST_GROWTH = 12, 2.0  # pixels that small things should be wide, and how much pictures are enlarged for that
_SMALL_APART = 20  # the same where things are told apart: the gap between two is a few pixels of it
_DIM = 0.5  # of white, and ratio between pictures: from there on each has levels of its own
_ALIKE = 1.05  # ratio of longer sides that is no difference
_PATCH = 256
_MOST_VOXELS = 2**23  # of a scan
_MOST_BATCH = 16
_WINDOW_PIXELS, _WINDOW_VOXELS = 2**21, 2**21
_STEPS_WANTED = {2: 800, 3: 1200}
_STEPS_APART = 2400  # where things are told apart: votes and seams are learnt long after bodies are
_EPOCHS, _FEWEST_EPOCHS, _MOST_EPOCHS = 25, 10, 60
_THICK = 16  # network pixels
_TWOFOLD = 1.9  # how much pictures are enlarged so that drawing on by twos is drawing on pixels of the file
_FEWEST_PLACES = 4  # of the coarsest map in a patch


def check_recipe(recipe: Recipe) -> None:
    """Refuse what has no meaning for label maps.

    Raises:
        BadRecipe: which field, and what to do.
    """
    if recipe.depth.thaw == "lora":
        raise BadRecipe("adapters are not for label maps", do="Give --depth head, a number of stages, or all.")
    windows = recipe.masks.windows_hu
    if windows is not None and len(windows) not in (0, 1, 3):
        what = f"masks.windows_hu has {len(windows)} windows, and a net takes 1 or 3 channels"
        raise BadRecipe(what, do="Give one or three of (centre, width).")


def check_sizes(recipe: Recipe, axes: int) -> None:
    """Refuse sizes and axes that images of so many axes do not have.

    Raises:
        BadRecipe: which field, and what to do.
    """
    own, kind = recipe.masks, "pictures" if axes == 2 else "volumes"
    if axes == 3 and recipe.input.image_size is not None:
        what = "an image size is for pictures, and voxels of volumes have a size of their own"
        raise BadRecipe(what, do="Give --set masks.spacing_mm=[z,y,x], or masks.patch=[D,H,W].")
    if own.patch is not None and (len(own.patch) != axes or min(own.patch) < 8):
        what = f"masks.patch is {own.patch}, and patches of {kind} have {axes} sides of 8 and more"
        raise BadRecipe(what, do=f"Give {'[H, W]' if axes == 2 else '[D, H, W]'}.")
    if own.spacing_mm is not None and min(own.spacing_mm) <= 0:
        raise BadRecipe("masks.spacing_mm has a side that is not above 0", do="Give (z, y, x) in millimetres.")
    wrong = [axis for axis in own.mirrored or () if not 0 <= axis < axes]
    if wrong or len(set(own.mirrored or ())) < len(own.mirrored or ()):
        what = f"masks.mirrored is {own.mirrored}, and axes of {kind} are {', '.join(map(str, range(axes)))}, each once"
        raise BadRecipe(what, do="Name those that nothing is told apart by.")


def choose_grid(recipe: Recipe, facts: MaskFacts) -> Recipe:
    """Fill what says how files become network pixels, and what is measured of the answers."""
    planned = _solid_grid(recipe, facts) if facts.axes == 3 else _flat_grid(recipe, facts)
    planned["masks.thin"] = (
        (True, f"what is drawn is {facts.thickness:.0f} pixels thick and long")
        if facts.thin
        else (False, "what is drawn is not thin and long")
    )
    known = facts.spacing_mm is not None
    step = max(facts.spacing_mm or (1.0,))
    unit = "mm" if known else "pixels"
    tolerance = round(max(2.0 if facts.axes == 3 and known else 0.0, step * (1 if facts.axes == 3 else 2)), 3)
    planned["masks.tolerance"] = (tolerance, f"{tolerance:g} {unit}: about as far as two people's boundaries differ")
    return filled(recipe, planned)


def _flat_grid(recipe: Recipe, facts: MaskFacts) -> dict[str, tuple[Any, str]]:
    planned: dict[str, tuple[Any, str]] = {
        "input.channels": (
            1 if facts.gray else 3,
            "no image has colour" if facts.gray else "there are images in colour",
        ),
    }
    planned["masks.own_levels"] = _levels_rule(recipe, facts)
    if any(one is not None for one in (recipe.masks.scale, recipe.masks.side, recipe.masks.um_per_px)):
        return planned
    if recipe.input.image_size is not None:
        return planned | {"masks.side": (recipe.input.image_size, "as asked for by the image size")}
    name, value, why = grid_rule(facts, apart=bool(recipe.masks.instances))
    return planned | {f"masks.{name}": (value, why)}


def _levels_rule(recipe: Recipe, facts: MaskFacts) -> tuple[bool, str]:
    """Choose whether black and white are of each picture: where many are dim, what is drawn is lost in the dark."""
    if recipe.input.window is not None:
        return False, "the window says what is black and white"
    dark, usual = (float(np.percentile(facts.whites, part)) for part in (10, 90))
    if dark < _DIM and dark < _DIM * usual:
        return True, f"a tenth of the images reach {dark:.0%} of white at most, others {usual:.0%}"
    return False, f"images reach {dark:.0%} of white and more"


def grid_rule(facts: MaskFacts, *, apart: bool = False) -> tuple[str, Any, str]:
    """Choose at which resolution pictures are drawn on: ("scale" | "side" | "um_per_px", the value, why)."""
    least = _SMALL_APART if apart else _SMALL
    longest = float(np.median(facts.longest))
    large = float(np.percentile(facts.relative, 75)) if facts.relative else 0.0
    if facts.spacing_mm is not None and facts.spacing_spread > _ALIKE:
        step = round(1000 * float(np.mean(facts.spacing_mm)), 4)
        return "um_per_px", step, "pixels differ in size from image to image, and the files say how large they are"
    if not facts.thin and large > _FILLS:
        side = min(_VIEW, 32 * math.ceil(longest / 32))
        return "side", side, f"what is drawn is {large:.0%} of the longer side wide, and is seen with what surrounds it"
    differ = max(facts.longest) > _ALIKE * min(facts.longest)
    if differ and facts.relative and np.std(np.log(facts.relative)) < 0.8 * np.std(np.log(facts.things)):
        side = min(_MOST_SIDE, 32 * math.ceil(longest / 32))
        return "side", side, "sizes of what is drawn follow the size of the image more than they count pixels"
    small = float(np.percentile(facts.things, 25)) if facts.things else least
    growth = round(min(_MOST_GROWTH, least / small), 2)
    if not facts.thin and growth > 1 and longest * growth <= _MOST_SIDE:
        why = f"small things are {small:.0f} pixels wide" + (", and are told apart" if apart else "")
        return "scale", growth, why
    scale = round(min(1.0, _MOST_SIDE / longest), 3)
    if scale == 1:
        return "scale", 1.0, f"images of {longest:.0f} pixels are drawn on as they are"
    return "scale", scale, f"images of {longest:.0f} pixels become {longest * scale:.0f}"


def _solid_grid(recipe: Recipe, facts: MaskFacts) -> dict[str, tuple[Any, str]]:
    steps = facts.spacing_mm or (1.0, 1.0, 1.0)
    whole = math.prod(facts.shape)
    factor = max(1.0, (whole / _MOST_VOXELS) ** (1 / 3))
    spacing = tuple(round(step * factor, 3) for step in steps)
    text = " x ".join(f"{step:g}" for step in spacing)
    why = (
        f"{text} mm, the median of the scans" if factor == 1 else f"{text} mm: a scan then has {_MOST_VOXELS:,} voxels"
    )
    windows = (
        (WINDOWS_HU, "lung, soft tissue and ground glass, as the three channels of a picture")
        if facts.hounsfield
        else ([], "these are no Hounsfield units: the darkest and brightest voxels are black and white")
    )
    given = windows[0] if recipe.masks.windows_hu is None else recipe.masks.windows_hu
    return {
        "masks.spacing_mm": (spacing, why),
        "masks.windows_hu": windows,
        "input.channels": (3 if len(given) > 1 else 1, "one a window"),
    }


def choose_rest(recipe: Recipe, masks: MaskFacts, facts: Facts) -> Recipe:
    """Fill patches, mirrors, decoder, depth and the schedule.

    Args:
        recipe: with its grid.
        masks: of the training.
        facts: of images and backbone.

    Raises:
        BadRecipe: the backbone has fewer stages than are to be thawed.
    """
    _check_depth(recipe, facts)
    axes, shape = masks.axes, _network_shape(recipe, masks)
    patch, why, batch, room = _step_rule(recipe, masks, shape)
    steps_wanted = _STEPS_APART if recipe.masks.instances else _STEPS_WANTED[axes]
    wanted = steps_wanted * batch / masks.images  # times that an image is looked at
    each = recipe.masks.patches or max(1, math.ceil(wanted / (recipe.fit.epochs or _EPOCHS)))
    epochs = recipe.fit.epochs or min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, round(wanted / each)))
    steps = epochs * math.ceil(each * masks.images / batch)
    sided = dict(masks.sided)
    free = [axis for axis in range(axes) if axis not in sided]
    mirrors = free if axes == 3 else [axis for axis in _flips(facts.modality) if axis in free]
    decoder = "unet" if recipe.masks.decoder == "auto" else recipe.masks.decoder
    whole = decoder in WHOLE
    planned: dict[str, tuple[Any, str]] = {
        "masks.patch": (patch, why),
        "masks.patches": (each, _patches_words(recipe, each * epochs, images=masks.images)),
        "masks.decoder": ("unet", "joins what is fine with what is far seen"),
        "masks.rungs": _rungs_rule(recipe, patch, axes),
        "masks.fine": _fine_rule(recipe, masks, shape),
        "masks.norm": _norm_rule(decoder, axes, mixed=bool(recipe.masks.own_levels), random=facts.random),
        "masks.deep": (2 if axes == 3 else 0, "coarser maps learn where, the finest learns the boundary"),
        "masks.mirrored": (mirrors, _mirror_words(mirrors, sided, axes)),
        "augment.preset": (
            (facts.modality, facts.modality_reason)
            if axes == 2
            else ("none", "patches of volumes are stretched, mirrored and brightened instead")
        ),
        "depth.thaw": (
            (0, "the whole net is learnt, and no encoder is under it")
            if whole
            else untried_rule(stages=facts.stages, random=facts.random, procedural=facts.procedural)
        ),
        "backbone.recalibrate": (
            not unmeasurable(facts) and not whole,
            unmeasurable(facts) or "a step sees too few images to normalise by its own statistics",
        ),
        "fit.batch_size": (batch, f"{batch} patches a step{room}"),
        "fit.epochs": (epochs, f"about {steps} steps; the best epoch by validation is kept"),
        "fit.patience": (0, "the falling rate still brings gains"),
        "fit.norms": ("stored", "a step sees patches of too few images to normalise by its own statistics"),
        "fit.lr": _rate_rule(facts),
        "fit.head_lr": (2e-3, "the decoder is new"),
        "fit.layer_decay": decay_rule(facts),
        "fit.ema": average_rule(steps),
    }
    return filled(recipe, planned)


def _rate_rule(facts: Facts) -> tuple[float, str]:
    if (facts.random or facts.procedural) and not facts.transformer:
        return 1e-3, "layers that have seen no real image learn faster"
    return 3e-4, "trained layers keep much"


def _patches_words(recipe: Recipe, looks: int, *, images: int) -> str:
    why = "; to tell things apart takes three times as many as to draw them" if recipe.masks.instances else ""
    return f"about {looks * images} patches in all from {images} images{why}"


def _check_depth(recipe: Recipe, facts: Facts) -> None:
    asked = recipe.depth.thaw
    if isinstance(asked, int) and asked > facts.stages:
        what = f"depth {asked} is not possible: the encoder has {facts.stages} stages"
        raise BadRecipe(what, do=f"Give --depth head, 1 to {facts.stages}, or all.")


def _step_rule(recipe: Recipe, masks: MaskFacts, shape: Sequence[int]) -> tuple[list[int], str, int, str]:
    """Choose patch and batch by the machine: (patch, why, patches a step, words of the machine)."""
    room = room_of(recipe.machine.device)
    patch, why = list(recipe.masks.patch or ()), "as asked"
    if recipe.masks.patch is None:
        patch, why = _patch_rule(shape, masks, room.patch_voxels)
        why += room.words if masks.axes == 3 else ""
    held = room.step_pixels if masks.axes == 2 else room.step_voxels
    batch = recipe.fit.batch_size or max(2, min(_MOST_BATCH, held // math.prod(patch)))
    return patch, why, batch, room.words


def _norm_rule(decoder: str, axes: int, *, mixed: bool, random: bool) -> tuple[str, str]:
    """Choose what normalises the decoder's maps; see decision 12."""
    if decoder not in ARMS:
        return "batch", "this decoder has norms of its own"
    if axes == 3:
        return "batch", "normalised by itself, a patch of a scan looks unlike a whole scan"
    if mixed:
        return "group", "some pictures are dim and others bright, and what a step has together fits no single one"
    if random:
        return "group", "an encoder from random numbers changes fast, and stored statistics lag behind"
    return "batch", "pictures are alike in brightness, and nothing is gained by normalising each by itself"


def _fine_rule(recipe: Recipe, facts: MaskFacts, shape: Sequence[int]) -> tuple[bool, str]:
    """Choose whether pixels are drawn on one by one; what is thick loses little where they are drawn on by twos."""
    grown = max(shape) / max(facts.shape)
    thick = facts.thickness * grown
    if facts.axes == 2 and grown >= _TWOFOLD and recipe.masks.instances:
        return False, "pictures are seen at twice their size, and drawn on at their own"
    if facts.axes == 2 and thick >= _THICK and not facts.thin and not recipe.masks.instances:
        return False, f"what is drawn is {thick:.0f} network pixels thick"
    return True, f"what is drawn is {thick:.0f} network pixels thick, and its boundary counts"


def _flips(modality: str) -> list[int]:
    from medgraft.samples.presets import preset

    chosen = preset(modality)
    return [axis for axis, share in ((0, chosen.flip_v), (1, chosen.flip_h)) if share or chosen.turns]


def _mirror_words(mirrors: Sequence[int], sided: dict[int, str], axes: int) -> str:
    names = ("height", "width") if axes == 2 else ("depth", "height", "width")
    if sided:
        return "; ".join(f"not along {names[axis]}: {why}" for axis, why in sided.items())
    along = " and ".join(names[axis] for axis in mirrors)
    return (
        f"nothing that is drawn is told apart by its side along {along}" if along else "images of this kind have sides"
    )


def _network_shape(recipe: Recipe, facts: MaskFacts) -> tuple[int, ...]:
    """Get the median size of an image in network pixels."""
    own = recipe.masks
    if facts.axes == 3:
        steps, wanted = facts.spacing_mm or (1.0,) * 3, own.spacing_mm or (1.0,) * 3
        return tuple(max(1, round(n * a / b)) for n, a, b in zip(facts.shape, steps, wanted, strict=True))
    if own.side is not None:
        factor = own.side / max(facts.shape)
    elif own.um_per_px is not None:
        factor = 1000 * float(np.mean(facts.spacing_mm or (0.001,))) / own.um_per_px
    else:
        factor = own.scale or 1.0
    return tuple(max(1, round(size * factor)) for size in facts.shape)


def _patch_rule(shape: Sequence[int], facts: MaskFacts, voxels: int) -> tuple[list[int], str]:
    if facts.axes == 2:
        most = _VIEW if max(shape) <= _VIEW else _PATCH
        patch = [min(32 * math.ceil(size / 32), most) for size in shape]
        whole = all(side >= size for side, size in zip(patch, shape, strict=True))
        return patch, "a whole image" if whole else f"a part of images of {shape[0]} x {shape[1]} network pixels"
    steps = 8
    grow = min(1.0, (voxels / math.prod(shape)) ** (1 / 3))
    patch = [max(steps, steps * round(size * grow / steps)) for size in shape]
    if grow == 1.0:
        patch = [max(steps, steps * math.ceil(size / steps)) for size in shape]
    text = " x ".join(map(str, shape))
    return patch, ("a whole scan" if grow == 1.0 else "a part") + f" of {text} voxels"


def _rungs_rule(recipe: Recipe, patch: Sequence[int], axes: int) -> tuple[int, str]:
    if axes == 2:
        count = max(1, int(math.log2(max(2, min(patch) / _FEWEST_PLACES))))
        return min(5, count), f"a patch of {min(patch)} pixels has {_FEWEST_PLACES} places of the coarsest and more"
    spacing = recipe.masks.spacing_mm or (1.0,) * 3
    count = 1
    while count < 5:
        deep = math.prod(plan_depth(count + 1, spacing_mm=spacing).strides)
        sides = (patch[0] / deep, patch[1] / 2 ** (count + 1), patch[2] / 2 ** (count + 1))
        if max(sides) < _FEWEST_PLACES or min(sides) < 2:
            break
        count += 1
    return count, f"the coarsest map has {_FEWEST_PLACES} places or more along the longest side of a patch"


def form_of(recipe: Recipe) -> DrawForm:
    """Get how the net is built and looks, of a recipe that is filled."""
    own = recipe.masks
    assert own.patch is not None and own.mirrored is not None
    patch = tuple(own.patch)
    channels = 1 if recipe.input.channels == 1 else 3
    grid: GridForm
    if len(patch) == 3:
        assert own.spacing_mm is not None
        grid = FrameForm(own.spacing_mm, "all", tuple(own.windows_hu or ()))
    else:
        scale = None if own.side is not None or own.um_per_px is not None else own.scale or 1.0
        grid = PictureForm(channels, scale, own.side, own.um_per_px, recipe.input.window, bool(own.own_levels))
    arm = "unet" if own.decoder == "auto" else own.decoder
    decoder = DecoderForm(arm, own.width, own.deep or 0, own.rungs or 0, own.fine is not False, own.norm or "batch")
    window, lap = _windows(patch, decoder)
    losses = Losses(own.dice, own.boundary, reach=2 if len(patch) == 2 else 1)
    return DrawForm(grid, decoder, patch, window, lap, tuple(own.mirrored), bool(own.instances), losses)


def _windows(patch: tuple[int, ...], decoder: DecoderForm) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Get windows as large as memory bears, so that little is looked at twice, and what neighbours share."""
    most = _WINDOW_PIXELS if len(patch) == 2 else _WINDOW_VOXELS
    step = 32 if decoder.arm in WHOLE else 2 ** (decoder.rungs or 5)
    grow = max(1.0, (most / math.prod(patch)) ** (1 / len(patch)))
    window = tuple(step * max(1, round(side * grow / step)) for side in patch)
    return window, tuple(2 * math.ceil(side / 8) for side in patch)
