"""Resampling: exact weights, honest ends, and coverage."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import bootstrap as scipy_bootstrap

from medgraft.scores import collapse, numeric, probabilities, ranking
from medgraft.scores.bands import pr_band, roc_band
from medgraft.scores.cases import Cases
from medgraft.scores.delong import delong, obuchowski
from medgraft.scores.intervals import bootstrap, draws, proportion, wide, wilson
from medgraft.scores.resample import leave_out, patient_codes, resamples
from medgraft.scores.rows import table_rows
from medgraft.scores.score import Score
from medgraft.scores.summary import score_table
from medgraft.seeds import generator


def test_resamples_are_the_documented_draw():
    codes = np.array([0, 0, 1, 2, 2, 2])
    rows = np.concatenate(list(resamples(codes, seed=3, count=7)))
    picks = generator(3, "bootstrap").integers(0, 3, size=(7, 3))
    expected = np.stack([np.bincount(pick, minlength=3)[codes] for pick in picks])
    np.testing.assert_array_equal(rows, expected)
    again = np.concatenate(list(resamples(codes, seed=3, count=7)))
    np.testing.assert_array_equal(rows, again)
    assert (rows != np.concatenate(list(resamples(codes, seed=4, count=7)))).any()


def test_blocks_do_not_change_the_draw(monkeypatch: pytest.MonkeyPatch):
    codes = np.arange(50)
    whole = np.concatenate(list(resamples(codes, seed=0, count=40)))
    monkeypatch.setattr("medgraft.scores.resample.CHUNK", 50 * 7)
    np.testing.assert_array_equal(np.concatenate(list(resamples(codes, seed=0, count=40))), whole)


def test_unknown_patients_stand_alone():
    codes, people = patient_codes(["a", None, "a", "", float("nan"), 7, "7"], 7)
    assert people == 5 and codes[0] == codes[2] and codes[5] == codes[6]
    assert len({codes[1], codes[3], codes[4]}) == 3


def test_leaving_out_leaves_out_whole_patients():
    rows = np.concatenate(list(leave_out(np.array([0, 1, 1, 2]))))
    np.testing.assert_array_equal(rows, [[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 0]])
    assert len(np.concatenate(list(leave_out(np.arange(1000))))) == 400


def test_bca_is_scipys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("medgraft.scores.intervals.wide", lambda patients: 1.959964)
    rng = np.random.default_rng(0)
    values = rng.exponential(size=150)
    mine = bootstrap(numeric.mae, [np.zeros(150), values], patients=None, seed=0, count=9999)
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(1))
    low, high = theirs.confidence_interval
    assert mine.low == pytest.approx(low, abs=0.015) and mine.high == pytest.approx(high, abs=0.015)
    assert mine.value == pytest.approx(values.mean()) and mine.n == 150 and mine.n_patients is None


def test_calibration_error_of_a_calibrated_model_reaches_down_to_zero():
    rng = np.random.default_rng(3)
    chance = rng.random(300)
    truth = (rng.random(300) < chance).astype(int)
    alone = bootstrap(probabilities.ece, [truth, chance], patients=None, seed=0, count=500)
    table = score_table(Cases("binary", truth, chance), seed=0, count=500)["ece"]
    assert alone.value > 0.02 and alone.low == 0 and alone == table
    assert "noise" in alone.method
    off = bootstrap(probabilities.ece, [truth, chance**3], patients=None, seed=0, count=500)
    assert 0.1 < off.low < off.value < off.high


@pytest.mark.parametrize(("count", "gap"), [(50, 0.1), (100, 0.05), (300, 0.1)])
def test_the_calibration_error_is_covered_from_above_too(count: int, gap: float):
    """A model that is `gap` too sure everywhere: the true error lies inside in at least 93 of 100 draws."""
    inside = 0
    for draw in range(100):
        rng = np.random.default_rng(draw)
        chance = rng.uniform(0.7, 0.9, count)
        truth = (rng.random(count) < chance - gap).astype(int)
        score = bootstrap(probabilities.ece, [truth, chance], patients=None, seed=draw, count=200)
        inside += score.low <= gap <= score.high
    assert inside >= 93


def test_a_share_without_spread_holds_its_own_value():
    """One right and one wrong image a patient: every resample says one half, and the interval must too."""
    codes = np.repeat(np.arange(6), 2)
    low, high, how = collapse.exact_share(np.tile([True, False], 6), codes=codes)
    assert low < 0.5 < high and "Wilson over 6 patients" in how
    assert collapse.exact_share(np.ones(12, bool), codes=codes)[:2] == pytest.approx((0.5407, 1.0), abs=1e-3)


def test_few_patients_widen_the_interval():
    assert wide(10) == pytest.approx(2.262157 * math.sqrt(10 / 9), abs=1e-5)
    assert wide(100_000) == pytest.approx(1.959964, abs=1e-6)
    assert wide(10_000) == pytest.approx(wide(10_001), abs=1e-3)


def test_same_seed_same_interval():
    values = np.random.default_rng(0).normal(size=80)
    first, again, other = (
        bootstrap(numeric.mae, [0 * values, values], patients=None, seed=seed, count=500) for seed in (1, 1, 2)
    )
    assert first == again and first != other and first.value == other.value


def test_copies_of_images_do_not_narrow_an_interval():
    rng = np.random.default_rng(1)
    truth, values = rng.normal(size=60), rng.normal(size=60)
    once = bootstrap(numeric.mae, [truth, values], patients=np.arange(60), seed=0)
    tiled = [np.repeat(part, 5) for part in (truth, values)]
    people = np.repeat(np.arange(60), 5)
    five = bootstrap(numeric.mae, tiled, patients=people, seed=0)
    assert (five.low, five.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert five.n == 300 and five.n_patients == 60
    naive = bootstrap(numeric.mae, tiled, patients=None, seed=0)
    assert naive.high - naive.low < 0.6 * (five.high - five.low)


def test_too_little_for_an_interval_says_why():
    lone = bootstrap(numeric.mae, [np.zeros(3), np.arange(3.0)], patients=["a"] * 3, seed=0)
    assert lone.value == 1 and lone.low is None and lone.why == "a single patient gives no interval"
    same = bootstrap(numeric.mae, [np.zeros(9), np.ones(9)], patients=None, seed=0)
    assert same.value == 1 and same.low is None and "same value" in same.why
    rare = np.r_[1, np.zeros(30)]
    lost = bootstrap(ranking.auroc, [rare, np.arange(31.0)], patients=None, seed=0)
    assert lost.value == 0 and lost.high is None and "could not be computed" in lost.why
    nothing = bootstrap(numeric.mae, [np.zeros(0), np.zeros(0)], patients=None, seed=0)
    assert nothing.value is None and nothing.why == "there are no cases"
    assert nothing.to_dict()["value"] is None and "why" in nothing.to_dict()


def test_proportions():
    right = np.r_[np.ones(18, dtype=bool), np.zeros(2, dtype=bool)]
    alone = proportion(right)
    assert (alone.low, alone.high) == wilson(18, 20) and "Wilson" in alone.method
    people = np.repeat(np.arange(5), 4)
    several = proportion(right, patients=people, seed=0)
    assert several.n_patients == 5 and several.low < alone.low and "patients" in several.method
    perfect = proportion(np.ones(20, dtype=bool), patients=people)
    assert perfect.value == perfect.high == 1 and perfect.low == pytest.approx(0.025 ** (1 / 5))
    assert proportion(np.zeros(0, dtype=bool)).value is None


def test_score_as_json():
    row = Score(float("nan"), None, math.inf, 3, None, "x").to_dict()
    assert row == {"value": None, "low": None, "high": None, "n": 3, "n_patients": None, "method": "x"}
    assert Score.missing("nobody", n=2).to_dict()["why"] == "nobody"


@pytest.mark.parametrize("make", [roc_band, pr_band])
def test_bands_hold_their_curve(make):
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 200)
    scores = np.round(truth + rng.normal(size=200), 1)
    band = make(truth, scores, patients=np.repeat(np.arange(100), 2), seed=0, count=300)
    assert (band.low <= band.middle + 1e-9).all() and (band.middle <= band.high + 1e-9).all()
    assert ((band.low >= 0) & (band.high <= 1)).all() and band.why is None
    assert (band.high - band.low)[20:80].mean() > 0.03
    if make is roc_band:
        curve = ranking.roc_curve(truth, scores)
        fine = roc_band(truth, scores, patients=None, seed=0, count=10, points=20001)
        assert np.trapezoid(fine.middle, fine.x) == pytest.approx(np.trapezoid(curve.y, curve.x), abs=1e-3)
    else:
        assert band.middle[-1] == pytest.approx(truth.sum() / (scores >= scores[truth == 1].min()).sum())


def test_bands_of_a_perfect_order_do_not_collapse():
    truth = np.repeat([0, 1], 20)
    for make in (roc_band, pr_band):
        band = make(truth, truth.astype(float), patients=None, seed=0, count=100)
        assert (band.middle == 1).all() and band.low[50] < 0.95 and band.high[50] == 1
        assert make(np.ones(5), np.arange(5.0), patients=None, seed=0).why


def simulated(
    rng: np.random.Generator, people: int, each: int, *, shared: float, apart: float, sure: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cases whose scores share a part within a patient: truth, probability, patient."""
    codes = np.repeat(np.arange(people), each)
    truth = (rng.random(people) < 0.4)[codes]
    noise = np.sqrt(shared) * rng.normal(size=people)[codes] + np.sqrt(1 - shared) * rng.normal(size=len(codes))
    score = apart * truth + noise
    return truth.astype(int), expit(sure * (apart * score - apart**2 / 2 + math.log(0.4 / 0.6))), codes


