"""MoleRec (Yang et al., WWW 2023): fragments that the patient needs, gathered by each molecule's own attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recsys.cohorts.batches import Batch, Sizes
from recsys.experiments.config import Config
from recsys.knowledge.table import Knowledge
from recsys.recommenders.layers import PatientQuery
from recsys.recommenders.molecules import MedicationEncoder, MessagePassing, medication_molecules
from recsys.recommenders.network import Network, NeuralRecommender


class MolerecNetwork(Network):
    """Fragment relevance to the patient times a medication's fragment attention, turned into a score a medication."""

    mask: torch.Tensor
    lonely: torch.Tensor

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        dim, width = config.dim, sizes.medication
        molecules = medication_molecules(knowledge.smiles or ((),) * width)
        self.query = PatientQuery(sizes, config)
        self.encoder = MedicationEncoder(molecules, dim)
        self.pieces = MessagePassing(molecules.fragments, dim) if molecules.fragments.size else None
        self.relevance = nn.Linear(dim, molecules.mask.shape[1])
        self.need = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.score = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mask", molecules.mask)
        self.register_buffer("lonely", ~molecules.mask.any(1))
        self.attention: torch.Tensor | None = None

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        query = self.query(batch)
        whole = self.encoder()
        base = self.norm(self.need(query)) @ self.score(whole).t() + self.bias
        if self.pieces is None:
            return base
        pieces = self.pieces()
        match = (whole @ pieces.t()) / pieces.shape[1] ** 0.5
        match = match.masked_fill(~self.mask, -torch.inf).masked_fill(self.lonely[:, None], 0.0)
        attention = torch.softmax(match, 1) * (~self.lonely)[:, None]
        self.attention = attention.detach()
        # Σ_s attention[m, s] · relevance[n, s] · ⟨fragment s, medication m⟩: [N, S] @ [S, K], no [N, K, S] array.
        worth = attention * (pieces @ self.score(whole).t()).t()
        return base + torch.sigmoid(self.relevance(query)) @ worth.t()


class Molerec(NeuralRecommender):
    """MoleRec with the molecules of the knowledge base."""

    name = "molerec"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """Its own step size and regularisation; interactions are held down by the choice of medications alone."""
        return {"batch": 64, "learning_rate": 5e-3, "code_dropout": 0.2, "weight_decay": 0.01, "ddi_loss": False}

    def build(self) -> Network:
        """A fresh network."""
        return MolerecNetwork(self.sizes, self.knowledge, self.config)
