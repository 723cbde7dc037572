"""Turns triples of names into sorted, distinct integer codes; counts what was dropped and why.

An entity's name is ``type::id`` (the type may contain blanks, the id more colons); a relation's name is opaque. One
int64 key a triple, the bits of head, relation and tail side by side, makes sorting and deduplication one ``np.sort``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Codes = NDArray[np.signedinteger]
BLOCK = 1 << 18
"""Keys that are taken apart at a time, so that what is made on the way stays small."""
LONGEST_NAME = 500
"""Characters; a B-tree index of PostgreSQL takes up to 2,704 bytes."""


@dataclass(frozen=True, slots=True)
class TripleCounts:
    """What was read: all ``rows``, those equal to an earlier one, those with an empty id, loops, and what is kept.

    ``duplicates`` counts over all rows; ``self_loops`` over the rows with ids, repeated ones included. ``kept`` triples
    are distinct and have ids at both ends, so ``rows - kept`` may be less than ``duplicates + empty_ids``.
    """

    rows: int
    duplicates: int
    empty_ids: int
    self_loops: int
    kept: int


@dataclass(frozen=True, slots=True)
class CodedTriples:
    """Distinct triples as codes into ``entities`` and ``relations`` (both sorted), in the order of (head, relation,
    tail); ``rows_of`` has the rows of each relation before anything was dropped."""

    heads: NDArray[np.int32]
    relations: NDArray[np.int32]
    tails: NDArray[np.int32]
    entities: list[str]
    relation_names: list[str]
    counts: TripleCounts
    rows_of: dict[str, int]

    def __len__(self) -> int:
        return len(self.heads)


def entity_type(name: str) -> str:
    """The part of an entity's name before the first ``::``; raises DataError when there is none."""
    kind, separator, _ = name.partition("::")
    if not separator or not kind:
        raise DataError(f"{name[:80]!r} is not an entity: expected type::id", hint="is this a file of triples?")
    return kind


