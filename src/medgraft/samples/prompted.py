"""Pictures whose structures are shown by prompts, as a model learns to outline them: batches of one picture each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medgraft import seeds
from medgraft.samples import augment
from medgraft.samples.presets import Preset
from medgraft.samples.showing import box_prompt, innermost, parts_of
from medgraft.values import Batch, Prompt

KINDS = ("box", "point", "points", "box and point")
_SHARES = (0.4, 0.3, 0.15, 0.15)
JUDGED = ("box", "point")  # by which validation and test images are shown
_SEEN = 9  # pixels of a structure that are left after a change, at least
_NEAR = 0.25  # of the longer side of a box: how far beside it points lie that are not in a structure


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture and its structures.

    Attributes:
        key: of the image, and of the slice where it is of a volume.
        picture: `(H, W, 3)` uint8.
        numbers: `(H, W)`, the k-th structure as k, 0 where none is.
        names: of each structure, what it is.
    """

    key: str
    picture: np.ndarray
    numbers: np.ndarray
    names: tuple[str, ...]

    def mask(self, number: int) -> np.ndarray:
        """Get the mask of the k-th structure, counted from 1."""
        return np.asarray(self.numbers) == number


class PromptedPictures:
    """Pictures in random order, changed, each with some of its structures and prompts.

    Args:
        pictures: to learn from; those without a structure are left out.
        most: structures of a picture at once, at most.
        looks: how often an epoch shows a picture.
        seed: every draw is a function of it, the epoch and the picture.
        preset: how pictures and their structures change; None mirrors and turns them all ways and lights them anew.
        lit: without a preset, how much light, contrast and colour change; 0 leaves them.
    """

    def __init__(
        self,
        pictures: Sequence[Shown],
        *,
        most: int = 12,
        looks: int = 1,
        seed: int = 0,
        preset: Preset | None = None,
        lit: float = 1.0,
    ) -> None:
        self.pictures = [one for one in pictures if one.names]
        self.most, self.looks, self.seed, self.preset, self.lit = most, looks, seed, preset, lit

    def __len__(self) -> int:
        return len(self.pictures) * self.looks

    def part(self, places: Sequence[int]) -> PromptedPictures:
        """Get the batches of some pictures alone."""
        words: dict[str, Any] = {"most": self.most, "looks": self.looks, "seed": self.seed}
        return PromptedPictures([self.pictures[place] for place in places], **words, preset=self.preset, lit=self.lit)

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from `start_step` on."""
        order = seeds.permutation(len(self), seed=self.seed, purpose="shuffle", epoch=epoch)
        for place in order[start_step:].tolist():
            yield self._one(epoch, place)

    def _one(self, epoch: int, place: int) -> Batch:
        dice = seeds.generator(self.seed, "prompt", epoch, place)
        shown = self.pictures[place % len(self.pictures)]
        picture, laid = self._changed(shown, dice, epoch, place)
        there = np.flatnonzero(np.bincount(laid.ravel(), minlength=len(shown.names) + 1)[1:] >= _SEEN) + 1
        if not len(there):  # moved out of the picture
            picture, laid, there = np.asarray(shown.picture), np.asarray(shown.numbers), 1 + np.arange(len(shown.names))
        masks = np.stack([laid == number for number in dice.permutation(there)[: self.most]])
        kind = str(dice.choice(KINDS, p=_SHARES))
        count = int(dice.integers(2, 6)) if kind == "points" else 1
        prompts = tuple(drawn_prompt(mask, kind, dice, count=count) for mask in masks)
        return batch_of(shown.key, picture, masks, prompts)

    def _changed(
        self, shown: Shown, dice: np.random.Generator, epoch: int, place: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A picture and the numbers of its structures, both changed alike."""
        picture, laid = np.asarray(shown.picture), np.asarray(shown.numbers)
        turns, flip = int(dice.integers(4)), bool(dice.integers(2))
        if self.preset is not None:
            turns, flip = turns if self.preset.turns else 0, False
            drawn = augment.drawn_for(self.preset.with_(turns=0.0), [f"{place}"], seed=self.seed, epoch=epoch)
            moved = augment.apply(picture.transpose(2, 0, 1)[None], drawn)[0].numpy()
            picture = np.rint(moved * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
            laid = augment.moved_labels(laid, drawn[0], unknown=0)
        else:
            picture = _lit(picture, self.lit, dice)
        picture, laid = np.rot90(picture, turns, (0, 1)), np.rot90(laid, turns, (0, 1))
        return (picture[:, ::-1], laid[:, ::-1]) if flip else (picture, laid)


class JudgedPictures:
    """Pictures in order, all their structures shown by a box, then by a point: the same prompts each time.

    Args:
        pictures: to judge on; those without a structure are left out.
        most: structures of a picture, at most, evenly over their numbers.
        count: pictures, at most, evenly over their places.
    """

    def __init__(self, pictures: Sequence[Shown], *, most: int = 24, count: int | None = None) -> None:
        known = [one for one in pictures if one.names]
        places = np.linspace(0, len(known) - 1, min(len(known), count or len(known))).round().astype(int)
        self.pictures = [known[int(place)] for place in places]
        self.most = most

    def __len__(self) -> int:
        return len(self.pictures) * len(JUDGED)

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the same batches whatever the epoch."""
        del epoch
        for step in range(start_step, len(self)):
            shown, kind = self.pictures[step // len(JUDGED)], JUDGED[step % len(JUDGED)]
            masks = np.stack([shown.mask(number) for number in self.numbers(shown)])
            prompts = tuple(plain_prompt(mask, kind) for mask in masks)
            yield batch_of(shown.key, np.asarray(shown.picture), masks, prompts)

    def numbers(self, shown: Shown) -> list[int]:
        """Get which structures of a picture are judged."""
        count = len(shown.names)
        return [int(k) + 1 for k in np.linspace(0, count - 1, min(count, self.most)).round()]


def batch_of(key: str, picture: np.ndarray, masks: np.ndarray, prompts: tuple[Prompt, ...]) -> Batch:
    """Get a batch of one picture."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    targets = torch.from_numpy(np.ascontiguousarray(masks.astype(np.uint8)))[None]
    return Batch(pixels, (key,), targets, prompts=prompts)


def plain_prompt(mask: np.ndarray, kind: str) -> Prompt:
    """Get a prompt without chance: a box to the pixel, or the innermost pixel of the largest part."""
    if kind == "box":
        return box_prompt(mask)
    return Prompt(points=np.array([[*innermost(parts_of(mask, most=1)[0]), 1.0]]))


def drawn_prompt(mask: np.ndarray, kind: str, dice: np.random.Generator, *, count: int) -> Prompt:
    """Draw a prompt as a person might give it.

    Args:
        mask: `(H, W)` the structure.
        kind: one of KINDS.
        dice: random numbers.
        count: points, where it is shown by several; the first is in the structure.
    """
    points = np.zeros((0, 3)) if kind == "box" else _points(mask, dice, count)
    if not kind.startswith("box"):
        return Prompt(points=points)
    box = box_prompt(mask).boxes[0]
    spread = 0.05 * np.tile(box[2:] - box[:2], 2)
    box = box + np.clip(dice.normal(0, spread), -2 * spread, 2 * spread)
    ends = np.array([mask.shape[1], mask.shape[0]] * 2, np.float64)
    return Prompt(points, np.clip(box, 0, ends)[None])


def _points(mask: np.ndarray, dice: np.random.Generator, count: int) -> np.ndarray:
    """Points `(count, 3)`: the first inside and half of them well inside; further ones inside or not far beside."""
    deep = innermost(parts_of(mask, most=1)[0]) if dice.random() < 0.5 else None
    rows = [[*(deep or _any_of(mask, dice)), 1.0]]
    beside = _beside(mask)
    for _ in range(count - 1):
        inside = dice.random() < 0.5 or not beside.any()
        rows.append([*_any_of(mask if inside else beside, dice), float(inside)])
    return np.array(rows)


def _any_of(mask: np.ndarray, dice: np.random.Generator) -> tuple[float, float]:
    places = np.flatnonzero(mask)
    y, x = divmod(int(places[int(dice.integers(len(places)))]), mask.shape[1])
    return float(x), float(y)


def _beside(mask: np.ndarray) -> np.ndarray:
    """What is not in a structure, in and not far around its box."""
    x0, y0, x1, y1 = box_prompt(mask).boxes[0].astype(int).tolist()
    rim = max(2, round(_NEAR * max(x1 - x0, y1 - y0)))
    near = np.zeros_like(mask)
    near[max(0, y0 - rim) : y1 + rim, max(0, x0 - rim) : x1 + rim] = True
    return near & ~mask


def _lit(picture: np.ndarray, much: float, dice: np.random.Generator) -> np.ndarray:
    """Another light, contrast, gamma and tint."""
    unit = dice.uniform(-1, 1, 6).astype(np.float32)
    if not much:
        return picture
    values = picture.astype(np.float32) / 255
    mean = values.mean()
    values = (values - mean) * np.exp(0.3 * much * unit[0]) + mean + 0.1 * much * unit[1]
    values = np.clip(values, 0, 1) ** np.exp(0.3 * much * unit[2])
    if np.ptp(picture, axis=2).any():  # gray stays gray
        values = values * np.exp(0.08 * much * unit[3:])
    return np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
