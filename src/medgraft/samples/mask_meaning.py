"""What the numbers of label maps mean: which are classes, which are things, which say that nobody knows."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgraft.errors import BadData
from medgraft.files.label_map import colour_text
from medgraft.samples.dataset import some, words_of
from medgraft.samples.mask_facts import MaskFacts

UNKNOWN = 255
"""What unknown pixels are in an encoded label map."""

_MOST_CLASSES = 254  # encoded maps have 8 bits, of which 0 and 255 are taken
_UNNAMED = 32  # classes that nobody named
_SHOWN_COLOURS = 8
_BACKGROUND = {"background", "bg"}
_UNKNOWN_WORDS = {"ignore", "ignored", "unknown", "unlabelled", "unlabeled", "void"}
_NO_NAMES = {"mask", "masks", "seg", "segs", "segmentation", "segmentations", "label", "labels", "labelstr", "tr", "ts"}
_NO_NAMES |= {"map", "maps", "gt", "ground", "truth", "groundtruth", "annotation", "annotations", "class", "object"}
_NO_NAMES |= {"path", "file", "filename", "name", "image", "manual", "instance", "instances", "binary", "labelmap"}

Names = Mapping[Any, Any] | Sequence[str]


@dataclass(frozen=True)
class MaskForm:
    """What the numbers in the label maps of a data set mean.

    Attributes:
        names: of the classes, in order; class k of an encoded map is `names[k - 1]`.
        values: the stored number of each class, 0xRRGGBB where the maps are in colour; empty for instances.
        instances: True where each number is one thing, all of one class.
        ignored: stored numbers that say that nobody knows what is there.
        background: the stored number of what is none of the classes.
        colours: True where the numbers are 0xRRGGBB.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    instances: bool = False
    ignored: tuple[int, ...] = ()
    background: int = 0
    colours: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MaskForm:
        """Read what `to_dict` wrote; unknown keys are ignored."""
        known: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        return cls(**known)

    def asked(self) -> dict[str, str] | list[str]:
        """Get the names as `form_of` takes them to find this form again, whatever the maps hold."""
        if self.instances or self.colours:
            return list(self.names)
        pairs = [*zip(self.values, self.names, strict=True), *((number, "unknown") for number in self.ignored[:1])]
        return {str(number): name for number, name in pairs} | {
            str(number): f"unknown {number}" for number in self.ignored[1:]
        }

    def numbers_of(self, facts: MaskFacts) -> dict[int, int]:
        """Get the stored numbers of a map with their pixels, as this form counts them: colours, or numbers."""
        return facts.as_colours() if self.colours else facts.as_numbers()

    def unknown_in(self, numbers: Mapping[int, int]) -> str:
        """Say which of these numbers mean nothing, with their pixels and what is known; empty where all are known."""
        strange = sorted(set(numbers) - {self.background, *self.values, *self.ignored})
        if self.instances or not strange:
            return ""
        listed = some([f"{self._text(number)} ({numbers[number]} pixels)" for number in strange])
        known = some([f"{self._text(v)} = {name}" for v, name in zip(self.values, self.names, strict=True)], 12)
        return f"holds {listed}, which is none of {known}"

    def _text(self, number: int) -> str:
        return colour_text(number) if self.colours else str(number)


@dataclass(frozen=True)
class Asked:
    """What is said of label maps beside the maps themselves.

    Attributes:
        names: number -> name (or name -> number), or the names in the order of the numbers; None where nobody says.
        instances: whether each number is one thing; None lets the maps say.
        colours: "#rrggbb" -> name; None where the maps hold numbers.
        called: the column or folder that they came from, empty where that is not known.
    """

    names: Names | None = None
    instances: bool | None = None
    colours: Mapping[str, str] | None = None
    called: str = ""


