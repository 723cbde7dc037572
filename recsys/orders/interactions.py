"""The drug–drug interaction matrix between medications, its version, and the DDI rate of recommendations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kb.errors import DataError


@dataclass(frozen=True)
class Interactions:
    """Which pairs of medications interact; stored with every model, because a DDI rate means nothing without it."""

    matrix: np.ndarray
    """bool[K, K], symmetric, with an empty diagonal."""
    source: str

    def __post_init__(self) -> None:
        matrix = self.matrix
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise DataError(f"an interaction matrix must be square, not {matrix.shape}")
        if not np.array_equal(matrix, matrix.T) or matrix.diagonal().any():
            raise DataError("an interaction matrix must be symmetric with an empty diagonal")

    @property
    def version(self) -> str:
        """The first 12 hex digits of the matrix's SHA-256."""
        return hashlib.sha256(np.packbits(self.matrix).tobytes() + str(self.matrix.shape).encode()).hexdigest()[:12]

    @property
    def density(self) -> float:
        """The share of all pairs that interact."""
        size = len(self.matrix)
        return float(self.matrix.sum() / max(size * (size - 1), 1))


def from_pairs(pairs: Iterable[tuple[int, int]], size: int, source: str) -> Interactions:
    """The interactions of K = ``size`` medications from pairs of medication numbers; pairs of one with itself drop."""
    matrix = np.zeros((size, size), bool)
    for first, second in pairs:
        if first != second:
            matrix[first, second] = matrix[second, first] = True
    return Interactions(matrix, source)


def pair_counts(selected: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(interacting pairs, all pairs) of each visit's selection bool[N, K], two float64[N]."""
    chosen = selected.astype(np.float32)
    interacting = np.einsum("nk,nk->n", chosen @ matrix.astype(np.float32), chosen, dtype=np.float64) / 2
    count = chosen.sum(1, dtype=np.float64)
    return interacting, count * (count - 1) / 2


def ddi_rate(selected: np.ndarray, matrix: np.ndarray) -> float:
    """Interacting pairs over all pairs, pooled over visits; 0 when no visit has two medications."""
    interacting, pairs = pair_counts(selected, matrix)
    return float(interacting.sum() / pairs.sum()) if pairs.sum() else 0.0
