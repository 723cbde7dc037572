"""Intervals cover what they claim, a paired comparison sees what unpaired ones cannot, plain loops agree."""

import numpy as np
import pytest

from kb.errors import DataError
from recsys.experiments.bootstrap import NAMES, intervals, literature, paired_difference, patient_sums
from recsys.experiments.metrics import visit_metrics


def table(seed: int, shift: float = 0.0, patients: int = 120) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    patient_of = np.repeat(np.arange(patients), 1 + rng.integers(0, 4, patients))
    probability = rng.random((len(patient_of), 9)).astype(np.float32)
    target = (rng.random(probability.shape) < 0.3 + 0.5 * (probability > 0.6)).astype(np.float32)
    matrix = np.zeros((9, 9), bool)
    matrix[0, 1] = matrix[1, 0] = True
    return visit_metrics(probability, probability >= 0.6 - shift, target, matrix), patient_of


def test_a_draw_equals_a_plain_loop_over_the_drawn_patients() -> None:
    values, patient_of = table(0)
    sums = patient_sums(values, patient_of)
    weights = np.random.default_rng(1).multinomial(120, np.full(120, 1 / 120), size=2).astype(float)
    drawn = {by: sums.means(weights, by=by) for by in ("visit", "patient")}
    for row in range(2):
        chosen = np.repeat(np.arange(120), weights[row].astype(int))
        visits = np.concatenate([values["jaccard"][patient_of == p] for p in chosen])
        per_patient = np.mean([values["jaccard"][patient_of == p].mean() for p in chosen])
        assert drawn["visit"][row, 0] == pytest.approx(visits.mean())
        assert drawn["patient"][row, 0] == pytest.approx(per_patient)
        some = sum(values["ddi_pairs"][patient_of == p].sum() for p in chosen)
        whole = sum(values["pairs"][patient_of == p].sum() for p in chosen)
        assert drawn["visit"][row, NAMES.index("ddi_rate")] == pytest.approx(some / whole)


def test_the_interval_covers_the_mean_and_is_repeatable() -> None:
    values, patient_of = table(2)
    sums = patient_sums(values, patient_of)
    low, high = intervals(sums)["jaccard"]
    assert low < values["jaccard"].mean() < high
    assert intervals(sums) == intervals(sums) != intervals(sums, seed=1)
    mean, spread = literature(sums)["jaccard"]
    assert 0 < spread < high - low and low < mean < high


def test_a_paired_difference_is_sharper_than_the_two_intervals() -> None:
    one, patient_of = table(3)
    two, _ = table(3, shift=0.03)
    first, second = patient_sums(one, patient_of), patient_sums(two, patient_of)
    difference = paired_difference(first, second)["jaccard"]
    assert difference["low"] <= difference["difference"] <= difference["high"]
    low, high = intervals(first)["jaccard"]
    assert difference["high"] - difference["low"] < (high - low)
    same = paired_difference(first, first)["f1"]
    assert same["difference"] == same["low"] == same["high"] == 0 and same["p"] == 1


def test_runs_on_other_patients_are_refused() -> None:
    one, two = (patient_sums(*table(seed)) for seed in (4, 5))
    with pytest.raises(DataError, match="same patients"):
        paired_difference(one, two)
