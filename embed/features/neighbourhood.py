"""A drug's neighbourhood in the knowledge graph as a sparse vector: which entities, through which relations.

A feature is (relation, direction, entity), and the entity alone, so that two kinds of link to one target are still
partly alike; its weight is its inverse document frequency log(N / df) over the training drugs, so that sharing a rare
target counts and sharing a hub does not. Along relations of curated mechanism paths a second step is taken as well:
from a drug's target to the process that the target takes part in. Rows have length 1.

The features that training saw, with their weights, are a **vocabulary**, by name: it is kept with the run, and a drug
that comes later is described in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, hstack

from embed.features.packed import pack_strings, unpack_strings
from kb.query.read import Triples

DRUG = "Compound"
"""The entity type through which no second step goes: a drug's neighbour's neighbour is not its own mechanism."""

Linked = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pairs of a drug's row and the index of one of its entities."""


@dataclass(frozen=True)
class Neighbourhoods:
    """``matrix`` (n, F), unit rows; ``position[drug]`` is the row of a drug, or -1 where nothing is known of it."""

    matrix: csr_array
    position: NDArray[np.int64]


@dataclass(frozen=True)
class GraphVocabulary:
    """The features of one step (``code``, ascending) and of two steps (``second``) with their weights.

    ``code`` is (2 relation + direction) entities + entity, or 2 relations entities + entity for the entity alone, in
    the numbering of ``relations`` and ``entities``.
    """

    relations: list[str]
    entities: list[str]
    code: NDArray[np.int64]
    weight: NDArray[np.float32]
    second: NDArray[np.int64]
    second_weight: NDArray[np.float32]

    @property
    def width(self) -> int:
        """How many features there are."""
        return len(self.code) + len(self.second)

    def state(self) -> dict[str, NDArray[Any]]:
        """The vocabulary as arrays."""
        return {"code": self.code, "weight": self.weight, "second": self.second, "second_weight": self.second_weight,
                **pack_strings("relations", self.relations), **pack_strings("entities", self.entities)}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> GraphVocabulary:
        """The vocabulary that ``state`` described."""
        return cls(unpack_strings("relations", state), unpack_strings("entities", state), state["code"],
                   state["weight"], state["second"], state["second_weight"])


def fit_vocabulary(triples: Triples, linked: Linked, drugs: int, train: NDArray[np.int64], *, least: int = 2,
                   second: Sequence[str] = ()) -> GraphVocabulary:
    """The features that at least ``least`` training drugs have, weighted by how few of them do."""
    link = _link(triples, linked, drugs)
    codes, columns = _codes(triples, np.arange(len(triples.entities)), np.arange(len(triples.relations)),
                            len(triples.entities), len(triples.relations), linked[1])
    one, weight = _frequent(link @ columns, train, least)
    two, second_weight = np.empty(0, np.int64), np.empty(0, np.float32)
    if second:
        hop = _steps(triples, second)
        two, second_weight = _frequent(link @ hop @ hop, train, least)
    return _named(triples, codes[one], weight, two, second_weight)


def _named(triples: Triples, code: NDArray[np.int64], weight: NDArray[np.float32], two: NDArray[np.int64],
           second_weight: NDArray[np.float32]) -> GraphVocabulary:
    """The vocabulary in a numbering of its own, which names only the entities that it uses."""
    entities, relations = len(triples.entities), len(triples.relations)
    kind, entity = code // max(entities, 1), code % max(entities, 1)
    used = np.unique(np.concatenate([entity, two]))
    number = np.full(entities, -1, np.int64)
    number[used] = np.arange(len(used))
    own = kind * max(len(used), 1) + number[entity]
    order = np.argsort(own)
    assert (kind <= 2 * relations).all()
    return GraphVocabulary(list(triples.relations), [triples.entities[i] for i in used], own[order], weight[order],
                      number[two], second_weight)


