"""Writes entities, relations and triples: whole tables by binary COPY, keys and indexes after it when that is faster.

A sorted COPY into bare columns followed by building the keys is some twenty times faster than COPY through two indexes
and three foreign keys. All of it is one transaction (PostgreSQL's DDL is transactional), so that whoever looks sees the
old graph or the new one. The keys are the owner's, so two procedures of the database, which the role of ingests may
call, take them off and build them.

Every edge names its provenance: the relation as one file of one source has it from one provider under one licence. What
two sources state, or one under two licences, are two rows; what a source has stated already is not written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select, text

from kb.db.bulk import copy_arrays, copy_out
from kb.errors import DataError
from kb.graph.encode import BLOCK, CodedTriples, Packing, entity_type
from kb.graph.names import aliases_of
from kb.schema.graph import kg_alias, kg_entity, kg_provenance, kg_relation, kg_triple
from kb.sources.contract import Document

GRAPH_LOCK = 0x6D6B6772
"""Advisory transaction lock: one writer of triples at a time. Taken before the lock of identities, never after it."""
REBUILD_FROM = 100_000
"""From so many new triples on (and a quarter of those that are there) keys are dropped and built again."""

MOST_PROVENANCES = 2**15 - 1
"""What the two bytes hold that an edge spends on its provenance."""


@dataclass(frozen=True, slots=True)
class DescribedRelation:
    """What a file says of a relation: the types it connects, whose its triples are, and under which licence."""

    name: str
    head_type: str
    tail_type: str
    provider: str
    licence: str
    description: str | None = None


def write_entities(
    connection: Connection, names: Sequence[str], labels: Mapping[str, str], labelled: Document
) -> NDArray[np.int32]:
    """The database id of each name, after new ones were written, with their aliases; known ones keep their id.

    ``labelled`` is the document that the labels were read from.
    """
    # Nobody else removes an entity that the triples to come are about.
    tables = "mkmed.kg_entity, mkmed.kg_relation, mkmed.kg_provenance"
    connection.execute(text(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE"))
    known = copy_out(connection, "SELECT id, name FROM mkmed.kg_entity")
    ids = dict(zip(known["name"].tolist(), known["id"].tolist(), strict=True))
    fresh = [name for name in names if name not in ids]
    start = max(ids.values(), default=0) + 1
    ids.update(zip(fresh, range(start, start + len(fresh)), strict=True))
    if fresh:
        numbers = np.arange(start, start + len(fresh), dtype=np.int32)
        kinds = [entity_type(name) for name in fresh]
        titles = [labels.get(name) for name in fresh]
        said_by = [None if title is None else labelled.id for title in titles]
        columns = ["id", "name", "type", "label", "label_artifact"]
        copy_arrays(connection, kg_entity.fullname, columns, [numbers, fresh, kinds, titles, said_by])
        _write_aliases(connection, fresh, numbers)
    new = set(fresh)
    _write_labels(connection, {ids[n]: label for n, label in labels.items() if n in ids and n not in new}, labelled)
    return np.asarray([ids[name] for name in names], np.int32)


def _write_aliases(connection: Connection, names: Sequence[str], numbers: NDArray[np.int32]) -> None:
    numbered = zip(names, numbers.tolist(), strict=True)
    pairs = [(alias, number) for name, number in numbered for alias in aliases_of(name)]
    aliases, entities = [p[0] for p in pairs], np.asarray([p[1] for p in pairs], np.int32)
    copy_arrays(connection, kg_alias.fullname, ["alias", "entity_id"], [aliases, entities])


def _write_labels(connection: Connection, labels: Mapping[int, str], labelled: Document) -> None:
    """Give entities a label that have none, and an open one to those whose label is under a closed licence."""
    if labels:
        connection.execute(
            text("""
                UPDATE mkmed.kg_entity e SET label = l.label, label_artifact = :artifact
                FROM unnest(CAST(:ids AS int[]), CAST(:labels AS text[])) AS l (id, label)
                WHERE e.id = l.id AND (e.label IS NULL OR (mkmed.is_open(:licence) AND NOT EXISTS (
                    SELECT FROM mkmed.artifact a WHERE a.id = e.label_artifact AND mkmed.is_open(a.licence_id))))"""),
            {
                "ids": list(labels),
                "labels": list(labels.values()),
                "artifact": labelled.id,
                "licence": labelled.licence,
            },
        )


def write_relations(
    connection: Connection, triples: CodedTriples, described: Mapping[str, DescribedRelation]
) -> NDArray[np.int32]:
    """The database id of each relation of the triples."""
    ids = {row.name: row.id for row in connection.execute(select(kg_relation.c.id, kg_relation.c.name))}
    start = max(ids.values(), default=0) + 1
    fresh = [name for name in triples.relation_names if name not in ids]
    ids.update(zip(fresh, range(start, start + len(fresh)), strict=True))
    rows = [
        {"id": ids[n], "name": n, "head_type": described[n].head_type, "tail_type": described[n].tail_type}
        for n in fresh
    ]
    if rows:
        connection.execute(insert(kg_relation), rows)
    return np.asarray([ids[name] for name in triples.relation_names], np.int32)


def write_triples(
    connection: Connection,
    triples: CodedTriples,
    described: Mapping[str, DescribedRelation],
    document: Document,
    entity_ids: NDArray[np.int32],
    relation_ids: NDArray[np.int32],
) -> int:
    """How many statements were new; they go in sorted by (head, relation, tail), and statistics are fresh after them.

    A triple that the same source has from the same provider under the same licence, from whichever file, is not new.
    """
    known = _provenances(connection, triples, described, document, relation_ids)
    ids = sorted({number for found in known.values() for number, _ in found})
    old = connection.scalar(text("SELECT CASE WHEN EXISTS (SELECT FROM mkmed.kg_triple) THEN count(*) ELSE 0 END"
                                 " FROM mkmed.kg_triple")) or 0
    if not ids and _ascend(entity_ids) and _ascend(relation_ids):
        columns = [entity_ids[triples.heads], relation_ids[triples.relations], entity_ids[triples.tails]]
    else:
        columns = _missing(connection, ids, triples, entity_ids, relation_ids)
    new = len(columns[0])
    if not new:
        return 0
    edges = _write_provenances(connection, triples, described, document, relation_ids, known, columns[1])
    rebuild = new >= max(REBUILD_FROM, old // 4)
    frozen = rebuild and not old
    if rebuild:
        _drop_keys(connection, emptied=frozen)
    names = ["head", "relation", "tail", "provenance"]
    copy_arrays(connection, kg_triple.fullname, names, [*columns, edges], freeze=frozen)
    if rebuild:
        _build_keys(connection)
    else:
        analyze(connection)
    return new


Known = Mapping[int, Sequence[tuple[int, bytes]]]
"""By relation the provenances that state the same as a file does: number and artifact."""


def _provenances(
    connection: Connection,
    triples: CodedTriples,
    described: Mapping[str, DescribedRelation],
    document: Document,
    relation_ids: NDArray[np.int32],
) -> Known:
    """The provenances of the file's source that agree with what it says of provider and licence."""
    wanted = {
        (number, described[name].provider, described[name].licence)
        for name, number in zip(triples.relation_names, relation_ids.tolist(), strict=True)
    }
    p = kg_provenance.c
    query = select(p.id, p.relation, p.provider, p.licence_id, p.artifact).where(p.source == document.source)
    found: dict[int, list[tuple[int, bytes]]] = {}
    for row in connection.execute(query.order_by(p.id)):
        if (row.relation, row.provider, row.licence_id) in wanted:
            found.setdefault(row.relation, []).append((row.id, bytes(row.artifact)))
    return found


