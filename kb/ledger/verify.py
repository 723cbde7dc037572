"""Runs the invariants of ``kb/sql/invariants.sql`` and returns the rows that break one.

Other rooms have their own file, named in ``INVARIANT_FILES`` (``embed`` has I5), so that one command checks all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection, func, select, text

from kb.compute.places import open_pool
from kb.compute.pool import PoolTask, run_here
from kb.errors import DatabaseError
from kb.modalities import State
from kb.schema import METADATA
from kb.schema.identity import drug
from kb.schema.ledger import cell

INVARIANT_FILES: tuple[tuple[str, str], ...] = (("kb", "sql/invariants.sql"), ("embed", "sql/invariants.sql"))
INCHIKEY = "kb.chemistry:inchikey_of"
MANY = 3000
"""Structures above which several processes compute."""
_HEADING = re.compile(r"^-- (I\d+[a-z]?): (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Invariant:
    """One invariant: its number, what must hold, and the rows that break it (at most ``limit``)."""

    number: str
    claim: str
    broken: tuple[dict[str, Any], ...]


def invariants() -> Iterator[tuple[str, str, str]]:
    """Number, sentence and SQL of every invariant."""
    for package, name in INVARIANT_FILES:
        path = files(package) / name
        if not path.is_file():
            continue
        parts = _HEADING.split(path.read_text())
        for number, claim, sql in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            yield number, claim, sql.strip().rstrip(";")


def verify(connection: Connection, limit: int = 20) -> list[Invariant]:
    """Every invariant with the rows that break it; all ``broken`` are empty in a sound database.

    Raises DatabaseError for a role that does not see every row: what it does not see would look broken.
    """
    _require_sight(connection)
    checks = []
    for number, claim, sql in invariants():
        rows = connection.execute(text(f"SELECT * FROM ({sql}) broken LIMIT :limit"), {"limit": limit}).mappings()  # noqa: S608
        checks.append(Invariant(number, claim, tuple(dict(row) for row in rows)))
    checks.append(_sums(connection))
    checks.append(_structures(connection, limit))
    return checks


_HIDDEN = """
SELECT c.relname FROM pg_class c
WHERE c.oid = ANY(CAST(:tables AS regclass[])) AND (NOT has_table_privilege(c.oid, 'SELECT')
    OR row_security_active(c.oid) AND NOT EXISTS (
        SELECT FROM pg_roles r WHERE r.rolname = 'mkmed_ingest' AND pg_has_role(current_user, r.oid, 'member')))
ORDER BY 1 LIMIT 1
"""


def _require_sight(connection: Connection) -> None:
    """Return when the session's role may read every row of every table."""
    tables = [table.fullname for table in METADATA.sorted_tables]
    hidden = connection.scalar(text(_HIDDEN), {"tables": tables})
    if hidden is not None:
        role = connection.scalar(text("SELECT current_user"))
        raise DatabaseError(f"role {role} does not see every row (of {hidden}), so nothing can be verified as it",
                            hint="run kb verify as the owner of the database or a member of mkmed_ingest")


def _structures(connection: Connection, limit: int) -> Invariant:
    """I8e: the InChIKey of every drug is the one of its SMILES, computed again."""
    rows = connection.execute(
        select(drug.c.id, drug.c.name, drug.c.smiles, drug.c.inchikey).where(drug.c.smiles.is_not(None))
    ).all()
    smiles = [row.smiles for row in rows]
    if len(rows) < MANY:
        found = dict(run_here(PoolTask(INCHIKEY), smiles))
    else:
        with open_pool("local", PoolTask(INCHIKEY), max(2, (os.cpu_count() or 2) // 2)) as pool:
            found = dict(pool.map(smiles, 200))
    wrong = [
        {"drug_id": row.id, "name": row.name, "inchikey": row.inchikey, "computed": str(found[number])}
        for number, row in enumerate(rows)
        if found[number] != row.inchikey
    ]
    return Invariant("I8e", "a drug's SMILES and InChIKey are of one structure", tuple(wrong[:limit]))


def _sums(connection: Connection) -> Invariant:
    """I7b: the cells of every source and modality add up over the six states."""
    query = select(
        cell.c.source,
        cell.c.modality,
        func.count().label("cells"),
        *(func.count().filter(cell.c.state == s).label(s.value) for s in State),
    ).group_by(cell.c.source, cell.c.modality)
    wrong = [
        dict(row) for row in connection.execute(query).mappings() if row["cells"] != sum(row[s.value] for s in State)
    ]
    return Invariant("I7b", "cells = present + absent + failed + rejected + withheld + unknown", tuple(wrong))
