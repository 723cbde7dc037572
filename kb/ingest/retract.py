"""Takes back what a source does not say any more: single records, or a whole source at one stroke.

Everything that hangs on a record goes with it. What another source said of the same drug by way of it is hung on
another of the drug's records; where there is none it goes too, and that source is asked again. ``mkmed.history`` keeps
it all.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select, text, update

from kb.db.bulk import among
from kb.db.failures import with_retry
from kb.errors import NotFound
from kb.graph.link import relink
from kb.graph.tables import GRAPH_LOCK
from kb.identity.claims import (
    IDENTITY_LOCK,
    Key,
    closure,
    log_conflicts,
    remove_empty,
    repaint,
    resolve,
    settle,
    stored_records,
)
from kb.ledger.entries import finish_run, start_run
from kb.schema.identity import drug_record
from kb.schema.ledger import cell, lookup
from kb.schema.ledger import source as sources

SLICE = 2000
HUNG = ("image", "text", "conformer", "property_set", "drug_atc", "indication", "cell")

OWN = ("image", "text", "conformer", "property_set", "drug_atc", "atc_ddd", "interaction", "indication", "product")
"""Tables with a column ``source``, of which a source's rows go with it."""

_REHANG = """
UPDATE mkmed.{table} t SET record_source = o.source, record_key = o.key
FROM unnest(CAST(:s AS text[]), CAST(:k AS text[])) AS w (s, k), LATERAL (
    SELECT r.source, r.key FROM mkmed.drug_record r JOIN mkmed.drug_record g ON g.source = w.s AND g.key = w.k
    WHERE r.drug_id = g.drug_id AND (r.source, r.key) NOT IN (
        SELECT * FROM unnest(CAST(:s AS text[]), CAST(:k AS text[])))
    ORDER BY length(r.source), r.source, length(r.key), r.key LIMIT 1) o
WHERE t.record_source = w.s AND t.record_key = w.k AND t.source <> w.s AND NOT EXISTS (
    SELECT FROM mkmed.{table} x
    WHERE x.record_source = o.source AND x.record_key = o.key AND x.source = t.source {same})
"""
_REHANG_SIDE = """
UPDATE mkmed.interaction t SET {side}_source = o.source, {side}_key = o.key
FROM unnest(CAST(:s AS text[]), CAST(:k AS text[])) AS w (s, k), LATERAL (
    SELECT r.source, r.key FROM mkmed.drug_record r JOIN mkmed.drug_record g ON g.source = w.s AND g.key = w.k
    WHERE r.drug_id = g.drug_id AND (r.source, r.key) NOT IN (
        SELECT * FROM unnest(CAST(:s AS text[]), CAST(:k AS text[])))
    ORDER BY length(r.source), r.source, length(r.key), r.key LIMIT 1) o
WHERE t.{side}_source = w.s AND t.{side}_key = w.k AND t.source <> w.s AND NOT EXISTS (
    SELECT FROM mkmed.interaction x WHERE x.{side}_source = o.source AND x.{side}_key = o.key
    AND x.{other}_source = t.{other}_source AND x.{other}_key = t.{other}_key
    AND x.source = t.source AND x.provider = t.provider)
"""
_LOST = """
SELECT DISTINCT t.source FROM mkmed.{table} t
JOIN unnest(CAST(:s AS text[]), CAST(:k AS text[])) AS w (s, k) ON t.{of}_source = w.s AND t.{of}_key = w.k
WHERE t.source <> w.s
"""
_SAME = {
    "text": "AND x.provider = t.provider AND x.content_sha256 = t.content_sha256",
    "drug_atc": "AND x.code = t.code",
    "indication": "AND x.provider = t.provider AND x.kind = t.kind AND x.disease_key = t.disease_key",
    "cell": "AND x.modality = t.modality",
}


def retract_records(connection: Connection, run_id: uuid.UUID, keys: Iterable[Key]) -> int:
    """How many of the records were there, after they were taken back with what hung on them.

    Call ``relink`` after it in the same transaction.
    """
    wanted = sorted(set(keys))
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    count = 0
    for start in range(0, len(wanted), SLICE):
        count += _retract(connection, run_id, wanted[start : start + SLICE])
    return count


def _retract(connection: Connection, run_id: uuid.UUID, keys: Sequence[Key]) -> int:
    gone = stored_records(connection, keys)
    if not gone:
        return 0
    pairs = {"s": [key[0] for key in gone], "k": [key[1] for key in gone]}
    for table in HUNG:
        connection.execute(text(_REHANG.format(table=table, same=_SAME.get(table, ""))), pairs)
    for side, other in (("a", "b"), ("b", "a")):
        connection.execute(text(_REHANG_SIDE.format(side=side, other=other)), pairs)
    _ask_again(connection, pairs)
    remaining = closure(connection, [record.claim for record in gone.values()])
    for key in gone:
        remaining.pop(key, None)
    connection.execute(delete(drug_record).where(among((drug_record.c.source, drug_record.c.key), gone)))
    identities, conflicts = resolve(remaining.values())
    settle(connection, run_id, remaining, identities, {})
    log_conflicts(connection, [*remaining, *gone], conflicts)
    drugs = {record.drug_id for record in gone.values()}
    remove_empty(connection, run_id, drugs, {})
    repaint(connection, drugs)
    return len(gone)


