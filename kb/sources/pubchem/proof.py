"""What a structure proves of a compound, what PubChem cannot have of it, and the drug record that it makes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from kb.chemistry import Molecule, disprove, quiet, read_smiles, standard_forms, standardise
from kb.errors import DataError
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
from kb.normalise import Identifier, is_cas
from kb.sdf import Molfile
from kb.sources.contract import Document, DrugRecord, Name

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from kb.sources.pubchem.source import KeyQuestion


class BodyError(ValueError):
    """The body is not what its kind has to be: it was cut off, or is something else."""


class ContentError(BodyError):
    """The body is whole and well formed, but what it says cannot be true, or is about something else."""


# Formulas and bonds, counted: what rules and proofs rest on.

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


# What PubChem says it cannot have: its conditions for a 3D conformer, and the licences that its texts carry.

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


# What a structure proves: identity, composition, masses and counts are checked against the SMILES by RDKit.
#
# PubChem states a compound's InChIKey, formula and numbers beside its SMILES, so a row that was mixed up with another
# compound's contradicts itself. Of 6,602 genuine records of PubChem, 8 do so by RDKit's own doing (oxyacids of the
# halogens and one porphyrin).

HEAVIEST = 92
"""The last element that has an atomic weight; PubChem writes Rg for a polymer's ``*``."""
LONGEST_COORDINATE = 1000.0
"""Ångström from the origin; the largest conformers of PubChem have 50 heavy atoms."""
BOND_RATIO = (0.70, 1.35)
"""Length of a bond over the sum of both covalent radii; 3,823 ideal ligands of the PDB lie between 0.74 and 1.25."""
NEAREST = 0.65
"""Ångström between two atoms; H2 has 0.74."""
BOND_SPREAD = 0.085
"""Ångström by which a conformer's bonds leave the bounds that RDKit derives from the structure, root mean square: of
2,586 real ones one does (nitrate, 0.12), a planar molecule that was pressed flat at an angle does (0.1 and more)."""
DEPTH = 0.3
"""Cubic ångström (times 6) that four neighbours of an atom enclose at least; real ones enclose more than 1."""


@dataclass(frozen=True, slots=True)
class Compound:
    """What PubChem knows a compound by; ``values`` under canonical property names; ``units`` is its fragments."""

    cid: int
    title: str
    formula: str
    smiles: str | None
    inchikey: str | None
    iupac_name: str | None
    units: int
    values: Mapping[str, float]


def prove(compound: Compound, *, readable: bool = False) -> Compound:
    """The compound with canonical SMILES, if nothing in it contradicts its structure; raises ContentError otherwise.

    Where RDKit cannot read the structure (or there is none), masses and counts are checked against the formula, and
    the InChIKey, which nothing proves then, is left out: it would decide who the drug is. With ``readable`` such a
    compound is refused.
    """
    try:
        molecule = read_smiles(compound.smiles) if compound.smiles else None
        known = standard_forms(molecule) if molecule is not None else None
    except DataError as error:
        if readable:
            raise ContentError(error.message) from None
        molecule = known = None
    if molecule is None or known is None:
        if compound.formula:
            _check_by_formula(compound)
        return replace(compound, smiles=None, inchikey=None)
    if compound.inchikey not in (None, known.inchikey):
        raise ContentError(f"InChIKey {compound.inchikey} is not that of the SMILES, {known.inchikey}")
    if compound.formula and composition(compound.formula) != composition(known.formula):
        raise ContentError(f"formula {compound.formula} is not that of the SMILES, {known.formula}")
    _check_by_structure(compound, molecule, known)
    return replace(compound, smiles=known.smiles, inchikey=known.inchikey, formula=compound.formula or known.formula)


def _check_by_structure(compound: Compound, molecule: Mol, known: Molecule) -> None:
    from rdkit import Chem

    hydrogens = sum(a.GetTotalNumHs(includeNeighbors=False) + (a.GetAtomicNum() == 1) for a in molecule.GetAtoms())
    heavy = molecule.GetNumHeavyAtoms()
    most: dict[str, float] = {
        "rotatable_bonds": count_rotatable(molecule), "hbond_donors": hydrogens, "hbond_acceptors": heavy,
        "stereo_centers": heavy, "tpsa": 70.0 * heavy,
    }
    _check(compound, known.proven, most)
    units = len(Chem.GetMolFrags(molecule))
    if compound.values and compound.units != units:
        raise ContentError(f"{compound.units} covalent units, but the SMILES has {units}")


def _check_by_formula(compound: Compound) -> None:
    from rdkit import Chem

    atoms, charge = composition(compound.formula)
    table = Chem.GetPeriodicTable()
    heavy = sum(n for symbol, n in atoms.items() if symbol != "H")
    weight = sum(n * table.GetAtomicWeight(symbol) for symbol, n in atoms.items())
    most: dict[str, float] = {"rotatable_bonds": 2 * heavy, "hbond_donors": atoms["H"], "hbond_acceptors": heavy,
                              "stereo_centers": heavy, "tpsa": 70.0 * heavy}
    weighed = all(table.GetAtomicNumber(symbol) <= HEAVIEST for symbol in atoms)
    known: dict[str, float] = {"heavy_atoms": heavy, "charge": charge} | ({"mol_weight": weight} if weighed else {})
    _check(compound, known, most)


