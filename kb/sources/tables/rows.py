"""Turns one row of the user's table into records, and says what in it cannot be taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kb.chemistry import Molecule, describe, read_molblock, standardise
from kb.errors import DataError
from kb.identity.identifiers import Identifier
from kb.ingest.records import (
    AtcRecord,
    Batch,
    ConformerRecord,
    Document,
    DrugRecord,
    Name,
    PropertyRecord,
    TextRecord,
)
from kb.licences import USER
from kb.normalise import too_long
from kb.sources.tables.read import MOLBLOCK, Problem


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number, its cells, and the molecule read from it or the reason why there is none."""

    number: int
    cells: Mapping[str, str]
    molecule: Molecule | None = None
    failed: str | None = None


def read_structure(given: tuple[str, str]) -> Molecule:
    """The standard forms of a SMILES or, when that is empty, of a mol block."""
    smiles, block = given
    return standardise(smiles) if smiles.strip() else describe(read_molblock(block))


def add_row(batch: Batch, row: Row, columns: Mapping[str, str], document: Document) -> list[Problem]:
    """What could not be taken from the row, after everything else in it was put into the batch."""
    said = {role: row.cells.get(column, "").strip() for role, column in columns.items()}
    if row.failed:
        return [Problem(row.number, row.failed)]
    identifiers, problems = _identifiers(said, row.number)
    problems += _shorten(said, row)
    inchikey = row.molecule.inchikey if row.molecule else next(
        (i.value for i in identifiers if i.namespace == "inchikey"), None
    )
    name = said.get("name", "")
    key = _key(identifiers, inchikey, name)
    if key is None:
        reason = "neither a structure, an identifier, a key nor a name"
        return [*problems, Problem(row.number, reason)]
    if not said.get("key"):
        key = f"{key}#{row.number}"
    batch.drugs.append(
        DrugRecord(
            key=key,
            name=name or inchikey or str(identifiers[0]),
            document=document,
            kind="small molecule" if inchikey else "unknown",
            smiles=row.molecule.smiles if row.molecule else None,
            inchikey=inchikey,
            formula=row.molecule.formula if row.molecule else None,
            identifiers=tuple(i for i in identifiers if i.namespace != "inchikey"),
            names=tuple(Name(part.strip()) for part in said.get("synonym", "").split("|") if part.strip()),
        )
    )
    return problems + _payloads(batch, row, said, key, document)


def _shorten(said: dict[str, str], row: Row) -> list[Problem]:
    """Take the names out of the row that no index holds; the name is an SDF's title where no column gives it."""
    given = [("name", [said.get("name") or row.cells.get("title", "").strip()]),
             ("synonym", said.get("synonym", "").split("|"))]
    problems: list[Problem] = []
    for role, names in given:
        refused = [reason for name in names if (reason := too_long(name, role))]
        problems += [Problem(row.number, reason, value_only=True) for reason in refused]
        said[role] = "|".join(name for name in names if not too_long(name, role))
    return problems


def _identifiers(said: Mapping[str, str], number: int) -> tuple[list[Identifier], list[Problem]]:
    """Identifiers of the row; one that has not its namespace's form is a problem of its own."""
    found, problems = [], []
    for role, value in said.items():
        space = role.removeprefix("identifier.") if role.startswith("identifier.") else {"key": "user"}.get(role, role)
        if not value or (space == role and role != "inchikey"):
            continue
        for part in value.split("|") if role.startswith("identifier.") else [value]:
            try:
                found.append(Identifier.make(space, part))
            except DataError as error:
                problems.append(Problem(number, error.message, value_only=True))
    return found, problems


def _key(identifiers: list[Identifier], inchikey: str | None, name: str) -> str | None:
    """The record's key: the user's own id, else an identifier, else the InChIKey, else the name."""
    own = [i for i in identifiers if i.namespace == "user"] + [i for i in identifiers if i.namespace != "inchikey"]
    if own:
        return str(own[0])
    if inchikey:
        return f"inchikey:{inchikey}"
    kept = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
    return f"name:{kept[:80]}" if kept else None


def _payloads(batch: Batch, row: Row, said: Mapping[str, str], key: str, document: Document) -> list[Problem]:
    problems: list[Problem] = []
    if said.get("text"):
        batch.payloads.append(TextRecord(key, document, document.url, said["text"], USER.id))
    values: dict[str, float] = {}
    for role, value in said.items():
        if role.startswith("property.") and value:
            number = _number(value)
            if number is None:
                problems.append(Problem(row.number, f"{role}: {value[:40]!r} is not a number", value_only=True))
            else:
                values[role.removeprefix("property.")] = number
    if values:
        batch.payloads.append(PropertyRecord(key, document, values))
    for code in said.get("atc", "").split("|"):
        if code.strip():
            try:
                batch.atc.append(AtcRecord(key, document, Identifier.make("atc", code).value))
            except DataError as error:
                problems.append(Problem(row.number, error.message, value_only=True))
    block = row.cells.get(MOLBLOCK, "")
    if row.molecule and _has_depth(block):
        heavy = row.molecule.heavy_atoms
        batch.payloads.append(ConformerRecord(key, document, block, heavy, "as given in the user's file"))
    return problems


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _has_depth(block: str) -> bool:
    """Whether a V2000 block has an atom off the plane z = 0."""
    lines = block.split("\n")
    if len(lines) < 5 or "V2000" not in lines[3]:
        return False
    return any(line[20:30].strip() not in ("0.0000", "") for line in lines[4 : 4 + int(lines[3][:3])])
