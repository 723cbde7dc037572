"""Takes a logged merge back: the record is pinned to the identity that it had before."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection, func, literal_column, select, update

from kb.errors import NotFound
from kb.identity.apply import IDENTITY_LOCK, apply_identities, claims_for
from kb.identity.resolve import Claim, resolve
from kb.schema.identity import drug_merge, drug_record

COLUMNS = tuple(drug_merge.c.keys())
"""What is told of a merge."""


def list_merges(connection: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """The logged moves of records between drugs, newest first."""
    query = select(drug_merge).order_by(drug_merge.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def undo_merge(connection: Connection, merge_id: int, run_id: uuid.UUID) -> str:
    """The identity that the record of a logged merge went back to; it is pinned there from now on."""
    row = (
        connection.execute(select(drug_merge).where(drug_merge.c.id == merge_id, drug_merge.c.undone_at.is_(None)))
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"no merge {merge_id} to undo", hint="mkmed kb merges lists them")
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    here = (drug_record.c.source == row["source"], drug_record.c.key == row["key"])
    connection.execute(update(drug_record).where(*here).values(pinned=row["from_identity"]))
    claims = _closure_of_key(connection, row["source"], row["key"])
    identities, _ = resolve(claims)
    apply_identities(connection, run_id, claims, identities)
    connection.execute(update(drug_merge).where(drug_merge.c.id == merge_id).values(undone_at=literal_column("now()")))
    return str(row["from_identity"])


def _closure_of_key(connection: Connection, source: str, key: str) -> list[Claim]:
    claims = {(c.source, c.key): c for c in claims_for(connection, [f"key:{source}\t{key}"])}
    start = next(iter(claims.values()))
    for claim in claims_for(connection, [*start.strong, *([f"inchikey:{start.inchikey}"] if start.inchikey else [])]):
        claims[claim.source, claim.key] = claim
    return list(claims.values())
