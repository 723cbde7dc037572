"""How far a patient is from the cohort that a recommender was trained on, by aggregates that name nobody.

A visit is described by how many diagnoses, procedures and earlier medications it has, how rare those are among
training visits (mean −log share), and how many visits came before. Its distance is Mahalanobis', by the mean and the
covariance of the training visits. What is stored with a model: those, the share of training visits of each code that
the model keeps, and the percentiles of the validation visits' distances, against which a request is placed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.cohorts.batches import Histories

Floats = NDArray[np.float64]
INPUTS = ("diagnosis", "procedure", "earlier")
LEAST_VISITS = 100
"""Validation visits below which their percentiles are not told."""


@dataclass(frozen=True)
class Drift:
    """What a request is compared with."""

    shares: Mapping[str, Floats]
    """By input, float64 a code: the share of the training visits that have it; 0 for a code that is not kept."""
    mean: Floats
    inverse: Floats
    """float64[F, F]: of the covariance."""
    percentiles: Floats
    """float64[101]: of the validation visits' distances."""

    def distance(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        """float64[n]: how far some visits are from the training visits."""
        apart = visit_features(visits, rows, self.shares) - self.mean
        found: Floats = np.sqrt(np.maximum(np.einsum("nf,fg,ng->n", apart, self.inverse, apart), 0))
        return found

    def farther_than(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        """float64[n]: the share of the validation visits that are nearer, to a hundredth."""
        return np.searchsorted(self.percentiles[:-1], self.distance(visits, rows), side="right").clip(0, 100) / 100

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"shares": {name: [round(float(s), 6) for s in shares] for name, shares in self.shares.items()},
                "mean": self.mean.tolist(), "inverse": self.inverse.tolist(),
                "percentiles": [round(float(p), 4) for p in self.percentiles]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Drift:
        """Take back what ``as_json`` gave."""
        return cls({name: np.asarray(shares) for name, shares in stored["shares"].items()}, np.asarray(stored["mean"]),
                   np.asarray(stored["inverse"]), np.asarray(stored["percentiles"]))


def visit_features(visits: Histories, rows: NDArray[np.int64], shares: Mapping[str, Floats]) -> Floats:
    """float64[n, 7]: counts of each input's known codes, their mean −log share, and the number of earlier visits."""
    found = []
    for name in INPUTS:
        known = shares[name] > 0
        rare = np.where(known, -np.log(np.where(known, shares[name], 1.0)), 0.0)
        table = getattr(visits, name).take(rows).sparse(len(known))
        count = np.asarray(table @ known.astype(float))
        found += [np.log1p(count), np.asarray(table @ rare) / np.maximum(count, 1)]
    return np.stack([*found, np.log1p(visits.past[rows])], axis=1)


def fit_drift(train: Histories, validation: Histories, kept: Mapping[str, NDArray[np.bool_]]) -> Drift | None:
    """The comparison, from scored visits; ``kept`` says by kind which codes the model keeps.

    None with fewer than ``LEAST_VISITS`` validation visits.
    """
    rows, held = np.flatnonzero(train.scored), np.flatnonzero(validation.scored)
    if len(held) < LEAST_VISITS:
        return None
    sizes = {"diagnosis": train.sizes.diagnosis, "procedure": train.sizes.procedure, "earlier": train.sizes.medication}
    kept = {"earlier": kept["medication"], **kept}
    shares = {name: np.bincount(getattr(train, name).take(rows).values, minlength=size) / len(rows)
              * kept[name] for name, size in sizes.items()}
    features = visit_features(train, rows, shares)
    covariance = np.cov(features.T) + 1e-3 * np.eye(features.shape[1])
    made = Drift(shares, features.mean(0), np.asarray(np.linalg.inv(covariance), np.float64), np.zeros(101))
    percentiles = np.quantile(made.distance(validation, held), np.linspace(0, 1, 101))
    percentiles[-1] = percentiles[-2]  # the farthest visit is one patient's
    percentiles[0] = percentiles[1]
    small = {name: part[kept[name]] for name, part in shares.items()}
    return Drift(small, made.mean, made.inverse, percentiles)
