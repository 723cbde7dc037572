"""Reads molecules with RDKit, within limits that are checked before anything expensive is done.

A SMILES comes from outside: it may be empty, carry a name, be a hundred thousand atoms long, or take RDKit minutes to
canonicalise. Everything here refuses such input with DataError and a reason that fits in the ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from kb.errors import DataError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MAX_SMILES_BYTES = 10_000
MAX_HEAVY_ATOMS = 1_000
MAX_CHARGE = 100
"""The absolute formal charge of one atom above which a SMILES is nonsense; RDKit accepts 999999999 and wraps it."""
INCHI_SECONDS = 10
"""The time after which InChI gives up; whatever else may take long runs in a process that is killed after it."""
_CHARGE = re.compile(r"[+-](\d+)\]|[+-](\d+):")
_ATOM = re.compile(r"\[[^\[\]]*\]|Br|Cl|[BCNOPSFIbcnops*]")


@dataclass(frozen=True, slots=True)
class Molecule:
    """A molecule in its standard forms; ``smiles`` is canonical and isomeric, ``formula`` in Hill order."""

    smiles: str
    inchikey: str
    formula: str
    heavy_atoms: int


@cache
def quiet() -> None:
    """Keep RDKit from writing to stderr; what it refuses is reported by us."""
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]


def check_smiles(text: str) -> str:
    """The SMILES without blanks at its ends; raises DataError for what must not even be parsed."""
    smiles = text.strip()
    if not smiles:
        raise DataError("empty SMILES")
    if len(smiles.encode()) > MAX_SMILES_BYTES:
        raise DataError(f"SMILES of {len(smiles.encode())} bytes: the limit is {MAX_SMILES_BYTES}")
    if not smiles.isascii() or any(c.isspace() for c in smiles):
        raise DataError("SMILES followed by something else (a name?), or not ASCII")
    charge = max((int(a or b) for a, b in _CHARGE.findall(smiles)), default=0)
    if charge > MAX_CHARGE:
        raise DataError(f"an atom with charge {charge}: the limit is {MAX_CHARGE}")
    atoms = sum(1 for _ in _ATOM.finditer(smiles))
    if atoms > MAX_HEAVY_ATOMS:
        raise DataError(f"about {atoms} heavy atoms: the limit is {MAX_HEAVY_ATOMS}")
    return smiles


def read_smiles(text: str) -> Mol:
    """The sanitised molecule of a SMILES; raises DataError with the reason when there is none."""
    from rdkit import Chem

    quiet()
    smiles = check_smiles(text)
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise DataError(f"RDKit cannot read this SMILES: {smiles[:60]}")
    return check_molecule(molecule)


def read_molblock(block: str) -> Mol:
    """The sanitised molecule of an MDL block without its hydrogens; raises DataError with the reason."""
    from rdkit import Chem

    quiet()
    if len(block) > 200 * MAX_HEAVY_ATOMS:
        raise DataError(f"mol block of {len(block)} characters: the limit is {200 * MAX_HEAVY_ATOMS}")
    molecule = Chem.MolFromMolBlock(block)
    if molecule is None:
        raise DataError("RDKit cannot read this mol block")
    return check_molecule(molecule)


def check_molecule(molecule: Mol) -> Mol:
    """The molecule, if it has atoms and not too many; raises DataError otherwise."""
    if not molecule.GetNumAtoms():
        raise DataError("a molecule without atoms")
    if molecule.GetNumHeavyAtoms() > MAX_HEAVY_ATOMS:
        raise DataError(f"{molecule.GetNumHeavyAtoms()} heavy atoms: the limit is {MAX_HEAVY_ATOMS}")
    return molecule


def describe(molecule: Mol) -> Molecule:
    """The molecule's standard forms, all of them functions of its canonical SMILES."""
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    smiles = canonical(molecule)
    settled = Chem.MolFromSmiles(smiles)
    return Molecule(smiles, _inchikey(settled), str(CalcMolFormula(settled)), settled.GetNumHeavyAtoms())


def inchikey_of(smiles: str) -> str:
    """The standard InChIKey of a SMILES; raises DataError where there is none."""
    return _inchikey(read_smiles(smiles))


def _inchikey(molecule: Mol) -> str:
    from rdkit import Chem

    quiet()
    inchikey = Chem.MolToInchiKey(molecule, options=f"-W{INCHI_SECONDS}")
    if not inchikey:
        raise DataError("InChI has no key for this molecule")
    return str(inchikey)


def canonical(molecule: Mol) -> str:
    """The canonical isomeric SMILES that reading and writing again does not change.

    RDKit's first answer may change once more when it is read back (stereo and aromaticity are perceived anew). It is
    read back until it repeats itself; of answers that follow each other in a circle the smallest is taken.
    """
    from rdkit import Chem

    seen: list[str] = []
    smiles = Chem.MolToSmiles(molecule)
    while smiles not in seen:
        seen.append(smiles)
        again = Chem.MolFromSmiles(smiles)
        if again is None or len(seen) > 8:
            raise DataError(f"RDKit's own canonical SMILES does not read back: {smiles[:60]}")
        smiles = Chem.MolToSmiles(again)
    return min(seen[seen.index(smiles) :])


def standardise(text: str) -> Molecule:
    """The standard forms of a SMILES; raises DataError with the reason when it is refused."""
    return describe(read_smiles(text))
