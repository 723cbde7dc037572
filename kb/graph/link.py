"""Finds each drug's entity in the knowledge graph, and keeps the ledger's ``graph`` cells in step with what was found.

The links are a pure function of the identifiers, the structures and the graph, and are computed as a whole, so that it
makes no difference whether a drug or the graph came first. In order of strength: a shared identifier; an id that lists
several; the same InChIKey; only for drugs that none of these links, the same name, which is flagged weak where several
drugs or entities have it; and, only for drugs that nothing else links, the same skeleton (first 14 characters of the
InChIKey), which is always weak.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text

from kb.graph.names import DRUG_TYPES, form_of
from kb.identity.claims import IDENTITY_LOCK
from kb.ledger.entries import CellWrite, write_cells
from kb.modalities import Modality, State

WEAK_EVIDENCE = "rule:linked-by-"
"""How the evidence of a weak link begins; the method follows."""

_WANTED = """
CREATE TEMP TABLE wanted_link ON COMMIT DROP AS
WITH known AS MATERIALIZED (
    SELECT a.entity_id, a.alias, e.name ~ '[;|]' AS several
    FROM mkmed.kg_alias a JOIN mkmed.kg_entity e ON e.id = a.entity_id WHERE a.alias NOT LIKE '%::%'
), by_identifier AS (
    SELECT i.drug_id, k.entity_id, bool_and(k.several) AS several, min(k.alias) AS via
    FROM mkmed.identifier i JOIN known k ON k.alias = i.namespace || ':' || i.value GROUP BY 1, 2
), structure AS (
    SELECT entity_id, substr(alias, 10) AS inchikey FROM known WHERE alias LIKE 'inchikey:%'
    UNION SELECT l.entity_id, d.inchikey FROM by_identifier l JOIN mkmed.drug d ON d.id = l.drug_id
    WHERE d.inchikey IS NOT NULL
    UNION SELECT k.entity_id, r.inchikey FROM mkmed.drug_record r
    CROSS JOIN LATERAL jsonb_array_elements_text(r.identifiers) claim JOIN known k ON k.alias = claim
    WHERE r.pinned IS NOT NULL AND r.inchikey IS NOT NULL
), by_structure AS (
    SELECT d.id AS drug_id, s.entity_id, s.inchikey AS via FROM structure s
    JOIN mkmed.drug d ON d.inchikey = s.inchikey
    WHERE NOT EXISTS (SELECT FROM by_identifier b WHERE b.drug_id = d.id AND b.entity_id = s.entity_id)
), strong AS (
    SELECT drug_id, entity_id, CASE WHEN several THEN 'alias' ELSE 'identifier' END AS method, via FROM by_identifier
    UNION ALL SELECT drug_id, entity_id, 'inchikey', via FROM by_structure
), called AS MATERIALIZED (
    SELECT id AS entity_id, lower(label) AS name FROM mkmed.kg_entity WHERE type = ANY(:types) AND label IS NOT NULL
    UNION SELECT id, lower(split_part(name, '::', 2)) FROM mkmed.kg_entity WHERE type = ANY(:types)
), named AS MATERIALIZED (
    SELECT DISTINCT n.drug_id, c.entity_id, c.name FROM called c JOIN mkmed.drug_name n ON n.name_key = c.name
    WHERE length(c.name) > 2
), by_name AS (
    SELECT n.drug_id, n.entity_id, min(n.name) AS via, bool_and(
        EXISTS (SELECT FROM named o WHERE o.name = n.name AND (o.drug_id, o.entity_id) <> (n.drug_id, n.entity_id))
        OR EXISTS (SELECT FROM strong b WHERE b.entity_id = n.entity_id)) AS weak
    FROM named n WHERE NOT EXISTS (SELECT FROM strong b WHERE b.drug_id = n.drug_id) GROUP BY 1, 2
)
SELECT drug_id, entity_id, method, via, false AS weak FROM strong
UNION ALL SELECT drug_id, entity_id, 'name', via, weak FROM by_name
UNION ALL
SELECT d.id, s.entity_id, 'skeleton', min(s.inchikey), true FROM structure s
JOIN mkmed.drug d ON d.inchikey_block = left(s.inchikey, 14)
WHERE NOT EXISTS (SELECT FROM strong b WHERE b.drug_id = d.id)
  AND NOT EXISTS (SELECT FROM by_name b WHERE b.drug_id = d.id) GROUP BY 1, 2
"""

_DROP_OLD = """
DELETE FROM mkmed.drug_entity l WHERE NOT EXISTS (
    SELECT FROM wanted_link w WHERE w.drug_id = l.drug_id AND w.entity_id = l.entity_id)
