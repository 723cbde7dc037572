"""Sets of stated coverage: the bound holds over many draws of patients, and what no set can hold counts as missed."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.experiments.conformal import COVERAGES, covered, fit_sets


def drawn(rng: np.random.Generator, patients: int, size: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(probability, target, unseen, patient_of): the probabilities are too high for some patients, too low for others."""
    visits = rng.integers(1, 5, patients)
    patient = np.repeat(np.arange(patients), visits)
    chance = rng.beta(0.6, 3, (len(patient), size))
    moved = 1 / (1 + np.exp(-(np.log(chance / (1 - chance)) + rng.standard_normal(patients)[patient][:, None])))
    return moved.astype(np.float32), rng.random(chance.shape) < chance, rng.poisson(0.05, len(patient)), patient


def test_a_new_patient_is_covered_as_stated_on_average_over_draws() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        sets = fit_sets(*drawn(rng, 40))
        found.append([row["covered"] for row in covered(sets, *drawn(rng, 100))])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(60)
    assert (mean + 3 * error >= COVERAGES).all()
    assert (mean <= np.array(COVERAGES) + 0.05).all()  # and no more than the finite sample costs


def test_what_is_outside_the_vocabulary_is_missed_by_every_set() -> None:
    rng = np.random.default_rng(1)
    probability, target, unseen, patient = drawn(rng, 200)
    plain = fit_sets(probability, target, unseen * 0, patient)
    missed = fit_sets(probability, target, unseen, patient)
    assert all(strict.threshold <= loose.threshold for strict, loose in zip(missed, plain, strict=True))
    assert missed[0].threshold < plain[0].threshold
    impossible = fit_sets(probability, target, unseen * 0 + 50, patient)
    assert all(one.threshold == 0 for one in impossible)
    assert covered(impossible, probability, target, unseen * 0 + 50, patient)[0]["medications"] == probability.shape[1]


def test_few_patients_cannot_promise_much() -> None:
    rng = np.random.default_rng(2)
    assert fit_sets(*drawn(rng, 8))[-1].threshold == 0.0  # 95 % of 8 patients' needs all medications


def test_the_threshold_is_the_largest_that_keeps_the_bound() -> None:
    rng = np.random.default_rng(3)
    probability, target, unseen, patient = drawn(rng, 150)
    patients = len(np.unique(patient))
    for one in fit_sets(probability, target, unseen * 0, patient):
        def risk(threshold: float) -> float:
            missed = (target & (probability < threshold)).sum(1) / np.maximum(target.sum(1), 1)
            by_patient = np.bincount(patient, missed) / np.bincount(patient)
            return float((by_patient.sum() + 1) / (patients + 1))

        assert risk(one.threshold) <= 1 - one.coverage + 1e-9
        above = probability[target & (probability > one.threshold)].min()
        assert risk(float(above) + 1e-6) > 1 - one.coverage or risk(float(above)) == pytest.approx(risk(one.threshold))
