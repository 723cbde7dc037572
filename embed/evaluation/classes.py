"""Do neighbours share a therapeutic class? Nearest-neighbour accuracy on ATC codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEVEL_LENGTH = {1: 1, 2: 3, 3: 4, 4: 5, 5: 7}
"""Characters of an ATC code at each level."""


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """The share of ``queries`` whose nearest neighbour shares a class, by ATC level."""

    queries: int
    accuracy: dict[int, float]
    hits: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    """For each query whether its neighbour shares a class, by level."""


def shared_classes(codes: Sequence[Sequence[str]], level: int) -> NDArray[np.bool_]:
    """Which pairs [N, N] share at least one ATC class at ``level``; a drug may have several codes."""
    length = LEVEL_LENGTH[level]
    classes = sorted({code[:length] for own in codes for code in own if len(code) >= length})
    column = {name: i for i, name in enumerate(classes)}
    member = np.zeros((len(codes), len(classes)), np.float32)
    for row, own in enumerate(codes):
        for code in own:
            if len(code) >= length:
                member[row, column[code[:length]]] = 1
    shared: NDArray[np.bool_] = (member @ member.T) > 0
    return shared


def nearest_class(
    similarity: NDArray[np.floating],
    codes: Sequence[Sequence[str]],
    substance: Sequence[str],
    *,
    queries: NDArray[np.bool_] | None = None,
    candidates: NDArray[np.bool_] | None = None,
    levels: Sequence[int] = (1, 2, 3),
) -> ClassAccuracy:
    """1-NN accuracy of a similarity matrix [N, N], higher is nearer.

    A drug itself and others with the same ``substance`` (InChIKey first block, "" where there is none) are no
    neighbours. ``queries`` chooses whose neighbours count, ``candidates`` who may be one (of N). Ties go to the first.
    """
    if len(substance) < 2:
        return ClassAccuracy(0, dict.fromkeys(levels, float("nan")))
    names = np.asarray(substance)
    same = (names[:, None] == names[None, :]) & (names != "")[:, None]
    np.fill_diagonal(same, True)
    if candidates is not None:
        same |= ~candidates[None, :]
    nearest = np.where(same, -np.inf, similarity).argmax(axis=1)
    asked = np.flatnonzero(np.ones(len(names), bool) if queries is None else queries)
    hits = {level: shared_classes(codes, level)[asked, nearest[asked]] for level in levels}
    return ClassAccuracy(
        len(asked), {level: float(hit.mean()) if len(asked) else float("nan") for level, hit in hits.items()}, hits
    )


def cosine(matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """The cosine similarities [N, N] of the rows; a row of zeros is like nothing."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = matrix / np.maximum(norms, 1e-12)
    similarity: NDArray[np.floating] = unit @ unit.T
    return similarity


def tanimoto(bits: NDArray[np.floating]) -> NDArray[np.floating]:
    """The Tanimoto similarities [N, N] of bit vectors [N, F]."""
    both = bits @ bits.T
    size = bits.sum(axis=1)
    similarity: NDArray[np.floating] = both / np.maximum(size[:, None] + size[None, :] - both, 1e-9)
    return similarity