def covered(people: int, each: int, *, sure: float, runs: int = 500) -> dict[str, float]:
    """How often the interval of each score holds the value of the whole population."""
    kind = {"shared": 0.5 if each > 1 else 0.0, "apart": 1.5, "sure": sure}
    truth, chance, _ = simulated(np.random.default_rng(1), 400_000 // each, each, **kind)
    population = table_rows(Cases("binary", truth, chance))
    true = {name: float(np.ravel(row.statistic(None))[0]) for name, row in population.items()}
    hits = dict.fromkeys([*true, "obuchowski"], 0)
    for run in range(runs):
        truth, chance, codes = simulated(np.random.default_rng(1000 + run), people, each, **kind)
        patients = codes if each > 1 else None
        table = score_table(Cases("binary", truth, chance, patients=patients), seed=run, count=800)
        for name, score in table.items():
            hits[name] += score.low is not None and score.low <= true[name] <= score.high
        extra = obuchowski(truth, chance, patients=codes)
        hits["obuchowski"] += extra.low <= true["auroc"] <= extra.high
    return {name: count / runs for name, count in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("people", "each", "sure"), [(120, 1, 1.0), (120, 1, 2.0), (60, 4, 1.0), (60, 4, 2.0)], ids=str
)
def test_intervals_cover_what_they_promise(people: int, each: int, sure: float):
    shares = covered(people, each, sure=sure)
    # The calibration error's interval is rather too wide by its construction.
    too_wide = {name for name, share in shares.items() if share > 0.98 and not name.startswith("ece")}
    assert not {name: share for name, share in shares.items() if share < 0.92}, shares
    assert not too_wide, shares


@pytest.mark.slow
def test_delong_covers_near_one():
    true, hits = 0.9661, 0  # normal scores 2.58 standard deviations apart
    for run in range(500):
        rng = np.random.default_rng(run)
        truth = np.repeat([0, 1], [60, 25])
        score = delong(truth, truth * 2.58 + rng.normal(size=85))
        hits += score.low <= true <= score.high
    assert 0.92 <= hits / 500 <= 0.99


@pytest.mark.slow
def test_two_thousand_resamples_of_a_dozen_scores_take_seconds():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 5000)
    chance = expit(truth + rng.normal(size=5000))
    patients = rng.integers(0, 2500, 5000)
    start = time.process_time()
    table = score_table(Cases("binary", truth, chance, patients=patients), seed=0)
    assert len(table) >= 12 and all("2000" in score.method for score in table.values())
    assert time.process_time() - start < 20  # processor seconds; about 2 when nothing else runs


def test_statistics_of_one_table_share_their_resamples():
    values = np.random.default_rng(0).normal(size=40)
    codes, _ = patient_codes(None, 40)
    mean = lambda rows: probabilities.weighted_mean(values, weights=rows)  # noqa: E731
    found = draws({"a": mean, "b": lambda rows: 2 * mean(rows)}, codes, seed=0, count=50)
    np.testing.assert_allclose(found["b"].found, 2 * found["a"].found)
