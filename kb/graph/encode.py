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
        heads = (key >> (self.entity_bits + self.relation_bits)).astype(np.int32)
        return heads, (key >> self.entity_bits & relation).astype(np.int32), (key & entity).astype(np.int32)


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
    return encode_codes(table[:, 0], table[:, 1], table[:, 2], names, list(relations), names)


def encode_table(table: pa.Table) -> CodedTriples:
    """The triples of a table of three dictionary-encoded text columns: head, relation, tail."""
    import pyarrow as pa

    columns: list[Codes] = []
    dictionaries: list[list[str]] = []
    unified = table.unify_dictionaries()
    for column in unified.columns:
        parts = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in column.chunks]
        columns.append(np.concatenate(parts) if parts else np.empty(0, np.int32))
        known: pa.Array = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
        dictionaries.append(known.to_pylist())
    return encode_codes(columns[0], columns[1], columns[2], *dictionaries)


def encode_codes(
    heads: Codes,
    relations: Codes,
    tails: Codes,
    head_names: Sequence[str],
    relation_names: Sequence[str],
    tail_names: Sequence[str],
) -> CodedTriples:
    """Sorted distinct triples from codes into unsorted name lists; rows that touch an empty id are dropped."""
    entities, (head_rank, tail_rank) = _ranks(head_names, tail_names)
    names, (relation_rank,) = _ranks(relation_names)
    empty = [i for i, name in enumerate(entities) if not name[len(entity_type(name)) + 2 :]]
    packing = Packing.for_ids(len(names), len(entities))
    # The tables of ranks are shifted instead of the columns, so that each column is gone through once.
    key = (head_rank << packing.entity_bits + packing.relation_bits)[heads]
    key |= (relation_rank << packing.entity_bits)[relations]
    key |= tail_rank[tails]
    key.sort()
    parts = packing.unpack(key)
    bad = np.zeros(len(key), bool)
    for code in empty:
        bad |= (parts[0] == code) | (parts[2] == code)
    loops = int(np.count_nonzero((parts[0] == parts[2]) & ~bad))
    first = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    rows_of = np.bincount(parts[1], minlength=len(names))
    kept = first & ~bad
    counts = TripleCounts(
        rows=len(key),
        duplicates=len(key) - int(np.count_nonzero(first)),
        empty_ids=int(np.count_nonzero(bad)),
        self_loops=loops,
        kept=int(np.count_nonzero(kept)),
    )
    return _compact(parts[0][kept], parts[1][kept], parts[2][kept], entities, names, counts, rows_of)


def _ranks(*lists: Sequence[str]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """All names in order, each once, and for each list the new codes of its old ones."""
    merged = sorted(set().union(*lists))
    _require_names(merged)
    position = {name: i for i, name in enumerate(merged)}
    return merged, [np.asarray([position[name] for name in names], np.int64) for names in lists]


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
