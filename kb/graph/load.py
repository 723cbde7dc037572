"""Loads triples into the knowledge graph: entities, relations, triples, aliases, links to drugs, and the ledger.

Everything happens in the caller's transaction, so a kill at any point leaves the old graph or the new one. Loading what
is there already changes nothing; ``is_loaded`` tells so from the file's sha256 and a digest of the whole graph, without
reading the file's triples again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text

from kb.errors import DataError
from kb.graph.encode import CodedTriples, TripleCounts, encode_rows, encode_table
from kb.graph.link import LinkCounts, count_forms, relink
from kb.graph.names import DRUG_TYPES, identifier_of, values
from kb.graph.tables import GRAPH_LOCK, DescribedRelation, write_entities, write_relations, write_triples
from kb.graph.words import EdgeNote, Triple, write_notes, write_words
from kb.ingest.write import write_batch
from kb.ledger.entries import write_lookup
from kb.modalities import State
from kb.sources.contract import Document, RecordBatch

__all__ = [
    "CodedTriples",
    "DescribedRelation",
    "GraphCounts",
    "LinkCounts",
    "TripleCounts",
    "count_forms",
    "encode_rows",
    "encode_table",
    "is_loaded",
    "load_triples",
    "relink",
]

_DIGEST = """
SELECT (SELECT json_build_array(count(*), bit_xor(hashint8extended((head::bigint << 32) | tail,
                                                                    (relation::bigint << 16) | provenance)))
        FROM mkmed.kg_triple)::text
    || (SELECT json_build_array(count(*), bit_xor(hashtextextended(p::text, id))) FROM mkmed.kg_provenance p)::text
    || (SELECT json_build_array(count(*), bit_xor(hashtextextended(name, id))) FROM mkmed.kg_entity)::text
    || (SELECT json_build_array(count(*), bit_xor(hashtextextended(name, id))) FROM mkmed.kg_relation)::text
"""


@dataclass(frozen=True, slots=True)
class GraphCounts:
    """What a load did: what it read, what was new, and what the links to drugs became."""

    read: TripleCounts
    entities: int
    relations: int
    new_triples: int
    links: LinkCounts


def load_triples(
    connection: Connection,
    run_id: uuid.UUID,
    document: Document,
    triples: CodedTriples,
    relations: Mapping[str, DescribedRelation],
    *,
    labels: Mapping[str, str] | None = None,
    labelled: Document | None = None,
    complete: bool = True,
    notes: Mapping[Triple, EdgeNote] | None = None,
) -> GraphCounts:
    """What was loaded, in the caller's transaction (which should hold no identities yet).

    ``document`` is the file (its ``source`` and the relations' licences must be registered); ``relations`` describes
    every relation by name; ``labels`` are people's names of entities, from ``labelled`` if not from the same file.
    ``complete`` says that the file is all of its
    source's graph, so that a drug that is not in it is known to be absent. ``notes`` are what it says of single edges.
    """
    missing = [name for name in triples.relation_names if name not in relations]
    if missing:
        raise DataError(f"{len(missing)} relations are not described, e.g. {missing[0]!r}")
    connection.execute(select(func.pg_advisory_xact_lock(GRAPH_LOCK)))
    labelled = labelled or document
    write_batch(connection, run_id, document.source, RecordBatch(documents=[document, labelled]))
    entity_ids = write_entities(connection, triples.entities, labels or {}, labelled)
    relation_ids = write_relations(connection, triples, relations)
    new = write_triples(connection, triples, relations, document, entity_ids, relation_ids)
    write_words(connection)
    if notes:
        write_notes(connection, document, notes, relations)
    _write_step(connection, run_id, document, triples, complete)
    links = relink(connection, run_id)
    return GraphCounts(triples.counts, len(triples.entities), len(triples.relation_names), new, links)


def is_loaded(connection: Connection, source: str, sha256: bytes) -> bool:
    """Whether the file with this sha256 was loaded and the graph is, triple by triple, what the last load left.

    A triple, entity or relation that was removed, added or changed by other means since makes it False; loading again
    then restores what is missing.
    """
    steps = _steps(connection)
    if f"graph:{sha256.hex()}" not in steps.get(source, {}):
        return False
    latest = max((step for found in steps.values() for step in found.values()), key=lambda step: step["step"])
    return latest["digest"] == connection.scalar(text(_DIGEST))


def _steps(connection: Connection) -> dict[str, dict[str, dict[str, Any]]]:
    """What every load left behind, by source and key."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    rows = connection.execute(
        text("SELECT source, key, evidence FROM mkmed.lookup WHERE key LIKE 'graph:%' AND state = 'present'")
    )
    for source, key, evidence in rows:
        found.setdefault(source, {})[key] = json.loads(evidence)
    return found


def _write_step(
    connection: Connection, run_id: uuid.UUID, document: Document, triples: CodedTriples, complete: bool
) -> None:
    """Record that the file was loaded and what the graph looks like after it; unchanged if nothing has changed."""
    steps, key = _steps(connection), f"graph:{document.sha256.hex()}"
    mine = steps.get(document.source, {}).get(key)
    last = max((step["step"] for found in steps.values() for step in found.values()), default=0)
    digest = connection.scalar(text(_DIGEST))
    if mine and mine["digest"] == digest and mine["step"] == last and mine["complete"] == complete:
        return
    namespaces = {
        identifier.namespace
        for name in triples.entities
        if name.partition("::")[0] in DRUG_TYPES
        for value in values(name)
        if (identifier := identifier_of(value)) is not None
    }
    evidence = {
        "step": last + 1,
        "digest": digest,
        "complete": complete,
        "namespaces": sorted(namespaces),
        **asdict(triples.counts),
    }
    write_lookup(connection, run_id, document.source, key, State.present, evidence=json.dumps(evidence, sort_keys=True))
