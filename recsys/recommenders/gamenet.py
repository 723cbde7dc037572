"""GAMENet (Shang et al., AAAI 2019): a patient query reads a graph-augmented medication memory and its own history."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from recsys.cohorts.batches import Batch, Histories, Sizes
from recsys.experiments.config import Config
from recsys.knowledge.table import Knowledge
from recsys.recommenders.layers import Dropout, PatientQuery
from recsys.recommenders.network import Network, NeuralRecommender


def normalised_adjacency(adjacency: torch.Tensor) -> torch.Tensor:
    """D^-1/2 (A + I) D^-1/2 of float[K, K]."""
    with_self = adjacency + torch.eye(len(adjacency))
    scale = with_self.sum(1).rsqrt()
    return scale[:, None] * with_self * scale[None, :]


class GraphConvolution(nn.Module):
    """Two graph convolutions from one-hot nodes: Â tanh(Â W₁) W₂, [K, D] (Kipf & Welling, ICLR 2017)."""

    def __init__(self, size: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(size, dim) * 0.1)
        self.second = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, adjacency: torch.Tensor) -> torch.Tensor:
        """[K, D] for a normalised adjacency [K, K]."""
        return adjacency @ self.second(self.dropout(torch.relu(adjacency @ self.first)))


class GamenetNetwork(Network):
    """Query from two GRUs; memory = co-prescription GCN − λ · interaction GCN; dynamic memory = the patient's past."""

    co_prescribed: torch.Tensor
    interacting: torch.Tensor

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        dim, width = config.dim, sizes.medication
        self.query = PatientQuery(sizes, config)
        self.together = GraphConvolution(width, dim, config.dropout)
        self.against = GraphConvolution(width, dim, config.dropout)
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("interacting",
                             normalised_adjacency(torch.from_numpy(knowledge.interactions.matrix).to(torch.float32)))
        self.register_buffer("co_prescribed", torch.eye(width))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(3 * dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, width))

    def observe(self, train: Histories) -> None:
        """Take the co-prescription graph from the training visits."""
        target = train.given[np.flatnonzero(train.scored)]
        pairs = torch.from_numpy(((target.T @ target).toarray() > 0).astype(np.float32))
        self.co_prescribed.copy_(normalised_adjacency(pairs.fill_diagonal_(0)))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        query = self.query(batch)
        memory = self.together(self.co_prescribed) - self.weight * self.against(self.interacting)
        read = torch.softmax(query @ memory.t(), 1) @ memory
        return self.head(torch.cat([query, read, self._past(batch, query) @ memory], 1))

    def _past(self, batch: Batch, query: torch.Tensor) -> torch.Tensor:
        """float[N, K]: earlier visits' medications, weighted by how alike their queries are to this one."""
        queries, mask = batch.pad(query)
        shifted, _ = batch.pad(batch.recent)
        values = torch.cat([shifted[:, 1:], torch.zeros_like(shifted[:, :1])], 1)
        steps = mask.shape[1]
        earlier = torch.ones(steps, steps, dtype=torch.bool).tril(-1)[None] & mask[:, None, :] & mask[:, :, None]
        score = (queries @ queries.transpose(1, 2)).masked_fill(~earlier, -torch.inf)
        score = torch.where(earlier.any(2, keepdim=True), score, torch.zeros_like(score))
        attention = torch.softmax(score, 2) * earlier
        return batch.pack(attention @ values)


class Gamenet(NeuralRecommender):
    """GAMENet with the interaction graph of the knowledge base."""

    name = "gamenet"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """Its own step size and regularisation; interactions are held down by the choice of medications alone."""
        return {"batch": 64, "code_dropout": 0.1, "weight_decay": 0.01, "ddi_loss": False}

    def build(self) -> Network:
        """A fresh network."""
        return GamenetNetwork(self.sizes, self.knowledge, self.config)
