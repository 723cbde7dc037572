"""Relation targets beyond the batch: each training drug's nearest by the late fusion, and a memory of fused vectors.

A batch of a few hundred holds hardly any of a drug's ten nearest among many thousands. The graph of the k nearest is
made once, block by block; in a step a drug is compared with the batch and with its k nearest, whose vectors are those
that they had when they were last in a batch (a memory bank: Wu et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embed.alignment.objective import Beyond, Relation, teacher_scores
from embed.config import LossConfig

ROWS, COLUMNS = 512, 8192
"""Drugs that are compared at once: no table is larger than this."""
NONE = -1e9


@dataclass
class NeighbourMemory:
    """``near`` (n, k): the nearest of n training drugs, as places among them (-1: none), by falling ``score`` (n, k).

    ``place[drug]`` is a drug's place among them or -1, ``vectors`` (n, D) what was remembered of each.
    """

    near: Tensor
    score: Tensor
    place: Tensor
    vectors: Tensor

    def beyond(self, drugs: Tensor) -> Beyond:
        """What the training drugs at these row numbers (B,) are compared with besides one another."""
        own = self.place[drugs]
        near = self.near[own]
        known = (near >= 0) & ~torch.isin(near, own)  # those in the batch are compared as they are now
        return Beyond(self.score[own], known, self.vectors[near.clamp(min=0)])

    def remember(self, drugs: Tensor, fused: Tensor) -> None:
        """Keep the fused vectors (B, D) of these drugs."""
        self.vectors[self.place[drugs]] = fused.detach().to(self.vectors.dtype)


@torch.no_grad()
def nearest_by_fusion(relations: Sequence[Relation], drugs: Tensor, group: Tensor, loss: LossConfig,
                      k: int) -> tuple[Tensor, Tensor]:
    """``(near, score)`` (n, k) of the drugs (n,): places of the k nearest among them, and how near; -1 where none is.

    Drugs of one ``group`` (n,) are no neighbours. Time grows with the square of n, memory with n k.
    """
    n = len(drugs)
    near = torch.full((n, k), -1, device=drugs.device)
    score = torch.full((n, k), NONE, device=drugs.device)
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        for first in range(0, n, COLUMNS):
            columns = slice(first, first + COLUMNS)
            found = teacher_scores(relations, drugs[rows], drugs[columns], loss)
            found = found.masked_fill(group[rows, None] == group[None, columns], NONE)
            value, at = found.topk(min(k, found.shape[1]), 1)
            at = torch.where(value > NONE, at + first, -1)
            value, order = torch.cat([score[rows], value], 1).topk(k, 1)
            near[rows], score[rows] = torch.cat([near[rows], at], 1).gather(1, order), value
    return near, score


def neighbour_memory(relations: Sequence[Relation], train: NDArray[np.int64], group: Tensor, loss: LossConfig,
                     vectors: Tensor) -> NeighbourMemory:
    """The memory of the training drugs at these row numbers, which begins with their ``vectors`` (n, D)."""
    drugs = torch.from_numpy(train).to(group.device)
    near, score = nearest_by_fusion(relations, drugs, group[drugs], loss, loss.relation_neighbours)
    place = torch.full((len(group),), -1, device=group.device)
    place[drugs] = torch.arange(len(drugs), device=group.device)
    return NeighbourMemory(near, score, place, vectors.to(group.device))
