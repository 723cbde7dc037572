"""Metrics equal scikit-learn's where it has them, and hold at their edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from recsys.experiments.metrics import average_precision, set_metrics, summary, visit_metrics
from recsys.orders.interactions import ddi_rate, from_pairs


def draw(seed: int, visits: int = 30, width: int = 12, levels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability = rng.integers(0, levels, (visits, width)) / levels
    target = rng.random((visits, width)) < rng.random((visits, 1))
    target[:, 0] = True
    return probability.astype(np.float32), target.astype(np.float32)


@given(st.integers(0, 10_000), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_average_precision_equals_sklearn_with_ties(seed: int, levels: int) -> None:
    probability, target = draw(seed, levels=levels)
    expected = [sk.average_precision_score(t, p) for t, p in zip(target, probability, strict=True)]
    np.testing.assert_allclose(average_precision(probability, target), expected, atol=1e-9)


def test_set_metrics_equal_sklearn() -> None:
    probability, target = draw(3)
    chosen = probability >= 0.4
    chosen[:, 1] = True
    table = set_metrics(chosen, target)
    for name, score in (("jaccard", sk.jaccard_score), ("precision", sk.precision_score), ("recall", sk.recall_score),
                        ("f1", sk.f1_score)):
        expected = [score(t, s) for t, s in zip(target, chosen, strict=True)]
        np.testing.assert_allclose(table[name], expected, atol=1e-12)


def test_two_empty_sets_agree_and_one_empty_set_scores_zero() -> None:
    target = np.array([[0, 0, 0], [0, 1, 0]], np.float32)
    table = set_metrics(np.zeros((2, 3), bool), target)
    for name in ("jaccard", "precision", "recall", "f1"):
        assert table[name].tolist() == [1.0, 0.0]


def test_medications_outside_the_vocabulary_are_missed() -> None:
    target = np.array([[1, 1, 0]], np.float32)
    table = set_metrics(target.astype(bool), target, np.array([2]))
    assert table["recall"][0] == pytest.approx(0.5)
    assert table["jaccard"][0] == pytest.approx(0.5)
    assert table["precision"][0] == 1.0


def test_ddi_rate_pools_pairs_over_visits() -> None:
    matrix = from_pairs([(0, 1), (1, 2), (2, 2)], 4, "test").matrix
    chosen = np.array([[1, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 0]], bool)
    assert ddi_rate(chosen, matrix) == pytest.approx(2 / 4)
    assert ddi_rate(np.zeros((2, 4), bool), matrix) == 0.0


def test_patient_means_weigh_patients_equally() -> None:
    target = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    chosen = np.array([[1, 0], [1, 0], [1, 0]], bool)
    table = visit_metrics(chosen.astype(np.float32), chosen, target, np.zeros((2, 2), bool))
    patient_of = np.array([0, 0, 1])
    assert summary(table, patient_of)["jaccard"] == pytest.approx(2 / 3)
    assert summary(table, patient_of, by="patient")["jaccard"] == pytest.approx(1 / 2)
