"""Logistic regression on the current visit's codes: one linear model a medication, all fitted together by L-BFGS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from recsys.cohorts.batches import BLOCK, Histories
from recsys.experiments.decode import tune_threshold
from recsys.recommenders.contract import Log, Recommender

PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4)
"""The L2 penalties tried when the configuration's is 0: strongest first, until the validation Jaccard falls."""
STRONGER = (3e-2, 1e-1, 3e-1)
"""Tried as well, weakest first, when the first of PENALTIES was the best: small cohorts need them."""


class Logistic(Recommender):
    """Linear in the visit's diagnoses and procedures; knows nothing of earlier visits."""

    name = "logistic"
    arrays_only = True
    reads_vectors = False
    weight: NDArray[np.float32]
    """float32[F + 1, K], the bias last."""
    penalty: float = 0.0

    def features(self, visits: Histories) -> sparse.csr_matrix:
        """The input of each visit, sparse float32[N, F]."""
        return sparse.hstack([visits.diagnosis.sparse(visits.sizes.diagnosis),
                              visits.procedure.sparse(visits.sizes.procedure)], format="csr", dtype=np.float32)

    def _design(self, visits: Histories) -> sparse.csr_matrix:
        ones = sparse.csr_matrix(np.ones((visits.visits, 1), np.float32))
        return sparse.hstack([self.features(visits), ones], format="csr", dtype=np.float32)

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Minimise log loss + L2; the penalty with the best validation Jaccard stays."""
        rows, keep = np.flatnonzero(train.scored), np.flatnonzero(validation.scored)
        design, target = self._design(train)[rows], train.given[rows]
        held, truth = self._design(validation)[keep], validation.target(keep)
        odds = np.clip(train.frequency / max(len(rows), 1), 1e-4, 1 - 1e-4)
        weight = np.zeros((design.shape[1], target.shape[1]), np.float32)
        weight[-1] = np.log(odds / (1 - odds))
        best = -1.0
        for penalties in ([self.config.l2],) if self.config.l2 else (PENALTIES, STRONGER):
            if penalties is STRONGER and self.penalty != PENALTIES[0]:
                break
            for penalty in penalties:
                with threadpool_limits(1):  # the products are sparse and small: more threads only wait for one another
                    weight = _minimise(design, target, weight, penalty)
                _, jaccard = tune_threshold(_probability(held, weight), truth, validation.unseen[keep])
                if log is not None:
                    log({"penalty": penalty, "jaccard": jaccard})
                if jaccard <= best:
                    break
                best, self.weight, self.penalty = jaccard, weight, penalty

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """float32[N, K]."""
        return _probability(self._design(visits), self.weight)

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights."""
        return {"weight": self.weight.copy()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take the weights back."""
        self.weight = tensors["weight"]

    def extras(self) -> dict[str, float]:
        """The penalty that validation chose."""
        return {"penalty": self.penalty}


def _probability(design: sparse.csr_matrix, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[N, K]: the sigmoid of the scores."""
    out = np.empty((design.shape[0], weight.shape[1]), np.float32)
    for rows in _parts(design, weight.shape[1]):
        out[rows] = 1 / (1 + np.exp(-np.clip(design[rows] @ weight, -30, 30)))
    return out


def _parts(design: sparse.csr_matrix, width: int) -> list[slice]:
    """Rows whose scores [rows, K] fill about BLOCK cells."""
    height = max(BLOCK // width, 1)
    return [slice(first, first + height) for first in range(0, design.shape[0], height)]


def _minimise(design: sparse.csr_matrix, target: sparse.csr_matrix, start: np.ndarray,
              penalty: float) -> NDArray[np.float32]:
    """The weights [F + 1, K] that minimise mean log loss a visit plus ``penalty``/2 · ‖weights without bias‖²."""
    count, shape = design.shape[0], start.shape
    parts = [(design[rows], design[rows].T.tocsr(), *target[rows].nonzero()) for rows in _parts(design, shape[1])]

    def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(shape).astype(np.float32)
        loss, gradient = 0.0, np.zeros(shape, np.float32)
        for part, transposed, row, column in parts:
            score = np.clip(part @ weight, -30, 30)
            raised = np.exp(-np.abs(score))
            loss += float((np.maximum(score, 0) + np.log1p(raised)).sum(dtype=np.float64))
            loss -= float(score[row, column].sum(dtype=np.float64))
            guess = np.where(score >= 0, 1, raised) / (1 + raised)
            guess[row, column] -= 1
            gradient += transposed @ guess
        loss, gradient = loss / count, gradient / count
        gradient[:-1] += penalty * weight[:-1]
        return loss + penalty / 2 * float(np.square(weight[:-1]).sum(dtype=np.float64)), gradient.ravel().astype(float)

    result = minimize(cost, start.ravel().astype(float), jac=True, method="L-BFGS-B",
                      options={"maxiter": 40, "maxcor": 8, "ftol": 1e-6})
    return result.x.reshape(shape).astype(np.float32)
