"""Each metric against scikit-learn and torchmetrics, and weights against repeated cases."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from medgraft.scores import decisions, numeric, probabilities, ranking

RNG = np.random.default_rng(20)
N, K = 240, 4
TRUTH = RNG.integers(0, 2, N)
SCORES = np.round(0.3 * TRUTH + 0.7 * RNG.random(N), 2)  # rounded, so that there are ties
LABEL = RNG.integers(0, K, N)
CHANCES = RNG.dirichlet(np.ones(K), N) * 0.6 + 0.4 * np.eye(K)[LABEL] * RNG.integers(0, 2, (N, 1))
CHANCES /= CHANCES.sum(axis=1, keepdims=True)
CALLED = CHANCES.argmax(axis=1)
MANY = (RNG.random((N, K)) < 0.3).astype(int)
MANY_SCORES = np.round(0.4 * MANY + 0.6 * RNG.random((N, K)), 2)
VALUES = RNG.normal(size=N)
GUESSES = np.round(VALUES + RNG.normal(size=N), 1)
MATRIX = decisions.confusion_matrix(LABEL, CALLED, classes=K)


def test_auroc_is_scikit_learns():
    assert ranking.auroc(TRUTH, SCORES) == pytest.approx(sk.roc_auc_score(TRUTH, SCORES), abs=1e-12)
    macro = sk.roc_auc_score(LABEL, CHANCES, multi_class="ovr")
    assert ranking.auroc(LABEL, CHANCES) == pytest.approx(macro, abs=1e-12)
    assert ranking.auroc(MANY, MANY_SCORES) == pytest.approx(sk.roc_auc_score(MANY, MANY_SCORES), abs=1e-12)


def test_auroc_is_the_share_of_pairs_in_order():
    plus, minus = SCORES[TRUTH == 1][:, None], SCORES[TRUTH == 0]
    pairs = (plus > minus).mean() + (plus == minus).mean() / 2
    assert ranking.auroc(TRUTH, SCORES) == pytest.approx(pairs, abs=1e-14)


def test_average_precision_is_scikit_learns():
    assert ranking.auprc(TRUTH, SCORES) == pytest.approx(sk.average_precision_score(TRUTH, SCORES), abs=1e-12)
    macro = sk.average_precision_score(np.eye(K)[LABEL], CHANCES)
    assert ranking.auprc(LABEL, CHANCES) == pytest.approx(macro, abs=1e-12)


def test_decisions_are_scikit_learns():
    assert (sk.confusion_matrix(LABEL, CALLED) == MATRIX).all()
    pairs = {
        decisions.accuracy: sk.accuracy_score(LABEL, CALLED),
        decisions.balanced_accuracy: sk.balanced_accuracy_score(LABEL, CALLED),
        decisions.mcc: sk.matthews_corrcoef(LABEL, CALLED),
        decisions.f1: sk.f1_score(LABEL, CALLED, average="macro"),
        decisions.quadratic_kappa: sk.cohen_kappa_score(LABEL, CALLED, weights="quadratic"),
    }
    for metric, expected in pairs.items():
        assert float(metric(MATRIX)) == pytest.approx(expected, abs=1e-12), metric.__name__
    called = SCORES >= 0.5
    assert decisions.sensitivity(TRUTH, called) == pytest.approx(sk.recall_score(TRUTH, called))
    assert decisions.specificity(TRUTH, called) == pytest.approx(sk.recall_score(1 - TRUTH, ~called))
    assert decisions.ppv(TRUTH, called) == pytest.approx(sk.precision_score(TRUTH, called))
    assert decisions.npv(TRUTH, called) == pytest.approx(sk.precision_score(1 - TRUTH, ~called))
    two = decisions.confusion_matrix(TRUTH, called, classes=2)
    assert float(decisions.f1(two, positive=1)) == pytest.approx(sk.f1_score(TRUTH, called))


def test_probabilities_are_scikit_learns():
    assert probabilities.brier(TRUTH, SCORES) == pytest.approx(sk.brier_score_loss(TRUTH, SCORES))
    several = ((CHANCES - np.eye(K)[LABEL]) ** 2).sum(axis=1).mean()
    assert probabilities.brier(LABEL, CHANCES) == pytest.approx(several)
    inside = np.clip(SCORES, 0.01, 0.99)
    assert probabilities.log_loss(TRUTH, inside) == pytest.approx(sk.log_loss(TRUTH, inside))
    assert probabilities.log_loss(LABEL, CHANCES) == pytest.approx(sk.log_loss(LABEL, CHANCES))
    certain = probabilities.log_loss(np.array([1, 0]), np.array([0.0, 0.0]))
    assert math.isfinite(certain) and certain > 10


def test_numbers_are_scikit_learns():
    from scipy.stats import spearmanr

    assert numeric.mae(VALUES, GUESSES) == pytest.approx(sk.mean_absolute_error(VALUES, GUESSES))
    assert numeric.rmse(VALUES, GUESSES) == pytest.approx(sk.root_mean_squared_error(VALUES, GUESSES))
    assert numeric.r2(VALUES, GUESSES) == pytest.approx(sk.r2_score(VALUES, GUESSES))
    assert numeric.spearman(VALUES, GUESSES) == pytest.approx(spearmanr(VALUES, GUESSES).statistic)
    assert numeric.bias(VALUES, VALUES + 2) == pytest.approx(2)


def test_torchmetrics_agrees():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    torch.set_num_threads(1)
    label, chances = torch.tensor(LABEL), torch.tensor(CHANCES)
    truth, scores = torch.tensor(TRUTH), torch.tensor(SCORES)
    called = torch.tensor(CALLED)
    top = functional.multiclass_calibration_error(chances, label, num_classes=K, n_bins=15, norm="l1")
    assert probabilities.ece(LABEL, CHANCES) == pytest.approx(float(top), abs=1e-6)
    positive = functional.binary_calibration_error(scores, truth, n_bins=15, norm="l1")
    assert probabilities.ece(TRUTH, SCORES) == pytest.approx(float(positive), abs=1e-6)
    each = [float(functional.binary_calibration_error(chances[:, k], (label == k).int(), n_bins=15)) for k in range(K)]
    assert probabilities.ece_classwise(LABEL, CHANCES) == pytest.approx(np.mean(each), abs=1e-6)
    kappa = functional.multiclass_cohen_kappa(called, label, num_classes=K, weights="quadratic")
    assert float(decisions.quadratic_kappa(MATRIX)) == pytest.approx(float(kappa), abs=1e-6)
    matthews = functional.multiclass_matthews_corrcoef(called, label, num_classes=K)
    assert float(decisions.mcc(MATRIX)) == pytest.approx(float(matthews), abs=1e-6)
    macro = functional.multiclass_f1_score(called, label, num_classes=K, average="macro")
    assert float(decisions.f1(MATRIX)) == pytest.approx(float(macro), abs=1e-6)


def test_calibration_error_by_hand():
    # Bin [0.2, 0.266) holds two cases of mean 0.225, none true; bin [0.933, 1] holds two of mean 0.975, both true.
    chances, truth = np.array([0.2, 0.25, 0.95, 1.0]), np.array([0, 0, 1, 1])
    assert probabilities.ece(truth, chances) == pytest.approx((0.225 + 0.025) / 2)
    assert probabilities.bin_of(np.array([0.0, 1 / 15, 0.999, 1.0])).tolist() == [0, 1, 14, 14]


BINARY = {
    "auroc": lambda y, p, w: ranking.auroc(y, p, weights=w),
    "auprc": lambda y, p, w: ranking.auprc(y, p, weights=w),
    "brier": lambda y, p, w: probabilities.brier(y, p, weights=w),
    "log_loss": lambda y, p, w: probabilities.log_loss(y, p, weights=w),
    "ece": lambda y, p, w: probabilities.ece(y, p, weights=w),
    "sensitivity": lambda y, p, w: decisions.sensitivity(y > 0, p > 0.5, weights=w),
    "specificity": lambda y, p, w: decisions.specificity(y > 0, p > 0.5, weights=w),
    "ppv": lambda y, p, w: decisions.ppv(y > 0, p > 0.5, weights=w),
    "npv": lambda y, p, w: decisions.npv(y > 0, p > 0.5, weights=w),
}
SEVERAL = {
    "auroc": lambda y, p, w: ranking.auroc(y, p, weights=w),
    "auprc": lambda y, p, w: ranking.auprc(y, p, weights=w),
    "brier": lambda y, p, w: probabilities.brier(y, p, weights=w),
    "ece": lambda y, p, w: probabilities.ece(y, p, weights=w),
    "ece_classwise": lambda y, p, w: probabilities.ece_classwise(y, p, weights=w),
    "auroc_cuts": lambda y, p, w: ranking.auroc_cuts(y, p @ np.arange(K), weights=w),
} | {
    metric.__name__: lambda y, p, w, metric=metric: metric(
        decisions.confusion_matrix(y, p.argmax(axis=1), classes=K, weights=w)
    )
    for metric in (
        decisions.accuracy,
        decisions.balanced_accuracy,
        decisions.f1,
        decisions.mcc,
        decisions.quadratic_kappa,
    )
}
NUMBER = {
    metric.__name__: lambda y, p, w, metric=metric: metric(y, p, weights=w)
    for metric in (numeric.mae, numeric.rmse, numeric.r2, numeric.spearman, numeric.bias)
}
LABELS = {name: SEVERAL[name] for name in ("auroc", "auprc", "brier", "ece")}
# Made of whole numbers alone until the last division, so not a single bit may differ.
EXACT = {
    "auroc", "sensitivity", "specificity", "ppv", "npv", "accuracy", "mcc", "quadratic_kappa",
    "balanced_accuracy", "f1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, table in
     {"binary": BINARY, "several": SEVERAL, "number": NUMBER, "labels": LABELS}.items() for name in table],
)  # fmt: skip
def test_weights_are_repeated_cases(kind: str, name: str):
    table, truth, scores = {
        "binary": (BINARY, TRUTH, SCORES),
        "several": (SEVERAL, LABEL, CHANCES),
        "number": (NUMBER, VALUES, GUESSES),
        "labels": (LABELS, MANY, MANY_SCORES),
    }[kind]
    truth, scores = truth[:60], scores[:60]
    picks = [RNG.integers(0, 60, 60) for _ in range(25)] + [np.full(60, 7), np.arange(60)]
    weights = np.stack([np.bincount(pick, minlength=60) for pick in picks]).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 0/0 must be handled, not shouted
        together = np.asarray(table[name](truth, scores, weights))
        repeated = np.array([float(table[name](truth[pick], scores[pick], None)) for pick in picks])
    assert together.shape == (27,)
    if name in EXACT:
        np.testing.assert_array_equal(together, repeated)
    else:
        np.testing.assert_allclose(together, repeated, rtol=1e-11, atol=1e-13)


def test_one_class_only_is_not_a_number():
    ones = np.ones(5, dtype=int)
    scores = np.linspace(0, 1, 5)
    assert math.isnan(ranking.auroc(ones, scores)) and math.isnan(ranking.auroc(0 * ones, scores))
    assert math.isnan(ranking.auprc(0 * ones, scores)) and ranking.auprc(ones, scores) == 1.0
    assert math.isnan(decisions.specificity(ones > 0, scores > 0.5))
    alone = decisions.confusion_matrix(ones, ones, classes=3)
    assert math.isnan(decisions.mcc(alone)) and math.isnan(decisions.balanced_accuracy(alone))
    assert math.isnan(decisions.quadratic_kappa(alone))
    assert math.isnan(numeric.r2(ones, scores)) and math.isnan(numeric.spearman(ones, scores))
    assert math.isnan(ranking.auroc_cuts(ones, scores))


def test_all_called_alike_has_no_skill():
    matrix = decisions.confusion_matrix(np.array([0, 1, 1, 2]), np.zeros(4, dtype=int), classes=3)
    assert float(decisions.mcc(matrix)) == 0.0
    assert float(decisions.balanced_accuracy(matrix)) == pytest.approx(1 / 3)
    assert math.isnan(decisions.ppv(np.array([True, False]), np.zeros(2, dtype=bool)))


def test_no_cases_are_not_a_number():
    nothing = np.zeros(0)
    for metric in (ranking.auroc, ranking.auprc, probabilities.brier, probabilities.ece, numeric.mae, numeric.spearman):
        assert math.isnan(metric(nothing, nothing)), metric.__name__


def test_all_tied_scores_know_nothing():
    assert ranking.auroc(TRUTH, np.full(N, 0.3)) == 0.5
    assert ranking.auprc(TRUTH, np.full(N, 0.3)) == pytest.approx(TRUTH.mean())


def test_a_missing_class_leaves_the_mean_to_the_others():
    few = LABEL.copy()
    few[few == 3] = 0
    each = ranking.auroc_each(few, CHANCES)
    assert math.isnan(each[3]) and ranking.auroc(few, CHANCES) == pytest.approx(each[:3].mean())


def test_bayes_moves_predictive_values_with_prevalence():
    called = SCORES > 0.5
    pair = decisions.sensitivity(TRUTH, called), decisions.specificity(TRUTH, called)
    own = TRUTH.mean()
    assert float(decisions.ppv_at(*pair, prevalence=own)) == pytest.approx(decisions.ppv(TRUTH, called))
    assert float(decisions.npv_at(*pair, prevalence=own)) == pytest.approx(decisions.npv(TRUTH, called))
    assert decisions.ppv_at(*pair, prevalence=0.01) < decisions.ppv_at(*pair, prevalence=0.2)


def test_curves_are_scikit_learns():
    curve = ranking.roc_curve(TRUTH, SCORES)
    alarms, hits, thresholds = sk.roc_curve(TRUTH, SCORES, drop_intermediate=False)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(ranking.auroc(TRUTH, SCORES), abs=1e-12)
    whole = {(round(x, 12), round(y, 12)) for x, y in zip(alarms, hits, strict=True)}
    assert {(round(x, 12), round(y, 12)) for x, y in zip(curve.x, curve.y, strict=True)} <= whole
    assert len(curve.x) < len(thresholds) and curve.thresholds[0] == np.inf
    precision, recall, _ = sk.precision_recall_curve(TRUTH, SCORES)
    mine = ranking.pr_curve(TRUTH, SCORES)
    np.testing.assert_allclose(mine.x[::-1], recall)
    np.testing.assert_allclose(mine.y[::-1][:-1], precision[:-1])
    assert len(ranking.roc_curve(np.ones(4), SCORES[:4]).x) == 0
