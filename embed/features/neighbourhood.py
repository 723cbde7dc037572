"""A drug's neighbourhood in the knowledge graph as a sparse vector: which entities, through which relations.

A feature is (relation, direction, entity), and the entity alone, so that two kinds of link to one target are still
partly alike; its weight is its inverse document frequency log(N / df) over the training drugs, so that sharing a rare
target counts and sharing a hub does not. Along relations of curated mechanism paths a second step is taken as well:
from a drug's target to the process that the target takes part in. Rows have length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, hstack

from kb.query.read import Triples

DRUG = "Compound"
"""The entity type through which no second step goes: a drug's neighbour's neighbour is not its own mechanism."""


@dataclass(frozen=True)
class Neighbourhoods:
    """``matrix`` (n, F), unit rows; ``position[drug]`` is the row of a drug, or -1 where nothing is known of it."""

    matrix: csr_array
    position: NDArray[np.int64]


def neighbourhoods(triples: Triples, drug_row: NDArray[np.int64], entity: NDArray[np.int64], drugs: int,
                   train: NDArray[np.int64], *, least: int = 2, second: Sequence[str] = (),
                   second_weight: float = 1.0) -> Neighbourhoods:
    """The weighted neighbourhoods of drugs; ``drug_row`` and ``entity`` are pairs of a drug and one of its entities.

    Features that fewer than ``least`` training drugs have are left out; the weights know only training drugs. Relations
    whose name holds one of ``second`` are followed for two steps; those features count ``second_weight``.
    """
    shape = (drugs, len(triples.entities))
    link = csr_array((np.ones(len(drug_row), np.float32), (drug_row, entity)), shape=shape)
    parts = [_weighted(link @ _features(triples), train, least)]
    if second:
        hop = _steps(triples, second)
        parts.append(_weighted(link @ hop @ hop, train, least) * np.float32(second_weight))
    matrix = csr_array(hstack(parts))
    known = np.flatnonzero(_length(matrix) > 0)
    position = np.full(drugs, -1, np.int64)
    position[known] = np.arange(len(known))
    return Neighbourhoods(_unit(csr_array(matrix[known])), position)


def _weighted(counts: csr_array, train: NDArray[np.int64], least: int) -> csr_array:
    """Unit rows of IDF weights from any counts (drugs, F)."""
    there = csr_array(counts)
    there.data = np.ones_like(there.data)
    frequency = np.asarray(there[train].sum(0)).ravel()
    kept = np.flatnonzero(frequency >= least)
    weight = np.log(max(len(train), 1) / np.maximum(frequency[kept], 1)).astype(np.float32)
    return _unit(csr_array(there[:, kept].multiply(weight[None, :])))


def _length(matrix: csr_array) -> NDArray[np.float32]:
    return np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())


def _unit(matrix: csr_array) -> csr_array:
    scale = (1.0 / np.maximum(_length(matrix), 1e-12)).astype(np.float32)
    return csr_array(matrix.multiply(scale[:, None])).astype(np.float32)


def _features(triples: Triples) -> csr_array:
    """Entities by features: every triple seen from both its ends, with its relation and without."""
    entities, relations = len(triples.entities), len(triples.relations)
    head, relation, tail = (np.asarray(a, np.int64) for a in (triples.head, triples.relation, triples.tail))
    plain = 2 * relations * entities
    owner = np.concatenate([head, tail, head, tail])
    name = np.concatenate([
        2 * relation * entities + tail, (2 * relation + 1) * entities + head, plain + tail, plain + head,
    ])
    names, column = np.unique(name, return_inverse=True)
    cells = coo_array((np.ones(len(owner), np.float32), (owner, column)), shape=(entities, len(names)))
    return csr_array(cells)


def _steps(triples: Triples, named: Sequence[str]) -> csr_array:
    """One step (entity to entity, either way) along the named relations, never onto a drug."""
    followed = np.array([any(part in name for part in named) for name in triples.relations], bool)
    kept = followed[triples.relation] if len(triples.relation) else np.empty(0, bool)
    head, tail = (np.asarray(a, np.int64)[kept] for a in (triples.head, triples.tail))
    start, end = np.concatenate([head, tail]), np.concatenate([tail, head])
    onto = np.array([kind != DRUG for kind in triples.entity_types], bool)[end]
    n = len(triples.entities)
    return csr_array((np.ones(int(onto.sum()), np.float32), (start[onto], end[onto])), shape=(n, n))
