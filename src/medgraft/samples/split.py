"""Who is in train, val and test: whole patients, every class in each, the same draw every time.

The draw goes through groups (patients, and copies of one picture), the rarest
class first, and gives each group to the split that lacks its labels most:
iterative stratification (Sechidis et al., ECML PKDD 2011) on groups.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medgraft.errors import BadData, Leak
from medgraft.samples.dataset import as_number, some
from medgraft.samples.duplicates import Duplicates, unite
from medgraft.seeds import permutation
from medgraft.values import Sample

SPLITS = ("train", "val", "test")
_TRIES = 40
_BINS = 10


@dataclass(frozen=True)
class LeakPair:
    """Two samples in different splits that share a patient or a picture.

    Attributes:
        kind: "patient", "exact" or "near".
        first: key of the one, in `splits[0]`.
        second: key of the other, in `splits[1]`.
        splits: such as ("train", "test").
        patient: who they share, for kind "patient".
    """

    kind: str
    first: str
    second: str
    splits: tuple[str, str]
    patient: str | None = None

    def __str__(self) -> str:
        shared = f"patient {self.patient}" if self.kind == "patient" else f"{self.kind} copy"
        return f"{shared}: {self.first} ({self.splits[0]}) and {self.second} ({self.splits[1]})"


def assign_splits(
    samples: Sequence[Sample],
    groups: Duplicates | None = None,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.2,
    numbers: bool = False,
) -> list[Sample]:
    """Give every labelled sample a split; given splits are kept, and a missing val or test is cut from train.

    Args:
        samples: all samples; unlabelled ones come back with no split, unless theirs was given.
        groups: duplicates, which stay together: exact copies always, near ones where a patient is unknown.
        seed: the draw depends on it and on the samples alone.
        val: part of the patients for validation.
        test: part of the patients for the test.
        numbers: labels are amounts, however few different ones there are, and not names of classes.

    Returns:
        the samples in their order. Every class that has a label in at least three groups is in each split.

    Raises:
        BadData: a class has too few patients (or groups), or only train is given.
    """
    given = {sample.split for sample in samples if sample.split and sample.label is not None}
    if not given:
        wanted = {"train": 1 - val - test, "val": val, "test": test}
        return _draw(samples, groups, wanted, seed=seed, among=None, numbers=numbers)
    if "train" not in given:
        raise BadData(
            f"the data give {' and '.join(sorted(given))} but no train",
            do="Add training samples, or drop the split column with --split-column none.",
        )
    if not numbers:
        _check_given(samples, given)
    if given == set(SPLITS):
        return list(samples)
    if given == {"train"}:
        raise BadData(
            "the data give only train, and nothing to test on",
            do="Add a test split; or let medgraft split anew with --split-column none.",
        )
    missing = "val" if "val" not in given else "test"
    part = val / (1 - test) if missing == "val" else test / (1 - val)
    return _draw(samples, groups, {"train": 1 - part, missing: part}, seed=seed, among="train", numbers=numbers)


def _check_given(samples: Sequence[Sample], given: set[str]) -> None:
    """Classes that are tested but never trained make the score meaningless."""
    classes = {word: set() for word in given}
    for sample in samples:
        if sample.split and sample.label:
            classes[sample.split].update(sample.label.split("|"))
    for word in sorted(given - {"train"}):
        unseen = sorted(classes[word] - classes["train"])
        if unseen:
            raise BadData(
                f"the given {word} split holds classes that train does not: {some(unseen)}",
                do="Add them to train, or split anew with --split-column none.",
            )


def group_of(samples: Sequence[Sample], groups: Duplicates | None) -> dict[str, str]:
    """Get one name a group of samples that have to stay together: a patient's, and copies of one picture.

    Near copies bind only where at least one of the two has no known patient: two people may look alike,
    and a patient binds more surely.
    """
    keys = [sample.key for sample in samples]
    patient = {sample.key: sample.patient for sample in samples}
    links: list[tuple[str, str]] = []
    first: dict[str, str] = {}
    for sample in samples:
        if sample.patient:
            links.append((first.setdefault(sample.patient, sample.key), sample.key))
    for pair in groups.pairs if groups else ():
        if pair.first not in patient or pair.second not in patient:
            continue
        if pair.kind == "exact" or not (patient[pair.first] and patient[pair.second]):
            links.append((pair.first, pair.second))
    return unite(keys, links)


def strata(samples: Sequence[Sample], *, numbers: bool = False) -> list[tuple[str, ...]]:
    """Get the classes of each sample for stratifying: parts of `a|b`, quantile bins of numbers.

    Labels are amounts only when `numbers` says so: classes may be named by numbers too.
    """
    labels = [sample.label or "" for sample in samples]
    found = [as_number(label) for label in labels]
    if numbers and labels and all(n is not None for n in found):
        values = np.array(found, dtype=np.float64)
        bins = max(1, min(_BINS, len(values) // 10))
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
        return [(f"bin {place}",) for place in np.searchsorted(edges, values, side="right")]
    return [tuple(dict.fromkeys(label.split("|"))) for label in labels]


def _draw(
    samples: Sequence[Sample],
    groups: Duplicates | None,
    wanted: Mapping[str, float],
    *,
    seed: int,
    among: str | None,
    numbers: bool,
) -> list[Sample]:
    pool = [s for s in samples if s.label is not None and s.split == among]
    # copies of a picture may link patients through an unlabelled sample, so all samples are united
    names = group_of(samples, groups)
    members: dict[str, list[int]] = defaultdict(list)
    # by key, so that the order of rows in a table cannot change the draw
    for index in sorted(range(len(pool)), key=lambda place: pool[place].key):
        members[names[pool[index].key]].append(index)
    parts = strata(pool, numbers=numbers)
    contents = [Counter(label for index in member for label in parts[index]) for member in members.values()]
    binned = any(label.startswith("bin ") for (label,) in [part for part in parts if len(part) == 1][:1])
    _refuse_rare(contents, len(wanted), binned, patients=any(s.patient for s in pool))
    chosen = _place(contents, [len(member) for member in members.values()], wanted, seed=seed, must=not binned)
    split_of = {}
    for word, member in zip(chosen, members.values(), strict=True):
        split_of.update({pool[index].key: word for index in member})
    return [replace(sample, split=split_of.get(sample.key, sample.split)) for sample in samples]


def _refuse_rare(contents: Sequence[Counter[str]], splits: int, binned: bool, *, patients: bool) -> None:
    word = "patients" if patients else "separate images"
    if len(contents) < splits:
        raise BadData(
            f"there are only {len(contents)} {word}, too few for {splits} splits", do="Add cases, or give the splits."
        )
    if binned:
        return
    counts = Counter(label for content in contents for label in content)
    rare = sorted((count, label) for label, count in counts.items() if count < splits)
    if rare:
        named = some([f"{label or 'none'!r} ({count})" for count, label in rare])
        raise BadData(
            f"too few {word} for {splits} splits in {len(rare)} of {len(counts)} classes: {named}",
            do="Add cases, merge or drop these classes, or give the splits in the table.",
        )


def _place(
    contents: Sequence[Counter[str]], sizes: Sequence[int], wanted: Mapping[str, float], *, seed: int, must: bool
) -> list[str]:
    """One split a group; tries other orders until every class is in every split."""
    lacking = ""
    for attempt in range(_TRIES):
        order = permutation(len(contents), seed=seed, purpose="split", epoch=attempt)
        chosen = _mend(contents, _greedy(contents, sizes, wanted, order), wanted)
        lacking = _lacking(contents, chosen, wanted)
        if not lacking or not must:
            if len(set(chosen)) == len(wanted):
                return chosen
            lacking = lacking or "whole splits"
    raise BadData(
        f"no split puts every class into {', '.join(wanted)}: {lacking} is left out each time",
        do="Its few patients also carry other rare classes. Add cases, merge classes, or give the splits.",
    )


def _greedy(
    contents: Sequence[Counter[str]], sizes: Sequence[int], wanted: Mapping[str, float], order: np.ndarray
) -> list[str]:
    words = list(wanted)
    holders: dict[str, list[int]] = defaultdict(list)
    for group in order.tolist():
        for label in contents[group]:
            holders[label].append(group)
    total = Counter()
    for content in contents:
        total.update(content)
    lack = {label: {word: wanted[word] * total[label] for word in words} for label in total}
    room = {word: wanted[word] * sum(sizes) for word in words}
    chosen: list[str] = [""] * len(contents)
    # rarest first: later, common classes can still even out the sizes
    for label in sorted(holders, key=lambda name: (len(holders[name]), name)):
        for group in sorted((g for g in holders[label] if not chosen[g]), key=lambda g: -contents[g][label]):
            word = max(words, key=lambda w: (lack[label][w], room[w]))
            chosen[group] = word
            room[word] -= sizes[group]
            for other, count in contents[group].items():
                lack[other][word] -= count
    return chosen


def _counts(contents: Sequence[Counter[str]], chosen: Sequence[str]) -> dict[str, Counter[str]]:
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for content, word in zip(contents, chosen, strict=True):
        for label in content:
            held[label][word] += 1
    return held


def _lacking(contents: Sequence[Counter[str]], chosen: Sequence[str], wanted: Mapping[str, float]) -> str:
    held = _counts(contents, chosen)
    return next((f"{label or 'none'!r} from {word}" for label in held for word in wanted if not held[label][word]), "")


def _mend(contents: Sequence[Counter[str]], chosen: list[str], wanted: Mapping[str, float]) -> list[str]:
    """Move single groups until every class is in every split, where that takes nothing from another class."""
    held = _counts(contents, chosen)
    for label in sorted(held, key=lambda name: (sum(held[name].values()), name)):
        for word in wanted:
            if held[label][word]:
                continue
            movable = [
                group
                for group, content in enumerate(contents)
                if label in content and all(held[other][chosen[group]] > 1 for other in content)
            ]
            if not movable:
                continue
            group = min(movable, key=lambda g: (sum(contents[g].values()), g))
            for other in contents[group]:
                held[other][chosen[group]] -= 1
                held[other][word] += 1
            chosen[group] = word
    return chosen


def find_leaks(samples: Sequence[Sample], duplicates: Duplicates | None = None) -> list[LeakPair]:
    """Get the pairs of samples in different splits that share a patient or a picture.

    Near copies count where at least one patient is unknown; between two known patients they may be look-alikes.
    """
    leaks: list[LeakPair] = []
    by_patient: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        if sample.patient and sample.split:
            by_patient[sample.patient].setdefault(sample.split, sample.key)
    for patient, firsts in by_patient.items():
        words = [word for word in SPLITS if word in firsts]
        leaks += [LeakPair("patient", firsts[words[0]], firsts[w], (words[0], w), patient) for w in words[1:]]
    leaks += _picture_leaks(samples, duplicates) if duplicates else []
    return leaks


def _picture_leaks(samples: Sequence[Sample], duplicates: Duplicates) -> list[LeakPair]:
    of = {sample.key: sample for sample in samples}
    leaks = []
    by_group: dict[int, list[Sample]] = defaultdict(list)
    for key, group in duplicates.exact.items():
        if key in of and of[key].split:
            by_group[group].append(of[key])
    for members in by_group.values():
        leaks += _across(members)
    twins: dict[int, list[str]] = defaultdict(list)
    for key, group in duplicates.exact.items():
        twins[group].append(key)

    def equals(key: str) -> list[Sample]:
        keys = twins[duplicates.exact[key]] if key in duplicates.exact else [key]
        return [of[k] for k in keys if k in of and of[k].split]

    for pair in duplicates.pairs:
        if pair.kind == "near":  # a near pair stands for all equals of its two ends
            leaks += _near_leak(equals(pair.first), equals(pair.second))
    return leaks


def _near_leak(ones: Sequence[Sample], others: Sequence[Sample]) -> list[LeakPair]:
    for one in ones:
        for other in others:
            if one.split != other.split and not (one.patient and other.patient):
                a, b = sorted((one, other), key=lambda s: SPLITS.index(str(s.split)))
                return [LeakPair("near", a.key, b.key, (str(a.split), str(b.split)))]
    return []


def _across(members: Sequence[Sample]) -> list[LeakPair]:
    """Every sample of val and test with one equal picture of an earlier split."""
    firsts: dict[str, Sample] = {}
    leaks = []
    for sample in sorted(members, key=lambda s: SPLITS.index(str(s.split))):
        word = str(sample.split)
        earlier = next((firsts[w] for w in SPLITS[: SPLITS.index(word)] if w in firsts), None)
        if earlier is not None:
            leaks.append(LeakPair("exact", earlier.key, sample.key, (str(earlier.split), word)))
        firsts.setdefault(word, sample)
    return leaks


def check_leaks(
    samples: Sequence[Sample], duplicates: Duplicates | None = None, *, allow: bool = False
) -> list[LeakPair]:
    """Refuse splits that share a patient or a picture.

    Returns:
        the pairs, when `allow` is true; else an empty list.

    Raises:
        Leak: names the first 20 pairs and how many there are.
    """
    leaks = find_leaks(samples, duplicates)
    if not leaks or allow:
        return leaks
    counts = Counter(leak.kind for leak in leaks)
    names = {"patient": "shared patients", "exact": "exact copies", "near": "near copies"}
    kinds = ", ".join(f"{counts[kind]} {names[kind]}" for kind in names if counts[kind])
    listed = "; ".join(str(leak) for leak in leaks[:20])
    more = f"; and {len(leaks) - 20} more" if len(leaks) > 20 else ""
    raise Leak(
        f"the splits share {len(leaks)} pairs of samples ({kinds}): {listed}{more}",
        do="Move them into one split, or accept it with --set split.allow_leaks=true, which the report will say.",
    )


def limit_train(samples: Sequence[Sample], count: int, *, seed: int, numbers: bool = False) -> list[Sample]:
    """Keep about `count` training images, whole patients first, each class in its share; the rest is dropped.

    Other splits are kept whole. Classes (ranges of amounts, where `numbers` says so) come in turn, so that a small
    limit still holds each class.
    """
    train = [s for s in samples if s.split == "train" and s.label is not None]
    if len(train) <= count:
        return list(samples)
    of_patient: dict[str, list[int]] = defaultdict(list)
    for index, sample in sorted(enumerate(train), key=lambda item: item[1].key):
        of_patient[f"p {sample.patient}" if sample.patient else f"k {sample.key}"].append(index)
    parts = strata(train, numbers=numbers)
    groups = list(of_patient.values())
    order = permutation(len(groups), seed=seed, purpose="limit").tolist()
    share = Counter(label for part in parts for label in part)
    queues: dict[str, list[int]] = defaultdict(list)
    for group in order:
        rarest = min((label for index in groups[group] for label in parts[index]), key=lambda name: (share[name], name))
        queues[rarest].append(group)
    kept: set[str] = set()
    taken: Counter[str] = Counter()
    while len(kept) < count and any(queues.values()):
        # the class that has least of its share is served next
        label = min((name for name in queues if queues[name]), key=lambda name: (taken[name] / share[name], name))
        group = groups[queues[label].pop(0)]
        taken[label] += len(group)
        kept.update(train[index].key for index in group[: count - len(kept)])
    return [sample for sample in samples if sample.split != "train" or sample.key in kept]