def _check(compound: Compound, known: Mapping[str, float], most: Mapping[str, float]) -> None:
    """Raise ContentError for a count or mass that is another than the known one, or larger than it can be."""
    values = compound.values
    disproved = disprove(known, values)
    if disproved:
        raise ContentError(disproved)
    for name, limit in most.items():
        if values.get(name, 0) > limit:
            raise ContentError(f"{name} is {values[name]:g}, but the structure has at most {limit:g}")


def check_conformer(record: Molfile, smiles: str | None, formula: str) -> int:
    """The heavy atoms of a 3D record, if it is a conformer of the structure; raises ContentError otherwise.

    Of a salt (``smiles`` of several units) it must be one unit, neutral or not: its parent. The atoms must be those of
    the structure with all their hydrogens, its stereo centres and double bonds as they are in the SMILES where that
    says so, and the coordinates a possible geometry. Without a structure the atoms must be those of the formula.
    """
    from rdkit import Chem

    quiet()
    lines = record.block.split("\n")
    if not lines[1].rstrip().endswith("3D"):
        raise ContentError("the record has no 3D coordinates")
    _check_numbers(lines)
    try:
        molecule = Chem.MolFromMolBlock(record.block, removeHs=False)
    except (RuntimeError, ValueError, OverflowError):
        molecule = None
    if molecule is None:
        raise ContentError("a conformer that RDKit cannot read as a molecule")
    if any(atom.GetTotalNumHs(includeNeighbors=False) for atom in molecule.GetAtoms()):
        raise ContentError("a conformer without all of its hydrogens")
    _check_geometry(molecule)
    heavy = Chem.RemoveHs(molecule)
    try:
        wanted = read_smiles(smiles) if smiles else None
    except DataError:
        wanted = None
    if wanted is None:
        _check_atoms(molecule, formula, part="." in (smiles or ""))
    elif not _is_conformer(heavy, wanted):
        raise ContentError("the conformer is of another structure or of another stereoisomer")
    return int(heavy.GetNumHeavyAtoms())


_COORDINATE = re.compile(r" *-?\d{1,4}\.\d{1,4}", re.ASCII)


def _check_numbers(lines: list[str]) -> None:
    """Raise ContentError for coordinates that are no decimals, or far away; RDKit reads ``1e9`` and ``nan``."""
    count = int(lines[3][:3])
    for line in lines[4 : 4 + count]:
        fields = [line[at : at + 10] for at in (0, 10, 20)]
        if not all(_COORDINATE.fullmatch(field) for field in fields):
            raise ContentError("an atom without finite coordinates")
        if any(abs(float(field)) > LONGEST_COORDINATE for field in fields):
            raise ContentError(f"an atom more than {LONGEST_COORDINATE:g} Å away")


def _check_geometry(molecule: Mol) -> None:
    import numpy as np
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    positions = molecule.GetConformer().GetPositions()
    table = Chem.GetPeriodicTable()
    try:
        bounds = rdDistGeom.GetMoleculeBoundsMatrix(molecule, set15bounds=False)
    except (RuntimeError, ValueError) as error:
        raise ContentError("a conformer whose bonds RDKit cannot judge") from error
    outside = []
    for bond in molecule.GetBonds():
        a, b = bond.GetBeginAtom(), bond.GetEndAtom()
        length = float(np.linalg.norm(positions[a.GetIdx()] - positions[b.GetIdx()]))
        radii = table.GetRcovalent(a.GetAtomicNum()) + table.GetRcovalent(b.GetAtomicNum())
        if not BOND_RATIO[0] <= length / radii <= BOND_RATIO[1]:
            raise ContentError(f"a bond {a.GetSymbol()}-{b.GetSymbol()} of {length:.2f} Å")
        first, second = sorted((a.GetIdx(), b.GetIdx()))
        outside.append(max(bounds[second, first] - length, length - bounds[first, second], 0.0))
    if outside and float(np.sqrt(np.mean(np.square(outside)))) > BOND_SPREAD:
        raise ContentError("a conformer whose bonds are too short or too long")
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    if len(positions) > 1 and float((apart + 1e3 * np.eye(len(positions))).min()) < NEAREST:
        raise ContentError("two atoms in one place")
    for atom in molecule.GetAtoms():
        around = [neighbour.GetIdx() for neighbour in atom.GetNeighbors()]
        if len(around) == 4:
            a, b, c, d = positions[around]
            if abs(float(np.dot(a - d, np.cross(b - d, c - d)))) < DEPTH:
                raise ContentError("a conformer that is flat")


def is_unit(smiles: str, salt: str) -> bool:
    """Whether a compound is one of a salt's units, neutral or not."""
    try:
        return _is_conformer(read_smiles(smiles), read_smiles(salt))
    except DataError:
        return False


