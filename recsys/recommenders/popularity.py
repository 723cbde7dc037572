"""Popularity: every visit gets the medications' frequencies in the training visits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.cohorts.batches import Histories
from recsys.recommenders.contract import Log, Recommender


class Popularity(Recommender):
    """The floor: what a recommender knows that does not look at the patient."""

    name = "popularity"
    arrays_only = True
    reads_vectors = False
    frequency: np.ndarray

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Count."""
        self.frequency = (train.frequency / max(int(train.scored.sum()), 1)).astype(np.float32)

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """The same row for every visit."""
        return np.tile(self.frequency, (visits.visits, 1))

    def tensors(self) -> dict[str, np.ndarray]:
        """The frequencies."""
        return {"frequency": self.frequency.copy()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take the frequencies back."""
        self.frequency = tensors["frequency"]
