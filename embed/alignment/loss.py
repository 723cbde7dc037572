"""The losses that pull the towers into one space.

``info_nce`` is the symmetric contrastive loss over the pairs that exist (Oord et al. 2018, Radford et al. 2021):
L_m = 1/2 [CE(z_a z_m^T / tau, I) + CE(z_m z_a^T / tau, I)]. ``relation`` is a soft version of it: the neighbours of a
drug in the space follow its neighbours under the late fusion of the raw modalities.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MASKED = -1e4
MAX_SCALE = 100.0


class LogitScale(nn.Module):
    """1 / tau, learned in the log domain and clamped to at most 100."""

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(1.0 / temperature)))

    def forward(self) -> Tensor:
        """The scale, a scalar."""
        return self.log.exp().clamp(max=MAX_SCALE)


def same_substance(group: Tensor) -> Tensor:
    """Which pairs (B, B) are the same substance by group number, the diagonal included."""
    return group[:, None] == group[None, :]


def info_nce(a: Tensor, b: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """The symmetric InfoNCE of paired unit vectors ``a`` and ``b`` (n, D), a scalar.

    ``same`` (n, n) marks pairs that are one substance (salts, duplicates): off the diagonal they are neither a
    positive nor a negative.
    """
    logits = (a @ b.T) * scale
    n = len(logits)
    other = same & ~torch.eye(n, dtype=torch.bool, device=same.device)
    logits = logits.masked_fill(other, MASKED)
    target = torch.arange(n, device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def relation(z: Tensor, teacher: Tensor, scale: Tensor, same: Tensor, beyond: Tensor | None = None,
             known: Tensor | None = None) -> Tensor:
    """The mean cross-entropy between each drug's neighbours in ``z`` (n, D) and its ``teacher`` distribution (n, n).

    With ``beyond`` (n, k, D) each drug has k more neighbours of its own, those that are ``known`` (n, k), and the
    teacher (n, n + k).
    """
    logits = ((z @ z.T) * scale).masked_fill(same, MASKED)
    if beyond is not None and known is not None:
        more = torch.einsum("nd,nkd->nk", z, beyond) * scale
        logits = torch.cat([logits, more.masked_fill(~known, MASKED)], 1)
    return -(teacher * F.log_softmax(logits, dim=1)).sum(1).mean()


def late_fusion(similarities: list[Tensor], both: list[Tensor], weights: list[float], shrink: float = 0.0) -> Tensor:
    """How alike drugs are (n, m): the mean of standardised similarities (n, m), where ``both`` have the modality.

    ``shrink`` draws the score of a pair that is known by little towards 0, the average pair's.
    """
    total = torch.zeros_like(similarities[0])
    count = torch.zeros_like(similarities[0])
    for similarity, have, weight in zip(similarities, both, weights, strict=True):
        share = have.to(similarity.dtype)
        total = total + weight * share * similarity
        count = count + weight * share
    return total / (count + shrink).clamp(min=1e-6)