def _is_conformer(heavy: Mol, wanted: Mol) -> bool:
    """Whether the molecule is the wanted one, or one of its units, in every stereo element that is stated."""
    from rdkit import Chem
    from rdkit.Chem.MolStandardize import rdMolStandardize

    units = Chem.GetMolFrags(wanted, asMols=True)
    if len(units) == 1:
        return _same(heavy, wanted)
    uncharger = rdMolStandardize.Uncharger()
    neutral = uncharger.uncharge(heavy)
    return any(_same(heavy, unit) or _same(neutral, uncharger.uncharge(unit)) for unit in units)


def _same(given: Mol, wanted: Mol) -> bool:
    return (
        given.GetNumHeavyAtoms() == wanted.GetNumHeavyAtoms()
        and given.GetNumBonds() == wanted.GetNumBonds()
        and given.HasSubstructMatch(wanted, useChirality=True)
    )


def _check_atoms(molecule: Mol, formula: str, part: bool) -> None:
    """Raise ContentError when the atoms are not those of the formula; of a salt they may be some of them."""
    atoms = Counter(atom.GetSymbol() for atom in molecule.GetAtoms())
    wanted, _ = composition(formula) if formula else (Counter[Any](), 0)
    if part:
        atoms.pop("H", None)  # the parent may be neutralised
    if formula and (any(atoms[s] > wanted[s] for s in atoms) if part else atoms != wanted):
        raise ContentError("the conformer's atoms are not the compound's")


# A compound of PubChem as a drug record: its names, and the identifiers that may decide who it is.

CID = "pubchem.compound"
MAX_NAME = 500
MAX_SYNONYMS = 100
MAX_SYNONYM = 300
_UNII = re.compile(r"UNII-([0-9A-Z]{10})")


def record_of(
    compound: Compound,
    document: Document,
    synonyms: Sequence[str] = (),
    registry_numbers: Sequence[str] = (),
    questions: Iterable[KeyQuestion] = (),
) -> DrugRecord:
    """The record of a compound; of the user's questions that led to it, DrugBank ids become identifiers."""
    found = {Identifier.make(CID, compound.cid)}
    if compound.inchikey:
        found.add(Identifier.make("inchikey", compound.inchikey))
    found |= {Identifier.make("cas", number) for number in registry_numbers if is_cas(number)}
    found |= {Identifier.make("unii", m.group(1)) for m in map(_UNII.fullmatch, synonyms) if m}
    found |= {Identifier.make("drugbank", q.value) for q in questions if q.namespace == "drugbank"}
    names = [Name(text) for text in synonyms[:MAX_SYNONYMS] if 0 < len(text) <= MAX_SYNONYM]
    if compound.iupac_name and len(compound.iupac_name) <= MAX_NAME:
        names.append(Name(compound.iupac_name, "iupac"))
    return DrugRecord(
        key=f"{CID}:{compound.cid}",
        name=_title(compound, synonyms),
        document=document,
        kind="small molecule",
        smiles=compound.smiles,
        inchikey=compound.inchikey,
        formula=compound.formula or None,
        identifiers=tuple(sorted(found)),
        names=tuple(names),
    )


def _title(compound: Compound, synonyms: Sequence[str]) -> str:
    """PubChem's title, else the first synonym, else the IUPAC name; none that an index cannot hold."""
    named = next((text for text in synonyms if 0 < len(text) <= MAX_SYNONYM), "")
    names = (compound.title, named, compound.iupac_name or "")
    return next((name for name in names if 0 < len(name) <= MAX_NAME), f"CID {compound.cid}")


def is_titled(compound: Compound, synonyms: Sequence[str]) -> bool:
    """Whether a compound's title is among its synonyms, where it has both: titles can be mixed up."""
    title = compound.title.casefold()
    return not title or not synonyms or compound.title == compound.iupac_name or title in map(str.casefold, synonyms)


def contradicts(
    question: KeyQuestion, compound: Compound, synonyms: Sequence[str], numbers: Sequence[str]
) -> str | None:
    """Why a compound cannot be what a question asked for, or None; a structure is compared, a name looked for.

    PubChem standardises the structure that it is asked for, so that only the heavy atoms must agree. A DrugBank id is
    not among what PubChem says of a compound.
    """
    led = f"led to CID {compound.cid}, "
    if question.namespace == "inchikey" and compound.inchikey not in (None, question.value):
        return f"{led}whose InChIKey is {compound.inchikey}"
    if question.namespace == "smiles" and compound.formula:
        try:
            asked = composition(str(standardise(question.value).formula))[0]
        except DataError:
            return None
        if asked - Counter({"H": asked["H"]}) != _heavy(compound.formula):
            return f"{led}whose formula is {compound.formula}"
    if question.namespace == "name":
        wanted = _letters(question.value)
        known = (compound.title, compound.iupac_name or "", compound.inchikey or "", *synonyms, *numbers)
        if not any(wanted in _letters(text) for text in known):
            return f"{led}which is not known by this name"
    return None


def _heavy(formula: str) -> Counter[str]:
    atoms = composition(formula)[0]
    return atoms - Counter({"H": atoms["H"]})


def _letters(text: str) -> str:
    """Letters and digits of a name, whatever its case."""
    return "".join(c for c in text.casefold() if c.isalnum()) or text
