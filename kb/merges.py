"""Moves a drug's rows when its records turn out to be another drug's, and takes a logged merge back."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select, text

from kb.schema import METADATA
from kb.schema.identity import drug, drug_record

# Tables with a drug's rows per source: what moves when the last record of a drug moves.
_OWNED = (
    "drug_name",
    "identifier",
    "cell",
    "image",
    "text",
    "conformer",
    "property_set",
    "drug_entity",
    "drug_atc",
    "lookup",
)


def carry_rows(connection: Connection, source: str, old: int, new: int) -> None:
    """Move the rows of ``source`` from one drug to another; when the old drug has no record left, all its rows."""
    left = connection.scalar(select(func.count()).select_from(drug_record).where(drug_record.c.drug_id == old))
    same = connection.scalar(
        select(func.count())
        .select_from(drug_record)
        .where(drug_record.c.drug_id == old, drug_record.c.source == source)
    )
    if left and same:
        return
    for table in _OWNED:
        only = "" if not left or table == "drug_entity" else " AND source = :source"
        if left and table == "drug_entity":
            continue
        values = {"old": old, "new": new, "source": source} if only else {"old": old, "new": new}
        keys = _primary_key_without_drug(table)
        clash = f"AND NOT EXISTS (SELECT 1 FROM mkmed.{table} o WHERE o.drug_id = :new{keys})" if keys else ""
        connection.execute(
            text(f"UPDATE mkmed.{table} t SET drug_id = :new WHERE drug_id = :old{only} {clash}"), values
        )
    if not left:
        _carry_interactions(connection, old, new)
        connection.execute(delete(drug).where(drug.c.id == old))


def _primary_key_without_drug(table: str) -> str:
    """SQL that compares the unique columns beside ``drug_id`` of two rows ``o`` and ``t``."""
    if table == "lookup":
        return ""
    described = METADATA.tables[f"mkmed.{table}"]
    names = [c.name for c in described.primary_key.columns if c.name != "drug_id"]
    if table == "text":
        names = ["source", "provider", "content_sha256"]
    return "".join(f" AND o.{name} = t.{name}" for name in names)


def _carry_interactions(connection: Connection, old: int, new: int) -> None:
    connection.execute(
        text("""
        INSERT INTO mkmed.interaction (drug_a, drug_b, source, provider, severity, description, licence_id, artifact)
        SELECT least(a, b), greatest(a, b), source, provider, severity, description, licence_id, artifact FROM (
            SELECT CASE drug_a WHEN :old THEN :new ELSE drug_a END AS a,
                   CASE drug_b WHEN :old THEN :new ELSE drug_b END AS b, i.*
            FROM mkmed.interaction i WHERE :old IN (drug_a, drug_b)) moved
        WHERE a <> b ON CONFLICT DO NOTHING"""),
        {"old": old, "new": new},
    )
    connection.execute(text("DELETE FROM mkmed.interaction WHERE :old IN (drug_a, drug_b)"), {"old": old})
