"""Tables of masks: means, what is left out, intervals, and what is said where there is no value."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from drawn_masks import ball, box

from medgraft.errors import BadData
from medgraft.scores.mask_cases import NAMES, VOLUMES, MaskScores, mask_scores
from medgraft.scores.mask_tables import mask_class_table, mask_table
from medgraft.scores.score import Score

CLASSES = ("liver", "lesion")
SHAPE = (10, 16, 22)
WHOLE = ["dice", "iou", "nsd", "hd95_mm", "assd_mm", "sensitivity", "precision", "volume_error", "volume_error_abs"]
AGREEMENT = ["volume_bias_mm3", "volume_low_mm3", "volume_high_mm3"]


def whole(cases: list[MaskScores], **words: object) -> dict[str, Score]:
    return mask_table(cases, **settings(cases, **words))


def each(cases: list[MaskScores], **words: object) -> dict[str, dict[str, Score]]:
    return mask_class_table(cases, **settings(cases, **words))


def settings(cases: list[MaskScores], **words: object) -> dict[str, object]:
    plain = {"classes": CLASSES, "patients": None, "seed": 0, "count": 200, "unit": "mm", "tolerance": 2.0}
    return plain | words


def drawn(n: int, *, seed: int = 0) -> list[MaskScores]:
    """A large ball in every image, a small one in most; some are missed, some found where none is."""
    random, cases = np.random.default_rng(seed), []
    for number in range(n):
        maps = np.zeros((2, *SHAPE), dtype=int)
        off = random.integers(-2, 3, 3)
        maps[0][ball(SHAPE, (5, 8, 7), 4)] = 1
        maps[1][ball(SHAPE, (5, 8, 7) + off, 4)] = 1
        for part, there in zip(maps, (number % 4 > 0, number % 6 > 1), strict=True):
            if there:
                part[ball(SHAPE, (5, 8, 16) + random.integers(-1, 2, 3), random.choice([2, 3]))] = 2
        words = {"classes": CLASSES, "spacing_mm": (2.0, 1.0, 1.0), "tolerance": 2.0, "thin": True}
        cases.append(mask_scores(maps[0], maps[1], key=str(number), **words))
    return cases


@pytest.fixture(scope="module")
def cases() -> list[MaskScores]:
    return drawn(24)


@pytest.fixture(scope="module")
def patients() -> list[str]:
    return [f"p{number // 2}" for number in range(24)]


def test_every_score_has_an_interval_and_says_how(cases, patients):
    table = whole(cases, patients=patients)
    assert list(table) == [*WHOLE, "cldice"]
    for name, score in table.items():
        assert score.low <= score.value <= score.high and score.low < score.high, name
        assert score.n == 24 and score.n_patients == 12, name
        assert "200 bootstrap resamples of patients, BCa; mean over the classes of an image" in score.method, name
    assert "within 2 mm" in table["nsd"].method and "within" not in table["dice"].method
    assert whole(cases, patients=patients) == table and whole(cases, patients=patients, seed=1) != table
    assert "images" in whole(cases)["dice"].method and whole(cases)["dice"].n_patients is None
    json.dumps({name: score.to_dict() for name, score in table.items()}, allow_nan=False)


def test_values_are_means_over_classes_and_then_over_images(cases):
    table = whole(cases)
    for name in ("dice", "hd95_mm", "volume_error", "precision"):
        rows = np.array([case[name.removesuffix("_mm")] for case in cases])
        assert table[name].value == pytest.approx(np.nanmean(np.nanmean(rows, axis=1))), name
    errors = np.abs([case["volume_error"] for case in cases])
    assert table["volume_error_abs"].value == pytest.approx(np.nanmean(np.nanmean(errors, axis=1)))
    assert table["volume_error_abs"].value >= abs(table["volume_error"].value)


def test_a_missed_structure_pulls_the_mean_down_and_an_absent_one_is_left_out(cases):
    lesion = each(cases)["lesion"]
    dice = np.array([case["dice"][1] for case in cases])
    absent, missed, false = (
        np.array([getattr(case, name)[1] for case in cases]) for name in ("absent", "missed", "false_finds")
    )
    assert absent.any() and missed.any() and false.any()
    assert (dice[missed | false] == 0).all() and lesion["dice"].value == pytest.approx(dice[~absent].mean())
    assert lesion["dice"].n == 24 - absent.sum()
    assert f"{absent.sum()} of 24 images left out: neither true nor found" in lesion["dice"].method
    far = int((missed | false).sum())
    assert f"{far} of 24 images, missed or wrongly found, have the diagonal of the image" in lesion["hd95_mm"].method
    assert lesion["volume_error"].n == 24 - (absent | false).sum()
    assert f"{(absent | false).sum()} of 24 images left out: not in the truth" in lesion["volume_error"].method
    assert lesion["precision"].n == 24 - (absent | missed).sum() and "nothing found" in lesion["precision"].method
    assert "left out" not in each(cases)["liver"]["dice"].method
    both = whole(cases)["dice"].method
    assert f"{absent.sum()} of 48 classes of images left out: neither true nor found" in both


def test_classes_have_their_own_scores_and_the_agreement_of_volumes(cases, patients):
    table = each(cases, patients=patients)
    assert list(table) == list(CLASSES) and list(table["liver"]) == [*WHOLE, "cldice", *AGREEMENT]
    for kind, name in enumerate(CLASSES):
        known = np.array([not case.absent[kind] for case in cases])
        gaps = np.array([case["found_volume"][kind] - case["true_volume"][kind] for case in cases])[known]
        bias, low, high = (table[name][word] for word in AGREEMENT)
        assert bias.value == pytest.approx(gaps.mean())
        assert low.value == pytest.approx(gaps.mean() - 1.959964 * gaps.std(ddof=1), rel=1e-5)
        assert high.value == pytest.approx(gaps.mean() + 1.959964 * gaps.std(ddof=1), rel=1e-5)
        assert all(score.low < score.value < score.high for score in (bias, low, high)), name
        assert bias.n == known.sum() and "Bland and Altman" in bias.method


def test_units_are_in_the_names():
    truth = box((20, 20), (4, 4), (10, 10)) * 1
    words = {"classes": ("a",), "tolerance": 1.0}
    flat = [mask_scores(truth, np.roll(truth, k, axis=1), spacing_mm=(0.5, 0.5), **words) for k in range(4)]
    plain = [mask_scores(truth, np.roll(truth, k, axis=1), spacing_mm=None, **words) for k in range(4)]
    mm, px = each(flat, classes=("a",))["a"], each(plain, classes=("a",), unit="px")["a"]
    assert mm["hd95_mm"].value * 2 == px["hd95_px"].value == 1.5 and "assd_px" in px
    assert "volume_bias_mm2" in mm and "volume_bias_px" in px and "cldice" not in mm
    assert "within 2 px" in px["nsd"].method


def test_a_perfect_result_of_few_images_is_not_called_certain():
    truth = box((12, 12), (3, 3), (9, 9)) * 1
    perfect = [mask_scores(truth, truth, classes=("a",), spacing_mm=None, tolerance=1)] * 8
    table = whole(perfect, classes=("a",), unit="px")
    for name in ("dice", "iou", "nsd", "sensitivity", "precision"):
        assert table[name].value == table[name].high == 1 and table[name].low == pytest.approx(0.631, abs=0.001)
    assert table["hd95_px"].value == 0 and table["hd95_px"].low is None and "same value" in table["hd95_px"].why


def test_what_cannot_be_computed_says_why(cases):
    nobody = whole([])
    assert list(nobody) == WHOLE and all(
        score.value is None and score.why and score.n == 0 for score in nobody.values()
    )
    empty = np.zeros((4, 6, 6), dtype=int)
    words = {"classes": CLASSES, "spacing_mm": (1, 1, 1), "tolerance": 2.0}
    nothing = [mask_scores(empty, empty, **words)] * 5
    assert all(score.value is None and score.n == 0 for score in whole(nothing).values())
    assert whole(nothing)["dice"].why == "no image has a class, true or found"
    lesion = each(nothing)["lesion"]
    assert lesion["dice"].why == "no image has lesion, true or found"
    assert lesion["sensitivity"].why == "no image has lesion in its truth"
    assert lesion["precision"].why == "lesion was found in no image"
    assert lesion["volume_low_mm3"].why == "fewer than two images have lesion, true or found"
    single = whole(cases[:1])
    assert all(score.value is not None and score.low is None and score.why for score in single.values())


def test_a_class_in_one_patient_of_many_has_no_interval():
    full, empty = box((6, 6), (1, 1), (4, 5)) * 1, np.zeros((6, 6), dtype=int)
    words = {"classes": ("a",), "spacing_mm": None, "tolerance": 1}
    rare = [mask_scores(full, np.roll(full, 1), **words)] + [mask_scores(empty, empty, **words)] * 20
    score = whole(rare, classes=("a",), unit="px")["dice"]
    assert score.n == 1 and score.low is None and score.why == "a single patient gives no interval"


def test_images_that_do_not_fit_together_are_refused(cases):
    with pytest.raises(BadData, match="classes liver, lesion and not a"):
        whole(cases, classes=("a",))
    with pytest.raises(BadData, match="distances are in mm, not in px"):
        whole(cases, unit="px")
    with pytest.raises(BadData, match="no unit"):
        whole(cases, unit="cm")
    with pytest.raises(BadData, match="24 images but 2 patients"):
        each(cases, patients=["a", "b"])
    other = mask_scores(
        np.ones((5, 5), int), np.ones((5, 5), int), classes=CLASSES, spacing_mm=(1, 1), tolerance=1, key="z"
    )
    with pytest.raises(BadData, match="z: other scores or axes"):
        whole([*cases, other])


@pytest.mark.slow
def test_intervals_hold_the_value_of_the_population():
    """Also of a class that only a third of the patients have."""
    names = (*NAMES, *VOLUMES)

    def sample(n: int, seed: int) -> tuple[list[MaskScores], list[str]]:
        random = np.random.default_rng(seed)
        values = np.full((n, 2, len(names)), np.nan)
        values[:, :, names.index("true_volume")] = values[:, :, names.index("found_volume")] = 0.0
        people = np.repeat(np.arange(n // 2), 2)
        skill = random.normal(1.5, 0.8, n // 2)[people]
        for kind, share in enumerate((1.0, 0.33)):
            there = (random.random(n // 2) < share)[people]
            dice = 1 / (1 + np.exp(-skill - random.normal(0, 0.5, n)))
            for name, row in (("dice", dice), ("hd95", 20 * (1 - dice)), ("true_volume", 100 + 0 * dice)):
                values[there, kind, names.index(name)] = row[there]
            values[there, kind, names.index("found_volume")] = (100 + random.normal(5, 20, n))[there]
        cases = [MaskScores("", CLASSES, names, each, 3, "mm") for each in values]
        return cases, [str(one) for one in people]

    people, _ = sample(20_000, 1)
    true = mask_class_table(people, **settings(people, count=2))
    held = dict.fromkeys([(kind, name) for kind in CLASSES for name in ("dice", "hd95_mm", "volume_bias_mm3")], 0)
    for run in range(200):
        some, who = sample(60, 100 + run)
        table = mask_class_table(some, **settings(some, patients=who, seed=run))
        for kind, name in held:
            score = table[kind][name]
            held[kind, name] += score.low <= true[kind][name].value <= score.high
    assert all(181 <= count <= 199 for count in held.values()), held
    assert math.isfinite(true["liver"]["dice"].value)