def _ask_again(connection: Connection, pairs: dict[str, list[str]]) -> None:
    """Forget that the sources were read to the end whose statements go with the records."""
    places = [(table, "record") for table in HUNG] + [("interaction", "a"), ("interaction", "b")]
    lost = {
        source
        for table, of in places
        for source in connection.scalars(text(_LOST.format(table=table, of=of)), pairs)
    }
    if lost:
        marks = lookup.c.source.in_(sorted(lost)) & lookup.c.drug_id.is_(None) & (lookup.c.state == "present")
        connection.execute(delete(lookup).where(marks, lookup.c.key.not_like("graph:%")))


def remove_source(connection: Connection, run_id: uuid.UUID, source: str) -> dict[str, int]:
    """How much of a source was taken out: ``records``, ``facts`` said of others' records, ``triples``, ``lookups``."""
    connection.execute(select(func.pg_advisory_xact_lock(GRAPH_LOCK)))
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    counts = {"records": 0, "facts": 0, "triples": _remove_triples(connection, source)}
    for table in OWN:
        counts["facts"] += connection.execute(
            text(f"DELETE FROM mkmed.{table} WHERE source = :source"), {"source": source}  # noqa: S608
        ).rowcount
    keys = connection.execute(select(drug_record.c.source, drug_record.c.key).where(drug_record.c.source == source))
    counts["records"] = retract_records(connection, run_id, [(row.source, row.key) for row in keys])
    connection.execute(delete(cell).where(cell.c.source == source))
    counts["lookups"] = connection.execute(delete(lookup).where(lookup.c.source == source)).rowcount
    _remove_classes(connection, source)
    connection.execute(update(sources).where(sources.c.name == source).values(version=None))
    relink(connection, run_id)
    return counts


def _remove_triples(connection: Connection, source: str) -> int:
    """Remove the source's statements; of relations, entities and labels those that no other source has."""
    own = "SELECT id FROM mkmed.kg_provenance WHERE source = :source"
    count = connection.execute(
        text(f"DELETE FROM mkmed.kg_triple WHERE provenance IN ({own})"), {"source": source}  # noqa: S608
    ).rowcount
    if connection.execute(text("DELETE FROM mkmed.kg_provenance WHERE source = :source"), {"source": source}).rowcount:
        unstated = "NOT EXISTS (SELECT FROM mkmed.kg_provenance p WHERE p.relation = r.id)"
        connection.execute(text(f"DELETE FROM mkmed.kg_relation r WHERE {unstated}"))  # noqa: S608
        orphans = """
            SELECT e.id FROM mkmed.kg_entity e
            WHERE NOT EXISTS (SELECT FROM mkmed.kg_triple t WHERE t.head = e.id)
            AND NOT EXISTS (SELECT FROM mkmed.kg_triple t WHERE t.tail = e.id)"""
        connection.execute(text(f"DELETE FROM mkmed.drug_entity WHERE entity_id IN ({orphans})"))  # noqa: S608
        connection.execute(text(f"DELETE FROM mkmed.kg_entity WHERE id IN ({orphans})"))  # noqa: S608
        connection.execute(
            text("""
                UPDATE mkmed.kg_entity SET label = NULL, label_artifact = NULL
                WHERE label_artifact IN (SELECT id FROM mkmed.artifact WHERE source = :source)"""),
            {"source": source},
        )
    return count


def _remove_classes(connection: Connection, source: str) -> None:
    """Remove the source's ATC classes that nothing refers to, from the lowest level up; of others their names."""
    for level in range(5, 0, -1):
        connection.execute(
            text("""
                DELETE FROM mkmed.atc_class c WHERE source = :source AND level = :level
                AND NOT EXISTS (SELECT FROM mkmed.atc_class p WHERE p.parent = c.code)
                AND NOT EXISTS (SELECT FROM mkmed.drug_atc a WHERE a.code = c.code)
                AND NOT EXISTS (SELECT FROM mkmed.atc_ddd d WHERE d.code = c.code)"""),
            {"source": source, "level": level},
        )
    connection.execute(text("UPDATE mkmed.atc_class SET name = NULL WHERE source = :source"), {"source": source})


def remove_named(engine: Engine, *, source: str | None = None, dataset: str | None = None) -> list[dict[str, Any]]:
    """What was taken out of the source, or of every source that is the dataset; raises NotFound where there is none."""
    run_id = uuid.uuid4()

    def work(connection: Connection) -> list[dict[str, Any]]:
        chosen = sources.c.name == source if dataset is None else sources.c.dataset == dataset
        names = list(connection.scalars(select(sources.c.name).where(chosen).order_by(sources.c.name)))
        if not names:
            known = connection.scalars(select(sources.c.name).order_by(sources.c.name))
            raise NotFound(f"no source or dataset {source or dataset!r}", hint=f"known: {', '.join(known)}")
        start_run(connection, "ingest", name="remove", config={"sources": names}, run_id=run_id)
        rows = [{"source": name, **remove_source(connection, run_id, name)} for name in names]
        finish_run(connection, run_id, "complete", counts={str(row["source"]): row["records"] for row in rows})
        return rows

    return with_retry(work, engine)
