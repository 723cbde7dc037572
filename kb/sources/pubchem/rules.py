"""What PubChem says it cannot have: its conditions for a 3D conformer, and the licences that its texts carry."""

from __future__ import annotations

from collections import Counter

from kb.licences import (
    BY,
    CC0,
    NCBI,
    PROVIDER_TERMS,
    UNSTATED,
    US_GOVERNMENT,
    Licence,
    forbids,
    is_federal,
    recognise_licence,
)
from kb.sources.pubchem.formula import composition, most_rotatable

MAX_HEAVY_ATOMS = 50
MAX_ROTATABLE_BONDS = 15
ELEMENTS = frozenset({"H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I"})


def three_d_rule(smiles: str | None, formula: str, rotatable_bonds: float = 0) -> str | None:
    """The id of the rule by which PubChem has no 3D conformer of a compound, or None when it may have one.

    The atoms are those of the formula. ``rotatable_bonds`` is PubChem's count; it decides only where the structure has
    as many by any definition. Salts are not decided here: their parent may have one.
    Source: https://pubchem.ncbi.nlm.nih.gov/release3d.html
    """
    atoms, _ = composition(formula) if formula else (Counter[str](), 0)
    heavy = sum(count for symbol, count in atoms.items() if symbol != "H")
    if heavy > MAX_HEAVY_ATOMS:
        return f"rule:pubchem3d:heavy-atoms>{MAX_HEAVY_ATOMS}"
    if rotatable_bonds > MAX_ROTATABLE_BONDS and smiles and most_rotatable(smiles) > MAX_ROTATABLE_BONDS:
        return f"rule:pubchem3d:rotatable-bonds>{MAX_ROTATABLE_BONDS}"
    others = sorted(set(atoms) - ELEMENTS)
    return f"rule:pubchem3d:element:{others[0]}" if others else None


NO_PARENT = "rule:pubchem3d:multi-fragment-without-parent"
"""The rule for a mixture: several covalent units and no parent compound."""

_BY_PROVIDER = {"ChEBI": BY, "LOTUS - the natural products occurrence database": CC0}
"""Providers whose licence is public on their own sites, where PubChem's references state none, or that of code."""


def licence_of(provider: str, note: str | None, url: str | None) -> Licence:
    """The licence of a text by what its PUG View reference says; anything unclear is restricted or unstated."""
    stated = recognise_licence(note, url)
    if provider in _BY_PROVIDER and (stated is None or stated.is_open) and not forbids(note):
        return _BY_PROVIDER[provider]
    if stated is not None:
        return stated
    if forbids(note):
        return PROVIDER_TERMS
    if is_federal(url):
        return US_GOVERNMENT
    if provider == "PubChem":
        return NCBI
    return PROVIDER_TERMS if note or url else UNSTATED