def form_of(facts: Sequence[MaskFacts], asked: Asked, *, notes: list[str], where: Path | None = None) -> MaskForm:
    """Get what the numbers mean, learnt from all maps together.

    Args:
        facts: of each map.
        asked: what is said of them.
        notes: gets what a person should know.
        where: the data, for messages.

    Raises:
        BadData: the maps are empty, are in colours that nobody named, or may be read in two ways.
    """
    if asked.colours:
        return _of_colours(asked.colours, where)
    if not all(fact.gray for fact in facts):
        raise _unnamed_colours(facts, where)
    maps = [fact.as_numbers() for fact in facts]
    found = Counter(number for one in maps for number in one if number)
    if not found:
        raise BadData(
            f"all {len(facts)} masks are empty: they hold 0 only", where=where, do="Are these the right files?"
        )
    named = numbers_named(asked.names) if isinstance(asked.names, Mapping) else None
    if _told_apart(maps, found, named, asked):
        return _of_instances(found, named, asked, notes)
    ignored = _ignored(maps, found, named, where)
    values = sorted(set(named) - {0, *ignored} if named else set(found) - set(ignored))
    if not values:
        raise BadData("the names of the masks' numbers name no class", where=where, do="Name the numbers above 0.")
    if named and named.get(0, "background").lower() not in _BACKGROUND:
        notes.append(f"0 in the masks ({named[0]}) is the background, and no class")
    if len(values) > (_MOST_CLASSES if named or asked.names else _UNNAMED):
        raise BadData(
            f"the masks hold {len(values)} different numbers, such as {some(values[:3])}: are they classes?",
            where=where,
            do="If each number is one thing, set masks.instances to true; else name the classes by masks.names.",
        )
    if values == [UNKNOWN]:
        notes.append("the masks hold 0 and 255: 255 is read as one class")
    if ignored:
        notes.append(f"{some(ignored)} in the masks is read as unknown: such pixels are not learnt and not scored")
    absent = [f"{value} ({named[value]})" for value in values if value not in found] if named else []
    if absent:
        notes.append(f"no mask that is learnt from holds {some(absent)}")
    return MaskForm(_names(values, named, asked, where), tuple(values), ignored=tuple(ignored))


