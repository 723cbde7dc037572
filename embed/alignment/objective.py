"""What one step minimises, from the gathered vectors of a batch: alignment, consistency and relation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embed.alignment.fusion import drop_modalities
from embed.alignment.loss import info_nce, late_fusion, relation, same_substance
from embed.config import LossConfig
from embed.training.model import AlignmentModel

LEAST_PAIRS = 2


@dataclass
class Relation:
    """How alike drugs are by one raw modality: ``vectors`` (n, F), ``position[drug]`` a row of it or -1.

    ``tanimoto`` compares bits, eight a byte; otherwise the cosine counts.
    ``mean`` and ``spread`` standardise the similarity by its distribution over the training drugs.
    """

    vectors: Tensor
    position: Tensor
    tanimoto: bool
    weight: float = 1.0
    mean: float = 0.0
    spread: float = 1.0

    def similarity(self, drugs: Tensor) -> tuple[Tensor, Tensor]:
        """``(S, known)``: standardised similarities (B, B), and which of ``drugs`` have the modality (B,)."""
        position = self.position[drugs]
        x = self.vectors[position.clamp(min=0)]
        if self.tanimoto:
            shift = torch.arange(7, -1, -1, dtype=torch.uint8, device=x.device)
            x = ((x[:, :, None] >> shift) & 1).flatten(1).float()
            inner, size = x @ x.T, x.sum(1)
            inner = inner / (size[:, None] + size[None, :] - inner).clamp(min=1e-6)
        else:
            x = F.normalize(torch.nan_to_num(x.float()), dim=1)
            inner = x @ x.T
        return (inner - self.mean) / self.spread, position >= 0

    def distribution(self, drugs: Tensor, most: int = 4096) -> tuple[float, float]:
        """Mean and standard deviation over the pairs of (the first ``most`` of) these drugs that have the modality."""
        known = drugs[self.position[drugs] >= 0][:most]
        if len(known) < 2:
            return 0.0, 1.0
        inner, _ = self.similarity(known)
        return float(inner.mean()), max(float(inner.std()), 1e-6)


def teacher(relations: list[Relation], drugs: Tensor, same: Tensor, loss: LossConfig) -> Tensor:
    """Each drug's neighbours (B, B) by the late fusion of the raw modalities."""
    pairs = [one.similarity(drugs) for one in relations]
    return late_fusion([s for s, _ in pairs], [k for _, k in pairs], [one.weight for one in relations], same,
                       loss.relation_temperature, loss.relation_shrink)


def objective(model: AlignmentModel, loss: LossConfig, z: Tensor, present: Tensor, group: Tensor,
              target: Tensor | None, dropout: float, generator: torch.Generator) -> dict[str, Tensor]:
    """The weighted loss terms by name, each a scalar; their sum is minimised.

    ``z`` (B, 1 + M, D) and ``present`` (B, 1 + M) with the anchor first, ``group`` (B,) substance numbers, ``target``
    (B, B) the late fusion's neighbours.
    """
    same = same_substance(group)
    terms = _alignment(model, loss, z, present, same)
    rows = present.any(1).nonzero()[:, 0]
    z, present, same = z[rows], present[rows], same[rows][:, rows]
    first, second = (model.fusion(z, drop_modalities(present, dropout, generator)) for _ in range(2))
    if loss.consistency:
        terms["consistency"] = loss.consistency * info_nce(first, second, model.scales[model.names[0]](), same)
    if target is not None and loss.relation:
        scale = model.relation_scale()
        target = target[rows][:, rows]
        whole = model.fusion(z, present)
        halves = relation(first, target, scale, same) + relation(whole, target, scale, same)
        terms["relation"] = loss.relation * halves / 2
        for m, name in enumerate(model.names):
            own = present[:, m].nonzero()[:, 0]
            if loss.relation_towers and len(own) > LEAST_PAIRS:
                part = target[own][:, own]
                part = part / part.sum(1, keepdim=True).clamp(min=1e-9)
                value = relation(z[own, m], part, scale, same[own][:, own])
                terms[f"relation.{name}"] = loss.relation_towers * value / len(model.names)
    return terms


def _alignment(model: AlignmentModel, loss: LossConfig, z: Tensor, present: Tensor, same: Tensor) -> dict[str, Tensor]:
    """InfoNCE of the anchor with each modality and, as ``between``, of every two modalities, over existing pairs."""
    terms: dict[str, Tensor] = {}
    others = len(model.names) - 1
    pairs = others * (others - 1) // 2
    for a in range(others):
        for b in range(a + 1, others + 1):
            weight, key = (loss.align / others, f"align.{model.names[b]}") if a == 0 else (
                loss.between / pairs, "between")
            rows = (present[:, a] & present[:, b]).nonzero()[:, 0]
            if weight == 0 or len(rows) < LEAST_PAIRS:
                continue
            # A pair's temperature is the mean, in logarithms, of its modalities'; the anchor has no say in its own.
            scale = model.scales[model.names[b]]()
            if a:
                scale = (scale * model.scales[model.names[a]]()).sqrt()
            value = weight * info_nce(z[rows, a], z[rows, b], scale, same[rows][:, rows])
            terms[key] = terms[key] + value if key in terms else value
    return terms
