"""Splits keep patients and copies together, hold every class, and never change by themselves."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.errors import BadData, Leak
from medgraft.samples.dataset import Columns, read_samples
from medgraft.samples.duplicates import Duplicates, Pair, groups_of
from medgraft.samples.split import SPLITS, assign_splits, check_leaks, find_leaks, limit_train
from medgraft.values import ImageRef, Sample


def sample(key: str, label: str | None, patient: str | None = None, split: str | None = None) -> Sample:
    return Sample(key, ImageRef(Path(key)), label=label, patient=patient, split=split)


def copies(*pairs: tuple[str, str, str]) -> Duplicates:
    made = tuple(Pair(one, other, kind) for one, other, kind in pairs)
    keys = sorted({key for one, other, _ in pairs for key in (one, other)})
    exact = groups_of(keys, [(one, other) for one, other, kind in pairs if kind == "exact"])
    return Duplicates(made, exact, groups_of(keys, [(one, other) for one, other, _ in pairs]))


def splits_of(samples) -> dict[str, str | None]:
    return {s.key: s.split for s in samples}


@st.composite
def cohorts(draw) -> list[Sample]:
    """Classes of at least three patients; each patient has one to four images of one class."""
    samples = []
    for label in range(draw(st.integers(2, 5))):
        for patient in range(draw(st.integers(3, 25))):
            for image in range(draw(st.integers(1, 4))):
                samples.append(sample(f"{label}-{patient}-{image}", f"class{label}", f"{label}-{patient}"))
    return samples


@given(cohorts(), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_patients_stay_whole_and_every_class_is_everywhere(samples, seed):
    split = assign_splits(samples, seed=seed)
    assert [s.key for s in split] == [s.key for s in samples]
    assert find_leaks(split) == []
    for label in {s.label for s in samples}:
        assert {s.split for s in split if s.label == label} == set(SPLITS)


@given(cohorts(), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_and_a_second_draw_change_nothing(samples, seed):
    once = splits_of(assign_splits(samples, seed=seed))
    shuffled = list(samples)
    random.Random(seed).shuffle(shuffled)
    assert splits_of(assign_splits(shuffled, seed=seed)) == once


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_mixed_patients_either_work_or_are_refused(data):
    """Patients with images of several classes: never a class left out in silence."""
    classes = data.draw(st.integers(2, 4))
    samples = []
    for patient in range(data.draw(st.integers(3, 15))):
        for image, label in enumerate(data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=4))):
            samples.append(sample(f"{patient}-{image}", f"c{label}", str(patient)))
    try:
        split = assign_splits(samples, seed=data.draw(st.integers(0, 99)))
    except BadData as error:
        assert "too few" in str(error) or "no split puts every class" in str(error)
        return
    assert find_leaks(split) == []
    for label in {s.label for s in samples}:
        assert {s.split for s in split if s.label == label} == set(SPLITS)


def test_the_shares_are_70_10_20_and_stratified():
    samples = [sample(f"{n}", "rare" if n % 10 == 0 else "common", f"p{n // 2}") for n in range(1000)]
    split = assign_splits(samples, seed=3)
    counts = Counter(s.split for s in split)
    assert abs(counts["train"] - 700) <= 6
    assert abs(counts["val"] - 100) <= 6
    assert abs(counts["test"] - 200) <= 6
    for word in SPLITS:
        rare = sum(s.split == word and s.label == "rare" for s in split)
        assert abs(rare / counts[word] - 0.1) < 0.02


def test_seeds_give_different_splits():
    samples = [sample(f"{n}", "ab"[n % 2]) for n in range(100)]
    assert splits_of(assign_splits(samples, seed=0)) != splits_of(assign_splits(samples, seed=1))


def test_a_known_split_never_changes():
    """A released model's split has to be the same in later versions."""
    samples = [sample(f"{n:02}", "ab"[n % 2]) for n in range(20)]
    split = splits_of(assign_splits(samples, seed=0))
    assert [key for key in split if split[key] == "val"] == ["05", "10"]
    assert [key for key in split if split[key] == "test"] == ["01", "12", "18", "19"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_with_too_few_patients_is_refused(count):
    samples = [sample(f"a{n}", "a", f"p{n}") for n in range(20)]
    samples += [sample(f"b{n}-{i}", "b", f"q{n}") for n in range(count) for i in range(5)]
    with pytest.raises(BadData, match=rf"too few patients for 3 splits in 1 of 2 classes: 'b' \({count}\)"):
        assign_splits(samples, seed=0)


def test_several_labels_are_all_everywhere():
    labels = ["a|b", "a", "b|c", "c", "", "a|c"]
    samples = [sample(f"{n}", labels[n % 6]) for n in range(60)]
    split = assign_splits(samples, seed=0)
    for word in SPLITS:
        mine = [s.label or "" for s in split if s.split == word]
        assert {part for label in mine for part in label.split("|")} == {"a", "b", "c", ""}


def test_numbers_are_spread_over_their_range():
    samples = [sample(f"{n}", f"{n / 7:.3f}") for n in range(300)]
    split = assign_splits(samples, seed=0, numbers=True)
    for word in ("val", "test"):
        values = sorted(float(s.label or 0) for s in split if s.split == word)
        assert values[0] < 6
        assert values[-1] > 36
        assert abs(sum(values) / len(values) - 21.4) < 2


def test_many_classes_named_by_numbers_are_all_everywhere():
    samples = [sample(f"{name}-{n}", str(name)) for name in range(24) for n in range(4)]
    split = assign_splits(samples, seed=0)
    for word in SPLITS:
        assert {s.label for s in split if s.split == word} == {str(name) for name in range(24)}


def test_unlabelled_samples_get_no_split():
    samples = [sample(f"{n}", "ab"[n % 2]) for n in range(30)] + [sample("x", None)]
    assert assign_splits(samples, seed=0)[-1].split is None


def test_copies_stay_together_without_patients():
    samples = [sample(f"{n:03}", "ab"[n % 2]) for n in range(200)]
    pairs = [(f"{n:03}", f"{n + 2:03}", "near" if n % 8 else "exact") for n in range(0, 196, 4)]
    split = splits_of(assign_splits(samples, copies(*pairs), seed=0))
    assert all(split[one] == split[other] for one, other, _ in pairs)


def test_near_copies_of_known_patients_do_not_bind_them_but_exact_copies_do():
    samples = [sample(f"{n:03}", "ab"[n % 2], f"p{n:03}") for n in range(200)]
    chain = [(f"{n:03}", f"{n + 1:03}") for n in range(199)]
    near = assign_splits(samples, copies(*((one, other, "near") for one, other in chain)), seed=0)
    assert {s.split for s in near} == set(SPLITS)
    pairs = [(f"{n:03}", f"{n + 2:03}", "exact") for n in range(0, 196, 4)]
    split = splits_of(assign_splits(samples, copies(*pairs), seed=0))
    assert all(split[one] == split[other] for one, other, _ in pairs)


def test_val_is_cut_from_train_when_test_is_given():
    samples = [sample(f"{n}", "ab"[n % 2], f"p{n // 2}", "train" if n < 800 else "test") for n in range(1000)]
    split = assign_splits(samples, seed=0)
    assert [s.split for s in split[800:]] == ["test"] * 200
    counts = Counter(s.split for s in split[:800])
    assert abs(counts["val"] - 100) <= 4
    assert counts["train"] + counts["val"] == 800
    assert find_leaks(split) == []


def test_given_splits_are_kept():
    samples = [sample(f"{n}", "ab"[n % 2], split=SPLITS[n % 3]) for n in range(30)]
    assert assign_splits(samples, seed=0) == samples


def test_only_train_asks_for_a_test():
    samples = [sample(f"{n}", "ab"[n % 2], split="train") for n in range(30)]
    with pytest.raises(BadData, match="only train.*--split-column none"):
        assign_splits(samples, seed=0)


def test_no_train_is_refused():
    with pytest.raises(BadData, match="test and val but no train"):
        assign_splits([sample("1", "a", split="val"), sample("2", "b", split="test")], seed=0)


def test_a_class_that_is_only_tested_is_refused():
    samples = [sample(f"{n}", "ab"[n % 2], split="train") for n in range(10)] + [sample("x", "c", split="test")]
    with pytest.raises(BadData, match="given test split holds classes that train does not: c"):
        assign_splits(samples, seed=0)


def test_leaks_are_listed_and_refused():
    samples = [
        sample("a", "x", "p1", "train"),
        sample("b", "x", "p1", "test"),
        sample("c", "x", None, "train"),
        sample("d", "x", None, "val"),
        sample("e", "x", "p2", "train"),
        sample("f", "x", "p3", "test"),
        sample("g", "x", "p4", "train"),
        sample("h", "x", "p5", "test"),
    ]
    found = copies(("c", "d", "near"), ("e", "f", "exact"), ("g", "h", "near"))
    with pytest.raises(Leak) as caught:
        check_leaks(samples, found)
    text = str(caught.value)
    assert "3 pairs of samples (1 shared patients, 1 exact copies, 1 near copies)" in text
    assert "patient p1: a (train) and b (test)" in text
    assert "exact copy: e (train) and f (test)" in text
    assert "near copy: c (train) and d (val)" in text
    assert "g (train)" not in text, "near copies of two known patients may be look-alikes"
    assert "split.allow_leaks=true" in text
    assert [leak.kind for leak in check_leaks(samples, found, allow=True)] == ["patient", "exact", "near"]


def test_a_near_copy_of_an_equal_picture_is_a_leak():
    """The found pair lies inside test; its equal twin lies in train."""
    samples = [sample("a", "x", split="test"), sample("b", "x", split="train"), sample("c", "x", split="test")]
    kinds = {
        (leak.kind, leak.first, leak.second)
        for leak in find_leaks(samples, copies(("a", "b", "exact"), ("a", "c", "near")))
    }
    assert kinds == {("exact", "b", "a"), ("near", "b", "c")}


def test_many_leaks_list_twenty_and_the_count():
    samples = [sample(f"{side}{n:02}", "x", f"p{n}", side) for n in range(30) for side in ("train", "test")]
    with pytest.raises(Leak, match="and 10 more"):
        check_leaks(samples)


def test_limit_train_keeps_the_other_splits_and_every_class():
    samples = [sample(f"{n}", "rare" if n % 20 < 2 else "common", f"p{n // 2}") for n in range(1000)]
    split = assign_splits(samples, seed=0)
    small = limit_train(split, 60, seed=0)
    counts = Counter(s.split for s in small)
    assert counts["train"] == 60
    assert {word: counts[word] for word in ("val", "test")} == {
        word: sum(s.split == word for s in split) for word in ("val", "test")
    }
    rare = sum(s.label == "rare" for s in small if s.split == "train")
    assert 4 <= rare <= 8
    assert limit_train(split, 60, seed=0) == small
    assert limit_train(split, 10_000, seed=0) == split
    people = Counter(s.patient for s in small if s.split == "train")
    assert sum(count == 2 for count in people.values()) >= len(people) - 1, "whole patients, but for the last"


@pytest.mark.parametrize("name", ["ham10000_sub", "odir5k_sub", "covid_cxr"])
def test_real_data_are_split_evenly(shared, name):
    dataset = read_samples(shared(f"data/{name}/manifest.csv"), columns=Columns(split="none"))
    split = assign_splits(dataset.samples, seed=0)
    assert find_leaks(split) == []
    counts = Counter(s.split for s in split)
    total = Counter(s.label for s in split)
    for word, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert abs(counts[word] / len(split) - share) < 0.01
        for label, count in total.items():
            mine = sum(s.split == word and s.label == label for s in split)
            assert abs(mine / count - share) < 0.03, (word, label)


@pytest.mark.parametrize("name", ["ham10000_sub", "odir5k_sub"])
def test_real_given_splits_share_no_patient(shared, name):
    dataset = read_samples(shared(f"data/{name}/manifest.csv"))
    assert check_leaks(dataset.samples) == []
    moved = [replace(s, split="test" if n == 0 else "train") for n, s in enumerate(dataset.samples)]
    moved[1] = replace(moved[1], patient=moved[0].patient)
    with pytest.raises(Leak, match="1 pairs|shared patients"):
        check_leaks(moved)


def test_few_different_amounts_are_split_as_numbers():
    samples = [sample(f"{i}.png", str(i % 13), f"p{i}") for i in range(26)]
    with pytest.raises(BadData, match="too few patients"):
        assign_splits(samples, seed=0)
    assert {s.split for s in assign_splits(samples, seed=0, numbers=True)} == {"train", "val", "test"}
