"""Logistic regression on current codes and on what was given before: the baseline that most networks do not beat."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recsys.cohorts.batches import Histories
from recsys.recommenders.logistic import Logistic


class LogisticHistory(Logistic):
    """Linear in the visit's codes, the previous visit's medications, and each medication's share of earlier visits."""

    name = "logistic_history"

    def features(self, visits: Histories) -> sparse.csr_matrix:
        """Sparse float32[N, F]: codes, previous medications, shares, and whether there was a visit before."""
        before = (visits.past > 0).astype(np.float32)[:, None]
        history = [visits.recent, visits.share, sparse.csr_matrix(before)]
        return sparse.hstack([super().features(visits), *history], format="csr", dtype=np.float32)
