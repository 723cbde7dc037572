"""SafeDrug (Yang et al., IJCAI 2021): a patient query meets whole molecules and, apart, their BRICS fragments.

As in the paper, not as in its public code: the message-passing encoder is trained, and it runs once a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from recsys.cohorts.batches import Batch, Sizes
from recsys.experiments.config import Config
from recsys.knowledge.table import Knowledge
from recsys.recommenders.layers import PatientQuery
from recsys.recommenders.molecules import MedicationEncoder, medication_molecules
from recsys.recommenders.network import Network, NeuralRecommender


class SafedrugNetwork(Network):
    """Global match LN(σ(q·molecule/√D) + W σ(·)) times a local match through a fragment-masked linear layer."""

    mask: torch.Tensor

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        dim, width = config.dim, sizes.medication
        molecules = medication_molecules(knowledge.smiles or ((),) * width)
        self.query = PatientQuery(sizes, config)
        self.encoder = MedicationEncoder(molecules, dim)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.fragment = nn.Linear(dim, molecules.mask.shape[1])
        self.local = nn.Parameter(torch.randn(width, molecules.mask.shape[1]) * 0.1)
        self.bias = nn.Parameter(torch.zeros(width))
        # A medication without fragments has nothing local to say, so all fragments stay open to it.
        mask = molecules.mask | ~molecules.mask.any(1, keepdim=True)
        self.register_buffer("mask", mask.to(torch.float32))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        query = self.query(batch)
        # scaled, unlike the paper's: with normalised atoms the sigmoid is else at rest and nothing is learned
        match = torch.sigmoid(query @ self.encoder().t() / query.shape[1] ** 0.5)
        whole = self.norm(match + self.mix(match))
        local = F.linear(torch.sigmoid(self.fragment(query)), self.local * self.mask, self.bias)
        return whole * local


class Safedrug(NeuralRecommender):
    """SafeDrug with the molecules of the knowledge base; the DDI control is the shared one."""

    name = "safedrug"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """Its own step size and regularisation; interactions are held down by the choice of medications alone."""
        return {"batch": 64, "learning_rate": 5e-3, "code_dropout": 0.2, "weight_decay": 0.01, "ddi_loss": False}

    def build(self) -> Network:
        """A fresh network."""
        return SafedrugNetwork(self.sizes, self.knowledge, self.config)
