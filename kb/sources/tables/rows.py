"""Turns one row of the user's table into records, and says what in it cannot be taken."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from kb.chemistry import PROVEN, Molecule, disprove
from kb.errors import DataError
from kb.normalise import Identifier, read_number, too_long
from kb.properties import out_of_range
from kb.sources.contract import (
    AtcRecord,
    ConformerRecord,
    Document,
    DrugRecord,
    Name,
    PropertyRecord,
    RecordBatch,
    TextRecord,
)
from kb.sources.tables.read import MOLBLOCK, Problem

LONGEST_KEY = 120
"""Letters of what a row identifies itself by that become its key; of longer texts their hash does."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: its number, key and digest, what it says by role, its cells, and the molecule or why there is none."""

    number: int
    key: str
    digest: bytes
    said: Mapping[str, str]
    cells: Mapping[str, str]
    molecule: Molecule | None = None
    failed: str | None = None


def roles_of(cells: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str]:
    """What a row says, by role; the connection table of an SDF and its title are roles of their own."""
    said = {role: cells.get(column, "").strip() for role, column in columns.items()}
    return said | {name: cells[name] for name in (MOLBLOCK, "title") if cells.get(name)}


def key_of(said: Mapping[str, str], dataset: str) -> str | None:
    """The record's key: the user's own one in its dataset, else what the row identifies itself by; None for nothing.

    Raises DataError for a key of the user's that has not the form of one.
    """
    if said.get("key"):
        return str(Identifier.make(f"user.{dataset}", said["key"]))
    stated = [f"{role.removeprefix('identifier.')}:{said[role]}" for role in said if role.startswith("identifier.")]
    structure = said.get("smiles") or said.get(MOLBLOCK, "")
    name = said.get("name") or said.get("title", "").strip()
    for text in (*stated, said.get("inchikey", ""), structure, name):
        if text.rpartition(":")[2].strip():
            short = text if len(text) <= LONGEST_KEY else hashlib.sha256(text.encode()).hexdigest()[:32]
            return f"row:{short}"
    return None


def add_row(batch: RecordBatch, row: TableRow, document: Document) -> list[Problem]:
    """What could not be taken from the row, after everything else in it was put into the batch.

    A structure that is refused, or that contradicts the row's own InChIKey, leaves name and identifiers as they are.
    """
    said = dict(row.said)
    identifiers, problems = _identifiers(said, row.number, row.key)
    if row.failed:
        problems.append(Problem(row.number, row.failed, value_only=True))
    molecule = row.molecule
    stated = next((i.value for i in identifiers if i.namespace == "inchikey"), None)
    if molecule and stated and molecule.inchikey != stated:
        reason = f"the structure is {molecule.inchikey}, but its InChIKey is said to be {stated}: neither is taken"
        problems.append(Problem(row.number, reason, value_only=True))
        molecule, stated = None, None
    values, refused = _values(said, row.number)
    problems += refused
    disproved = disprove(molecule.proven, values) if molecule else None
    if disproved:
        problems.append(Problem(row.number, f"{disproved}: neither is taken", value_only=True))
        molecule, stated = None, None
        values = {name: value for name, value in values.items() if name not in PROVEN}
    inchikey = molecule.inchikey if molecule else stated
    kept = tuple(i for i in identifiers if i.namespace != "inchikey")
    problems += _shorten(said, row)
    name = said.get("name", "")
    if not (inchikey or kept or name):
        reason = "neither a structure, an identifier, a key nor a name"
        first = next((problem.reason for problem in problems), reason)
        return [*(p for p in problems if not p.value_only), Problem(row.number, row.failed or first)]
    batch.drugs.append(
        DrugRecord(
            key=row.key,
            name=name or inchikey or str(kept[0]),
            document=document,
            kind="small molecule" if inchikey else "unknown",
            smiles=molecule.smiles if molecule else None,
            inchikey=inchikey,
            formula=molecule.formula if molecule else None,
            identifiers=kept,
            names=tuple(Name(part.strip()) for part in said.get("synonym", "").split("|") if part.strip()),
            digest=row.digest,
        )
    )
    return problems + _payloads(batch, row, molecule, values, document)


def _shorten(said: dict[str, str], row: TableRow) -> list[Problem]:
    """Take the names out of the row that no index holds; the name is an SDF's title where no column gives it."""
    given = [("name", [said.get("name") or row.cells.get("title", "").strip()]),
             ("synonym", said.get("synonym", "").split("|"))]
    problems: list[Problem] = []
    for role, names in given:
        refused = {name: reason for name in names if (reason := too_long(name, role))}
        problems += [Problem(row.number, refused[name], value_only=True) for name in names if name in refused]
        said[role] = "|".join(name for name in names if name not in refused)
    return problems


def _identifiers(said: Mapping[str, str], number: int, key: str) -> tuple[list[Identifier], list[Problem]]:
    """Identifiers of the row; one that has not its namespace's form is a problem of its own."""
    found, problems = [], []
    if key.startswith("user."):
        found.append(Identifier.parse(key))
    for role, value in said.items():
        space = role.removeprefix("identifier.")
        if not value or (space == role and role != "inchikey"):
            continue
        for part in value.split("|") if role.startswith("identifier.") else [value]:
            if part.strip():
                try:
                    found.append(Identifier.make(space, part))
                except DataError as error:
                    problems.append(Problem(number, error.message, value_only=True))
    return found, problems


def _values(said: Mapping[str, str], number: int) -> tuple[dict[str, float], list[Problem]]:
    """The row's properties; what is no number, or none that the property can have, is a problem of its own."""
    values: dict[str, float] = {}
    problems: list[Problem] = []
    for role, text in said.items():
        if role.startswith("property.") and text:
            name, value = role.removeprefix("property."), read_number(text)
            reason = f"{role}: {text[:40]!r} is not a number" if value is None else out_of_range(name, value)
            if value is None or reason:
                problems.append(Problem(number, str(reason), value_only=True))
            else:
                values[name] = value
    return values, problems


def _payloads(
    batch: RecordBatch, row: TableRow, molecule: Molecule | None, values: Mapping[str, float], document: Document
) -> list[Problem]:
    problems: list[Problem] = []
    said, key = row.said, row.key
    if said.get("text"):
        batch.payloads.append(TextRecord(key, document, document.url, said["text"], document.licence))
    if values:
        batch.payloads.append(PropertyRecord(key, document, values))
    for code in said.get("atc", "").split("|"):
        if code.strip():
            try:
                batch.atc.append(AtcRecord(key, document, Identifier.make("atc", code).value))
            except DataError as error:
                problems.append(Problem(row.number, error.message, value_only=True))
    block = row.cells.get(MOLBLOCK, "")
    if molecule and _has_depth(block):
        heavy = molecule.heavy_atoms
        batch.payloads.append(ConformerRecord(key, document, block, heavy, "as given in the user's file"))
    return problems


def _has_depth(block: str) -> bool:
    """Whether a V2000 block has an atom off the plane z = 0."""
    lines = block.split("\n")
    if len(lines) < 5 or "V2000" not in lines[3]:
        return False
    return any(line[20:30].strip() not in ("0.0000", "") for line in lines[4 : 4 + int(lines[3][:3])])
