"""Rivals for experiments that are never stored: the nearest visits, whose model is its patients, and boosted trees.

Neither is in the registry, since what a registered recommender keeps may leave the cohort's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kb.errors import DataError
from recsys.cohorts.batches import Histories
from recsys.experiments.metrics import average_precision
from recsys.recommenders.contract import Log, Recommender
from recsys.recommenders.pairs import Pairs

Floats = NDArray[np.float32]

NEIGHBOURS = (5, 10, 20, 40, 80, 160)
TREES = ((0.1, 8), (0.1, 16), (0.1, 31), (0.2, 8), (0.2, 16), (0.2, 31))
"""Learning rate and leaves."""


class Unstored(Recommender):
    """A recommender that exists in memory only."""

    tried: list[dict[str, Any]]
    """What the validation patients chose among, the best first."""

    def tensors(self) -> NoReturn:
        """Raises DataError."""
        raise DataError(f"{self.name} is a rival for experiments and is not stored", hint="train another recommender")

    def restore(self, tensors: Any) -> NoReturn:
        """Raises DataError."""
        self.tensors()


class NearestVisits(Unstored):
    """The medications of the k training visits most alike, weighted by likeness, beside the base rate.

    Visits are alike by the cosine of their codes and earlier medications, each weighted by how rare it is (tf-idf); k
    is chosen by validation PRAUC.
    """

    name = "nearest_visits"

    def inputs(self, visits: Histories, rows: NDArray[np.int64]) -> sparse.csr_matrix:
        """Sparse [n, C + K], rows of length 1."""
        found = sparse.hstack([visits.diagnosis.take(rows).sparse(self.sizes.diagnosis),
                               visits.procedure.take(rows).sparse(self.sizes.procedure), visits.recent[rows]],
                              format="csr") @ sparse.diags_array(self.weight)
        length = np.sqrt(np.asarray(found.multiply(found).sum(1)).ravel())
        return sparse.csr_matrix(sparse.diags_array(1 / np.maximum(length, 1e-9)) @ found)

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Keep the training visits, and choose k."""
        rows, held = np.flatnonzero(train.scored), np.flatnonzero(validation.scored)
        self.weight = np.ones(sum(self.sizes), np.float32)
        count = np.asarray((self.inputs(train, rows) > 0).sum(0)).ravel()
        self.weight = np.log((1 + len(rows)) / (1 + count)).astype(np.float32)
        self.visits, self.given = self.inputs(train, rows), train.target(rows).astype(np.float32)
        truth = validation.target(held).astype(np.float32)
        tried = [{"k": k, "prauc": float(average_precision(self._scores(validation, held, k), truth).mean())}
                 for k in NEIGHBOURS if k <= len(rows)]
        self.tried = sorted(tried, key=lambda one: -one["prauc"])
        self.k = int(self.tried[0]["k"]) if tried else len(rows)

    def _scores(self, visits: Histories, rows: NDArray[np.int64], k: int) -> Floats:
        """float32[n, K]: the neighbours' share, with the base rate as one neighbour more."""
        alike = np.asarray((self.inputs(visits, rows) @ self.visits.T).todense(), np.float32)
        near = np.argpartition(-alike, min(k, alike.shape[1]) - 1, axis=1)[:, :k]
        weight = np.take_along_axis(alike, near, 1)
        base = self.given.mean(0)
        total = np.einsum("nk,nkm->nm", weight, self.given[near]) + base * max(float(weight.mean()), 1e-6)
        return np.asarray(total / (weight.sum(1, keepdims=True) + max(float(weight.mean()), 1e-6)), np.float32)

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """float32[N, K]."""
        parts = np.array_split(np.arange(visits.visits), max(visits.visits // 500, 1))
        return np.concatenate([self._scores(visits, part, self.k) for part in parts])


class BoostedPairs(Unstored, Pairs):
    """Gradient-boosted trees on the pair features of ``pairs`` and each medication's base rate, for all medications.

    It has the knowledge that the pair model has, and no process; learning rate and leaves are chosen by validation
    PRAUC.
    """

    name = "boosted_pairs"

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Fit the trees, and choose among ``TREES``."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        rows, held = np.flatnonzero(train.scored), np.flatnonzero(validation.scored)
        target = train.target(rows)
        share = (target.sum(0) + target.mean()) / (len(rows) + 1)
        self.bias = np.log(share / (1 - share)).astype(np.float32)
        inputs, wanted = self._pairs(train, rows), target.ravel()
        truth = validation.target(held).astype(np.float32)
        tried: list[tuple[dict[str, Any], Any]] = []
        for rate, leaves in TREES:
            trees = HistGradientBoostingClassifier(learning_rate=rate, max_leaf_nodes=leaves, max_iter=100,
                                                   min_samples_leaf=40, early_stopping=False, random_state=0)
            with threadpool_limits(1):  # more threads than cores make it hundreds of times slower
                self.trees = trees.fit(inputs, wanted)
                quality = float(average_precision(self._scored(validation, held), truth).mean())
            tried.append(({"learning_rate": rate, "leaves": leaves, "prauc": quality}, self.trees))
        tried.sort(key=lambda one: -one[0]["prauc"])
        self.trees, self.tried = tried[0][1], [one for one, _ in tried]

    def _pairs(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        """float32[n · K, F + 1]."""
        features = self.features(visits, rows)
        base = np.broadcast_to(self.bias, features.shape[1:])[None]
        return np.concatenate([features, base]).reshape(len(features) + 1, -1).T

    def _scored(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        found = self.trees.predict_proba(self._pairs(visits, rows))[:, 1]
        return np.asarray(found.reshape(len(rows), -1), np.float32)

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """float32[N, K]."""
        return np.concatenate([self._scored(visits, part) for part in self._chunks(np.arange(visits.visits))])


RIVALS: dict[str, type[Unstored]] = {one.name: one for one in (NearestVisits, BoostedPairs)}