def neighbourhoods(
    vocabulary: GraphVocabulary, triples: Triples, linked: Linked, drugs: int, *, second: Sequence[str] = (),
    second_weight: float = 1.0,
) -> Neighbourhoods:
    """The weighted neighbourhoods of drugs in the words of the vocabulary; what it does not know is left out."""
    entity = _numbers(triples.entities, vocabulary.entities)
    relation = _numbers(triples.relations, vocabulary.relations)
    codes, columns = _codes(triples, entity, relation, len(vocabulary.entities), len(vocabulary.relations), linked[1])
    at = np.searchsorted(vocabulary.code, codes)
    inside = at < len(vocabulary.code)
    inside[inside] = vocabulary.code[at[inside]] == codes[inside]
    link = _link(triples, linked, drugs)
    parts = [_weighted(link @ columns, np.flatnonzero(inside), at[inside], vocabulary.weight)]
    if second:
        hop = _steps(triples, second)
        back = _numbers(vocabulary.entities, triples.entities)[vocabulary.second]
        known = back >= 0
        parts.append(_weighted(link @ hop @ hop, back[known], np.flatnonzero(known), vocabulary.second_weight)
                     * np.float32(second_weight))
    matrix = csr_array(hstack(parts))
    rows = np.flatnonzero(_length(matrix) > 0)
    position = np.full(drugs, -1, np.int64)
    position[rows] = np.arange(len(rows))
    return Neighbourhoods(_unit(csr_array(matrix[rows])), position)


def _link(triples: Triples, linked: Linked, drugs: int) -> csr_array:
    return csr_array((np.ones(len(linked[0]), np.float32), linked), shape=(drugs, len(triples.entities)))


def _numbers(names: Sequence[str], among: Sequence[str]) -> NDArray[np.int64]:
    """The place of each name in ``among``, or -1."""
    place = {name: number for number, name in enumerate(among)}
    return np.array([place.get(name, -1) for name in names], np.int64)


def _frequent(counts: csr_array, train: NDArray[np.int64], least: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """``(columns, weights)`` of what at least ``least`` training drugs have; the weight is log(N / df)."""
    there = csr_array(counts)
    there.data = np.ones_like(there.data)
    frequency = np.asarray(there[train].sum(0)).ravel()
    kept = np.flatnonzero(frequency >= least)
    return kept, np.log(max(len(train), 1) / np.maximum(frequency[kept], 1)).astype(np.float32)


def _weighted(counts: csr_array, columns: NDArray[np.int64], features: NDArray[np.int64],
              weight: NDArray[np.float32]) -> csr_array:
    """Unit rows (drugs, F) of weights: column ``columns[k]`` of the counts is feature ``features[k]``."""
    there = csr_array(counts)[:, columns].tocoo()
    feature = features[there.col]
    cells = coo_array((weight[feature], (there.row, feature)), shape=(there.shape[0], len(weight)))
    return _unit(csr_array(cells))


def _length(matrix: csr_array) -> NDArray[np.float32]:
    return np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())


def _unit(matrix: csr_array) -> csr_array:
    scale = (1.0 / np.maximum(_length(matrix), 1e-12)).astype(np.float32)
    return csr_array(matrix.multiply(scale[:, None])).astype(np.float32)


def _codes(triples: Triples, entity: NDArray[np.int64], relation: NDArray[np.int64], entities: int, relations: int,
           wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], csr_array]:
    """``(codes, matrix)``: entities by features, of the triples that touch the ``wanted`` entities.

    Every triple is seen from both its ends, with its relation and without; ``entity`` and ``relation`` give the numbers
    that codes are made of, and a triple with an unknown one is left out.
    """
    asked = np.zeros(len(triples.entities), bool)
    asked[wanted] = True
    head, tail = np.asarray(triples.head, np.int64), np.asarray(triples.tail, np.int64)
    owners, names = [], []
    for direction, (own, other) in enumerate(((head, tail), (tail, head))):
        kept = asked[own] & (entity[other] >= 0)
        owners.append(own[kept])
        names.append(2 * relations * entities + entity[other[kept]])
        kind = relation[triples.relation]
        kept &= kind >= 0
        owners.append(own[kept])
        names.append((2 * kind[kept] + direction) * entities + entity[other[kept]])
    owner = np.concatenate(owners)
    codes, column = np.unique(np.concatenate(names), return_inverse=True)
    shape = (len(triples.entities), len(codes))
    return codes, csr_array(coo_array((np.ones(len(owner), np.float32), (owner, column)), shape=shape))


def _steps(triples: Triples, named: Sequence[str]) -> csr_array:
    """One step (entity to entity, either way) along the named relations, never onto a drug."""
    followed = np.array([any(part in name for part in named) for name in triples.relations], bool)
    kept = followed[triples.relation] if len(triples.relation) else np.empty(0, bool)
    head, tail = (np.asarray(a, np.int64)[kept] for a in (triples.head, triples.tail))
    start, end = np.concatenate([head, tail]), np.concatenate([tail, head])
    onto = np.array([kind != DRUG for kind in triples.entity_types], bool)[end]
    n = len(triples.entities)
    return csr_array((np.ones(int(onto.sum()), np.float32), (start[onto], end[onto])), shape=(n, n))
