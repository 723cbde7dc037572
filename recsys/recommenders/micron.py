"""MICRON (Yang et al., IJCAI 2021): what changed in a patient's health says what changes in the medications.

The paper keeps the previous set and moves medications in and out by two thresholds on the residual score; here the
previous medications enter the score with a learned weight each, which is the same rule in a probability's form.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recsys.cohorts.batches import Batch, Sizes
from recsys.experiments.config import Config
from recsys.recommenders.layers import CodeBag, Dropout
from recsys.recommenders.network import Network, NeuralRecommender


class MicronNetwork(Network):
    """h from a visit's codes; score = net(h of the previous visit) + net(h − previous h) + carried medications."""

    def __init__(self, sizes: Sizes, config: Config) -> None:
        super().__init__()
        dim, width = config.dim, sizes.medication
        self.diagnosis = CodeBag(sizes.diagnosis, dim, config.code_dropout)
        self.procedure = CodeBag(sizes.procedure, dim, config.code_dropout)
        self.health = nn.Linear(2 * dim, dim)
        self.prescribe = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, width))
        self.carry = nn.Parameter(torch.zeros(width))
        self.dropout = Dropout(config.dropout)
        self.reconstruction = 0.1

    def _scores(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        codes = torch.cat([self.diagnosis(batch.diagnosis), self.procedure(batch.procedure)], 1)
        health = self.health(self.dropout(codes))
        before = torch.zeros_like(health)
        start = batch.steps[0]
        if len(batch.steps) > 1:
            former, first = [], 0
            for count, size in zip(batch.steps[1:], batch.steps, strict=False):
                former.append(health[first:first + count])
                first += size
            before = torch.cat([before[:start], *former])
        later = (batch.past > 0).to(health.dtype)
        whole = self.prescribe(health)
        stepped = self.prescribe(before) + self.prescribe(health - before)
        gap = ((torch.sigmoid(whole) - torch.sigmoid(stepped)).square() * later).mean()
        return torch.where(later > 0, stepped, whole) + batch.recent * self.carry, gap

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        return self._scores(batch)[0]

    def objective(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits, and the reconstruction term: the stepped score must agree with the score from scratch."""
        logits, gap = self._scores(batch)
        return logits, self.reconstruction * gap


class Micron(NeuralRecommender):
    """MICRON; a first visit is scored from scratch."""

    name = "micron"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """Its own step size and regularisation; interactions are held down by the choice of medications alone."""
        return {"batch": 64, "learning_rate": 2e-3, "ddi_loss": False}

    def build(self) -> Network:
        """A fresh network."""
        return MicronNetwork(self.sizes, self.config)
