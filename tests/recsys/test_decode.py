"""Thresholds, the interaction rule and calibration against plain loops."""

import numpy as np
import pytest

from recsys.experiments.calibration import brier, calibration_error, fit_platt, reliability
from recsys.experiments.decode import (
    GRID,
    Decision,
    expected_jaccard_threshold,
    logit,
    select,
    threshold_curve,
    tune,
    tune_threshold,
)
from recsys.experiments.metrics import set_metrics
from recsys.orders.interactions import ddi_rate


def draw(seed: int = 0, visits: int = 200, width: int = 14) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.standard_normal((visits, width))
    probability = (1 / (1 + np.exp(-score))).astype(np.float32)
    target = (rng.random((visits, width)) < probability).astype(np.float32)
    matrix = np.triu(rng.random((width, width)) < 0.3, 1)
    return probability, target, matrix | matrix.T


def test_the_threshold_curve_equals_thresholding_one_by_one() -> None:
    probability, target, _ = draw()
    unseen = np.arange(len(target)) % 3
    curve = threshold_curve(probability, target, unseen)
    plain = [set_metrics(probability >= theta, target, unseen)["jaccard"].mean() for theta in GRID]
    np.testing.assert_allclose(curve, plain, atol=1e-12)
    assert tune_threshold(probability, target, unseen)[1] == pytest.approx(max(plain))


def test_the_interaction_rule_equals_a_plain_greedy_loop() -> None:
    probability, _, matrix = draw(1, visits=40)
    decision = Decision(0.3, 0.7)
    expected = np.zeros(probability.shape, bool)
    for row, values in enumerate(probability):
        for item in np.argsort(-values, kind="stable"):
            cost = decision.penalty * sum(matrix[item, other] for other in np.flatnonzero(expected[row]))
            if logit(values[item]) - logit(decision.threshold) - cost > 1e-6:
                expected[row, item] = True
    np.testing.assert_array_equal(select(probability, decision, matrix), expected)


def test_without_a_penalty_it_is_the_threshold() -> None:
    probability, _, matrix = draw(2)
    np.testing.assert_array_equal(select(probability, Decision(0.5), matrix), probability >= 0.5)


def test_tuning_reaches_the_ddi_target_and_without_one_the_best_threshold() -> None:
    probability, target, matrix = draw(3)
    free = tune(probability, target, matrix)
    assert free == Decision(tune_threshold(probability, target)[0])
    before = ddi_rate(select(probability, free, matrix), matrix)
    safe = tune(probability, target, matrix, ddi_target=before / 2)
    assert safe.penalty > 0
    assert ddi_rate(select(probability, safe, matrix), matrix) <= before / 2
    assert tune(probability, target, matrix, ddi_target=0.99) == free


def test_platt_recovers_a_known_distortion_and_keeps_the_order() -> None:
    probability, target, _ = draw(4, visits=3000)
    distorted = 1 / (1 + np.exp(-(0.4 * logit(probability) - 1.0)))
    fitted = fit_platt(distorted, target)
    assert fitted.slope == pytest.approx(1 / 0.4, rel=0.1)
    repaired = fitted.apply(distorted)
    assert calibration_error(repaired, target) < 0.02 < calibration_error(distorted, target)
    assert brier(repaired, target) < brier(distorted, target)
    np.testing.assert_array_equal(np.argsort(repaired[0]), np.argsort(distorted[0]))
    assert sum(row["count"] for row in reliability(repaired, target)) == target.size


def expected_jaccard(probability: np.ndarray, chosen: np.ndarray) -> float:
    """The expectation over all outcomes of independent medications."""
    total = 0.0
    for number in range(2 ** len(probability)):
        given = (number >> np.arange(len(probability))) & 1 > 0
        chance = np.prod(np.where(given, probability, 1 - probability))
        union = (given | chosen).sum()
        total += chance * ((given & chosen).sum() / union if union else 1.0)
    return total


def test_a_visits_own_threshold_is_that_of_the_largest_expected_jaccard() -> None:
    rng = np.random.default_rng(5)
    for _ in range(12):
        probability = 1 / (1 + np.exp(-(rng.standard_normal(9) * 1.5 + rng.normal())))
        least = expected_jaccard_threshold(probability[None])[0]
        sizes = [expected_jaccard(probability, probability >= cut) for cut in (*np.sort(probability), 1.0)]
        assert expected_jaccard(probability, probability >= least) > max(sizes) - 2e-3


def test_own_thresholds_are_taken_where_visits_differ_and_validation_is_better_by_them() -> None:
    rng = np.random.default_rng(6)
    sick = rng.normal(-1.0, 2.0, (4000, 1))
    probability = (1 / (1 + np.exp(-(sick + rng.standard_normal((4000, 14)))))).astype(np.float32)
    target = (rng.random(probability.shape) < probability).astype(np.float32)
    half, none = slice(0, 1200), np.zeros((14, 14), bool)
    platt = fit_platt(probability[half], target[half])
    plain, own = tune(probability[half], target[half], none), tune(probability[half], target[half], none, platt=platt)
    assert plain.slope == 0 and own.slope == platt.slope
    score = [set_metrics(select(probability[1200:], one, none), target[1200:])["jaccard"].mean() for one in (plain, own)]
    assert score[1] > score[0] + 0.003
    penalised = select(probability, own._replace(penalty=0.7), np.ones((14, 14), bool) & ~np.eye(14, dtype=bool))
    assert (penalised <= select(probability, own, none)).all() and (penalised.sum(1) > 0).any()
