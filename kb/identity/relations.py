"""Substances in relation: salts, hydrates, mixtures, labelled and stereo-unspecified forms, computed from SMILES."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from kb.chemistry import MARKS, relations_of
from kb.db.bulk import insert_many
from kb.errors import DataError
from kb.schema.identity import drug, substance_relation

AT_ONCE = 2000
"""Drugs that an ingest relates at its end; what is beyond is left to the source ``rdkit``."""
LONGEST = 400
"""Letters of a SMILES that is related at once, in this process; a longer one takes a process that can be stopped."""


def due_relations(
    connection: Connection, limit: int | None = None, *, of_parts: bool = False
) -> list[tuple[int, str]]:
    """The drugs whose relations were never computed, or from another SMILES: pairs of id and SMILES.

    ``of_parts`` wants those alone whose SMILES has several components: salts, hydrates, mixtures.
    """
    current = func.sha256(func.convert_to(drug.c.smiles, "UTF8"))
    query = (
        select(drug.c.id, drug.c.smiles)
        .where(drug.c.smiles.is_not(None), drug.c.related_from.is_distinct_from(current))
        .order_by(drug.c.id)
        .limit(limit)
    )
    if of_parts:
        query = query.where(drug.c.smiles.contains(".", autoescape=True))
    return [(row.id, row.smiles) for row in connection.execute(query)]


def write_substance_relations(
    connection: Connection, found: Iterable[tuple[int, str, Sequence[tuple[str, str]]]]
) -> int:
    """How many relations were written of (drug id, SMILES, relations); those of a SMILES of the past are left out."""
    rows = {drug_id: (smiles, relations) for drug_id, smiles, relations in found}
    query = select(drug.c.id, drug.c.smiles).where(drug.c.id.in_(sorted(rows))).with_for_update()
    current = {row.id for row in connection.execute(query) if row.smiles == rows[row.id][0]} if rows else set()
    if not current:
        return 0
    connection.execute(delete(substance_relation).where(substance_relation.c.drug_id.in_(sorted(current))))
    written = [
        {"drug_id": n, "relation": relation, "inchikey": other, "input": hashlib.sha256(rows[n][0].encode()).digest()}
        for n in sorted(current)
        for relation, other in rows[n][1]
    ]
    insert_many(connection, insert(substance_relation), written)
    connection.execute(
        text("UPDATE mkmed.drug SET related_from = sha256(convert_to(smiles, 'UTF8')) WHERE id = ANY(:ids)"),
        {"ids": sorted(current)},
    )
    return len(written)


def relate(connection: Connection) -> int:
    """How many relations were found for the drugs that are due, up to ``AT_ONCE``, in this process."""
    due = due_relations(connection, AT_ONCE + 1)
    if len(due) > AT_ONCE:
        # Salts, which orders are made of, and those with nothing to compute; the others are left due.
        due = [pair for pair in due if not MARKS.search(pair[1])] + due_relations(connection, AT_ONCE, of_parts=True)
    found = []
    for drug_id, smiles in due:
        if len(smiles) <= LONGEST:
            try:
                found.append((drug_id, smiles, relations_of(smiles)))
            except (DataError, RuntimeError, ValueError):  # what RDKit refuses has no relations
                found.append((drug_id, smiles, []))
    return write_substance_relations(connection, found)
