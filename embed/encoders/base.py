"""What every tower is made of, and what it promises.

A tower is an ``nn.Module`` built from JSON-able keyword arguments (kept in ``kwargs``, so a checkpoint can rebuild it),
with three named depths: ``fingerprint(inputs)`` (B, H) before the head, ``forward(inputs)`` (B, D), L2-normalised.
``inputs`` is a mapping of tensors; a tower that takes plain vectors reads ``inputs["vector"]``. A tower whose
``half_precision`` is true may run in bf16; sums over atoms and geometry need fp32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Inputs = Mapping[str, Tensor]


class VectorTower(nn.Module):
    """A small MLP beside a linear path, from a vector of frozen features to the shared space.

    The linear path keeps what the frozen features already say about likeness; the MLP bends it towards the anchor.
    """

    half_precision = True

    def __init__(self, in_width: int, width: int = 64, hidden: int = 256, dropout: float = 0.2) -> None:
        super().__init__()
        self.kwargs = {"in_width": in_width, "width": width, "hidden": hidden, "dropout": dropout}
        self.body = nn.Sequential(
            nn.Dropout(dropout / 2), nn.Linear(in_width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden, width)
        self.skip = nn.Linear(in_width, width)

    def fingerprint(self, inputs: Inputs) -> Tensor:
        """The hidden layer, (B, H)."""
        hidden: Tensor = self.body(inputs["vector"])
        return hidden

    def forward(self, inputs: Inputs) -> Tensor:
        """The unit vectors, (B, D)."""
        return F.normalize(self.head(self.fingerprint(inputs)) + self.skip(inputs["vector"]), dim=-1)


class OffsetEmbedding(nn.Module):
    """The sum of one learned vector per categorical column: (n, C) integers to (n, width)."""

    def __init__(self, sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        offsets = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)
        self.table = nn.EmbeddingBag(sum(sizes), width, mode="sum")
        nn.init.normal_(self.table.weight, std=len(sizes) ** -0.5)

    def forward(self, categories: Tensor) -> Tensor:
        """The summed embeddings, (n, width)."""
        if len(categories) == 0:
            return self.table.weight.new_zeros(0, self.table.embedding_dim)
        offsets: Tensor = self.get_buffer("offsets")
        summed: Tensor = self.table(categories.long() + offsets)
        return summed
