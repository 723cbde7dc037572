"""One drug, and everything that is known of it, each fact with its source; and the search that finds drugs by name.

SQL alone, without arrays: what a person asks at the prompt must not wait for NumPy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection, text

from kb.query.names import find_drug

_HEADING = re.compile(r"^-- (\w+)$", re.MULTILINE)


def _sections() -> Iterator[tuple[str, str]]:
    """Name and SQL of every section of ``kb/sql/show.sql``."""
    parts = _HEADING.split((files("kb") / "sql" / "show.sql").read_text())
    yield from zip(parts[1::2], (sql.strip().rstrip(";") for sql in parts[2::2]), strict=True)


def describe(connection: Connection, wanted: str) -> tuple[dict[str, Any], Mapping[str, list[dict[str, Any]]]]:
    """The drug's own row, and its rows by section, found by name, synonym, InChIKey or ``namespace:value``."""
    drug_id = find_drug(connection, wanted)
    head = (
        connection.execute(
            text("SELECT drug_id, name, kind, identity, smiles, formula FROM mkmed.drugs WHERE drug_id = :id"),
            {"id": drug_id},
        )
        .mappings()
        .one()
    )
    sections = {
        name: [dict(row) for row in connection.execute(text(sql), {"id": drug_id}).mappings()]
        for name, sql in _sections()
    }
    return dict(head), sections


def search(connection: Connection, wanted: str, limit: int = 20) -> list[dict[str, Any]]:
    """Drugs with a name that contains the text, shortest match first, with the modalities they have."""
    rows = connection.execute(
        text("""
            SELECT d.drug_id, d.name, hit.name AS matched, d.kind, b.modalities
            FROM (SELECT drug_id, (array_agg(name ORDER BY length(name), name))[1] AS name FROM mkmed.names
                  WHERE name_key LIKE '%' || :pattern || '%' ESCAPE '\\' GROUP BY drug_id) hit
            JOIN mkmed.drugs d ON d.drug_id = hit.drug_id
            CROSS JOIN LATERAL (SELECT count(DISTINCT modality) AS modalities FROM mkmed.availability c
                                WHERE c.drug_id = d.drug_id AND c.state = 'present' AND modality <> 'identity') b
            ORDER BY length(hit.name), d.name, d.drug_id LIMIT :limit"""),
        {"pattern": _escaped(wanted.lower()), "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]


def _escaped(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
