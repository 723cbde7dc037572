"""RETAIN (Choi et al., NeurIPS 2016): two GRUs walk a patient's visits backwards and weigh visits and their codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recsys.cohorts.batches import Batch, Sizes
from recsys.experiments.config import Config
from recsys.recommenders.layers import CodeBag, Dropout, GroupedGRU
from recsys.recommenders.network import Network, NeuralRecommender


def reversed_prefixes(batch: Batch) -> tuple[torch.Tensor, tuple[int, ...]]:
    """(rows int64[M], steps): for every visit its history backwards, itself first, as packed sequences.

    ``steps[s]`` visits have at least s visits before them; sequences stand in falling order of length, which in a
    packed batch is its rows from the last step to the first.
    """
    before = torch.full((len(batch.rows),), -1, dtype=torch.int64)
    start = batch.steps[0]
    for count, former in zip(batch.steps[1:], batch.steps, strict=False):
        before[start:start + count] = torch.arange(start - former, start - former + count)
        start += count
    blocks = torch.arange(len(batch.rows)).split(list(batch.steps))
    current = torch.cat(blocks[::-1])
    rows, steps = [], []
    while len(current):
        rows.append(current)
        steps.append(len(current))
        current = before[current]
        current = current[current >= 0]
    return torch.cat(rows), tuple(steps)


class RetainNetwork(Network):
    """Σ over earlier visits of α · (β ⊙ visit), then a linear head; α from one GRU, β from the other."""

    on_card = True

    def __init__(self, sizes: Sizes, config: Config) -> None:
        super().__init__()
        dim = config.dim
        self.diagnosis = CodeBag(sizes.diagnosis, dim, config.code_dropout)
        self.procedure = CodeBag(sizes.procedure, dim, config.code_dropout)
        self.medication = nn.Linear(sizes.medication, dim, bias=False)
        self.recurrent = GroupedGRU(2, dim)
        self.alpha = nn.Linear(dim, 1)
        self.beta = nn.Linear(dim, dim)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(dim, sizes.medication)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        visits = self.diagnosis(batch.diagnosis) + self.procedure(batch.procedure) + self.medication(batch.recent)
        visits = self.dropout(visits)
        rows, steps = reversed_prefixes(batch)
        sequence = visits[rows]
        states = self.recurrent(sequence.expand(2, -1, -1), steps)
        weight = self.alpha(states[0])[:, 0]
        value = torch.tanh(self.beta(states[1])) * sequence
        count = steps[0]
        slot = torch.cat([torch.arange(n) for n in steps])
        top = torch.full((count,), -torch.inf).scatter_reduce(0, slot, weight.detach(), "amax")
        raised = torch.exp(weight - top[slot])
        total = torch.zeros(count).index_add(0, slot, raised)
        context = torch.zeros(count, visits.shape[1]).index_add(0, slot, value * raised[:, None]) / total[:, None]
        logits = self.head(self.dropout(context))
        return torch.empty_like(logits).index_copy(0, rows[:count], logits)


class Retain(NeuralRecommender):
    """RETAIN over diagnoses, procedures and the previous visit's medications."""

    name = "retain"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """Its own step size and regularisation; interactions are held down by the choice of medications alone."""
        return {"batch": 64, "learning_rate": 5e-3, "code_dropout": 0.3, "ddi_loss": False}

    def build(self) -> Network:
        """A fresh network."""
        return RetainNetwork(self.sizes, self.config)
