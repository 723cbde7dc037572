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

from kb.ingest.processes import Crew, run_here
from kb.modalities import State
from kb.schema.identity import drug
from kb.schema.ledger import cell

INVARIANT_FILES: tuple[tuple[str, str], ...] = (("kb", "sql/invariants.sql"), ("embed", "sql/invariants.sql"))
INCHIKEY = "kb.chemistry:inchikey_of"
MANY = 3000
"""Structures above which several processes compute."""
_HEADING = re.compile(r"^-- (I\d+[a-z]?): (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Check:
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


def verify(connection: Connection, limit: int = 20) -> list[Check]:
    """Every invariant with the rows that break it; all ``broken`` are empty in a sound database."""
    checks = []
    for number, claim, sql in invariants():
        rows = connection.execute(text(f"SELECT * FROM ({sql}) broken LIMIT :limit"), {"limit": limit}).mappings()  # noqa: S608
        checks.append(Check(number, claim, tuple(dict(row) for row in rows)))
    checks.append(_sums(connection))
    checks.append(_structures(connection, limit))
    return checks


def _structures(connection: Connection, limit: int) -> Check:
    """I8e: the InChIKey of every drug is the one of its SMILES, computed again."""
    rows = connection.execute(
        select(drug.c.id, drug.c.name, drug.c.smiles, drug.c.inchikey).where(drug.c.smiles.is_not(None))
    ).all()
    smiles = [row.smiles for row in rows]
    if len(rows) < MANY:
        found = dict(run_here(INCHIKEY, smiles))
    else:
        with Crew(INCHIKEY, max(2, (os.cpu_count() or 2) // 2)) as crew:
            found = dict(crew.map(smiles, 200))
    wrong = [
        {"drug_id": row.id, "name": row.name, "inchikey": row.inchikey, "computed": str(found[number])}
        for number, row in enumerate(rows)
        if found[number] != row.inchikey
    ]
    return Check("I8e", "a drug's SMILES and InChIKey are of one structure", tuple(wrong[:limit]))


def _sums(connection: Connection) -> Check:
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
    return Check("I7b", "cells = present + absent + failed + rejected + withheld + unknown", tuple(wrong))
