"""DeLong against a brute-force reference and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from medgraft.scores.delong import delong, delong_variance, newcombe, obuchowski, paired_delong, placements
from medgraft.scores.intervals import clopper_pearson, wilson

# Aneurysmal subarachnoid haemorrhage: 72 patients with good and 41 with poor outcome by WFNS grade 1 to 5.
# Turck et al., Intensive Care Med 2010;36:107; the ROC curves are the examples of Robin et al.,
# BMC Bioinformatics 2011;12:77, whose R package pROC gives the reference values below.
GOOD, POOR = (37, 20, 3, 8, 4), (2, 12, 1, 8, 18)

# The same patients from the lowest to the highest NDKA: the steps of its published ROC curve, g to the right
# and p up; in brackets tied.
NDKA = (
    "gpggpppgggggggggpggggggppggpggggp(gp)ggggpggpggggggpppgpggpgggggpg(gp)ggpggppgppgg(gp)ppgggpggggppppggpgggppppgg"
    "pgpgpgp"
)


def ndka() -> tuple[np.ndarray, np.ndarray]:
    letters, place, tied = [], 0, False
    for letter in NDKA:
        if letter in "()":
            tied = letter == "("
            place += 1
            continue
        place += not tied
        letters.append((letter == "p", place))
    truth, scores = np.array(letters).T
    return truth.astype(int), scores.astype(float)


def wfns() -> tuple[np.ndarray, np.ndarray]:
    grades = np.arange(1, 6)
    scores = np.r_[np.repeat(grades, GOOD), np.repeat(grades, POOR)]
    return np.repeat([0, 1], [sum(GOOD), sum(POOR)]), scores.astype(float)


def brute(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structural components pair by pair, as DeLong 1988 writes them."""
    plus, minus = scores[truth == 1], scores[truth == 0]
    wins = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in minus] for a in plus])
    return wins.mean(axis=1), wins.mean(axis=0)


