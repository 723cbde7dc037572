"""The property tower: standardised numbers beside a mask of what is missing, to D."""

from __future__ import annotations

import torch
from torch import Tensor

from embed.encoders.base import Inputs, VectorTower


class PropertyEncoder(VectorTower):
    """An MLP over (values, known); a missing number enters as the training mean *and* says that it is missing.

    Reads ``inputs["vector"]`` (B, F), standardised with NaN where a number is missing.
    """

    def __init__(self, in_width: int, width: int = 64, hidden: int = 256, dropout: float = 0.2) -> None:
        super().__init__(2 * in_width, width, hidden, dropout)
        self.kwargs["in_width"] = in_width

    @staticmethod
    def _masked(inputs: Inputs) -> Inputs:
        values = inputs["vector"]
        known = torch.isfinite(values)
        return {"vector": torch.cat([torch.where(known, values, 0.0), known.to(values.dtype)], -1)}

    def fingerprint(self, inputs: Inputs) -> Tensor:
        """The hidden layer, (B, H)."""
        hidden: Tensor = self.body(self._masked(inputs)["vector"])
        return hidden

    def forward(self, inputs: Inputs) -> Tensor:
        """The unit vectors, (B, D)."""
        both = self._masked(inputs)
        z = self.head(self.body(both["vector"])) + self.skip(both["vector"])
        return torch.nn.functional.normalize(z, dim=-1)
