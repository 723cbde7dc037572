"""Writes entities, relations and triples: whole tables by binary COPY, keys and indexes after it when that is faster.

A sorted COPY into bare columns followed by building the keys is some twenty times faster than COPY through two indexes
and three foreign keys. All of it is one transaction (PostgreSQL's DDL is transactional), so that whoever looks sees the
old graph or the new one, with every constraint in place under the name that the migrations gave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.schema import AddConstraint, CreateIndex, DropConstraint, DropIndex

from kb.db.copy import copy_arrays, copy_out
from kb.graph.encode import CodedTriples, Packing, entity_type
from kb.graph.names import aliases_of
from kb.ingest.records import Document
from kb.schema.graph import kg_alias, kg_entity, kg_relation, kg_triple

REBUILD_FROM = 100_000
"""From so many new triples on (and a quarter of those that are there) keys are dropped and built again."""

FOREIGN_KEYS = sorted(kg_triple.foreign_key_constraints, key=lambda key: list(key.column_keys))


@dataclass(frozen=True, slots=True)
class Relation:
    """What is known of a relation: the types it connects, whose it is, and under which licence."""

    name: str
    head_type: str
    tail_type: str
    provider: str
    licence: str
    description: str | None = None


def write_entities(connection: Connection, names: Sequence[str], labels: Mapping[str, str]) -> NDArray[np.int32]:
    """The database id of each name, after new ones were written, with their aliases; known ones keep their id."""
    known = copy_out(connection, "SELECT id, name FROM mkmed.kg_entity")
    ids = dict(zip(known["name"].tolist(), known["id"].tolist(), strict=True))
    fresh = [name for name in names if name not in ids]
    start = max(ids.values(), default=0) + 1
    ids.update(zip(fresh, range(start, start + len(fresh)), strict=True))
    if fresh:
        numbers = np.arange(start, start + len(fresh), dtype=np.int32)
        kinds = [entity_type(name) for name in fresh]
        titles = [labels.get(name) for name in fresh]
        copy_arrays(connection, "mkmed.kg_entity", ["id", "name", "type", "label"], [numbers, fresh, kinds, titles])
        _write_aliases(connection, fresh, numbers)
    new = set(fresh)
    _write_labels(connection, {ids[n]: label for n, label in labels.items() if n in ids and n not in new})
    return np.asarray([ids[name] for name in names], np.int32)


def _write_aliases(connection: Connection, names: Sequence[str], numbers: NDArray[np.int32]) -> None:
    numbered = zip(names, numbers.tolist(), strict=True)
    pairs = [(alias, number) for name, number in numbered for alias in aliases_of(name)]
    aliases, entities = [p[0] for p in pairs], np.asarray([p[1] for p in pairs], np.int32)
    copy_arrays(connection, kg_alias.fullname, ["alias", "entity_id"], [aliases, entities])


def _write_labels(connection: Connection, labels: Mapping[int, str]) -> None:
    """Give entities a label that have none."""
    if labels:
        connection.execute(
            text("""
                UPDATE mkmed.kg_entity e SET label = l.label
                FROM unnest(CAST(:ids AS int[]), CAST(:labels AS text[])) AS l (id, label)
                WHERE e.id = l.id AND e.label IS NULL"""),
            {"ids": list(labels), "labels": list(labels.values())},
        )


def write_relations(
    connection: Connection, triples: CodedTriples, described: Mapping[str, Relation], document: Document
) -> NDArray[np.int32]:
    """The database id of each relation of the triples.

    A relation that several files have is credited to the one that has the most triples of it, and of equals to the one
    with the smaller sha256, so that the order of loading makes no difference.
    """
    known = {
        row.name: row
        for row in connection.execute(
            select(kg_relation.c.id, kg_relation.c.name, kg_relation.c.source, kg_relation.c.artifact)
        )
    }
    ids = {name: row.id for name, row in known.items()}
    here = np.bincount(triples.relations, minlength=len(triples.relation_names))
    start = max(ids.values(), default=0) + 1
    fresh = [name for name in triples.relation_names if name not in ids]
    ids.update(zip(fresh, range(start, start + len(fresh)), strict=True))
    shared = [i for i, n in enumerate(triples.relation_names) if n in known and known[n].artifact != document.sha256]
    there = _count_by_relation(connection, [ids[triples.relation_names[i]] for i in shared])
    for i in shared:
        name = triples.relation_names[i]
        mine, theirs = int(here[i]), there.get(ids[name], 0)
        if (mine, bytes(known[name].artifact)) > (theirs, document.sha256):
            values = _relation_row(described[name], document)
            connection.execute(update(kg_relation).where(kg_relation.c.id == ids[name]).values(values))
    rows = [{"id": ids[name], **_relation_row(described[name], document)} for name in fresh]
    if rows:
        connection.execute(insert(kg_relation), rows)
    return np.asarray([ids[name] for name in triples.relation_names], np.int32)


def _relation_row(relation: Relation, document: Document) -> dict[str, object]:
    return {
        "name": relation.name,
        "head_type": relation.head_type,
        "tail_type": relation.tail_type,
        "provider": relation.provider,
        "description": relation.description,
        "licence_id": relation.licence,
        "source": document.source,
        "artifact": document.sha256,
    }


def _count_by_relation(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    if not ids:
        return {}
    rows = connection.execute(
        text("SELECT relation, count(*) FROM mkmed.kg_triple WHERE relation = ANY(:ids) GROUP BY 1"), {"ids": list(ids)}
    )
    return {row[0]: row[1] for row in rows}


def write_triples(
    connection: Connection, triples: CodedTriples, entity_ids: NDArray[np.int32], relation_ids: NDArray[np.int32]
) -> int:
    """How many triples were new; they go in sorted by (head, relation, tail), and statistics are fresh after them."""
    there = copy_out(connection, "SELECT head, relation, tail FROM mkmed.kg_triple")
    old = len(there["head"])
    if not old and _ascend(entity_ids) and _ascend(relation_ids):
        columns = [entity_ids[triples.heads], relation_ids[triples.relations], entity_ids[triples.tails]]
    else:
        columns = _missing(there, triples, entity_ids, relation_ids)
    del there
    new = len(columns[0])
    if not new:
        return 0
    rebuild = new >= max(REBUILD_FROM, old // 4)
    if rebuild:
        _drop_keys(connection, empty=not old)
    frozen = rebuild and not old
    copy_arrays(connection, kg_triple.fullname, ["head", "relation", "tail"], columns, freeze=frozen)
    if rebuild:
        _build_keys(connection, frozen=frozen)
    else:
        analyze(connection)
    return new


def _ascend(ids: NDArray[np.int32]) -> bool:
    """Whether the ids order the triples as their codes do."""
    return bool((np.diff(ids) > 0).all())


def _missing(
    there: Mapping[str, NDArray[np.int32]],
    triples: CodedTriples,
    entity_ids: NDArray[np.int32],
    relation_ids: NDArray[np.int32],
) -> list[NDArray[np.int32]]:
    """Head, relation and tail of the triples that are not there yet, sorted."""
    largest = [int(there[c].max(initial=0)) for c in ("head", "tail")] + [int(entity_ids.max(initial=0))]
    relation = max(int(there["relation"].max(initial=0)), int(relation_ids.max(initial=0)))
    packing = Packing.for_ids(relation, max(largest))
    heads, tails = entity_ids[triples.heads], entity_ids[triples.tails]
    key = packing.pack(heads, relation_ids[triples.relations], tails)
    old = packing.pack(there["head"], there["relation"], there["tail"])
    return list(packing.unpack(np.setdiff1d(key, old, assume_unique=True)))


def _drop_keys(connection: Connection, *, empty: bool) -> None:
    """Take keys and index off the table; an empty one is truncated, which lets its rows bypass the WAL."""
    for key in FOREIGN_KEYS:
        connection.execute(DropConstraint(key))
    for index in kg_triple.indexes:
        connection.execute(DropIndex(index))
    connection.execute(DropConstraint(kg_triple.primary_key))
    if empty:
        connection.execute(text("TRUNCATE mkmed.kg_triple"))


def _build_keys(connection: Connection, *, frozen: bool) -> None:
    """Build them again, with fresh statistics for the checks of the foreign keys.

    Of frozen rows the tails are checked in the order of the second index, which needs no heap then: hashing them in
    the order of the heads misses the processor's caches.
    """
    connection.execute(AddConstraint(kg_triple.primary_key, isolate_from_table=False))
    for index in kg_triple.indexes:
        connection.execute(CreateIndex(index))
    analyze(connection)
    for key in FOREIGN_KEYS:
        ordered = frozen and list(key.column_keys) == ["tail"]
        connection.execute(text(f"SET LOCAL enable_hashjoin TO {'off' if ordered else 'DEFAULT'}"))
        connection.execute(AddConstraint(key, isolate_from_table=False))
    connection.execute(text("SET LOCAL enable_hashjoin TO DEFAULT"))


def analyze(connection: Connection) -> None:
    """Refresh the planner's statistics of the graph's tables."""
    for table in (kg_entity, kg_alias, kg_relation, kg_triple):
        connection.execute(text(f"ANALYZE {table.fullname}"))
