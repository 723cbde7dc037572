"""Does one modality of a drug find another one of the same drug among the held-out drugs?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Vectors = NDArray[np.floating] | Tensor
    """Unit vectors [N, D], in memory or on a card, where they are then compared."""

CHUNK = 1024
"""Queries whose similarities to all candidates are in memory at once."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Recall@k and mean reciprocal rank over the queries of ``drugs`` drugs, beside chance."""

    drugs: int
    recall: dict[int, float]
    mrr: float
    chance: dict[int, float]

    def lift(self, k: int) -> float:
        """How many times better than chance recall@k is."""
        return self.recall[k] / self.chance[k] if self.chance[k] else float("nan")

    def figures(self) -> dict[str, float]:
        """Recall and MRR by the names that metrics and checkpoints have them under."""
        return {**{f"recall@{k}": share for k, share in self.recall.items()}, "mrr": self.mrr}


def ranks(a: Vectors, b: Vectors, substance: NDArray | Tensor) -> NDArray[np.int64]:
    """The rank (1 is best) of each row's partner among all rows of ``b``; ties count against it.

    A tie is no find: vectors that have all become one point, or are not numbers, find nothing, and half a rank for a
    tie would hide that in a small set. Rows of the same substance (salts, duplicates) are neither right nor wrong and
    are left out.
    """
    found = []
    for start in range(0, len(a), CHUNK):
        rows = slice(start, start + CHUNK)
        scores = a[rows] @ b.T
        own = scores.diagonal(start)[:, None]
        rival = substance[rows, None] != substance[None, :]
        part = 1 + (~(scores < own) & rival).sum(1)
        found.append(part if isinstance(part, np.ndarray) else part.cpu().numpy())
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _summary(found: NDArray[np.int64], groups: NDArray, ks: Sequence[int]) -> Retrieval:
    """The figures of these ranks. Chance is k over the number of candidates (rivals plus the partner)."""
    if len(groups) == 0:
        nothing = {k: float("nan") for k in ks}
        return Retrieval(0, nothing, float("nan"), nothing)
    _, number, count = np.unique(groups, return_inverse=True, return_counts=True)
    candidates = 1 + len(groups) - count[number]
    return Retrieval(
        drugs=len(groups),
        recall={k: float((found <= k).mean()) for k in ks},
        mrr=float((1 / found).mean()),
        chance={k: float(np.minimum(1.0, k / candidates).mean()) for k in ks},
    )


def retrieve(a: Vectors, b: Vectors, substance: Sequence[int] | NDArray | Tensor, ks: Sequence[int] = (1, 5, 10),
             ) -> Retrieval:
    """Retrieval of the paired unit vectors ``b`` from ``a`` [N, D]; ``substance`` [N] numbers the substances.

    Of tensors ``a``, ``b`` and ``substance`` lie on one device, and are compared there.
    """
    if isinstance(a, np.ndarray):
        substance = np.asarray(substance)
    groups = substance.cpu().numpy() if hasattr(substance, "cpu") else np.asarray(substance)
    return _summary(ranks(a, b, substance), groups, ks)  # type: ignore[arg-type]


def retrieve_both_ways(
    a: NDArray[np.floating], b: NDArray[np.floating], substance: Sequence[int] | NDArray, ks: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """The mean of a→b and b→a."""
    groups = np.asarray(substance)
    return _summary(np.concatenate([ranks(a, b, groups), ranks(b, a, groups)]), groups, ks)
