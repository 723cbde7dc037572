"""Moves a drug's rows when its records turn out to be another drug's, and takes a logged merge back."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, func, select, text, update

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
    """Move the rows of ``source`` from one drug to another; when the old drug has no record left, all its rows.

    A row whose place at the new drug is taken stays behind, and goes with the old drug when that is deleted.
    """
    records = select(func.count()).select_from(drug_record).where(drug_record.c.drug_id == old)
    left = connection.scalar(records)
    if left and connection.scalar(records.where(drug_record.c.source == source)):
        return
    for name in _OWNED:
        table = METADATA.tables[f"mkmed.{name}"]
        if left and "source" not in table.c:
            continue
        statement = update(table).where(table.c.drug_id == old).values(drug_id=new)
        if left:
            statement = statement.where(table.c.source == source)
        connection.execute(statement.where(~_place_taken(table, new)))
    if not left:
        _carry_interactions(connection, old, new)
        connection.execute(delete(drug).where(drug.c.id == old))


def _place_taken(table: Table, new: int) -> ColumnElement[bool]:
    """Whether the new drug has a row with the same unique columns already."""
    unique = (
        ["source", "provider", "content_sha256"]
        if table.name == "text"
        else [c.name for c in table.primary_key.columns if c.name != "drug_id"]
    )
    other = table.alias()
    same = [other.c[name] == table.c[name] for name in unique]
    return exists().where(other.c.drug_id == new, *same)


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
