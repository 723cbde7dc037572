"""What the fused vectors must beat: fingerprints, properties, text vectors and their late fusion, untrained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embed.evaluation.classes import cosine, tanimoto
from embed.registry import ANCHOR
from embed.training.inputs import Inputs

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


def raw_similarity(inputs: Inputs, name: str, rows: NDArray[np.int64]) -> NDArray[np.floating] | None:
    """How alike the drugs at ``rows`` [N] are by one modality's frozen features; None when it was not built.

    A drug that lacks the modality is at the mean distance of all others.
    """
    if name not in inputs.raw:
        return None
    matrix, place = inputs.raw[name]
    at = place[rows]
    picked = np.where((at >= 0)[:, None], matrix[at.clip(min=0)], 0).astype(np.float32)
    similarity = tanimoto(picked) if name == ANCHOR else cosine(picked)
    known = (at >= 0)[:, None] & (at >= 0)[None, :]
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
    inputs: Inputs,
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
    raw = {name: raw_similarity(inputs, name, rows) for name in (ANCHOR, "text", "graph")}
    titles = {ANCHOR: "ECFP4, Tanimoto", "text": "text encoder, mean over texts", "graph": "graph neighbourhoods, IDF"}
    for name, similarity in raw.items():
        if similarity is not None:
            yield titles[name], similarity
    parts = [standardised(s) for name, s in raw.items() if s is not None and name != "graph"]
    if len(parts) == 2:
        yield "late fusion: ECFP4 + text", parts[0] + parts[1]
        if raw["graph"] is not None:
            yield "late fusion: ECFP4 + text + graph", parts[0] + parts[1] + standardised(raw["graph"])
