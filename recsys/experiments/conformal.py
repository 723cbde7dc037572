"""Sets of medications that hold a stated share of what is given, by conformal risk control.

The loss is the share of a patient's given medications that the set misses, mean over the patient's visits; the
threshold is the largest whose loss on the validation patients, with one more patient who misses everything, is at most
1 − coverage (Angelopoulos, Bates, Fisch, Lei and Schuster 2024). Then a new patient of the same kind misses no more
than that on average. Patients are what is exchangeable, not visits, and a given medication outside the vocabulary is
always missed; the libraries for conformal prediction count visits and labels instead, so this is written here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

COVERAGES = (0.8, 0.9, 0.95)


class PredictionSet(NamedTuple):
    """The medications of at least ``threshold`` hold ``coverage`` of what is given; 0 is all of them."""

    coverage: float
    threshold: float


def misses(target: NDArray[Any], unseen: NDArray[np.int64],
           patient_of: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], float]:
    """(visit, medication, weight) of everything given, and the loss of what no set can hold.

    A weight is what missing it adds to the mean loss over patients.
    """
    rows, columns = np.nonzero(target)
    given = np.bincount(rows, minlength=len(target)) + unseen
    _, patient = np.unique(patient_of, return_inverse=True)
    visits = np.bincount(patient)
    share = 1 / (np.maximum(given, 1) * visits[patient] * len(visits))
    return rows, columns, share[rows], float((share * unseen).sum())


def fit_sets(probability: NDArray[np.float32], target: NDArray[Any], unseen: NDArray[np.int64],
             patient_of: NDArray[np.int64]) -> tuple[PredictionSet, ...]:
    """The sets of ``COVERAGES`` from scored validation visits [N, K] of P patients."""
    rows, columns, weight, always = misses(target, unseen, patient_of)
    patients = len(np.unique(patient_of))
    order = np.argsort(probability[rows, columns], kind="stable")
    found, below = probability[rows, columns][order].astype(float), np.concatenate(([0.0], np.cumsum(weight[order])))
    sets = []
    for coverage in COVERAGES:
        budget = ((1 - coverage) * (patients + 1) - 1) / patients - always
        place = int(np.searchsorted(below, budget + 1e-12, side="right")) - 1  # that many of the lowest may be missed
        whole = place < 0 or not len(found)
        threshold = 0.0 if whole else found[min(place, len(found) - 1)]
        sets.append(PredictionSet(coverage, float(threshold)))
    return tuple(sets)


def covered(sets: tuple[PredictionSet, ...], probability: NDArray[np.float32], target: NDArray[Any],
            unseen: NDArray[np.int64], patient_of: NDArray[np.int64]) -> list[dict[str, float]]:
    """What the sets hold of what was given at other visits, mean over patients, and how large they are."""
    rows, columns, weight, always = misses(target, unseen, patient_of)
    return [{"coverage": wanted, "threshold": threshold,
             "covered": 1 - always - float(weight[probability[rows, columns] < threshold].sum()),
             "medications": float((probability >= threshold).sum(1).mean())} for wanted, threshold in sets]
