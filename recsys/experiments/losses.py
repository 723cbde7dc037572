"""What recommenders minimise: BCE, the multilabel margin in closed form, and the DDI term with its target and κ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F


def multilabel_margin(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean over visits of Σ_{j∈Y, i∉Y} max(0, 1 − (p_j − p_i)) / K, in closed form.

    Probabilities differ by less than 1, so no hinge is ever at rest and the double sum falls apart into
    (|Y|·|Ȳ| − |Ȳ|·Σ_Y p + |Y|·Σ_Ȳ p) / K: one pass instead of |Y|·|Ȳ| terms. Equals
    ``torch.nn.functional.multilabel_margin_loss`` on probabilities. Both arguments are [N, K].
    """
    width = target.shape[1]
    inside = target.sum(1)
    hit = (probability * target).sum(1)
    outside = width - inside
    missed = probability.sum(1) - hit
    return ((inside * outside - outside * hit + inside * missed) / width).mean()


def accuracy_loss(logits: torch.Tensor, target: torch.Tensor, *, bce: float, margin: float) -> torch.Tensor:
    """bce · BCE + margin · multilabel margin."""
    loss = bce * F.binary_cross_entropy_with_logits(logits, target)
    if margin:
        loss = loss + margin * multilabel_margin(torch.sigmoid(logits), target)
    return loss


def pair_penalty(probability: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The mean over visits of pᵀAp, the literature's DDI loss (scaled by 0.0005 there)."""
    return ((probability @ matrix) * probability).sum(1).mean()


def expected_ddi_rate(probability: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The expected DDI rate of drawing medications by their probabilities: Σ pᵀAp / Σ (|p|² pairs), without units."""
    pairs = probability.sum(1).square() - probability.square().sum(1)
    return ((probability @ matrix) * probability).sum() / pairs.sum().clamp(min=1e-6)


@dataclass
class DdiControl:
    """β of the combined loss β·L_acc + (1 − β)·L_ddi from the DDI rate r of the output, its target δ and κ.

    β = exp(κ(1 − r/δ)) while r > δ, else 1 (SafeDrug, IJCAI 2021, equation 17, with the maximum on the right side).
    r is an exponential moving average of the hard selections' rate with ``memory``; 0 takes each batch alone.
    """

    target: float
    kappa: float
    memory: float = 0.9
    rate: float | None = None

    def beta(self, probability: torch.Tensor, matrix: torch.Tensor, threshold: float) -> float:
        """β after seeing this batch's output [N, K]."""
        with torch.no_grad():
            chosen = (probability >= threshold).to(probability.dtype)
            count = chosen.sum(1)
            pairs = float((count * (count - 1)).sum())
            rate = float(((chosen @ matrix) * chosen).sum()) / pairs if pairs else 0.0
        self.rate = rate if self.rate is None else self.memory * self.rate + (1 - self.memory) * rate
        if self.target <= 0 or self.rate <= self.target:
            return 1.0
        return float(torch.exp(torch.tensor(self.kappa * (1 - self.rate / self.target))))
