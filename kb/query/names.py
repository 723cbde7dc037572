"""Which drug a name means: the exact rules, and what to ask instead where there is none or are several.

It imports neither numpy nor the schema's tables, so that a command that looks up one name answers at once.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from sqlalchemy import Connection, text

from kb.errors import Ambiguous, NotFound
from kb.names.tables import generic_of
from kb.names.words import canonical_name
from kb.normalise import NAMESPACES, Identifier, near_namespace, tidy


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
    generic = generic_of(wanted)
    if len(generic) == 1 and canonical_name(generic[0]) != canonical_name(wanted):
        return find_drug(connection, generic[0])
    if len(generic) > 1:
        raise NotFound(f"{wanted!r} is no single drug but {' with '.join(generic)}", hint="ask for one of them")
    prefix = wanted.lower()[:3]
    near = connection.scalars(
        text("SELECT DISTINCT name_key FROM mkmed.names WHERE starts_with(name_key, :prefix) LIMIT 5000"),
        {"prefix": prefix},
    ).all()
    close = difflib.get_close_matches(wanted.lower(), near, n=3, cutoff=0.6)
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