def some(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.r_[0, 0, 1, 1, rng.integers(0, 2, n - 4)]
    return truth, np.round(truth + rng.normal(size=n), 1), np.round(0.5 * truth + rng.normal(size=n), 1)


@pytest.mark.parametrize("seed", range(8))
def test_components_are_the_brute_force_ones(seed: int):
    truth, scores, _ = some(seed)
    for fast, slow in zip(placements(truth, scores), brute(truth, scores), strict=True):
        np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_variance_and_difference_are_the_brute_force_ones(seed: int):
    truth, first, second = some(seed)
    (a10, a01), (b10, b01) = brute(truth, first), brute(truth, second)
    s10, s01 = np.cov(a10, b10) / len(a10), np.cov(a01, b01) / len(a01)
    covariance = s10 + s01
    area, variance = delong_variance(truth, first)
    assert (area, variance) == pytest.approx((a10.mean(), covariance[0, 0]), abs=1e-12)
    found = paired_delong(truth, first=first, second=second)
    spread = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    value = a10.mean() - b10.mean()
    assert found.score.value == pytest.approx(value, abs=1e-12)
    assert found.score.high - found.score.low == pytest.approx(2 * norm.ppf(0.975) * spread, abs=1e-12)
    assert found.p == pytest.approx(2 * norm.sf(abs(value) / spread), abs=1e-12)


def test_published_wfns():
    truth, scores = wfns()
    area, variance = delong_variance(truth, scores)
    assert area == pytest.approx(0.8237, abs=5e-5)
    half = norm.ppf(0.975) * math.sqrt(variance)
    assert (area - half, area + half) == pytest.approx((0.7485, 0.8988), abs=5e-5)
    score = delong(truth, scores)
    assert score.value == area
    # On the logit scale the same variance gives an interval that leans away from 1.
    assert (score.low, score.high) == pytest.approx((0.7358, 0.8869), abs=5e-4)
    assert score.n == 113 and "DeLong" in score.method


def test_published_ndka():
    truth, scores = ndka()
    assert (len(truth), truth.sum()) == (113, 41)
    area, variance = delong_variance(truth, scores)
    half = norm.ppf(0.975) * math.sqrt(variance)
    published = (0.501244999271703, 0.611957994579946, 0.722670989888189)
    assert (area - half, area, area + half) == pytest.approx(published, abs=1e-12)


def test_interval_stays_inside():
    rng = np.random.default_rng(5)
    truth = np.repeat([0, 1], [30, 12])
    scores = np.where(truth, 2.6, 0) + rng.normal(size=42)
    area, variance = delong_variance(truth, scores)
    assert area + norm.ppf(0.975) * math.sqrt(variance) > 1  # what the plain interval would do
    score = delong(truth, scores)
    assert 0 < score.low < score.value < score.high < 1


@pytest.mark.parametrize("shape", ["perfect", "reversed", "tied", "one positive"])
def test_interval_never_collapses(shape: str):
    truth = np.repeat([0, 1], [20, 15])
    scores = {"perfect": truth, "reversed": -truth, "tied": 0 * truth}.get(shape, truth).astype(float)
    if shape == "one positive":
        truth = np.r_[np.zeros(20, dtype=int), 1]
        scores = np.r_[np.arange(20.0), 15.5]
    score = delong(truth, scores)
    assert score.low is not None and score.high is not None
    assert score.high - score.low > 0.05 and score.low <= score.value <= score.high
    assert score.low >= 0 and score.high <= 1
    assert "Newcombe" in score.method


def test_perfect_order_says_less_with_fewer_cases():
    lows = [delong(np.repeat([0, 1], [m, m]), np.repeat([0.0, 1.0], [m, m])).low for m in (3, 10, 50, 500)]
    assert lows == sorted(lows) and lows[0] < 0.8 and lows[-1] > 0.98


def test_newcombe_published():
    # Newcombe 2006, part 2, table: method 5 is the root of a score equation; checked by putting it back.
    low, high = newcombe(0.8, positives=20, negatives=30)
    for true in (low, high):
        extra = 50 / 2 - 1
        spread = true * (1 - true) * (1 + extra * ((1 - true) / (2 - true) + true / (1 + true))) / 600
        assert abs(true - 0.8) == pytest.approx(norm.ppf(0.975) * math.sqrt(spread), abs=1e-9)
    assert low < 0.8 < high


def test_a_missing_class_says_why():
    score = delong(np.ones(4, dtype=int), np.arange(4.0), names=("healthy", "ill"))
    assert score.value is None and score.why == "all 4 cases are ill" and score.low is None
    assert delong(np.zeros(0), np.zeros(0)).why == "there are no cases"
    assert delong(np.zeros(1), np.zeros(1)).value is None
    lone = paired_delong(np.zeros(3), first=np.arange(3.0), second=np.arange(3.0))
    assert lone.score.value is None and lone.p is None and lone.score.why


def test_identical_models_do_not_differ():
    truth, scores, _ = some(1)
    found = paired_delong(truth, first=scores, second=scores)
    assert found.score.value == 0 and found.p is None and found.score.low is None and found.score.why


def test_obuchowski_is_delong_when_each_patient_has_one_case():
    truth, scores, _ = some(3)
    one, clustered = delong(truth, scores), obuchowski(truth, scores, patients=list(range(len(truth))))
    assert clustered.value == pytest.approx(one.value)
    # The formulas differ by a term of the order of 1/n only.
    assert clustered.low == pytest.approx(one.low, abs=2e-3) and clustered.high == pytest.approx(one.high, abs=2e-3)


def test_copies_of_images_teach_nothing():
    truth, scores, _ = some(4)
    people = np.arange(len(truth))
    once = obuchowski(truth, scores, patients=people)
    thrice = obuchowski(np.tile(truth, 3), np.tile(scores, 3), patients=np.tile(people, 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-9)
    naive = delong(np.tile(truth, 3), np.tile(scores, 3))
    assert naive.high - naive.low < 0.7 * (thrice.high - thrice.low)


def test_proportions_published():
    # Newcombe, Stat Med 1998;17:857, table I: 81/263, 15/148, 0/20, 1/29, methods 3 (Wilson) and 5 (exact).
    table = {
        (81, 263): ((0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148): ((0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20): ((0.0, 0.1611), (0.0, 0.1684)),
        (1, 29): ((0.0061, 0.1718), (0.0009, 0.1776)),
    }
    for counts, (score, exact) in table.items():
        assert wilson(*counts) == pytest.approx(score, abs=5e-5)
        assert clopper_pearson(*counts) == pytest.approx(exact, abs=5e-5)
