"""A structure followed through a volume: what is found on one slice is the prompt for the next, both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from medgraft.errors import BadRecipe
from medgraft.learn import stopping
from medgraft.nets.prompter import Embedding, Prompter
from medgraft.outlining.form import AXES, Found, OutlineForm, cut
from medgraft.outlining.prompts import check_box, flat_prompt, inside, solid_points
from medgraft.outlining.seen import Seen
from medgraft.values import Prompt

Listen = Callable[[dict[str, Any]], None]
_GOES_ON = 0.5  # of the largest overlap with the slice before
_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
_VOLUME_ENDS = "the volume ends"


@dataclass(frozen=True)
class Halt:
    """Where a structure is followed no further.

    Attributes:
        growth: times the area of the slice before, above which it has leaked.
        shrink: part of that area below which it is something else.
        quality: part of the quality on the first slice below which the model has lost it.
        rim: pixels around the box of the slice before that the next one may reach.
        largest: times the largest area of the first slice and its neighbours, above which it runs away.
        apart: spreads of the gray levels of the first slice, by which the middle one may leave their quartiles.
        least: gray levels of 255 that a spread has at least.
    """

    growth: float = 2.0
    shrink: float = 0.2
    quality: float = 0.7
    rim: int = 2
    largest: float = 3.0
    apart: float = 4.0
    least: float = 6.0

    def levels(self, gray: np.ndarray) -> tuple[float, float]:
        """Get the lowest and highest median of a structure that on its first slice has these gray levels."""
        low, high = (float(one) for one in np.percentile(gray, (25, 75)))
        reach = self.apart * max((high - low) / _QUARTILES, self.least)
        return low - reach, high + reach


@dataclass(frozen=True, eq=False)
class Start:
    """Where it begins.

    Attributes:
        level: the slice.
        prompt: on that slice, of one structure or several.
        further: points on other slices, `(N, 3)` x, y, label by slice.
    """

    level: int
    prompt: Prompt
    further: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(eq=False)
class _Thread:
    """One structure on its way.

    Attributes:
        slices: what is found, `(N, h, w)`.
        start: the slice on which it begins.
        told: quality and stability there.
        levels: between which its median gray level stays.
    """

    slices: np.ndarray
    start: int
    told: tuple[float, float]
    levels: tuple[float, float]
    ends: list[str] = field(default_factory=list)

    @property
    def largest(self) -> int:
        """The largest area of the first slice and its neighbours."""
        return int(self.slices[max(0, self.start - 1) : self.start + 2].sum(axis=(1, 2)).max())


def start_of(
    seen: Seen,
    form: OutlineForm,
    *,
    boxes: Sequence[tuple[float, ...]],
    points: Sequence[tuple[float, ...]],
    mask: np.ndarray | None = None,
) -> Start:
    """Get where prompts of a volume begin: on the slice that is named, else at the first point x, y, z, else midway.

    A mask `(D, H, W)` of the file is cut there.
    Boxes beside points x, y, z are in voxels of the file, as those are; all else is in the plane of the slice.

    Raises:
        BadRecipe: nothing is shown, or something lies outside.
    """
    depth = seen.levels(form.axis)
    shape = seen.along(seen.values[0], form.axis).shape[1:]
    height, width = int(shape[0]), int(shape[1])
    if form.slice is not None:
        if not 0 <= form.slice < depth:
            do = f"Give 0 to {depth - 1} along the axis {form.axis}."
            raise BadRecipe(f"there is no slice {form.slice}", do=do)
        guess = _guess_on(seen, mask, form.slice, form.axis)
        return Start(form.slice, flat_prompt(boxes, points, shape=(height, width), mask=guess))
    if not points:
        guess = _guess_on(seen, mask, depth // 2, form.axis)
        return Start(depth // 2, flat_prompt(boxes, (), shape=(height, width), mask=guess))
    rows = solid_points(points, shape=seen.shape, shown=bool(boxes) or mask is not None)
    chief = int((rows[:, 3] == 1).argmax())  # the first that is in it, else the first
    along, down, across = _plane(form.axis)
    d, h, w = seen.shape
    places = seen.turn.places(rows[:, [2, 1, 0]], (d, h, w))
    flat = np.column_stack([places[:, across], places[:, down], rows[:, 3]])
    levels = np.clip(np.rint(places[:, along]).astype(int), 0, depth - 1)
    first = int(levels[chief])
    here = [tuple(row) for row in flat[levels == first].tolist()]
    boxes = _turned(seen, boxes, rows[chief, 2], form.axis)
    further = {int(level): flat[levels == level] for level in np.unique(levels) if level != first}
    guess = _guess_on(seen, mask, first, form.axis)
    return Start(first, flat_prompt(boxes, here, shape=(height, width), mask=guess), further)


def _guess_on(seen: Seen, mask: np.ndarray | None, level: int, axis: str) -> np.ndarray | None:
    """A first guess on a slice: one of the volume of the file is cut there."""
    if mask is None or mask.ndim != 3:
        return mask
    if mask.shape != seen.shape:
        sizes = (" x ".join(map(str, shape[::-1])) for shape in (mask.shape, seen.shape))
        raise BadRecipe(
            "the mask that is given has {} voxels, the volume {}".format(*sizes), do="Give one of its size."
        )
    slices = seen.along(mask > 0, axis)
    areas = slices.sum(axis=(1, 2))
    if areas.any() and not areas[level]:
        do = f"Name a slice that it is on, such as --slice {int(areas.argmax())}."
        raise BadRecipe(f"the mask that is given is empty on slice {level} (axis {axis})", do=do)
    return np.ascontiguousarray(slices[level])


def _turned(
    seen: Seen, boxes: Sequence[tuple[float, ...]], plane: float, axis: str
) -> list[tuple[float, float, float, float]]:
    """Boxes in voxels x, y of the file, on its plane z, in the plane of a slice of the upright volume."""
    d, h, w = seen.shape
    along, down, across = _plane(axis)
    found = []
    for box in boxes:
        check_box(box, (h, w))
        x0, y0, x1, y1 = (edge - 0.5 for edge in box)  # from edges to centres of voxels
        ends = seen.turn.places(np.array([(plane, y0, x0), (plane, y1, x1)]), (d, h, w)) + 0.5
        low, high = ends.min(axis=0), ends.max(axis=0)
        if high[along] > low[along]:
            what = f"the box is in x and y of the file, and its {axis} slices are not"
            raise BadRecipe(what, do="Name a slice: with --slice N, boxes and points are in its plane.")
        found.append((float(low[across]), float(low[down]), float(high[across]), float(high[down])))
    return found


def _plane(axis: str) -> tuple[int, int, int]:
    """The upright axes along which slices follow each other, and along which they go down and across."""
    number = AXES.index(axis)
    rest = [one for one in range(3) if one != number]
    return number, rest[0], rest[1]


def followed(
    prompter: Prompter, seen: Seen, start: Start, *, axis: str, halt: Halt | None = None, listen: Listen
) -> list[Found]:
    """Follow each structure of a prompt through the slices of a volume, upwards and downwards.

    A slice is asked with the box and the innermost point of what was found on the slice before. It goes no further
    where nothing is found, the area jumps or runs away, the model is far less sure than on the first slice, the gray
    levels are no longer those of the first slice, or the volume ends; the last is said to `listen`.

    Args:
        prompter: the model.
        seen: the volume.
        start: where it begins.
        axis: along which slices follow each other.
        halt: where it goes no further.
        listen: gets progress events.

    Returns:
        a structure a prompt on the grid of the file; its row says how many slices it has and why it ends.
    """
    halt = halt or Halt()
    depth = seen.levels(axis)
    threads = _begun(prompter, seen, start, axis, halt)
    further = {level: _Heard(points, alone=len(threads) == 1) for level, points in start.further.items()}
    done = 1
    for way, end in ((1, depth), (-1, -1)):
        moving = [thread for thread in threads if thread.slices[start.level].any()]
        for level in range(start.level + way, end, way):
            stopping.check()
            if not moving:
                break
            view = _View(prompter.encode(picture := seen.slice(level, axis)), picture, further.get(level))
            moving = [one for one in moving if _step(prompter, view, one, (level - way, level), halt)]
            done += 1
            listen({"event": "outline", "done": done, "of": depth})
        for thread in moving:
            thread.ends.append(_VOLUME_ENDS)
    listen({"event": "outline", "done": depth, "of": depth})
    _warn(threads, further, axis, listen)
    return [_whole(thread, seen, axis) for thread in threads]


def _begun(prompter: Prompter, seen: Seen, start: Start, axis: str, halt: Halt) -> list[_Thread]:
    picture = seen.slice(start.level, axis)
    embedding = prompter.encode(picture)
    threads = []
    for one in start.prompt.each():
        told = prompter.decode(embedding, one)
        slices = np.zeros((seen.levels(axis), *embedding.frame.shape), bool)
        slices[start.level] = mask = told.masks[told.best]
        levels = halt.levels(_gray(picture, mask)) if mask.any() else (0.0, 0.0)
        sure = (float(told.quality[told.best]), float(told.stability[told.best]))
        threads.append(_Thread(slices, start.level, sure, levels))
    return threads


def _gray(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Gray levels of a picture `(h, w, 3)` inside a mask."""
    return picture[mask].mean(axis=1)