"""
_WRITE_NEW = """
INSERT INTO mkmed.drug_entity AS l (drug_id, entity_id, method, via, weak)
SELECT drug_id, entity_id, method, via, weak FROM wanted_link ORDER BY 1, 2
ON CONFLICT (drug_id, entity_id) DO UPDATE SET method = excluded.method, via = excluded.via, weak = excluded.weak
WHERE (l.method, l.via, l.weak) IS DISTINCT FROM (excluded.method, excluded.via, excluded.weak)
"""
_FORGET = """
UPDATE mkmed.cell c SET state = 'unknown', artifact = NULL, evidence = NULL, run_id = :run, updated_at = now()
WHERE modality = 'graph' AND state = 'present'
AND NOT EXISTS (SELECT FROM mkmed.drug_entity l WHERE l.drug_id = c.drug_id)
"""
# EXCEPT, because it hashes whatever the statistics say; an anti-join without them has compared all with all.
_DUE = """
CREATE TEMP TABLE due_link ON COMMIT DROP AS
SELECT drug_id, entity_id, l.weak, l.method, source FROM mkmed.drug_entity l JOIN (
    SELECT drug_id, s.source FROM mkmed.drug_entity CROSS JOIN (SELECT DISTINCT source FROM mkmed.kg_provenance) s
    EXCEPT SELECT drug_id, source FROM mkmed.cell WHERE modality = 'graph' AND state = 'present') d USING (drug_id)
"""
# Of a source whose relations are all of one file, any triple proves it. Of the others an entity's relations are found
# by skipping through the index from each to the next: a few steps a drug, not all its triples.
_PRESENT = """
WITH sole AS MATERIALIZED (
    SELECT source, (array_agg(artifact))[1] AS artifact FROM mkmed.kg_provenance
    GROUP BY 1 HAVING count(DISTINCT artifact) = 1
), entities AS MATERIALIZED (
    SELECT DISTINCT entity_id FROM due_link WHERE source NOT IN (SELECT source FROM sole)
), touched AS MATERIALIZED (
    SELECT e.entity_id, s.relation FROM entities e CROSS JOIN LATERAL (
        WITH RECURSIVE skip (relation) AS (
            (SELECT relation FROM mkmed.kg_triple WHERE head = e.entity_id ORDER BY relation LIMIT 1)
            UNION ALL SELECT (SELECT t.relation FROM mkmed.kg_triple t WHERE t.head = e.entity_id
                              AND t.relation > skip.relation ORDER BY t.relation LIMIT 1)
            FROM skip WHERE skip.relation IS NOT NULL)
        SELECT relation FROM skip WHERE relation IS NOT NULL) s
    UNION SELECT e.entity_id, s.relation FROM entities e CROSS JOIN LATERAL (
        WITH RECURSIVE skip (relation) AS (
            (SELECT relation FROM mkmed.kg_triple WHERE tail = e.entity_id ORDER BY relation LIMIT 1)
            UNION ALL SELECT (SELECT t.relation FROM mkmed.kg_triple t WHERE t.tail = e.entity_id
                              AND t.relation > skip.relation ORDER BY t.relation LIMIT 1)
            FROM skip WHERE skip.relation IS NOT NULL)
        SELECT relation FROM skip WHERE relation IS NOT NULL) s
), proof AS (
    -- Of a relation that several sources have, the entity's own triples say whose they are.
    SELECT t.entity_id, p.source, (array_agg(p.artifact ORDER BY p.artifact))[1] AS artifact
    FROM touched t JOIN mkmed.kg_provenance p ON p.relation = t.relation
    WHERE p.source NOT IN (SELECT source FROM sole) AND (
       NOT EXISTS (SELECT FROM mkmed.kg_provenance o WHERE o.relation = p.relation AND o.id <> p.id)
       OR EXISTS (SELECT FROM mkmed.kg_triple k
                  WHERE k.head = t.entity_id AND k.relation = p.relation AND k.provenance = p.id)
       OR EXISTS (SELECT FROM mkmed.kg_triple k
                  WHERE k.tail = t.entity_id AND k.relation = p.relation AND k.provenance = p.id))
    GROUP BY 1, 2
    UNION ALL
    SELECT d.entity_id, s.source, s.artifact FROM (SELECT DISTINCT entity_id, source FROM due_link) d
    JOIN sole s USING (source)
    WHERE coalesce(
        (SELECT true FROM mkmed.kg_triple k JOIN mkmed.kg_provenance p ON p.id = k.provenance
         WHERE k.head = d.entity_id AND p.source = d.source LIMIT 1),
        (SELECT true FROM mkmed.kg_triple k JOIN mkmed.kg_provenance p ON p.id = k.provenance
         WHERE k.tail = d.entity_id AND p.source = d.source LIMIT 1))
)
SELECT d.source, d.drug_id, bool_and(d.weak), min(d.method), (array_agg(p.artifact ORDER BY p.artifact))[1]
FROM due_link d JOIN proof p USING (entity_id, source)
GROUP BY 1, 2 ORDER BY 1, 2
"""
_ABSENT = """
SELECT i.drug_id, string_agg(DISTINCT i.namespace || ':' || i.value, ' ' ORDER BY i.namespace || ':' || i.value)
    || (SELECT ' and ' || count(DISTINCT n.name_key) || ' names' FROM mkmed.drug_name n WHERE n.drug_id = i.drug_id)
