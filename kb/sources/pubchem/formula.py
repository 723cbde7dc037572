"""Formulas and bonds, counted: what rules and proofs rest on."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from kb.chemistry import read_smiles
from kb.errors import DataError
from kb.sources.pubchem.bodies import ContentError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

_FORMULA = re.compile(r"((?:[A-Z][a-z]?\d*)+)([+-]\d*)?", re.ASCII)
_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d*)", re.ASCII)


def composition(formula: str) -> tuple[Counter[str], int]:
    """The atoms of a formula by element, hydrogen's isotopes as H, and its charge; raises ContentError."""
    match = _FORMULA.fullmatch(formula)
    if not match:
        raise ContentError(f"{formula[:40]!r} is no formula")
    atoms: Counter[str] = Counter()
    for symbol, count in _ELEMENT.findall(match.group(1)):
        if symbol not in _elements() and symbol not in ("D", "T"):
            raise ContentError(f"{symbol!r} in a formula is no element")
        atoms["H" if symbol in ("D", "T") else symbol] += int(count or 1)
    sign = match.group(2) or ""
    return atoms, int(f"{sign[0]}{sign[1:] or 1}") if sign else 0


@cache
def _elements() -> frozenset[str]:
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return frozenset(table.GetElementSymbol(number) for number in range(1, 119))


def most_rotatable(smiles: str) -> int:
    """``count_rotatable`` of a SMILES; 0 where RDKit cannot read it."""
    try:
        return count_rotatable(read_smiles(smiles))
    except DataError:
        return 0


def count_rotatable(molecule: Mol) -> int:
    """How many bonds can be rotatable by any rule: single, in no ring, with more than one neighbour at both ends."""
    from rdkit.Chem import BondType

    return sum(
        bond.GetBondType() == BondType.SINGLE and not bond.IsInRing()
        and bond.GetBeginAtom().GetDegree() > 1 and bond.GetEndAtom().GetDegree() > 1
        for bond in molecule.GetBonds()
    )
