"""A drug's direct neighbourhood in the knowledge graph as a sparse vector: which entities, through which relations.

A feature is (relation, direction, entity); its weight is its inverse document frequency log(N / df) over the training
drugs, so that sharing a rare target counts and sharing a hub does not. Rows have length 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kb.query import Triples


@dataclass(frozen=True)
class Neighbourhoods:
    """``matrix`` (n, F), unit rows; ``position[drug]`` is the row of a drug, or -1 where nothing is known of it."""

    matrix: csr_array
    position: NDArray[np.int64]


def neighbourhoods(triples: Triples, drug_row: NDArray[np.int64], entity: NDArray[np.int64], drugs: int,
                   train: NDArray[np.int64], least: int = 2) -> Neighbourhoods:
    """The weighted neighbourhoods of drugs; ``drug_row`` and ``entity`` are pairs of a drug and one of its entities.

    Features that fewer than ``least`` training drugs have are left out; the weights know only training drugs. A
    relation also counts without its name, so that two kinds of link to one target are still partly alike.
    """
    table = _features(triples)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    start = np.searchsorted(table[:, 0], entity, "left")
    count = np.searchsorted(table[:, 0], entity, "right") - start
    row = np.repeat(drug_row, count)
    shift = np.repeat(start - (np.cumsum(count) - count), count)
    feature = table[np.arange(int(count.sum())) + shift, 1]
    cells = np.unique(np.stack([row, feature], 1), axis=0).reshape(-1, 2)
    is_train = np.zeros(drugs, bool)
    is_train[train] = True
    names, column = np.unique(cells[:, 1], return_inverse=True)
    frequency = np.bincount(column[is_train[cells[:, 0]]], minlength=len(names))
    kept = frequency >= least
    weight = np.log(max(len(train), 1) / np.maximum(frequency, 1))
    new = np.cumsum(kept) - 1
    cells, column = cells[kept[column]], column[kept[column]]
    matrix = csr_array((weight[column], (cells[:, 0], new[column])), shape=(drugs, int(kept.sum())), dtype=np.float32)
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    known = np.flatnonzero(length > 0)
    position = np.full(drugs, -1, np.int64)
    position[known] = np.arange(len(known))
    scaled = csr_array(matrix[known].multiply(1.0 / length[known, None])).astype(np.float32)
    return Neighbourhoods(csr_array(scaled), position)


def _features(triples: Triples) -> NDArray[np.int64]:
    """(entity, feature) pairs: every triple seen from both its ends."""
    entities, relations = len(triples.entities), len(triples.relations)
    head, relation, tail = (np.asarray(a, np.int64) for a in (triples.head, triples.relation, triples.tail))
    forward = (relation * 2) * entities + tail
    backward = (relation * 2 + 1) * entities + head
    plain = 2 * relations * entities
    return np.concatenate([
        np.stack([head, forward], 1), np.stack([tail, backward], 1),
        np.stack([head, plain + tail], 1), np.stack([tail, plain + head], 1),
    ])
