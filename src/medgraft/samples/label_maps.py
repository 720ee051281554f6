"""Label maps of a data set: learnt what they mean, checked against their images, and encoded for a net."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgraft.errors import BadData, BadImage
from medgraft.files.label_map import LabelMap, grid_of, read_label_map
from medgraft.samples.dataset import DataSet, Problem, key_of, some, tolerated
from medgraft.samples.mask_facts import MaskFacts, measured
from medgraft.samples.mask_meaning import UNKNOWN, Asked, MaskForm, Names, form_of
from medgraft.values import ImageRef, Sample

_APART = 0.1  # voxels: headers round
_TABLE = 1 << 16  # numbers that a look-up table is made for


@dataclass(frozen=True, eq=False)
class CheckedMasks:
    """The label maps of a data set after the check.

    Attributes:
        samples: those whose mask can be used, in the order of the data set.
        facts: of the mask of each.
        problems: masks that cannot be used, each with its reason.
        form: what the numbers mean.
        notes: what a person should know.
    """

    samples: tuple[Sample, ...]
    facts: tuple[MaskFacts, ...]
    problems: tuple[Problem, ...]
    form: MaskForm
    notes: tuple[str, ...]


class _Pair(NamedTuple):
    """A mask and, where it is to be checked, its image."""

    mask: ImageRef
    image: ImageRef | None


def checked_masks(
    dataset: DataSet,
    *,
    names: Names | None = None,
    instances: bool | None = None,
    colours: Mapping[str, str] | None = None,
    known: Callable[[Sequence[MaskFacts]], MaskForm] | None = None,
    limit_bad: float = 1.0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CheckedMasks:
    """Read every label map once, check it against its image, and get what the numbers mean.

    The meaning is learnt from the samples of the split "train", or from all where there is none. A map that holds a
    number without a meaning is a problem, and so is one that cannot be read or lies on another grid than its image.

    Args:
        dataset: samples without a mask are left out; its `mask_names` are used where no `names` are given.
        names: as `mask_form` takes them.
        instances: as `mask_form` takes them.
        colours: as `mask_form` takes them.
        known: gets the maps and says what their numbers mean, in the place of `names`, `instances` and `colours`.
        limit_bad: percentage of masks that may be missing or unfit, at least one above 0.
        workers: processes that read.
        progress: gets how many are read, and of how many.

    Raises:
        BadData: there are no masks, too many cannot be used, or their numbers have no clear meaning.
    """
    samples = [sample for sample in dataset.samples if sample.mask is not None]
    if not samples:
        raise BadData("no image has a mask", where=dataset.root, do="See docs/guide/masks.md for the layouts.")
    notes: list[str] = []
    read = _read([_Pair(sample.mask, sample.image) for sample in samples if sample.mask], workers, progress)
    found = list(zip(samples, read, strict=True))
    faults = [_problem(sample, fact, dataset.root) for sample, fact in found if isinstance(fact, BadImage)]
    kept = [(sample, fact) for sample, fact in found if isinstance(fact, MaskFacts)]
    missing = [problem for problem in dataset.problems if problem.part]
    total = len(samples) + len(missing)
    _limit([*missing, *faults], total, root=dataset.root, limit_bad=limit_bad)
    train = [fact for sample, fact in kept if sample.split == "train"] or [fact for _, fact in kept]
    asked = Asked(dataset.mask_names or None if names is None else names, instances, colours, dataset.mask_column or "")
    form = form_of(train, asked, notes=notes, where=dataset.root) if known is None else known(train)
    strange = [(sample, form.unknown_in(form.numbers_of(fact))) for sample, fact in kept]
    faults += [_problem(sample, reason, dataset.root) for sample, reason in strange if reason]
    _limit([*missing, *faults], total, root=dataset.root, limit_bad=limit_bad)
    good = [pair for pair, (_, reason) in zip(kept, strange, strict=True) if not reason]
    if faults:
        listed = some([f"{problem.path}: {problem.reason}" for problem in faults], 3)
        notes.append(f"{len(faults)} masks cannot be used and their images are left out ({listed})")
    if len(samples) < len(dataset.samples):
        notes.append(f"{len(dataset.samples) - len(samples)} images have no mask and are left out")
    empty = sum(not set(form.numbers_of(fact)) - {form.background, *form.ignored} for _, fact in good)
    if empty:
        notes.append(f"{empty} of {len(good)} masks are empty: nothing is there")
    sound, facts = tuple(sample for sample, _ in good), tuple(fact for _, fact in good)
    return CheckedMasks(sound, facts, tuple(faults), form, tuple(notes))


def mask_form(
    samples: Sequence[Sample],
    *,
    names: Names | None = None,
    instances: bool | None = None,
    colours: Mapping[str, str] | None = None,
    called: str = "",
    workers: int = 2,
    notes: list[str] | None = None,
) -> MaskForm:
    """Get what the numbers in label maps mean, learnt from all of them together; images are not looked at.

    0 is the background; one number beside it is one class, 0 and 255 as much as 0 and 1; 255 beside other labels is
    unknown; numbers that begin anew in each image and go far are things that are told apart.

    Args:
        samples: to learn from: those of the training; without a mask they are passed over.
        names: number -> name, name -> number, or names in the order of the numbers.
        instances: whether each number is one thing; None lets the maps and `called` say.
        colours: "#rrggbb" -> name, of maps in colours.
        called: the column or folder of the masks, which names a single class.
        workers: processes that read.
        notes: gets what a person should know.

    Raises:
        BadData: the maps are empty, are in colours that nobody named, or may be read in two ways.
        BadImage: one of them cannot be read.
    """
    facts = []
    for fact in _read([_Pair(sample.mask, None) for sample in samples if sample.mask], workers, None):
        if isinstance(fact, BadImage):
            raise fact
        facts.append(fact)
    if not facts:
        raise BadData("no image has a mask", do="See docs/guide/masks.md for the layouts.")
    return form_of(facts, Asked(names, instances, colours, called), notes=[] if notes is None else notes)


def encoded(label_map: LabelMap, form: MaskForm) -> np.ndarray:
    """Get a label map as a net learns it, `([D,] H, W)`.

    Returns:
        uint8: 0 is background, k the k-th class, 255 unknown. Of instances int32: 0 is background, 1 to n the things
        in the order of their numbers.

    Raises:
        BadData: a number means nothing; it is named with its pixels, and so are those that are known.

    Example:
        >>> form = MaskForm(("lesion",), (7,), ignored=(255,))
        >>> encoded(LabelMap(np.array([[0, 7, 255]]), "drawn"), form).tolist()
        [[0, 1, 255]]
    """
    values = _numbers(label_map, form)
    if form.instances:
        numbers, codes = np.unique(values, return_inverse=True)
        first = int(not len(numbers) or int(numbers[0]) != form.background)
        return (codes.reshape(values.shape) + first).astype(np.int32)
    known = {value: place for place, value in enumerate(form.values, start=1)}
    known |= dict.fromkeys(form.ignored, UNKNOWN) | {form.background: 0}
    codes, unknown = _looked_up(values, known)
    if unknown.any():
        numbers, counts = np.unique(values[unknown], return_counts=True)
        what = form.unknown_in(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        field = "masks.colours" if form.colours else "masks.names"
        raise BadData(what, where=label_map.source, do=f"Mend the mask, or name the label by {field}.")
    return codes


def decoded(values: np.ndarray, form: MaskForm) -> np.ndarray:
    """Get the stored numbers (or 0xRRGGBB) of an encoded map, uint8, uint16 or uint32 as they need it.

    Unknown pixels become the first of the form's ignored numbers. Instances stay as they are.

    Raises:
        BadData: it holds a class that the form has not, or unknown pixels for which it has no number.

    Example:
        >>> decoded(np.array([[0, 1, 255]], np.uint8), MaskForm(("lesion",), (7,), ignored=(200,))).tolist()
        [[0, 7, 200]]
    """
    if form.instances:
        return values
    stored = np.full(256, -1, np.int64)
    stored[: len(form.values) + 1] = (form.background, *form.values)
    stored[UNKNOWN] = form.ignored[0] if form.ignored else -1
    out = stored[values]
    if (out < 0).any():
        what = f"a label map holds {int(values[out < 0][0])}, and the classes are 1 to {len(form.values)}"
        raise BadData(what, do="Was it made by another form?")
    return out.astype(np.min_scalar_type(int(stored.max())))


def check_mask(label_map: LabelMap, image_shape: tuple[int, ...], *, image_affine: np.ndarray | None = None) -> None:
    """Check that a label map lies on the grid of its image; a space that one of them does not tell is not compared.

    Args:
        label_map: what `read_label_map` gave.
        image_shape: `([D,] H, W)`.
        image_affine: 4 x 4, index `(d, h, w)` -> RAS millimetres, or None.

    Raises:
        BadData: another size, swapped axes, or another place: the sentence says which and how far.
    """
    own = label_map.values.shape
    if own != tuple(image_shape):
        what, do = _other_size(own, tuple(image_shape))
        raise BadData(what, where=label_map.source, do=do)
    if label_map.affine is None or image_affine is None or len(own) != 3:
        return
    ours, theirs = _corners(label_map.affine, own), _corners(image_affine, own)
    apart = float(np.linalg.norm(ours - theirs, axis=1).max())
    voxel = float(np.linalg.norm(np.asarray(image_affine, np.float64)[:3, :3], axis=0).min())
    if apart <= _APART * voxel:
        return
    nearest = np.linalg.norm(ours[:, None] - theirs[None], axis=2).min(axis=1).max()
    turned = ", though they fill the same space: an axis is flipped or swapped" if nearest <= _APART * voxel else ""
    raise BadData(
        f"the corners of the mask lie up to {apart:.3g} mm from those of its image by their headers{turned}",
        where=label_map.source,
        do="Resample the mask to the image with nearest neighbour, or copy the image's header if only that is wrong.",
    )


def _other_size(own: tuple[int, ...], image: tuple[int, ...]) -> tuple[str, str]:
    if len(own) != len(image):
        kinds = {2: "is flat", 3: "is a volume"}
        what = f"the mask {kinds[len(own)]} ({_size(own)}), its image {kinds[len(image)]} ({_size(image)})"
        return what, "Give each image a mask of its own."
    sizes = f"the mask has {_size(own)}, its image {_size(image)}"
    if sorted(own) == sorted(image):
        do = "Was it turned or saved with its axes in another order, or is the image turned upright by its EXIF tag?"
        return f"{sizes}: its axes are swapped", do
    return f"{sizes}: was it made on a resized copy?", "Resize it with nearest neighbour, or draw it anew."


def _size(shape: tuple[int, ...]) -> str:
    return f"{' x '.join(map(str, reversed(shape)))} {'pixels' if len(shape) == 2 else 'voxels'}"


def _corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The outer voxels' centres, (8, 3) in millimetres."""
    places = np.array([(*place, 1) for place in itertools.product(*((0, side - 1) for side in shape))], np.float64)
    return (places @ np.asarray(affine, np.float64).T)[:, :3]