FROM mkmed.identifier i
WHERE i.namespace = ANY(:namespaces) AND NOT EXISTS (
    SELECT FROM mkmed.cell c WHERE c.drug_id = i.drug_id AND c.modality = 'graph' AND c.source = :source
    AND c.state IN ('present', 'absent'))
GROUP BY 1 ORDER BY 1
"""
_STEPS = "SELECT source, evidence FROM mkmed.lookup WHERE key LIKE 'graph:%' AND state = 'present' ORDER BY 1, 2"


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """What a relinking changed: links written and removed, and cells newly present or absent."""

    written: int
    removed: int
    present: int
    absent: int

    @property
    def changes(self) -> int:
        """Rows changed in all."""
        return self.written + self.removed + self.present + self.absent


def relink(connection: Connection, run_id: uuid.UUID) -> LinkCounts:
    """What changed after every drug was linked to the graph as it is now.

    Call it after drugs were added, or the graph, in a transaction of its own or at the end of one; it costs little
    when nothing is due, and does nothing when there is no graph.
    """
    if connection.scalar(text("SELECT NOT EXISTS (SELECT FROM mkmed.kg_relation)")):
        return LinkCounts(0, 0, 0, 0)
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    connection.execute(text("DROP TABLE IF EXISTS pg_temp.wanted_link, pg_temp.due_link"))
    connection.execute(text(_WANTED), {"types": list(DRUG_TYPES)})
    removed = connection.execute(text(_DROP_OLD)).rowcount
    written = connection.execute(text(_WRITE_NEW)).rowcount
    connection.execute(text(_FORGET), {"run": run_id})
    present = _write_present(connection, run_id)
    absent = _write_absent(connection, run_id)
    return LinkCounts(written, removed, present, absent)


def _write_present(connection: Connection, run_id: uuid.UUID) -> int:
    """The number of cells that became present, each with the artifact of a relation that touches its entity."""
    by_source: dict[str, list[CellWrite]] = {}
    if not connection.execute(text(_DUE)).rowcount:
        return 0
    connection.execute(text("ANALYZE due_link"))
    for source, drug_id, weak, method, artifact in connection.execute(text(_PRESENT)):
        evidence = f"{WEAK_EVIDENCE}{method}" if weak else None
        write = CellWrite(drug_id, Modality.graph, State.present, artifact=bytes(artifact), evidence=evidence)
        by_source.setdefault(source, []).append(write)
    return sum(write_cells(connection, run_id, source, writes) for source, writes in sorted(by_source.items()))


def _write_absent(connection: Connection, run_id: uuid.UUID) -> int:
    """The number of cells that became absent: the drug has an identifier of a kind that a complete graph uses, and no
    entity. Of graphs that are known to be parts only, nothing is said."""
    namespaces: dict[str, set[str]] = {}
    for source, evidence in connection.execute(text(_STEPS)):
        step: dict[str, Any] = json.loads(evidence)
        if step["complete"]:
            namespaces.setdefault(source, set()).update(step["namespaces"])
    count = 0
    for source, used in sorted(namespaces.items()):
        rows = connection.execute(text(_ABSENT), {"namespaces": sorted(used), "source": source}).all()
        writes = [
            CellWrite(drug_id, Modality.graph, State.absent, evidence=f"rule:not-in-graph {looked_for}"[:2000])
            for drug_id, looked_for in rows
        ]
        count += write_cells(connection, run_id, source, writes)
    return count


@dataclass(frozen=True, slots=True)
class FormCount:
    """How many drug entities have ids of one form, and how many of them are linked to a drug."""

    form: str
    entities: int
    linked: int


def count_forms(connection: Connection) -> list[FormCount]:
    """The drug entities by the form of their ids, most first: what does not link is counted, never dropped."""
    rows = connection.execute(
        text("""
            SELECT e.name, EXISTS (SELECT FROM mkmed.drug_entity l WHERE l.entity_id = e.id AND NOT l.weak)
            FROM mkmed.kg_entity e WHERE e.type = ANY(:types)"""),
        {"types": list(DRUG_TYPES)},
    ).all()
    entities = Counter(form_of(name) for name, _ in rows)
    linked = Counter(form_of(name) for name, is_linked in rows if is_linked)
    return [FormCount(form, n, linked[form]) for form, n in sorted(entities.items(), key=lambda item: (-item[1], item))]