@dataclass(frozen=True, slots=True)
class Packing:
    """How a triple fits one int64, so that packed triples sort like (head, relation, tail): bits of each part."""

    relation_bits: int
    entity_bits: int

    @classmethod
    def for_ids(cls, largest_relation: int, largest_entity: int) -> Packing:
        """Room for ids up to the given ones; raises DataError when they need more than 63 bits."""
        packing = cls(max(1, largest_relation.bit_length()), max(1, largest_entity.bit_length()))
        if packing.relation_bits + 2 * packing.entity_bits > 63:
            raise DataError(f"ids up to {largest_entity:,} and {largest_relation:,} do not fit one 64-bit key")
        return packing

    def pack(self, heads: Codes, relations: Codes, tails: Codes) -> Codes:
        """One key a triple."""
        key = heads.astype(np.int64)
        key <<= self.relation_bits
        key |= relations
        key <<= self.entity_bits
        key |= tails
        return key

    def unpack(self, key: Codes) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Heads, relations and tails of keys."""
        entity, relation = (1 << self.entity_bits) - 1, (1 << self.relation_bits) - 1
        heads, relations, tails = (np.empty(len(key), np.int32) for _ in range(3))
        for start in range(0, len(key), BLOCK):
            here = slice(start, start + BLOCK)
            heads[here] = key[here] >> (self.entity_bits + self.relation_bits)
            relations[here] = key[here] >> self.entity_bits & relation
            tails[here] = key[here] & entity
        return heads, relations, tails


def encode_rows(rows: Iterable[tuple[str, str, str]]) -> CodedTriples:
    """The triples of (head, relation, tail) names; for up to some hundred thousand (use ``encode_table`` beyond)."""
    entities: dict[str, int] = {}
    relations: dict[str, int] = {}
    codes = [
        (
            entities.setdefault(head, len(entities)),
            relations.setdefault(relation, len(relations)),
            entities.setdefault(tail, len(entities)),
        )
        for head, relation, tail in rows
    ]
    table = np.asarray(codes, np.int64).reshape(-1, 3)
    names = list(entities)
    return encode_codes([list(table.T)], len(table), names, list(relations), names)


def encode_table(table: pa.Table) -> CodedTriples:
    """The triples of a table of three dictionary-encoded text columns: head, relation, tail."""
    import pyarrow as pa

    unified = table.unify_dictionaries()
    del table  # one copy of the codes is enough
    dictionaries: list[list[str]] = []
    for column in unified.columns:
        known: pa.Array = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
        dictionaries.append(known.to_pylist())
    chunks = ([c.indices.to_numpy() for c in parts] for parts in zip(*(c.chunks for c in unified.columns), strict=True))
    return encode_codes(chunks, unified.num_rows, *dictionaries)


def encode_codes(
    chunks: Iterable[Sequence[Codes]],
    rows: int,
    head_names: Sequence[str],
    relation_names: Sequence[str],
    tail_names: Sequence[str],
) -> CodedTriples:
    """Sorted distinct triples from codes into unsorted name lists; rows that touch an empty id are dropped.

    ``chunks`` are heads, relations and tails, ``rows`` of them in all.
    """
    entities, names = _merged(head_names, tail_names), _merged(relation_names)
    for name in entities:
        if name.find("::") < 1:
            entity_type(name)  # raises
    empty = {name for name in entities if name.endswith("::") and name.find("::") == len(name) - 2}
    entities = [name for name in entities if name not in empty] + sorted(empty)  # last, so that the others stay dense
    named = len(entities) - len(empty)
    head_rank, tail_rank = _ranks(entities, head_names, tail_names)
    (relation_rank,) = _ranks(names, relation_names)
    packing = Packing.for_ids(len(names), len(entities))
    # The tables of ranks are shifted instead of the columns, so that each column is gone through once.
    head_rank <<= packing.entity_bits + packing.relation_bits
    relation_rank <<= packing.entity_bits
    key = np.empty(rows, np.int64)
    at = 0
    for heads, relations, tails in chunks:
        part = key[at : at + len(heads)]
        np.take(head_rank, heads, out=part)
        part |= relation_rank[relations]
        part |= tail_rank[tails]
        at += len(heads)
    key.sort()
    parts = packing.unpack(key)
    rows_of = np.bincount(parts[1], minlength=len(names))
    bad = np.maximum(parts[0], parts[2]) >= named
    loops = int(np.count_nonzero((parts[0] == parts[2]) & ~bad))
    first = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    del key
    kept = first & ~bad
    counts = TripleCounts(
        rows=rows,
        duplicates=rows - int(np.count_nonzero(first)),
        empty_ids=int(np.count_nonzero(bad)),
        self_loops=loops,
        kept=int(np.count_nonzero(kept)),
    )
    heads, relation_codes, tails = (part[kept] for part in parts)
    return _compact(heads, relation_codes, tails, entities[:named], names, counts, rows_of)


def _merged(*lists: Sequence[str]) -> list[str]:
    """All names in order, each once."""
    merged = sorted(set().union(*lists))
    _require_names(merged)
    return merged


def _ranks(merged: Sequence[str], *lists: Sequence[str]) -> list[NDArray[np.int64]]:
    """For each list the places of its names among all."""
    position = {name: i for i, name in enumerate(merged)}
    return [np.fromiter(map(position.__getitem__, names), np.int64, len(names)) for names in lists]


def _require_names(names: Iterable[str]) -> None:
    for name in names:
        if len(name) > LONGEST_NAME or "\0" in name:
            raise DataError(
                f"not a name of the graph: {name[:60]!r}", hint=f"at most {LONGEST_NAME} characters, no NUL"
            )


def _compact(
    heads: NDArray[np.int32],
    relations: NDArray[np.int32],
    tails: NDArray[np.int32],
    entities: list[str],
    names: list[str],
    counts: TripleCounts,
    rows_of: Codes,
) -> CodedTriples:
    """The triples with the names that no triple uses taken out; the order of the rest stays."""
    used, used_relations = np.zeros(len(entities), bool), np.zeros(len(names), bool)
    used[heads] = used[tails] = True
    used_relations[relations] = True
    if not used.all():
        new = (np.cumsum(used) - 1).astype(np.int32)
        heads, tails = new[heads], new[tails]
    if not used_relations.all():
        relations = (np.cumsum(used_relations) - 1).astype(np.int32)[relations]
    return CodedTriples(
        heads,
        relations,
        tails,
        [name for name, keep in zip(entities, used, strict=True) if keep],
        [name for name, keep in zip(names, used_relations, strict=True) if keep],
        counts,
        {name: int(rows) for name, rows in zip(names, rows_of, strict=True)},
    )
