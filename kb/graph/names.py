"""What the ids inside entity names are: their form, the identifiers they stand for, and the aliases of lists.

DRKG writes ``Compound::DB00945``, ``Compound::CHEMBL25``, ``Compound::pubchem:2244``, ``Compound::MESH:D001241``; some
ids list several values with ``;`` or ``|`` (``Gene::5595;5594``). The raw name stays the entity's name, and the single
values become aliases, so no triple is multiplied.
"""

from __future__ import annotations

import re

from kb.errors import DataError
from kb.graph.encode import entity_type
from kb.normalise import Identifier

DRUG_TYPES: tuple[str, ...] = ("Compound", "Drug")
"""Entity types whose ids are identifiers of drugs."""

_SEVERAL = re.compile(r"[;|]")
_BARE = {"DB": "drugbank", "CHEMBL": "chembl"}
_PREFIXED = {
    "pubchem": "pubchem.compound",
    "pubchem.compound": "pubchem.compound",
    "cid": "pubchem.compound",
    "chebi": "chebi",
    "drugcentral": "drugcentral",
    "pharmgkb": "pharmgkb",
    "fdasrs": "unii",
    "unii": "unii",
    "drugbank": "drugbank",
    "db": "drugbank",
    "chembl": "chembl",
    "chembl.compound": "chembl",
    "cas": "cas",
    "mesh": "mesh",
    "inchikey": "inchikey",
    "hmdb": "hmdb",
    "zinc": "zinc",
    "molport": "molport",
    "rxcui": "rxcui",
    "bindingdb": "bindingdb",
}
"""Prefixes in entity ids, lower-cased, and their namespace. That ``pubchem:`` means CIDs and not SIDs is not written
anywhere in DRKG; its values are in the range of CIDs of 2020."""


def values(name: str) -> list[str]:
    """The single ids that an entity's name lists, usually one."""
    local = name[len(entity_type(name)) + 2 :]
    return [part.strip() for part in _SEVERAL.split(local) if part.strip()]


def identifier_of(value: str) -> Identifier | None:
    """The drug identifier that one id is, or None when its namespace is not one that drugs are identified by."""
    prefix, colon, rest = value.partition(":")
    namespace = _PREFIXED.get(prefix.lower()) if colon else None
    if namespace is None and not colon:
        bare = re.match(r"[A-Za-z]+", value)
        namespace = _BARE.get(bare.group().upper()) if bare else None
        rest = value
    if namespace is None:
        return None
    try:
        return Identifier.make(namespace, rest)
    except DataError:
        return None


def form_of(name: str) -> str:
    """The form of an entity's id, for counting: ``DrugBank``, ``MESH``, ``brenda``, …, or ``list of MESH``."""
    found = values(name)
    first = found[0] if found else ""
    prefix, colon, _ = first.partition(":")
    bare = re.match(r"[A-Za-z]*", first)
    form = prefix if colon else (bare.group() if bare else "")
    form = {"DB": "DrugBank", "CHEMBL": "ChEMBL", "CHEBI": "ChEBI", "chebi": "ChEBI"}.get(form, form) or "number"
    return f"list of {form}" if len(found) > 1 else form


def aliases_of(name: str) -> list[str]:
    """Other ways to name the entity: each value of a list as ``type::value``, each drug identifier as
    ``namespace:value``."""
    kind = entity_type(name)
    if kind not in DRUG_TYPES and not _SEVERAL.search(name):
        return []
    found = values(name)
    aliases = {f"{kind}::{value}" for value in found} if len(found) > 1 else set()
    if kind in DRUG_TYPES:
        aliases |= {str(identifier) for value in found if (identifier := identifier_of(value)) is not None}
    aliases.discard(name)
    return sorted(aliases)