def _warn(threads: Sequence[_Thread], further: Mapping[int, _Heard], axis: str, listen: Listen) -> None:
    """Say what a person should look at: structures that nothing ended, and points that nobody heard."""
    for number, thread in enumerate(threads, start=1):
        if _VOLUME_ENDS in thread.ends and len(thread.slices) > 1:
            found = np.flatnonzero(thread.slices.any(axis=(1, 2)))
            text = f"structure {number} goes to the end of the volume (slices {found[0]} to {found[-1]}): look at it"
            listen({"event": "warning", "text": text})
    missed = sorted(level for level, heard in further.items() if not heard.taken.all())
    if missed:
        named = f"slice{'s' if len(missed) > 1 else ''} {', '.join(map(str, missed))} (axis {axis})"
        text = f"points on {named} were not used: no structure was followed to where they are"
        listen({"event": "warning", "text": text})


def _step(prompter: Prompter, view: _View, thread: _Thread, levels: tuple[int, int], halt: Halt) -> bool:
    """Outline the next slice; False where the structure ends."""
    before, level = levels
    last = thread.slices[before]
    prompt = next_prompt(last, rim=halt.rim)
    told = prompter.decode(view.embedding, prompt if view.heard is None else view.heard.added(prompt))
    # Of what the prompt may mean, the surest that goes on with the slice before; overlap alone would rather keep the
    # size than follow a structure that narrows.
    overlap = (told.masks & last).sum(axis=(1, 2)) / np.maximum((told.masks | last).sum(axis=(1, 2)), 1)
    best = int(np.where(overlap >= _GOES_ON * overlap.max(), told.quality, -np.inf).argmax())
    mask, area, former = told.masks[best], int(told.masks[best].sum()), int(last.sum())
    why = ""
    if not area or not overlap[best]:
        why = "nothing was found"
    elif area > halt.growth * former:
        why = "the area jumped"
    elif area < halt.shrink * former:
        why = "the area fell"
    elif told.quality[best] < halt.quality * thread.told[0]:
        why = "the model was not sure"
    elif area > halt.largest * thread.largest:
        why = "the area ran away"
    elif not thread.levels[0] <= np.median(_gray(view.picture, mask)) <= thread.levels[1]:
        why = "the gray levels are others"
    if why:
        thread.ends.append(why)
        return False
    thread.slices[level] = mask
    return True


