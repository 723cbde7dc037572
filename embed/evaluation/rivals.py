"""What the trained vectors must beat: the same raw features, put together without any training.

``concatenation`` lays circular substructures (their singular vectors, of the training drugs), texts and graph
neighbourhoods side by side, each to length 1; ``reduced`` keeps as many principal components of it as the run's vectors
have numbers; ``teacher`` is the weighted mean of standardised similarities that the run's loss follows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embed.config import LossConfig
from embed.evaluation.baselines import Raw, raw_similarity, standardised
from embed.features.fingerprint import unpacked
from embed.features.reduce import unit
from embed.registry import ANCHOR

COMPONENTS = 256
PARTS = ("text", "graph")


def substructures(raw: Raw, train: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """The molecules' part of the concatenation [N, F], or None where no drug has a structure."""
    from sklearn.utils.extmath import randomized_svd

    if ANCHOR not in raw:
        return None
    matrix, known = raw[ANCHOR]
    rows = unit(unpacked(matrix))
    fit = rows[train[known[train]]]
    _, _, right = randomized_svd(fit, min(COMPONENTS, *fit.shape), random_state=0)
    return np.asarray(unit(rows @ right.T) * known[:, None], np.float32)


def concatenation(raw: Raw, molecules: NDArray[np.float32] | None,
                  without: tuple[str, ...] = ()) -> NDArray[np.float32]:
    """The untrained concatenation [N, F] with ``molecules`` from ``substructures``; zero where a part is missing."""
    parts = [] if molecules is None else [molecules]
    for name in PARTS:
        if name in raw and name not in without:
            matrix, known = raw[name]
            parts.append(unit(np.nan_to_num(matrix.astype(np.float32))) * known[:, None])
    return np.concatenate(parts, 1) if parts else np.zeros((len(next(iter(raw.values()))[1]), 1), np.float32)


def reduced(matrix: NDArray[np.float32], train: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """The leading ``width`` principal components of the training rows, for all rows."""
    from sklearn.utils.extmath import randomized_svd

    mean = matrix[train].mean(0)
    _, _, right = randomized_svd(matrix[train] - mean, min(width, *matrix[train].shape), random_state=0)
    out: NDArray[np.float32] = ((matrix - mean) @ right.T).astype(np.float32)
    return out


def teacher_similarity(raw: Raw, loss: LossConfig, rows: NDArray[np.int64]) -> NDArray[np.floating] | None:
    """The similarity [N, N] of the drugs at ``rows`` that training follows; None where none of its parts is there."""
    total = np.zeros((len(rows), len(rows)))
    count = np.zeros_like(total)
    for name, weight in zip(loss.relation_of, loss.relation_weights, strict=True):
        similarity = raw_similarity(raw, name, rows)
        if similarity is not None:
            known = raw[name][1][rows]
            both = known[:, None] & known[None, :]
            total += weight * both * standardised(similarity)
            count += weight * both
    return total / np.maximum(count + loss.relation_shrink, 1e-6) if count.any() else None