def _write_provenances(
    connection: Connection,
    triples: CodedTriples,
    described: Mapping[str, DescribedRelation],
    document: Document,
    relation_ids: NDArray[np.int32],
    known: Known,
    relations: NDArray[np.int32],
) -> NDArray[np.int16]:
    """The provenance of each of the new triples, which are given by the ids of their relations."""
    counts = np.bincount(relations)
    used = set(np.flatnonzero(counts).tolist())
    names = dict(zip(relation_ids.tolist(), triples.relation_names, strict=True))
    here = {r: n for r in used for n, artifact in known.get(r, ()) if artifact == document.id}
    start = (connection.scalar(text("SELECT max(id) FROM mkmed.kg_provenance")) or 0) + 1
    fresh = sorted(used - here.keys())
    if start + len(fresh) > MOST_PROVENANCES + 1:
        raise DataError(f"the graph has more than {MOST_PROVENANCES:,} relations by source, provider, licence and file",
                        hint="merge the files before loading them")
    here |= {relation: start + i for i, relation in enumerate(fresh)}
    rows = [
        {
            "id": here[relation],
            "relation": relation,
            "provider": described[names[relation]].provider,
            "description": described[names[relation]].description,
            "licence_id": described[names[relation]].licence,
            "source": document.source,
            "artifact": document.id,
        }
        for relation in fresh
    ]
    if rows:
        connection.execute(insert(kg_provenance), rows)
    connection.execute(
        text("UPDATE mkmed.kg_provenance SET triples = triples + :count WHERE id = :id"),
        [{"id": here[relation], "count": int(counts[relation])} for relation in sorted(used)],
    )
    number = np.zeros(len(counts), np.int16)
    number[list(here)] = list(here.values())
    return number[relations]


