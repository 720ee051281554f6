"""The data decide for images that are drawn: their size and classes, the net and the schedule, each with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from medgraft.errors import BadRecipe
from medgraft.gather import Peek
from medgraft.learn.engine import memory_bytes
from medgraft.nets.autoencoder import CoderForm, coder_bytes
from medgraft.nets.denoiser import DenoiserForm, kept_bytes
from medgraft.nets.gaussian import directions_of
from medgraft.planning import average_rule, filled
from medgraft.recipe import Recipe
from medgraft.segmentation.room import room_of

_SIDES = ((8, 256), (4, 128), (1, 64))  # room of the machine -> pixels of a picture's side
_SIDES_3D = ((8, 128), (4, 96), (1, 64))
_FEWEST_OF_A_CLASS, _MOST_CLASSES = 10, 50
_STEPS = {"diffuse": {1: 3000, 4: 20_000, 8: 40_000}, "stylegan": {1: 2500, 4: 15_000, 8: 30_000}}
_STEPS_3D = {1: 1500, 4: 10_000, 8: 20_000}
_EPOCH = 100  # steps of an epoch, about
_BATCH, _BATCH_3D = 16, 4
STYLE_NUMBERS = 128  # of a latent and of a style
_AFFORDED = {2: 128**2, 3: 64**3}  # pixels and voxels that a processor can learn to draw without latents
_FOLDED_FROM = 48  # voxels of a side above which four of them become channels
_SHARE = 0.5  # of the memory that maps may take before they are computed again
_CODED = 0.5  # epochs of the autoencoder, of those of what draws its latents
_CODER = {2: (16, 4), 3: (8, 8)}  # channels of the autoencoder's finest resolution, and numbers a place of a latent
_AIR_HU = -500.0  # only CT has values below
_WINDOW_HU = (0.0, 2000.0)


def choose_shape(recipe: Recipe, seen: Peek, shape: Sequence[int]) -> Recipe:
    """Fill how large images are drawn, whether in colour, as pixels or latents, and by which net.

    Args:
        recipe: as asked.
        seen: of a few images.
        shape: ([D,] H, W), the median of some.

    Raises:
        BadRecipe: StyleGAN is asked for volumes, latents or a size that is no power of two, or sides are no multiples
            of what the net halves them by.
    """
    if seen.volume and recipe.task == "stylegan":
        raise BadRecipe("stylegan draws flat images, and these are volumes", do="Use --task diffuse.")
    times, words = _times(recipe)
    asked = recipe.generator.shape or ([recipe.input.image_size] * (3 if seen.volume else 2))
    if asked[0] is not None:
        wanted, why = [int(side or 0) for side in asked], "as asked"
    elif seen.volume:
        most = next(side for least, side in _SIDES_3D if times >= least)
        shrink = min(1.0, most / max(shape))
        wanted = [max(16, 8 * round(side * shrink / 8)) for side in shape]
        why = f"volumes of {' x '.join(map(str, shape))} voxels, no side above {most}{words}"
    else:
        most = next(side for least, side in _SIDES if times >= least)
        side = min(most, 2 ** int(math.log2(max(seen.longest, 16))))
        wanted, why = [side, side], f"images of {seen.longest} pixels; {most} is what the machine can learn{words}"
    _check_shape(recipe, wanted, volume=seen.volume)
    planned: dict[str, tuple[Any, str]] = {
        "generator.shape": (wanted, why),
        "input.channels": (1 if seen.gray else 3, "no image has colour" if seen.gray else "there are images in colour"),
    }
    return _choose_net(filled(recipe, planned), times, words)


def _check_shape(recipe: Recipe, shape: Sequence[int], *, volume: bool) -> None:
    if len(shape) != (3 if volume else 2):
        what = f"generator.shape has {len(shape)} sides, and the images have {3 if volume else 2}"
        raise BadRecipe(what, do="Give ([D,] H, W).")
    if recipe.task == "stylegan" and (shape[0] != shape[1] or shape[0] < 16 or shape[0] & (shape[0] - 1)):
        what = f"stylegan draws squares whose side is a power of two, not {shape[0]} x {shape[1]} pixels"
        raise BadRecipe(what, do="Give --image-size 32, 64, 128 or 256.")
    if recipe.task == "diffuse" and any(side % 8 or side < 16 for side in shape):
        what = f"sides of {' x '.join(map(str, shape))} are no multiples of 8 from 16 on"
        raise BadRecipe(what, do="Give others by --image-size or --set generator.shape=[...].")


def choose_window(recipe: Recipe, records: Sequence[Mapping[str, Any]]) -> Recipe:
    """Fill what is black and white of CT, so that what is drawn can be written in HU again.

    Args:
        recipe: as asked; a window that it names stays.
        records: facts of some images.
    """
    if recipe.input.window is not None or not in_hu(records) or any(len(one["shape"]) != 4 for one in records):
        return recipe
    centre, width = _WINDOW_HU
    low, high = centre - width / 2, centre + width / 2
    return filled(recipe, {"input.window": ((centre, width), f"CT: {low:g} to {high:g} HU, from air to bone")})


def in_hu(records: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether images are in HU: their files say so, or all of them have values that only air of a CT has."""
    return bool(records) and all(
        one["unit"] == "HU" or (one["unit"] == "value" and one["low"] < _AIR_HU) for one in records
    )


