"""Freezes what is known under a name and a release id, and tells what changed between two of them.

A release id is a hash over every fact without the database's own numbers, so that equal facts have equal ids wherever
they lie. What was true at a snapshot is read from ``mkmed.history``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from kb.errors import NotFound, UsageError
from kb.identity.claims import IDENTITY_LOCK
from kb.schema.identity import snapshot

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_FACTS = {
    "record": "SELECT r.source, r.key, d.identity, r.name, r.kind, r.smiles, r.inchikey, r.formula, r.identifiers"
    " FROM mkmed.drug_record r JOIN mkmed.drug d ON d.id = r.drug_id",
    "name": "SELECT source, key, name, kind FROM mkmed.drug_name",
    "atc": "SELECT source, record_source, record_key, code FROM mkmed.drug_atc",
    "text": "SELECT source, record_source, record_key, provider, heading, content, licence_id FROM mkmed.text",
    "image": "SELECT i.source, record_source, record_key, d.identity, encode(a.content, 'hex') AS sha256"
    " FROM mkmed.image i JOIN mkmed.drug d ON d.id = i.drug_id JOIN mkmed.artifact a ON a.id = i.artifact",
    "conformer": "SELECT c.source, record_source, record_key, d.identity, molblock, method FROM mkmed.conformer c"
    " JOIN mkmed.drug d ON d.id = c.drug_id",
    "property": "SELECT p.source, record_source, record_key, d.identity, values FROM mkmed.property_set p"
    " JOIN mkmed.drug d ON d.id = p.drug_id",
    "interaction": "SELECT source, provider, a_source, a_key, b_source, b_key, severity, description, licence_id"
    " FROM mkmed.interaction",
    "indication": "SELECT source, provider, record_source, record_key, kind, disease, disease_ids, icd10, phase,"
    " evidence, reference, licence_id FROM mkmed.indication",
    "product": "SELECT p.source, p.key, p.name, p.brand, p.form, p.route, p.labeler, p.ndc, p.set_id,"
    " (SELECT jsonb_agg(jsonb_build_array(t.record_key, t.strength, t.substance) ORDER BY t.record_key)"
    " FROM mkmed.product_part t WHERE t.source = p.source AND t.product_key = p.key) AS parts FROM mkmed.product p",
    "ddd": "SELECT source, code, route, value, unit, note FROM mkmed.atc_ddd",
    "edge note": "SELECT h.name AS head, r.name AS relation, t.name AS tail, p.source, p.provider, p.licence_id,"
    " n.score, n.evidence, n.reference, n.properties FROM mkmed.kg_note n JOIN mkmed.kg_entity h ON h.id = n.head"
    " JOIN mkmed.kg_relation r ON r.id = n.relation JOIN mkmed.kg_entity t ON t.id = n.tail"
    " JOIN mkmed.kg_provenance p ON p.id = n.provenance",
}
"""What a release is a hash of, by kind; and triples."""

_TRIPLES = """
WITH entity AS MATERIALIZED (
    SELECT id, hashtextextended(name, 0) AS low, hashtextextended(name, 1) AS high FROM mkmed.kg_entity
), statement AS MATERIALIZED (
    SELECT p.id, hashtextextended(s.said, 0) AS low, hashtextextended(s.said, 1) AS high
    FROM mkmed.kg_provenance p JOIN mkmed.kg_relation r ON r.id = p.relation
    CROSS JOIN LATERAL (SELECT jsonb_build_array(r.name, p.source, p.provider, p.licence_id)::text AS said) s
)
SELECT count(*), coalesce(sum(hashint8extended(h.low, hashint8extended(t.low, s.low))), 0),
       coalesce(sum(hashint8extended(h.high, hashint8extended(t.high, s.high))), 0)
FROM mkmed.kg_triple k JOIN entity h ON h.id = k.head JOIN entity t ON t.id = k.tail
JOIN statement s ON s.id = k.provenance
"""
"""The same of the names that a triple is of: each name is hashed once, however many triples it is in."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was frozen: the release id, when, and how many facts of each kind there were."""

    name: str
    release: str
    at: Any
    counts: dict[str, int]