def _ascend(ids: NDArray[np.int32]) -> bool:
    """Whether the ids order the triples as their codes do."""
    return bool((np.diff(ids) > 0).all())


def _missing(
    connection: Connection,
    provenances: Sequence[int],
    triples: CodedTriples,
    entity_ids: NDArray[np.int32],
    relation_ids: NDArray[np.int32],
) -> list[NDArray[np.int32]]:
    """Head, relation and tail of the triples that none of the provenances states yet, sorted."""
    largest = "SELECT coalesce((SELECT max(id) FROM mkmed.kg_relation), 0), (SELECT max(id) FROM mkmed.kg_entity)"
    packing = Packing.for_ids(*connection.execute(text(largest)).one())
    key = packing.pack(entity_ids[triples.heads], relation_ids[triples.relations], entity_ids[triples.tails])
    # Packed by the server already: a third of the bytes, and one column.
    there = copy_out(
        connection,
        "SELECT ((head::bigint << %(relation)s | relation) << %(entity)s) | tail AS key"
        " FROM mkmed.kg_triple WHERE provenance = ANY(%(ids)s)",
        {"relation": packing.relation_bits, "entity": packing.entity_bits, "ids": list(provenances)},
    )["key"]
    key.sort()
    there.sort()
    if len(there):
        new = np.ones(len(key), bool)
        for start in range(0, len(key), BLOCK):
            part = key[start : start + BLOCK]
            places = np.minimum(np.searchsorted(there, part), len(there) - 1)
            new[start : start + BLOCK] = there[places] != part
        key = key[new]
    return list(packing.unpack(key))


def _drop_keys(connection: Connection, *, emptied: bool) -> None:
    """Take keys and index off the table; an empty one is truncated, which lets its rows bypass the WAL."""
    connection.execute(text("CALL mkmed.drop_triple_keys(:emptied)"), {"emptied": emptied})


def _build_keys(connection: Connection) -> None:
    """Build them again, with fresh statistics."""
    connection.execute(text("CALL mkmed.build_triple_keys()"))


def analyze(connection: Connection) -> None:
    """Refresh the planner's statistics of the graph's tables."""
    for table in (kg_entity, kg_alias, kg_relation, kg_provenance, kg_triple):
        connection.execute(text(f"ANALYZE {table.fullname}"))
