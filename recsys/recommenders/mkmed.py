"""MKMed (arXiv 2504.18096): three GRUs over a patient's visits meet the medications' multimodal vectors.

``reference`` is the published recommender as its code has it: last states concatenated, a linear head to K.
``network`` scores patient · medication vector + bias, so that knowledge of a medication reaches a first
visit and a rare medication, and adds what a linear model knows: current codes, and each medication's own history.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recsys.cohorts.batches import Batch, Sizes
from recsys.experiments.config import Config
from recsys.knowledge.table import Knowledge
from recsys.recommenders.encoded import drug_table
from recsys.recommenders.layers import CodeBag, Dropout, GroupedGRU
from recsys.recommenders.network import Network, NeuralRecommender


class ReferenceNetwork(Network):
    """Three GRUs over diagnoses, procedures and the previous visit's medications; a linear head."""

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        self.on_card = not config.encoder
        dim = config.dim
        self.diagnosis = CodeBag(sizes.diagnosis, dim)
        self.procedure = CodeBag(sizes.procedure, dim)
        self.drugs = drug_table(knowledge, config)
        self.recurrent = GroupedGRU(3, dim)
        self.dropout = Dropout(0.5)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(3 * dim, sizes.medication))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        inputs = torch.stack([self.diagnosis(batch.diagnosis), self.procedure(batch.procedure),
                              batch.recent @ self.drugs()])
        states = self.recurrent(self.dropout(inputs), batch.steps)
        return self.head(states.transpose(0, 1).flatten(1))


class PairingNetwork(Network):
    """score = bias + patient · medication + linear in codes and history + (w + gate(patient)) · the medication's past.

    A medication is its projected store vector plus a small vector of its own, which weight decay keeps near zero where
    prescriptions say nothing. The gate lets the state of a patient decide which earlier medications go on.
    """

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        self.on_card = not config.encoder
        dim, width = config.dim, sizes.medication
        self.diagnosis = CodeBag(sizes.diagnosis, dim, config.code_dropout)
        self.procedure = CodeBag(sizes.procedure, dim, config.code_dropout)
        self.drugs = drug_table(knowledge, config)
        self.own = nn.Parameter(torch.randn(width, dim) * 0.05)
        self.recurrent = GroupedGRU(3, dim)
        self.patient = nn.Sequential(Dropout(config.dropout), nn.Linear(6 * dim, 2 * dim), nn.ReLU(),
                                     Dropout(config.dropout), nn.Linear(2 * dim, dim))
        self.gate = nn.Linear(dim, 2 * width, bias=False)
        self.linear = nn.Linear(2 * dim, width, bias=False)
        self.after = nn.Linear(2 * width, width, bias=False)
        self.keep = nn.Parameter(torch.zeros(2, width))
        self.later = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.zeros_(self.after.weight)
        nn.init.zeros_(self.gate.weight)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        medications = self.drugs() + self.own
        diagnosis, procedure = self.diagnosis(batch.diagnosis), self.procedure(batch.procedure)
        inputs = torch.stack([diagnosis, procedure, batch.recent @ medications])
        states = self.recurrent(inputs, batch.steps)
        patient = self.patient(torch.cat([states, inputs]).transpose(0, 1).flatten(1))
        scores = self.bias + patient @ medications.t() + self.linear(torch.cat([diagnosis, procedure], 1))
        # packed order puts the first visits first, and those have no past to score
        first = batch.steps[0]
        past = torch.cat([batch.recent[first:], batch.share[first:]], 1)
        going_on = (past * (self.gate(patient[first:]) + self.keep.flatten())).unflatten(1, (2, -1)).sum(1)
        return torch.cat([scores[:first], scores[first:] + self.later + self.after(past) + going_on])


class MKMed(NeuralRecommender):
    """The networks of this project, in the mode that ``config.mode`` names; ``pairs`` has a file of its own."""

    name = "mkmed"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """Less regularisation for the reference mode, which has far fewer ways to fit."""
        return {"batch": 64, "weight_decay": 0.01} if mode == "reference" else {}

    def build(self) -> Network:
        """A fresh network of the configured mode."""
        kind = ReferenceNetwork if self.config.mode == "reference" else PairingNetwork
        return kind(self.sizes, self.knowledge, self.config)