def release_of(connection: Connection) -> tuple[str, dict[str, int]]:
    """The release id of what is known now, and the number of facts by kind.

    The facts' hashes are added up per kind, so that neither their order nor their number needs memory.
    """
    counts, parts = {}, []
    summed = {
        kind: "SELECT count(*), coalesce(sum(hashtextextended(f, 0)), 0),"  # noqa: S608
        f" coalesce(sum(hashtextextended(f, 1)), 0) FROM (SELECT to_jsonb(t)::text AS f FROM ({sql}) t) s"
        for kind, sql in _FACTS.items()
    }
    for kind, query in {**summed, "triple": _TRIPLES}.items():
        count, low, high = connection.execute(text(query)).one()
        counts[kind] = int(count)
        parts.append([kind, int(count), str(low), str(high)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32], counts


def take_snapshot(connection: Connection, name: str) -> Snapshot:
    """Freeze what is known now as ``name``; a name that is taken is a UsageError, unless nothing has changed."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a snapshot", hint="letters, digits, '.', '_' and '-', up to 64")
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    release, counts = release_of(connection)
    known = connection.execute(select(snapshot).where(snapshot.c.name == name)).first()
    if known is not None and known.release != release:
        raise UsageError(f"snapshot {name} is there already, of release {known.release}", hint="choose another name")
    if known is None:
        at = connection.scalar(select(func.clock_timestamp()))
        connection.execute(insert(snapshot).values(name=name, release=release, at=at, counts=counts))
    return read_snapshot(connection, name)


def read_snapshot(connection: Connection, name: str) -> Snapshot:
    """The snapshot of this name; raises NotFound."""
    row = connection.execute(select(snapshot).where(snapshot.c.name == name)).first()
    if row is None:
        known = ", ".join(connection.scalars(select(snapshot.c.name).order_by(snapshot.c.at)))
        raise NotFound(f"no snapshot {name!r}", hint=f"known: {known}" if known else f"mkmed kb snapshot {name}")
    return Snapshot(row.name, row.release, row.at, row.counts)


def cite(connection: Connection) -> dict[str, str | None] | None:
    """The ``release`` that is known now, and the name of a ``snapshot`` of it, for what is made from it to cite.

    None for a role that may not read all of it.
    """
    if not connection.scalar(text("SELECT has_table_privilege('mkmed.drug_record', 'SELECT')")):
        return None
    release, _ = release_of(connection)
    named = select(snapshot.c.name).where(snapshot.c.release == release).order_by(snapshot.c.at.desc()).limit(1)
    return {"release": release, "snapshot": connection.scalar(named)}


def list_snapshots(connection: Connection) -> list[dict[str, Any]]:
    """Every snapshot, oldest first."""
    return [dict(row) for row in connection.execute(select(snapshot).order_by(snapshot.c.at)).mappings()]


CITING = ("cohorts/*/cohort.json", "runs/*/*/run.json")
"""Where below a home lies what cites a release: documents with ``knowledge``, at their top or in ``provenance``."""
_CITING_RUNS = """
SELECT 'embedding run ' || left(run_id::text, 8) FROM mkmed.embedding_run
WHERE metrics #>> '{knowledge,release}' = :release ORDER BY created_at
"""


def cited_by(connection: Connection, release: str, home: Path) -> list[str]:
    """What cites a release: embedding runs in the database, and cohorts and runs below the home."""
    found = list(connection.scalars(text(_CITING_RUNS), {"release": release}))
    for pattern in CITING:
        for path in sorted(home.glob(pattern)):
            try:
                said = json.loads(path.read_text())
                knowledge = said.get("knowledge") or said.get("provenance", {}).get("knowledge") or {}
                cited = knowledge.get("release")
            except (OSError, ValueError, AttributeError):  # what cannot be read cannot be shown to cite nothing
                cited = release
            if cited == release:
                found.append(str(path.parent.relative_to(home)))
    return found


def remove_snapshot(connection: Connection, name: str, home: Path) -> Snapshot:
    """The snapshot that was removed; raises NotFound, or UsageError for one whose release something cites.

    The facts and their history stay, whatever is removed.
    """
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    found = read_snapshot(connection, name)
    citing = cited_by(connection, found.release, home)
    if citing:
        more = f" and {len(citing) - 3} more" if len(citing) > 3 else ""
        raise UsageError(f"snapshot {name} is kept: {', '.join(citing[:3])}{more} cite its release {found.release}",
                         hint="what was made from it could not be compared with today's facts any more")
    connection.execute(snapshot.delete().where(snapshot.c.name == name))
    return found


_CHANGES = """
WITH before AS (
    SELECT kind, source, record, drug_id, fact FROM mkmed.history
    WHERE kind <> 'drug' AND since <= :a AND until > :a
), after AS (
    SELECT kind, source, record, drug_id, fact FROM mkmed.history
    WHERE kind <> 'drug' AND since > :a AND since <= :b AND (until IS NULL OR until > :b)
), gone AS (
    SELECT * FROM before WHERE NOT EXISTS (
        SELECT FROM after x WHERE (x.kind, x.source, x.fact) = (before.kind, before.source, before.fact))
    AND EXISTS (SELECT FROM mkmed.history h WHERE h.kind = before.kind
                AND coalesce(h.drug_id, 0) = coalesce(before.drug_id, 0) AND h.source = before.source
                AND h.fact = before.fact AND h.until > :a AND h.until <= :b)
), come AS (
    SELECT * FROM after WHERE NOT EXISTS (
        SELECT FROM before x WHERE (x.kind, x.source, x.fact) = (after.kind, after.source, after.fact))
)
SELECT '-' AS change, kind, source, record, drug_id, fact FROM gone
UNION ALL SELECT '+', kind, source, record, drug_id, fact FROM come
"""


def diff(connection: Connection, a: str, b: str) -> list[dict[str, Any]]:
    """What came (``+``) and went (``-``) between two snapshots: a row a kind and source, with examples."""
    first, second = read_snapshot(connection, a), read_snapshot(connection, b)
    if first.at > second.at:
        return [row | {"change": "-" if row["change"] == "+" else "+"} for row in diff(connection, b, a)]
    rows = connection.execute(
        text(f"""
            SELECT change, kind, source, count(*) AS facts,
                   (array_agg(fact::text ORDER BY record, fact::text))[1:3] AS examples
            FROM ({_CHANGES}) changes GROUP BY change, kind, source ORDER BY kind, source, change"""),  # noqa: S608
        {"a": first.at, "b": second.at},
    )
    return [dict(row) for row in rows.mappings()]
