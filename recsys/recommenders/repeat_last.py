"""Repeat-last: the previous visit's medications again, the rest by popularity; a first visit gets popularity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from recsys.cohorts.batches import Histories
from recsys.recommenders.contract import Log, Recommender


def _sums(table: sparse.csr_matrix) -> np.ndarray:
    """float64[K]: the sums of the columns."""
    return np.asarray(table.sum(0), np.float64).ravel()


class RepeatLast(Recommender):
    """P(m | whether the previous visit had m), counted on the training visits, medication by medication."""

    name = "repeat_last"
    arrays_only = True
    reads_vectors = False
    table: np.ndarray
    """float32[3, K]: the frequency at a first visit, after a visit without it, and after a visit with it."""

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Count, with one pseudo-visit of the overall frequency in each cell."""
        first = train.scored & (train.past == 0)
        later = np.flatnonzero(train.scored & (train.past > 0))
        given, before = train.given[later], train.recent[later]
        again, had = (_sums(part) for part in (given.multiply(before), before))
        started = _sums(train.given[np.flatnonzero(first)])
        overall = train.frequency / max(int(train.scored.sum()), 1)
        hits = np.stack([started, _sums(given) - again, again])
        visits = np.stack([np.full_like(had, first.sum()), len(later) - had, had])
        self.table = ((hits + overall) / (visits + 1)).astype(np.float32)

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """The cell of each visit and medication."""
        out = self.table[np.minimum(visits.past, 1)]
        before = visits.recent.tocoo()
        out[before.row, before.col] = self.table[2, before.col]
        return out

    def tensors(self) -> dict[str, np.ndarray]:
        """The counted table."""
        return {"table": self.table.copy()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take the table back."""
        self.table = tensors["table"]
