"""One vector for a drug from whatever is known of it: a masked, learned combination of its towers' vectors.

What is missing has weight zero, never a zero vector. Trained with modality dropout, so that a drug with only a text, or
only a place in the graph, lands where its complete relatives are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MISSING = -1e4
"""The score of a missing modality before the softmax; exp(-1e4) is exactly 0 in every float format."""


class WeightedFusion(nn.Module):
    """A softmax over one learned score per modality, over what is present."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.kwargs = {"modalities": modalities, "width": width}
        self.score = nn.Parameter(torch.zeros(modalities))

    def weights(self, z: Tensor, present: Tensor) -> Tensor:
        """Each modality's share (B, M), 0 where it is missing."""
        score = self.score.expand(len(z), -1).masked_fill(~present, MISSING)
        return torch.softmax(score, -1) * present

    def forward(self, z: Tensor, present: Tensor) -> Tensor:
        """The fused unit vectors (B, D) of ``z`` (B, M, D); ``present`` (B, M) is the availability mask."""
        return F.normalize((self.weights(z, present)[..., None] * z).sum(1), dim=-1)


class GatedFusion(WeightedFusion):
    """As WeightedFusion, with scores that also depend on the vectors themselves."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__(modalities, width)
        self.gate = nn.Parameter(torch.zeros(modalities, width))

    def weights(self, z: Tensor, present: Tensor) -> Tensor:
        """Each modality's share (B, M), 0 where it is missing."""
        score = (self.score + (z * self.gate).sum(-1)).masked_fill(~present, MISSING)
        return torch.softmax(score, -1) * present


class MixedFusion(GatedFusion):
    """As GatedFusion, plus a small MLP over the masked vectors, which can use how modalities agree or differ."""

    def __init__(self, modalities: int, width: int, hidden: int = 256) -> None:
        super().__init__(modalities, width)
        self.kwargs["hidden"] = hidden
        self.mix = nn.Sequential(nn.Linear(modalities * (width + 1), hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, z: Tensor, present: Tensor) -> Tensor:
        """The fused unit vectors (B, D) of ``z`` (B, M, D); ``present`` (B, M) is the availability mask."""
        known = present.to(z.dtype)
        summed = (self.weights(z, present)[..., None] * z).sum(1)
        extra = self.mix(torch.cat([(z * known[..., None]).flatten(1), known], -1))
        return F.normalize(summed + extra, dim=-1)


def drop_modalities(present: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """The mask with each present modality hidden with probability ``rate``, and never all of a drug's modalities."""
    kept = present & (torch.rand(present.shape, generator=generator, device=present.device) >= rate)
    return torch.where(kept.any(-1, keepdim=True), kept, present)
