"""MKMed (arXiv 2504.18096): three GRUs over a patient's visits meet the medications' multimodal vectors.

``reference`` is the published recommender as its code has it: last states concatenated, a linear head to K.
``corrected`` (default) scores patient · medication vector + bias, so that knowledge of a medication reaches a first
visit and a rare medication, and adds what a linear model knows: current codes, and each medication's own history.
"""

from __future__ import annotations

import torch
from torch import nn

from recsys.batches import Batch, Sizes
from recsys.config import Config
from recsys.knowledge import Knowledge
from recsys.recommenders.contract import Network, NeuralRecommender
from recsys.recommenders.layers import CodeBag, DrugTable, GroupedGRU


class ReferenceNetwork(Network):
    """Three GRUs over diagnoses, procedures and the previous visit's medications; a linear head."""

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        dim = config.dim
        self.diagnosis = CodeBag(sizes.diagnosis, dim)
        self.procedure = CodeBag(sizes.procedure, dim)
        self.drugs = DrugTable(knowledge, dim, frozen=config.frozen)
        self.recurrent = GroupedGRU(3, dim)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(3 * dim, sizes.medication))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        inputs = torch.stack([self.diagnosis(batch.diagnosis), self.procedure(batch.procedure),
                              batch.recent @ self.drugs()])
        states = self.recurrent(self.dropout(inputs), batch.steps)
        return self.head(states.transpose(0, 1).flatten(1))


class CorrectedNetwork(Network):
    """The three GRUs, a medication-vector score, a wide linear path, and each medication's own history."""

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        dim, width = config.dim, sizes.medication
        self.diagnosis = CodeBag(sizes.diagnosis, dim, config.code_dropout)
        self.procedure = CodeBag(sizes.procedure, dim, config.code_dropout)
        self.drugs = DrugTable(knowledge, dim, frozen=config.frozen)
        self.recurrent = GroupedGRU(3, dim)
        self.patient = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(6 * dim, 2 * dim), nn.ReLU(),
                                     nn.Dropout(config.dropout), nn.Linear(2 * dim, dim))
        self.linear = nn.Linear(2 * dim, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))
        self.keep = nn.Parameter(torch.zeros(4, width))
        self.after = nn.Linear(2 * width, width, bias=False)
        nn.init.zeros_(self.after.weight)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        table = self.drugs()
        diagnosis, procedure = self.diagnosis(batch.diagnosis), self.procedure(batch.procedure)
        inputs = torch.stack([diagnosis, procedure, batch.recent @ table])
        states = self.recurrent(inputs, batch.steps)
        everything = torch.cat([states, inputs]).transpose(0, 1).flatten(1)
        patient = self.patient(everything)
        history = torch.cat([batch.recent, batch.share], 1)
        seen = (batch.past > 0).to(patient.dtype)
        return (self.bias + patient @ table.t() + self.linear(torch.cat([diagnosis, procedure], 1))
                + batch.recent * self.keep[0] + batch.share * self.keep[1] + seen * self.keep[2]
                + self.after(history))


class MKMed(NeuralRecommender):
    """The recommender of this project, in the mode that ``config.mode`` names."""

    name = "mkmed"

    def build(self) -> Network:
        """A fresh network of the configured mode."""
        kind = ReferenceNetwork if self.config.mode == "reference" else CorrectedNetwork
        return kind(self.sizes, self.knowledge, self.config)
