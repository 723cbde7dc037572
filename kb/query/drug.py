"""One drug: which one a name means, what to ask where it is none or several, and everything that is known of it.

SQL alone, without NumPy and the schema's tables: what a person asks at the prompt must not wait for their import.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection, text

from kb.errors import Ambiguous, NotFound
from kb.normalise import NAMESPACES, Identifier, near_namespace, tidy

SPELLING = 0.8
"""How alike (difflib's ratio) a name must be to what was typed to count as its right spelling."""
_HEADING = re.compile(r"^-- (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drug that a text may mean: what of it matched, and how; the best match has the lowest ``rank``.

    ``is_parent`` says that the others of its rank are its salts, hydrates, mixtures or labelled forms.
    """

    drug_id: int
    name: str
    matched: str
    how: str
    rank: int
    is_parent: bool


def find_drugs(connection: Connection, wanted: str) -> list[Candidate]:
    """Every drug with this name, synonym, InChIKey, CAS number or ``namespace:value``, the best match first."""
    rows = connection.execute(text("SELECT * FROM mkmed.find_drugs(:wanted)"), {"wanted": tidy(wanted)})
    return [Candidate(*row) for row in rows]


def find_drug(connection: Connection, wanted: str) -> int:
    """The id of the drug with this name, synonym, InChIKey or ``namespace:value``; of several the parent substance.

    A brand that the knowledge base lacks is looked up as its generic name (``kb.names.tables``).
    Raises NotFound with near names, and Ambiguous with the candidates where several drugs match equally well.
    """
    wanted = wanted.strip()
    found = find_drugs(connection, wanted)
    best = [candidate for candidate in found if candidate.rank == found[0].rank]
    parents = [candidate for candidate in best if candidate.is_parent]
    if len(best) == 1 or len(parents) == 1:
        return (parents or best)[0].drug_id
    if best:
        rows = [
            {"drug_id": c.drug_id, "name": c.name, "matched": c.matched, "how": c.how} for c in found
        ]
        listed = "; ".join(f"{c.name} (drug {c.drug_id}, by {c.how} {c.matched})" for c in best[:10])
        raise Ambiguous(
            f"{len(best)} drugs are meant by {wanted!r}: {listed}", rows,
            hint="name one by its InChIKey or namespace:value; mkmed kb search TEXT shows more",
        )
    namespace, colon, _ = wanted.partition(":")
    if colon and namespace.lower() in NAMESPACES and namespace.lower() != "user":
        Identifier.parse(wanted)
    ion = _ion(connection, wanted.lower())
    if ion is not None:
        return ion
    from kb.names.tables import generic_of
    from kb.names.words import canonical_name

    generic = generic_of(wanted)
    if len(generic) == 1 and canonical_name(generic[0]) != canonical_name(wanted):
        return find_drug(connection, generic[0])
    if len(generic) > 1:
        raise NotFound(f"{wanted!r} is no single drug but {' with '.join(generic)}", hint="ask for one of them")
    prefix = wanted.lower()[:3]
    near: dict[str, set[int]] = {}
    for key, drug_id in connection.execute(
        text("SELECT name_key, drug_id FROM mkmed.names WHERE starts_with(name_key, :prefix) LIMIT 5000"),
        {"prefix": prefix},
    ):
        near.setdefault(key, set()).add(drug_id)
    close = difflib.get_close_matches(wanted.lower(), sorted(near), n=3, cutoff=SPELLING)
    close = [name for name in close if near[name] & near[close[0]]]  # another drug's name is no spelling of this one
    begun = sorted(name for name in near if name.startswith(f"{wanted.lower()} "))[:3]
    close = list(dict.fromkeys([*begun, *close]))
    meant = f"did you mean {' or '.join(close)}?" if close else "mkmed kb search TEXT finds names that contain a text"
    if colon and " " not in namespace and namespace.lower() not in NAMESPACES and not close:
        meant = near_namespace(namespace)
    raise NotFound(f"no drug {wanted!r} in the knowledge base", hint=meant)


def _ion(connection: Connection, element: str) -> int | None:
    """The one drug that is the ion of this name, as in "lithium" for "lithium cation"; None when there is none."""
    forms = [f"{element} ion", f"{element} cation", f"{element}, ion", f"{element} anion"]
    query = text("SELECT DISTINCT drug_id FROM mkmed.names WHERE name_key = ANY(:forms)")
    found = connection.scalars(query, {"forms": forms}).all()
    return int(found[0]) if len(found) == 1 else None


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
    sections = {name: [dict(row) for row in connection.execute(text(sql), {"id": drug_id}).mappings()]
                for name, sql in _sections()}
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
