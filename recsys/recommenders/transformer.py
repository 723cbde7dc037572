"""A plain Transformer (Vaswani et al., NeurIPS 2017) over a patient's visits: the sequence model without design.

A visit is the sum of its codes' embeddings and of the previous visit's medications; a causal encoder, pre-norm, with
learned positions, and a linear head to all medications.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recsys.cohorts.batches import Batch, Sizes
from recsys.experiments.config import Config
from recsys.recommenders.layers import CodeBag, Dropout
from recsys.recommenders.network import Network, NeuralRecommender

HEADS = 4
LAYERS = 2
POSITIONS = 64
"""Visits that have a position of their own; later ones share the last."""


class TransformerNetwork(Network):
    """Causal self-attention over visits, then a linear head."""

    on_card = True

    def __init__(self, sizes: Sizes, config: Config) -> None:
        super().__init__()
        dim = config.dim
        self.diagnosis = CodeBag(sizes.diagnosis, dim, config.code_dropout)
        self.procedure = CodeBag(sizes.procedure, dim, config.code_dropout)
        self.medication = nn.Linear(sizes.medication, dim, bias=False)
        self.position = nn.Parameter(torch.randn(POSITIONS, dim) * 0.1)
        layer = nn.TransformerEncoderLayer(dim, HEADS if dim % HEADS == 0 else 1, 2 * dim, config.dropout,
                                           batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(dim, sizes.medication)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        visits = self.diagnosis(batch.diagnosis) + self.procedure(batch.procedure) + self.medication(batch.recent)
        rows = batch.padded_rows  # [P, T]; what is behind a patient's last visit is seen by no visit before it
        place = torch.arange(rows.shape[1]).clamp(max=POSITIONS - 1)
        sequence = self.dropout(visits[rows.clamp(min=0)] + self.position[place])
        later = torch.ones(rows.shape[1], rows.shape[1], dtype=torch.bool).triu(1)
        states = self.encoder(sequence, mask=later)
        there = rows >= 0
        packed = torch.empty_like(visits).index_copy(0, rows[there], states[there])
        logits: torch.Tensor = self.head(packed)
        return logits


class Transformer(NeuralRecommender):
    """The plain Transformer."""

    name = "transformer"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """A smaller step than recurrent layers take."""
        return {"learning_rate": 2e-3, "code_dropout": 0.3, "weight_decay": 0.1, "ddi_loss": False}

    def build(self) -> Network:
        """A fresh network."""
        return TransformerNetwork(self.sizes, self.config)