def choose_kinds(recipe: Recipe, labels: Sequence[str | None]) -> Recipe:
    """Fill whether images are drawn by class, of the labels of all samples.

    Raises:
        BadRecipe: it is asked for, and there are no classes.
    """
    counts = Counter(label for label in labels if label)
    plain = not any(label and "|" in label for label in labels) and all(labels)
    several = plain and 2 <= len(counts) <= _MOST_CLASSES
    if recipe.generator.kinds and not several:
        raise BadRecipe("these images have no classes to be drawn by", do="Leave generator.kinds out.")
    enough = several and min(counts.values()) >= _FEWEST_OF_A_CLASS
    rarest = min(counts.values(), default=0)
    why = (
        f"each of {len(counts)} classes has {rarest} images or more"
        if enough
        else f"a class has {rarest} images, {_FEWEST_OF_A_CLASS} are needed"
        if several
        else "there are no classes"
    )
    return filled(recipe, {"generator.kinds": (enough, why)})


def choose_rest(recipe: Recipe, *, images: int, preset: tuple[str, str]) -> Recipe:
    """Fill the schedule, and what it takes.

    Args:
        recipe: with its shape and net.
        images: of the training.
        preset: of the kind of image, and why; its mirrors and turns are what is changed.
    """
    own, task = recipe.generator, recipe.task
    assert own.shape is not None
    axes, (times, words) = len(own.shape), _times(recipe)
    batch = recipe.fit.batch_size or min(_BATCH if axes == 2 else _BATCH_3D, max(2, images))
    steps = (_STEPS[task] if axes == 2 else _STEPS_3D)[times]
    looks = own.looks or max(1, round(_EPOCH * batch / images))
    each = max(1, looks * images // batch)
    epochs = recipe.fit.epochs or max(1, round(steps / each))
    total = epochs * each
    recipe = _choose_memory(_choose_directions(recipe, images), batch)
    planned: dict[str, tuple[Any, str]] = {
        "generator.gamma": (
            round(0.0002 * own.shape[-1] ** 2 / batch, 4) if task == "stylegan" else 0.0,
            "by size and batch, as Karras et al. 2020" if task == "stylegan" else "no discriminator",
        ),
        "generator.looks": (looks, f"an epoch has about {_EPOCH} steps"),
        "generator.sheet": (max(1, epochs // 8), "about eight looks in all"),
        "augment.preset": preset,
        "fit.batch_size": (batch, f"{batch} images a step"),
        "fit.epochs": (epochs, f"about {total:,} steps{words}"),
        "fit.patience": (0, "the falling rate still brings gains"),
        "fit.lr": (3e-4, "as diffusion is learnt") if task == "diffuse" else (2e-3, "as Karras et al. 2020"),
        "fit.head_lr": (3e-4, "one net") if task == "diffuse" else (2e-3, "both nets learn equally fast"),
        "fit.layer_decay": (1.0, "no layer is older than another"),
        "fit.ema": average_rule(total) if task == "diffuse" else (0.998, "the generator circles around its best"),
    }
    if (own.latent or 1) > 1:
        why = f"{_CODED:g} times those of what draws latents"
        planned["generator.latent_epochs"] = (max(1, round(_CODED * epochs)), why)
    return filled(recipe, planned)


def _choose_net(recipe: Recipe, times: int, words: str) -> Recipe:
    """Fill whether pixels or latents are drawn, how they are folded, and the channels."""
    own, task = recipe.generator, recipe.task
    assert own.shape is not None
    axes = len(own.shape)
    recipe = filled(recipe, {"generator.widths": _widths(task, axes, own.shape, times, words)})
    if task != "diffuse":
        if (own.latent or 1) > 1:
            raise BadRecipe("stylegan draws pixels and no latents", do="Leave generator.latent out.")
        why = "stylegan draws pixels"
        return filled(recipe, {f"generator.{name}": (1, why) for name in ("latent", "fold")})
    halved = 2 ** (len(recipe.generator.widths or ()) - 1)
    recipe = filled(recipe, {"generator.latent": _latent(own.shape, halved, times, words)})
    latent = recipe.generator.latent or 1
    wanted = 1 if latent > 1 else 2 if axes == 2 or max(own.shape) <= _FOLDED_FROM else 4
    fold = own.fold or next(
        by for by in (4, 2, 1) if by == 1 or (by <= wanted and not any(side % (by * halved) for side in own.shape))
    )
    step = latent * fold * halved
    if any(side % step for side in own.shape):
        sides = " x ".join(map(str, own.shape))
        what = f"sides of {sides} are no multiples of {step}: {latent} of the latent, {fold} folded, {halved} halved"
        raise BadRecipe(what, do="Give other sides, or a smaller generator.latent or generator.fold.")
    paid = " x ".join(str(side // fold // latent) for side in own.shape)
    planned: dict[str, tuple[Any, str]] = {"generator.fold": (fold, f"a map of {paid} is what is paid for")}
    if latent > 1:
        planned["generator.latent_width"] = (_CODER[axes][0] * min(2, times), f"an autoencoder of {axes} axes{words}")
    return filled(recipe, planned)


def _choose_directions(recipe: Recipe, images: int) -> Recipe:
    """Fill how many directions of a Gaussian are measured, which tells what lines can; the net learns the rest."""
    if recipe.task == "stylegan" and (recipe.generator.directions or 0) > STYLE_NUMBERS:
        what = f"a style has {STYLE_NUMBERS} numbers, and cannot tell {recipe.generator.directions} directions apart"
        raise BadRecipe(what, do=f"Give --set generator.directions={STYLE_NUMBERS} at most.")
    coded = coder_form(recipe)
    channels, step = (1 if recipe.input.channels == 1 else 3, 1) if coded is None else (coded.latent, coded.step)
    numbers = channels * math.prod(side // step for side in recipe.generator.shape or ())
    count = directions_of(numbers, images)
    why = f"{images} images tell of so many; what they say the net need not learn"
    return filled(recipe, {"generator.directions": (count, why)})


def _latent(shape: Sequence[int], halved: int, times: int, words: str) -> tuple[int, str]:
    """Pixels where a step can afford them, else the smallest step that brings a latent below half of that."""
    afforded = _AFFORDED[len(shape)] * times
    kind, count = ("pixels" if len(shape) == 2 else "voxels"), math.prod(shape)
    if count <= afforded:
        return 1, f"{count:,} {kind} are drawn as they are; up to {afforded:,} can be afforded{words}"
    fitting = [by for by in (2, 4, 8) if not any(side % (by * halved) for side in shape)]
    enough = [by for by in fitting if by > 2 and count / by ** len(shape) <= afforded / 2]
    if not fitting:
        return 1, f"sides that are no multiples of {2 * halved} make no latents"
    return (enough or fitting[-1:])[0], f"{count:,} {kind} are more than the {afforded:,} that can be afforded{words}"


def coder_form(recipe: Recipe) -> CoderForm | None:
    """Get how the autoencoder is built; None where pixels are drawn."""
    own = recipe.generator
    if own.shape is None or (own.latent or 1) == 1:
        return None
    axes, channels = len(own.shape), 1 if recipe.input.channels == 1 else 3
    width, numbers = _CODER[axes]
    return CoderForm(axes, channels, own.latent_width or width, numbers, own.latent or 1)


def _choose_memory(recipe: Recipe, batch: int) -> Recipe:
    own = recipe.generator
    if recipe.task != "diffuse" or own.shape is None or own.widths is None:
        return filled(recipe, {"generator.checkpoint": (False, "both nets are small")})
    form = DenoiserForm(axes=len(own.shape), widths=tuple(own.widths), blocks=own.blocks, fold=own.fold or 1)
    need = kept_bytes(form, [side // (own.latent or 1) for side in own.shape], batch=batch)
    coder = coder_form(recipe)
    need = need if coder is None else max(need, coder_bytes(coder, tuple(own.shape), batch=batch))
    there = memory_bytes(recipe.machine.device)
    why = f"a step keeps about {need / 2**30:.2g} GiB of maps, and the machine has {there / 2**30:.3g} GiB"
    return filled(recipe, {"generator.checkpoint": (need > _SHARE * there, why)})


def _widths(task: str, axes: int, shape: Sequence[int], times: int, words: str) -> tuple[list[int], str]:
    if task == "stylegan":
        return [16 * min(times, 2)], f"of the finest resolution; each coarser one has twice as many{words}"
    # Where time is short three steps of a narrow net teach more than one of a net twice as wide.
    base = 32 if times == 1 else 128 if axes == 2 else 64
    return [base * k for k in (1, 2, 3)], f"three resolutions of {axes} axes{words}"


def _times(recipe: Recipe) -> tuple[int, str]:
    room, plain = room_of(recipe.machine.device), room_of("cpu")
    return room.step_pixels // plain.step_pixels, room.words
