"""What the fused vectors must beat: fingerprints, properties, text vectors and their late fusion, untrained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.evaluation.classes import cosine, tanimoto
from embed.features.fingerprint import unpacked
from embed.registry import ANCHOR

EIGHT_PROPERTIES = (
    "mol_weight",
    "xlogp",
    "tpsa",
    "hbond_donors",
    "hbond_acceptors",
    "rotatable_bonds",
    "rings",
    "fsp3",
)


def standardised(similarity: NDArray[np.floating]) -> NDArray[np.floating]:
    """The similarities with mean 0 and spread 1 off the diagonal, so that different kinds can be added."""
    off = ~np.eye(len(similarity), dtype=bool)
    return (similarity - similarity[off].mean()) / max(float(similarity[off].std()), 1e-9)


Raw = Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]]
"""Features by modality: (matrix [N, F], or packed bits for the molecule; which drugs have it [N])."""


def raw_similarity(raw: Raw, name: str, rows: NDArray[np.int64]) -> NDArray[np.floating] | None:
    """How alike the drugs at ``rows`` [N] are by one modality's frozen features; None when it was not built.

    A drug that lacks the modality is at the mean distance of all others.
    """
    if name not in raw:
        return None
    matrix, has = raw[name][0][rows], raw[name][1][rows]
    similarity = tanimoto(unpacked(matrix)) if name == ANCHOR else cosine(np.nan_to_num(matrix))
    known = has[:, None] & has[None, :]
    off = known & ~np.eye(len(rows), dtype=bool)
    return np.where(known, similarity, similarity[off].mean() if off.any() else 0.0)


def property_similarity(names: Sequence[str], values: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """Minus the Euclidean distance in eight standardised properties; None when the knowledge base lacks one."""
    if any(name not in names for name in EIGHT_PROPERTIES):
        return None
    table = values[:, [list(names).index(name) for name in EIGHT_PROPERTIES]]
    table = (table - np.nanmean(table, axis=0)) / np.maximum(np.nanstd(table, axis=0), 1e-9)
    table = np.nan_to_num(table)
    squares = (table**2).sum(axis=1)
    return -np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * table @ table.T, 0))


def baselines(
    raw: Raw,
    property_names: Sequence[str],
    properties: NDArray[np.floating],
    rows: NDArray[np.int64],
    seed: int = 0,
) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Name and similarity matrix [N, N] of every baseline that the knowledge base has the data for."""
    yield "random", np.random.default_rng(seed).random((len(rows), len(rows)))
    by_property = property_similarity(property_names, properties[rows])
    if by_property is not None:
        yield "8 properties", by_property
    titles = {ANCHOR: "ECFP4, Tanimoto", "image": "pictures, principal components",
              "property": "all properties, standardised", "text": "text encoder, mean over texts",
              "graph": "graph neighbourhoods, IDF"}
    alone = {name: raw_similarity(raw, name, rows) for name in titles}
    for name, similarity in alone.items():
        if similarity is not None:
            yield titles[name], similarity
    parts = [standardised(s) for name, s in alone.items() if s is not None and name in (ANCHOR, "text")]
    if len(parts) == 2:
        yield "late fusion: ECFP4 + text", parts[0] + parts[1]
        if alone["graph"] is not None:
            yield "late fusion: ECFP4 + text + graph", parts[0] + parts[1] + standardised(alone["graph"])
