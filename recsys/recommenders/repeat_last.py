"""Repeat-last: the previous visit's medications again, the rest by popularity; a first visit gets popularity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from recsys.cohorts.batches import Histories
from recsys.recommenders.contract import Log, Recommender


class RepeatLast(Recommender):
    """P(m | whether the previous visit had m), counted on the training visits, medication by medication."""

    name = "repeat_last"
    table: np.ndarray
    """float32[3, K]: the frequency at a first visit, after a visit without it, and after a visit with it."""

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Count, with one pseudo-visit of the overall frequency in each cell."""
        target, scored = train.target, train.scored
        overall = target[scored].mean(0)
        first = scored & (train.past == 0)
        later = (scored & (train.past > 0))[:, None]
        had = later & (train.recent > 0)
        lacked = later & (train.recent == 0)
        cells = [np.repeat(first[:, None], target.shape[1], 1), lacked, had]
        self.table = np.stack([((target * cell).sum(0) + overall) / (cell.sum(0) + 1) for cell in cells]).astype(
            np.float32)

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """The cell of each visit and medication."""
        cell = np.where(visits.past[:, None] == 0, 0, 1 + (visits.recent > 0)).astype(np.int64)
        return np.take_along_axis(self.table, cell, 0)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The counted table."""
        return {"table": torch.from_numpy(self.table.copy())}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take the table back."""
        self.table = tensors["table"].numpy()
