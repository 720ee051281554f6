"""The data decide how images unlike normal ones are found: which are normal, the method and its net, with reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from medgraft.errors import BadRecipe
from medgraft.generation.choices import choose_rest as choose_generator
from medgraft.nets.backbone import Backbone
from medgraft.planning import average_rule, choose_input, filled
from medgraft.recipe import Recipe
from medgraft.samples import presets
from medgraft.segmentation.room import room_of

UNNAMED = "no finding"  # what images with none of several labels are called
_WORDS = {"normal", "normals", "healthy", "health", "negative", "control", "controls", "good", "well", "none", "clear"}
_WORDS |= {"0", "0.0", "false", "benign normal", "normal control", "finding free", "unremarkable", "inconspicuous"}
# Not "non": non-small-cell and non-proliferative are diseases.
_NO = re.compile(r"(no|without) \w+( \w+)?")
_LOOKED = (96, 128)
_SIDES = ((8, 256), (4, 128), (1, 64))  # room of the machine -> pixels of a side that is drawn again
_STEP = {"diffusion": 8, "autoencoder": 16}
_STEPS = {1: 1500, 4: 6000, 8: 12_000}
_BATCH = 16
_CELLS, _LEVELS = (2, 8), 3  # pixels of the side of a cell
_APART = 2.0  # deviations of features from one edge of an image to the other
_TOP = {"patches": 0.1, "diffusion": 0.05, "autoencoder": 0.05}


def normal_of(labels: Sequence[str | None], asked: str | None) -> tuple[str, str]:
    """Get the label of normal images, and why it is that.

    Args:
        labels: of all samples.
        asked: by the user, or None.

    Raises:
        BadRecipe: no label, or several, can be meant.

    Example:
        >>> normal_of(["no_tumor", "glioma", "no_tumor"], None)[0]
        'no_tumor'
    """
    counts = Counter(label for label in labels if label is not None)
    if not counts:
        raise BadRecipe("no image has a label", do="Give a table with labels, or a folder of each label.")
    known = ", ".join(name or "(none)" for name in sorted(counts)[:12])
    if asked is not None:
        found = [name for name in counts if name == asked] or [one for one in counts if _plain(one) == _plain(asked)]
        if len(found) != 1:
            raise BadRecipe(f"no image has the label {asked!r} that anomaly.normal names", do=f"There are: {known}.")
        return found[0], "as asked"
    if len(counts) == 1:
        return next(iter(counts)), "all images have this label"
    found = [name for name in counts if not name] or [name for name in counts if says_normal(name)]
    if len(found) == 1:
        return found[0], f"of the labels {known} it says so" if found[0] else "images with none of the labels"
    what = "no label says that it is of normal images" if not found else f"{' and '.join(found)} may both be normal"
    raise BadRecipe(f"{what}; there are {known}", do="Name it: --set anomaly.normal=LABEL.")


def _plain(label: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", label.strip().casefold()))


def says_normal(label: str) -> bool:
    """Say whether a label is one of normal images by its words."""
    plain = _plain(label)
    return plain in _WORDS or bool(_NO.fullmatch(plain))


def choose_images(recipe: Recipe, *, side: int, gray: bool) -> Recipe:
    """Fill the method, and the size and channels of network pixels.

    Args:
        recipe: as asked.
        side: median of the shorter sides of the images, in pixels.
        gray: True when no image has colour.

    Raises:
        BadRecipe: a size that the method cannot draw again, or an option that has no meaning for it.
    """
    recipe = filled(recipe, {"anomaly.method": ("patches", "one pass, and nothing has to be learnt in steps")})
    method = recipe.anomaly.method
    _check_asked(recipe)
    if method == "patches":
        size = next((one for one in _LOOKED if one >= side), _LOOKED[-1])
        why = f"{size} pixels: the median shorter side of the images is {side}; {_LOOKED[-1]} at most keeps it quick"
        return choose_input(filled(recipe, {"input.image_size": (size, why)}), side=side, gray=gray)
    if recipe.input.image_size is None:
        times, words = _times(recipe)
        most = next(pixels for least, pixels in _SIDES if times >= least)
        size = min(most, max(16, side // 16 * 16))
        why = f"{size} pixels: images of {side}; {most} is what the machine can learn{words}"
        recipe = filled(recipe, {"input.image_size": (size, why)})
    size = recipe.input.image_size or 0
    if size % _STEP[method]:
        what = f"{method} draws sides of multiples of {_STEP[method]} pixels, not of {size}"
        raise BadRecipe(what, do=f"Give --image-size {max(16, size // 16 * 16)}.")
    return choose_input(recipe, side=side, gray=gray)


def _check_asked(recipe: Recipe) -> None:
    """Refuse what was asked for and would change nothing."""
    if recipe.depth.thaw != "auto":
        what = "depth.thaw has no meaning here: an encoder is asked as it is, and other nets are learnt whole"
        raise BadRecipe(what, do="Leave --depth out.")
    if recipe.anomaly.method == "patches" and recipe.fit.epochs is not None:
        what = "fit.epochs has no meaning for patches, which see each normal image once"
        raise BadRecipe(what, do="Leave --epochs out, or take --set anomaly.method=diffusion.")


def choose_levels(recipe: Recipe, net: Backbone) -> Recipe:
    """Fill which stages are compared: the last three, of those whose cells are small enough for what is small."""
    least, most = _CELLS
    fitting = [number for number, stride in enumerate(net.strides, start=1) if least <= stride <= most]
    levels = (fitting or list(range(1, len(net.strides) + 1)))[-_LEVELS:]
    strides = ", ".join(str(net.strides[level - 1]) for level in levels)
    return filled(recipe, {"anomaly.levels": (levels, f"of {len(net.strides)} stages; cells of {strides} pixels")})


def choose_rest(recipe: Recipe, *, images: int, preset: tuple[str, str]) -> Recipe:
    """Fill how images are scored and, of nets that learn in steps, net and schedule.

    Args:
        recipe: with its method and size.
        images: normal ones of the training.
        preset: of the kind of image, and why; its mirrors and turns are what is changed.

    Raises:
        BadRecipe: a batch is larger than the training.
    """
    method, asked = recipe.anomaly.method, recipe.fit.batch_size
    if method != "patches" and asked is not None and asked > images:
        what = f"a batch of {asked} is more than the {images} normal images that are learnt from"
        raise BadRecipe(what, do=f"Give --batch-size {min(_BATCH, images)}.")
    top = _TOP[method]
    why = f"the mean of the oddest {100 * top:g} % of the places is steadier than the oddest one"
    recipe = filled(recipe, {"anomaly.top": (top, why)})
    if method == "patches":
        recipe = filled(recipe, {"augment.preset": preset, "fit.batch_size": (_BATCH, "images a pass")})
        return filled(recipe, {"anomaly.apart": _apart(recipe.augment.preset)})
    times, words = _times(recipe)
    if method == "diffusion":
        size = recipe.input.image_size or 64
        own = {"task": "diffuse", "generator.shape": [size, size], "generator.kinds": False}
        reasons = recipe.reasons
        drawn = choose_generator(recipe.changed(own), images=images, preset=preset).changed({"task": recipe.task})
        return filled(drawn.changed({"reasons": {**reasons, **drawn.reasons}}), _arithmetic(times))
    batch = recipe.fit.batch_size or min(_BATCH, max(2, images))
    looks = recipe.generator.looks or max(1, round(100 * batch / images))
    each = max(1, looks * images // batch)
    epochs = recipe.fit.epochs or max(1, round(_STEPS[times] / each))
    planned: dict[str, tuple[Any, str]] = {
        "generator.looks": (looks, "an epoch has about 100 steps"),
        "augment.preset": preset,
        "fit.batch_size": (batch, f"{batch} images a step"),
        "fit.epochs": (epochs, f"about {epochs * each:,} steps{words}"),
        "fit.patience": (0, "the falling rate still brings gains"),
        "fit.lr": (1e-3, "a small net from random numbers"),
        "fit.ema": average_rule(epochs * each),
        **_arithmetic(times),
    }
    return filled(recipe, planned)


def _apart(name: str) -> tuple[float, str]:
    kind = presets.preset(name)
    if kind.turns or kind.flip_v:
        return 0.0, f"images of the kind {name} may lie any way, so where a place lies says nothing"
    return _APART, "what is usual in one place of an image is odd in another"


def _arithmetic(times: int) -> dict[str, tuple[Any, str]]:
    return {
        "fit.channels_last": (False, "slower here on processors"),
        "fit.precision": ("fp32" if times == 1 else "bf16", "what the machine multiplies in"),
    }


def _times(recipe: Recipe) -> tuple[int, str]:
    room, plain = room_of(recipe.machine.device), room_of("cpu")
    return room.step_pixels // plain.step_pixels, room.words