def next_prompt(last: np.ndarray, *, rim: int) -> Prompt:
    """Get the prompt for the slice after a mask `(H, W)`: its box with a rim, and its innermost point."""
    rows, columns = np.flatnonzero(last.any(axis=1)), np.flatnonzero(last.any(axis=0))
    low = np.array([columns[0], rows[0]]) - rim
    high = np.array([columns[-1], rows[-1]]) + 1 + rim
    ends = np.array(last.shape[::-1])
    box = [*np.clip(low, 0, ends).tolist(), *np.clip(high, 0, ends).tolist()]
    deep: Any = ndimage.distance_transform_edt(np.pad(last, 1))
    y, x = np.unravel_index(int(deep[1:-1, 1:-1].argmax()), last.shape)
    return Prompt(np.array([[float(x), float(y), 1.0]]), np.array([box], np.float64))


@dataclass(eq=False)
class _Heard:
    """Points of the user on another slice; of several structures each hears those in its own box.

    Attributes:
        points: `(N, 3)` x, y, label.
        alone: whether there is one structure, which hears them all.
        taken: which of them were heard, `(N,)`.
    """

    points: np.ndarray
    alone: bool

    def __post_init__(self) -> None:
        self.taken = np.zeros(len(self.points), bool)

    def added(self, prompt: Prompt) -> Prompt:
        """Get the prompt for a slice with those that its structure hears, which are then taken."""
        near = np.array([self.alone or bool(inside(prompt.boxes, point).any()) for point in self.points])
        self.taken |= near
        return Prompt(np.concatenate([prompt.points, self.points[near]]), prompt.boxes)


@dataclass(frozen=True, eq=False)
class _View:
    """A slice that is reached: how the model sees it, its picture, and the user's points on it."""

    embedding: Embedding
    picture: np.ndarray
    heard: _Heard | None


def _whole(thread: _Thread, seen: Seen, axis: str) -> Found:
    told = {"slice": thread.start, "slices": int(thread.slices.any(axis=(1, 2)).sum()), "ends": "; ".join(thread.ends)}
    return cut(np.ascontiguousarray(seen.in_file(thread.slices, axis)), *thread.told, **told)
