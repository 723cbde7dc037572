"""Takes a logged merge back: the records that moved are pinned to the identity that they had before."""

from __future__ import annotations

import json
import uuid
from typing import Any

from sqlalchemy import Connection, func, literal_column, select, text, update

from kb.errors import DataError, NotFound
from kb.graph.link import relink
from kb.identity.claims import IDENTITY_LOCK, closure, resolve, settle, stored_records
from kb.schema import METADATA
from kb.schema.identity import drug, drug_conflict, drug_merge, drug_record

COLUMNS = tuple(c.name for c in drug_merge.c if c.name != "kept")
"""What is told of a merge."""
CONFLICT_COLUMNS = tuple(c.name for c in drug_conflict.c)
"""What is told of a conflict."""


def list_merges(connection: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """The logged moves of records between drugs, newest first."""
    query = select(*(drug_merge.c[name] for name in COLUMNS)).order_by(drug_merge.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def list_conflicts(connection: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """The identifiers that drugs of different structure claim, and what release 0.1.0 merged wrongly."""
    query = select(drug_conflict).order_by(drug_conflict.c.at.desc(), drug_conflict.c.source, drug_conflict.c.key)
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def undo_merge(connection: Connection, merge_id: int, run_id: uuid.UUID) -> str:
    """The identity that the records of a logged merge went back to; they are pinned there from now on.

    All records that went the same way in the same transaction go back together, and the drug is what it was: its id,
    its names, identifiers, payloads and cells. Raises NotFound, or DataError for a record that has got a structure.
    """
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    chosen = connection.execute(
        select(drug_merge).where(drug_merge.c.id == merge_id, drug_merge.c.undone_at.is_(None))
    ).first()
    if chosen is None:
        raise NotFound(f"no merge {merge_id} to undo", hint="mkmed kb merges lists them")
    same = (
        (drug_merge.c.from_identity == chosen.from_identity)
        & (drug_merge.c.to_identity == chosen.to_identity)
        & (drug_merge.c.at == chosen.at)
        & drug_merge.c.undone_at.is_(None)
    )
    rows = connection.execute(select(drug_merge).where(same)).all()
    keys = [(row.source, row.key) for row in rows]
    records = stored_records(connection, keys)
    for source, key in keys:
        if (source, key) not in records:
            raise NotFound(f"record {key} of {source} is not there any more", hint="mkmed kb merges lists the others")
        if records[source, key].claim.inchikey:
            raise DataError(
                f"record {key} of {source} has a structure now, which says what it is",
                hint="mkmed kb show tells who says so; take that back where it is wrong",
            )
        here = (drug_record.c.source == source, drug_record.c.key == key)
        connection.execute(update(drug_record).where(*here).values(pinned=chosen.from_identity))
    kept = next((row.kept for row in rows if row.kept), None)
    remade = kept is not None and _remake(connection, kept, chosen.from_identity)
    claims = closure(connection, [record.claim for record in stored_records(connection, keys).values()])
    identities, _ = resolve(claims.values())
    settle(connection, run_id, claims, identities, {}, logged=False)
    if remade and kept is not None:
        _restore(connection, kept)
    connection.execute(update(drug_merge).where(same).values(undone_at=literal_column("now()")))
    relink(connection, run_id)
    return str(chosen.from_identity)


def _remake(connection: Connection, kept: dict[str, Any], identity: str) -> bool:
    """Whether the drug was made again with the id that it had; one of that identity may have been made since."""
    known = connection.scalar(select(drug.c.id).where(drug.c.identity == identity))
    if known is None:
        _insert(connection, "drug", kept["drug"])
    return known is None


def _restore(connection: Connection, kept: dict[str, Any]) -> None:
    """Put back what hung on the drug alone, if it has the SMILES that it had."""
    (before,) = kept["drug"]
    now = connection.scalar(select(drug.c.smiles).where(drug.c.id == before["id"]))
    if now == before["smiles"]:
        for table in ("image", "conformer", "property_set", "substance_relation", "cell"):
            _insert(connection, table, kept[table])


def _insert(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    columns = ", ".join(f'"{c.name}"' for c in METADATA.tables[f"mkmed.{table}"].c if c.computed is None)
    connection.execute(
        text(
            f"INSERT INTO mkmed.{table} ({columns}) SELECT {columns}"  # noqa: S608
            f" FROM jsonb_populate_recordset(NULL::mkmed.{table}, CAST(:rows AS jsonb)) ON CONFLICT DO NOTHING"
        ),
        {"rows": json.dumps(rows)},
    )