def numbers_named(names: Mapping[Any, Any]) -> dict[int, str]:
    """Get number -> name of both ways to write it, `{"1": "anterior"}` and `{"anterior": 1}`.

    Raises:
        BadData: a number is none, or is named twice.

    Example:
        >>> numbers_named({"background": 0, "anterior": 1})
        {0: 'background', 1: 'anterior'}
    """
    found: dict[int, str] = {}
    pairs = [(key, value) if _number(key) is not None else (value, key) for key, value in names.items()]
    for number, name in pairs:
        whole = _number(number)
        if whole is None or whole in found or not str(name).strip():
            why = "is named twice" if whole in found else "is no whole number with a name"
            do = 'Write {"1": "first class", "2": "second class"}.'
            raise BadData(f"of the names of the masks' numbers, {number!r} {why}", do=do)
        found[whole] = str(name).strip()
    twice = [name for name, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise BadData(f"two numbers of the masks have the name {twice[0]!r}", do="Give each a name of its own.")
    return dict(sorted(found.items()))


def is_unknown(name: str) -> bool:
    """Tell whether a number with this name says that nobody knows what is there."""
    return re.sub(r" \d+$", "", name.lower()) in _UNKNOWN_WORDS  # "unknown 7" is what `asked` calls a further one


def _number(text: Any) -> int | None:
    if isinstance(text, bool) or not isinstance(text, int | str):
        return None
    return int(text) if re.fullmatch(r"\s*\d{1,9}\s*", str(text), re.ASCII) else None


def _told_apart(
    maps: Sequence[Mapping[int, int]], found: Mapping[int, int], named: Mapping[int, str] | None, asked: Asked
) -> bool:
    """Whether each number is one thing."""
    if asked.instances is not None:
        return asked.instances
    several = (named is not None and len(set(named) - {0}) > 1) or (named is None and len(asked.names or ()) > 1)
    if several or set(found) in ({UNKNOWN}, {65535}):
        return False
    if any(word.startswith("instance") for word in words_of(asked.called)):
        return True
    # Things are numbered from 1 in each image anew, so the largest number differs; 255 may be no number at all.
    largest = {max(own) for one in maps if (own := set(one) - {0, UNKNOWN})}
    return len(found) > _UNNAMED and len(largest) > 1


def _of_instances(
    found: Mapping[int, int], named: Mapping[int, str] | None, asked: Asked, notes: list[str]
) -> MaskForm:
    listed = list(asked.names or ()) if named is None else [name for number, name in named.items() if number]
    if len(listed) > 1:
        raise BadData(
            f"the masks are of things that are told apart, all of one class, and {len(listed)} names are given",
            do="Give one name, or set masks.instances to false.",
        )
    if len(found) == 1:
        notes.append("every mask holds one number only: things in one image are not told apart")
    return MaskForm((str(listed[0]) if listed else called(asked.called) or "object",), (), instances=True)


def _ignored(
    maps: Sequence[Mapping[int, int]], found: Mapping[int, int], named: Mapping[int, str] | None, where: Path | None
) -> list[int]:
    """Numbers for pixels that nobody knows: those that are named so, and 255 beside other labels."""
    ignored = [number for number, name in (named or {}).items() if is_unknown(name)]
    if UNKNOWN not in found or len(found) == 1 or UNKNOWN in (named or {}):
        return ignored
    if set(found) == {1, UNKNOWN} and not any(1 in one and UNKNOWN in one for one in maps):
        raise BadData(
            f"{found[1]} masks hold 0 and 1, {found[UNKNOWN]} others 0 and 255: is 255 the same class, or unknown?",
            where=where,
            do='Save all in one way, or say it by masks.names, such as {"1": "lesion", "255": "unknown"}.',
        )
    return [*ignored, UNKNOWN]


def _names(values: Sequence[int], named: Mapping[int, str] | None, asked: Asked, where: Path | None) -> tuple[str, ...]:
    if named:
        return tuple(named[value] for value in values)
    if asked.names:
        if len(asked.names) != len(values):
            numbers = ", ".join(map(str, values))
            raise BadData(
                f"{len(asked.names)} names are given, and the masks hold {len(values)} labels ({numbers})",
                where=where,
                do='Give one each, in the order of the numbers, or as {"1": "first class"}.',
            )
        return tuple(str(name) for name in asked.names)
    if len(values) == 1:
        return (called(asked.called) or "foreground",)
    return tuple(f"label {value}" for value in values)


def called(name: str) -> str:
    """Get what a column or folder is named after: `opacity` of `opacity_mask`; empty where it only says "mask".

    Example:
        >>> called("opacity_mask"), called("vessels"), called("masks_2")
        ('opacity', 'vessels', '')
    """
    words = itertools.takewhile(lambda word: not word[0].isdigit(), words_of(name))  # `masks_1stHO` counts observers
    return " ".join(word for word in words if word not in _NO_NAMES and word.isalpha())


def _of_colours(colours: Mapping[str, str], where: Path | None) -> MaskForm:
    found: dict[int, str] = {}
    for text, name in colours.items():
        match = re.fullmatch(r"#?([0-9a-fA-F]{6})", str(text).strip())
        if match is None or not str(name).strip():
            do = 'Write them as {"#ff0000": "lesion"}.'
            raise BadData(f"{text!r}: {name!r} is no colour of masks with a name", where=where, do=do)
        found[int(match[1], 16)] = str(name).strip()
    background = [colour for colour, name in found.items() if name.lower() in _BACKGROUND]
    ignored = tuple(colour for colour, name in found.items() if name.lower() in _UNKNOWN_WORDS)
    values = tuple(colour for colour in found if colour not in (*background, *ignored))
    names = tuple(found[colour] for colour in values)
    if len(background) > 1 or len(set(names)) < len(names) or not names or len(names) > _MOST_CLASSES:
        raise BadData("masks.colours does not give each class one colour and a name of its own", where=where)
    if not background and 0 in found:
        raise BadData(
            f"masks.colours names black {found[0]!r}, and no colour is the background",
            where=where,
            do='Name the colour of the background too, such as {"#ffffff": "background"}.',
        )
    return MaskForm(names, values, ignored=ignored, background=background[0] if background else 0, colours=True)


def _unnamed_colours(facts: Sequence[MaskFacts], where: Path | None) -> BadData:
    counts: Counter[int] = Counter()
    for fact in facts:
        counts.update(fact.as_colours())
    total = sum(counts.values())
    listed = [f"{colour_text(colour)} {100 * count / total:.3g} %" for colour, count in counts.most_common()]
    example = next((colour for colour, _ in counts.most_common() if colour), 0xFF0000)
    return BadData(
        f"the masks are in colours and not in numbers: {some(listed, _SHOWN_COLOURS)} of all pixels",
        where=where,
        do=f'Name them by masks.colours, such as {{"{colour_text(example)}": "lesion"}}; black is the background.',
    )
