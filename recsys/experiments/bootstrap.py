"""How sure a mean is: the literature's bootstrap, and a paired bootstrap of the difference between two runs.

Patients are resampled, never visits: the visits of one patient are not independent. Metrics are summed per patient
once; every draw is then a weighted sum, so a thousand draws cost one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from kb.errors import DataError
from recsys.experiments.metrics import MEANS

NAMES = (*MEANS, "ddi_rate")


@dataclass(frozen=True)
class PatientSums:
    """Per-patient sums of one evaluation; what a bootstrap needs and nothing of the patients themselves."""

    visits: np.ndarray
    """float64[P]: scored visits of each patient."""
    sums: np.ndarray
    """float64[P, len(MEANS)]: sums over visits of each metric."""
    interacting: np.ndarray
    """float64[P]: interacting pairs."""
    pairs: np.ndarray
    """float64[P]: all pairs."""

    def means(self, weights: np.ndarray, *, by: str = "visit") -> np.ndarray:
        """float64[draws, len(NAMES)] for patient weights [draws, P]; ``by`` patient or visit as in metrics.summary."""
        if by == "visit":
            scores = weights @ self.sums / (weights @ self.visits)[:, None]
        else:
            scores = weights @ (self.sums / self.visits[:, None]) / weights.sum(1, keepdims=True)
        rates = weights @ self.interacting / np.maximum(weights @ self.pairs, 1e-12)
        return np.column_stack([scores, rates])


def together(parts: Sequence[PatientSums]) -> PatientSums:
    """The sums of several evaluations, one after another: seeds pooled for one interval."""
    names = [field.name for field in fields(PatientSums)]
    return PatientSums(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def patient_sums(table: dict[str, np.ndarray], patient_of: np.ndarray) -> PatientSums:
    """The sums of a table of visit metrics (``metrics.visit_metrics``); patients without a scored visit drop out."""
    counts = np.bincount(patient_of).astype(np.float64)
    held = counts > 0

    def total(name: str) -> np.ndarray:
        return np.bincount(patient_of, table[name], minlength=len(counts))[held]

    return PatientSums(counts[held], np.column_stack([total(name) for name in MEANS]), total("ddi_pairs"),
                       total("pairs"))


def _weights(patients: int, draws: int, size: int, seed: int) -> np.ndarray:
    """float64[draws, P]: how often each patient is drawn, with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(size, np.full(patients, 1 / patients), size=draws).astype(np.float64)


def literature(sums: PatientSums, *, by: str = "patient", seed: int = 0) -> dict[str, tuple[float, float]]:
    """name -> (mean, standard deviation) over 10 draws of 80 % of the patients with replacement, as papers report.

    This spread is that of resampling one trained model; it says nothing of another seed.
    """
    patients = len(sums.visits)
    drawn = sums.means(_weights(patients, 10, max(round(0.8 * patients), 1), seed), by=by)
    return {name: (float(drawn[:, i].mean()), float(drawn[:, i].std())) for i, name in enumerate(NAMES)}


def intervals(sums: PatientSums, *, by: str = "visit", draws: int = 1000, seed: int = 0,
              level: float = 0.95) -> dict[str, tuple[float, float]]:
    """name -> (low, high), the percentile interval over ``draws`` resamplings of all patients."""
    patients = len(sums.visits)
    drawn = sums.means(_weights(patients, draws, patients, seed), by=by)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(NAMES)}


def paired_difference(first: PatientSums, second: PatientSums, *, by: str = "visit", draws: int = 1000, seed: int = 0,
           level: float = 0.95) -> dict[str, dict[str, float]]:
    """name -> {difference, low, high, p} of first − second on the same patients in every draw.

    ``p`` is two-sided: twice the share of draws on the other side of zero, at least 1/draws. Raises DataError when the
    two evaluations are not of the same patients.
    """
    if len(first.visits) != len(second.visits) or not np.array_equal(first.visits, second.visits):
        raise DataError("the two runs were not evaluated on the same patients",
                        hint="give both the same cohort, task, split and seed")
    patients = len(first.visits)
    weights = _weights(patients, draws, patients, seed)
    drawn = first.means(weights, by=by) - second.means(weights, by=by)
    one = np.ones((1, patients))
    seen = (first.means(one, by=by) - second.means(one, by=by))[0]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    table = {}
    for i, name in enumerate(NAMES):
        side = min((drawn[:, i] <= 0).mean(), (drawn[:, i] >= 0).mean())
        table[name] = {"difference": float(seen[i]), "low": float(low[i]), "high": float(high[i]),
                       "p": float(min(1.0, max(2 * side, 1 / draws)))}
    return table