def _numbers(label_map: LabelMap, form: MaskForm) -> np.ndarray:
    """The map as the form counts: colours, or numbers, which three equal channels are too."""
    if form.colours:
        return label_map.packed()
    numbers = gray_numbers(label_map)
    if numbers is None:
        do = "Save it with numbers, as the others are."
        raise BadData(
            "the mask is in colours, and those that were learnt from in numbers", where=label_map.source, do=do
        )
    return numbers


def gray_numbers(label_map: LabelMap) -> np.ndarray | None:
    """Get the numbers of a label map, which three equal channels are too; None where it is in real colours.

    Example:
        >>> gray_numbers(LabelMap(np.array([[0, 0x070707]]), "drawn", colours=True)).tolist()
        [[0, 7]]
    """
    if not label_map.colours:
        return label_map.values
    return None if (label_map.values % 0x010101).any() else label_map.values // 0x010101


def _looked_up(values: np.ndarray, known: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Codes, uint8, and where there is none, bool."""
    if max(int(values.max(initial=0)), *known) < _TABLE:
        table = np.full(_TABLE, -1, np.int16)
        table[list(known)] = list(known.values())
        codes = table[values]
    else:
        numbers, places = np.unique(values, return_inverse=True)
        codes = np.array([known.get(number, -1) for number in numbers.tolist()], np.int16)[places].reshape(values.shape)
    return codes.astype(np.uint8), codes < 0


def _read(
    pairs: Sequence[_Pair], workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[MaskFacts | BadImage]:
    from medgraft import files

    for done, (_, fact) in enumerate(files.read_many(pairs, _one, workers=workers), start=1):
        if progress is not None:
            progress(done, len(pairs))
        yield fact


def _one(pair: _Pair) -> MaskFacts:
    """Runs in a worker process."""
    label_map = read_label_map(pair.mask)
    if pair.image is not None:
        try:
            shape, affine = grid_of(pair.image)
        except BadImage as error:
            raise BadImage(f"its image cannot be read: {error.what}", where=error.where, do=error.do) from error
        check_mask(label_map, shape, image_affine=affine)
    return measured(label_map)


def _problem(sample: Sample, reason: BadImage | str, root: Path) -> Problem:
    assert sample.mask is not None
    if isinstance(reason, BadImage):
        reason = reason.what if reason.do is None else f"{reason.what.rstrip('.')}. {reason.do}"
    return Problem(key_of(sample.mask, root), f"mask of {sample.key}: {reason}")


def _limit(problems: Sequence[Problem], total: int, *, root: Path, limit_bad: float) -> None:
    count = len(problems)
    if not count or (count <= tolerated(total, limit_bad) and count < total):
        return
    listed = some([f"{problem.path} ({problem.reason})" for problem in problems], 3)
    more = f", more than {limit_bad:g} %" if count < total else ""
    raise BadData(
        f"{count} of {total} masks cannot be used{more}: {listed}",
        where=root,
        do="Mend or remove them, or raise --limit-bad.",
    )
