"""What one step minimises, from the gathered vectors of a batch: alignment, consistency and relation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embed.alignment.fusion import drop_modalities
from embed.alignment.loss import MASKED, info_nce, late_fusion, relation, same_substance
from embed.config import LossConfig
from embed.training.data import send
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

    def similarity(self, drugs: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """``(S, both)``: standardised similarities (B, C) of drugs to others, and which pairs have the modality."""
        x, has = self._read(drugs)
        y, have = (x, has) if others is drugs else self._read(others)
        inner = x @ y.T
        if self.tanimoto:
            inner = inner / (x.sum(1)[:, None] + y.sum(1)[None, :] - inner).clamp(min=1e-6)
        return (inner - self.mean) / self.spread, has[:, None] & have[None, :]

    def _read(self, drugs: Tensor) -> tuple[Tensor, Tensor]:
        """What the drugs are compared by (B, F), and which of them have it (B,)."""
        position = self.position[drugs]
        x = self.vectors[position.clamp(min=0)]
        if self.tanimoto:
            shift = torch.arange(7, -1, -1, dtype=torch.uint8, device=x.device)
            return ((x[:, :, None] >> shift) & 1).flatten(1).float(), position >= 0
        return F.normalize(torch.nan_to_num(x.float()), dim=1), position >= 0

    def distribution(self, drugs: Tensor, most: int = 4096) -> tuple[float, float]:
        """Mean and standard deviation over the pairs of (the first ``most`` of) these drugs that have the modality."""
        known = drugs[self.position[drugs] >= 0][:most]
        if len(known) < 2:
            return 0.0, 1.0
        inner, _ = self.similarity(known, known)
        return float(inner.mean()), max(float(inner.std()), 1e-6)


@dataclass
class Beyond:
    """What each drug of a batch is compared with outside of it: ``score`` (B, k) of those ``known`` (B, k), and
    ``vectors`` (B, k, D)."""

    score: Tensor
    known: Tensor
    vectors: Tensor


def teacher_scores(relations: Sequence[Relation], drugs: Tensor, others: Tensor, loss: LossConfig) -> Tensor:
    """How alike drugs and others are (B, C) by the late fusion of the raw modalities."""
    pairs = [one.similarity(drugs, others) for one in relations]
    return late_fusion([s for s, _ in pairs], [both for _, both in pairs], [one.weight for one in relations],
                       loss.relation_shrink)


def teacher(relations: Sequence[Relation], drugs: Tensor, same: Tensor, loss: LossConfig,
            beyond: Beyond | None = None) -> Tensor:
    """Each drug's neighbours by the late fusion: a distribution (B, B), or (B, B + k) with what is beyond the batch.

    Pairs of one substance (``same``, (B, B)) get no mass.
    """
    score = teacher_scores(relations, drugs, drugs, loss).masked_fill(same, MASKED)
    if beyond is not None:
        score = torch.cat([score, beyond.score.masked_fill(~beyond.known, MASKED)], 1)
    return torch.softmax(score / loss.relation_temperature, dim=1)


def objective(model: AlignmentModel, loss: LossConfig, z: Tensor, known: Tensor, group: Tensor,
              target: Tensor | None, dropout: float, generator: torch.Generator,
              beyond: Beyond | None = None) -> dict[str, Tensor]:
    """The weighted loss terms by name, each a scalar; their sum is minimised.

    ``z`` (B, 1 + M, D) with the anchor first, ``known`` (B, 1 + M), on the host, which vectors there are, ``group``
    (B,) substance numbers, ``target`` (B, B) the late fusion's neighbours, or (B, B + k) with those ``beyond`` the
    batch. Which rows take part in a term is settled on the host, so that nothing waits for a card.
    """
    device, everyone = z.device, known.any(1).nonzero()[:, 0]
    here = known[everyone]
    pairs = _pairs(model, loss, known)
    towers = {m: rows for m in range(len(model.names)) if loss.relation and loss.relation_towers and target is not None
              and len(rows := here[:, m].nonzero()[:, 0]) > LEAST_PAIRS}
    all_rows, *own = send([everyone, *pairs.values(), *towers.values()], device)
    terms = _alignment(model, loss, z, group, dict(zip(pairs, own, strict=False)))
    present, *halves = send([here, *(drop_modalities(here, dropout, generator) for _ in range(2))], device)
    z, same = z[all_rows], same_substance(group[all_rows])
    first, second = (model.fusion(z, half) for half in halves)
    if loss.consistency:
        terms["consistency"] = loss.consistency * info_nce(first, second, model.scales[model.names[0]](), same)
    if target is not None and loss.relation:
        scale = model.relation_scale()
        size = len(known)
        told, target = target[all_rows], target[all_rows][:, all_rows]
        more = (None, None) if beyond is None else (beyond.vectors[all_rows], beyond.known[all_rows])
        told = torch.cat([target, told[:, size:]], 1) if beyond is not None else target
        whole = model.fusion(z, present)
        both = relation(first, told, scale, same, *more) + relation(whole, told, scale, same, *more)
        terms["relation"] = loss.relation * both / 2
        for m, rows in zip(towers, own[len(pairs):], strict=True):
            part = target[rows][:, rows]
            part = part / part.sum(1, keepdim=True).clamp(min=1e-9)
            value = relation(z[rows, m], part, scale, same[rows][:, rows])
            terms[f"relation.{model.names[m]}"] = loss.relation_towers * value / len(model.names)
    return terms


def _pairs(model: AlignmentModel, loss: LossConfig, known: Tensor) -> dict[tuple[int, int], Tensor]:
    """The rows, on the host, that have both modalities of each pair that is aligned."""
    found = {}
    for a in range(len(model.names) - 1):
        for b in range(a + 1, len(model.names)):
            rows = (known[:, a] & known[:, b]).nonzero()[:, 0]
            if (loss.between if a else loss.align) and len(rows) >= LEAST_PAIRS:
                found[a, b] = rows
    return found


def _alignment(model: AlignmentModel, loss: LossConfig, z: Tensor, group: Tensor,
               pairs: dict[tuple[int, int], Tensor]) -> dict[str, Tensor]:
    """InfoNCE of the anchor with each modality and, as ``between``, of every two modalities, over existing pairs."""
    terms: dict[str, Tensor] = {}
    others = len(model.names) - 1
    for (a, b), rows in pairs.items():
        weight, key = (loss.align / others, f"align.{model.names[b]}") if a == 0 else (
            loss.between / (others * (others - 1) // 2), "between")
        # A pair's temperature is the mean, in logarithms, of its modalities'; the anchor has no say in its own.
        scale = model.scales[model.names[b]]()
        if a:
            scale = (scale * model.scales[model.names[a]]()).sqrt()
        value = weight * info_nce(z[rows, a], z[rows, b], scale, same_substance(group[rows]))
        terms[key] = terms[key] + value if key in terms else value
    return terms
