"""Reads molecules with RDKit, within limits that are checked before anything expensive is done.

A SMILES comes from outside: it may be empty, carry a name, be a hundred thousand atoms long, or take RDKit minutes to
canonicalise. Everything here refuses such input with DataError and a reason that fits in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from kb.errors import DataError

if TYPE_CHECKING:
    from rdkit.Chem import Mol
    from rdkit.Chem.MolStandardize.rdMolStandardize import FragmentRemover, Uncharger

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
    """A molecule in its standard forms; ``smiles`` is canonical and isomeric, ``formula`` in Hill order.

    ``weight`` is the average one in g/mol, ``mass`` the monoisotopic one in Da.
    """

    smiles: str
    inchikey: str
    formula: str
    heavy_atoms: int
    charge: int
    weight: float
    mass: float

    @property
    def proven(self) -> dict[str, float]:
        """The values of ``PROVEN``."""
        return dict(zip(PROVEN, (self.heavy_atoms, self.charge, self.weight, self.mass), strict=True))


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


def standard_forms(molecule: Mol) -> Molecule:
    """The molecule's standard forms, all of them functions of its canonical SMILES."""
    from rdkit.Chem import GetFormalCharge
    from rdkit.Chem.rdMolDescriptors import CalcExactMolWt, CalcMolFormula, _CalcMolWt

    smiles, settled = _settled(molecule)
    return Molecule(smiles, _inchikey(settled), str(CalcMolFormula(settled)), settled.GetNumHeavyAtoms(),
                    GetFormalCharge(settled), float(_CalcMolWt(settled)), float(CalcExactMolWt(settled)))


PROVEN = ("heavy_atoms", "charge", "mol_weight", "exact_mass")
"""Properties that a structure decides alone."""
_WITHIN = {"mol_weight": (0.06, 5e-4), "exact_mass": (0.02, 2e-5)}


def disprove(known: Mapping[str, float], values: Mapping[str, float]) -> str | None:
    """What of the stated values is not what is known of a structure, or None; ``known`` has some of ``PROVEN``.

    Large weights are rounded to whole numbers, and tables of atomic weights differ in their last digits.
    """
    for name in PROVEN:
        right, (least, share) = known.get(name), _WITHIN.get(name, (0.0, 0.0))
        if right is not None and abs(values.get(name, right) - right) > least + share * right:
            return f"{name} is {values[name]:g}, but the structure has {f'{right:.4f}' if least else f'{right:g}'}"
    return None


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
    """The canonical isomeric SMILES that reading and writing again does not change."""
    return _settled(molecule)[0]


def _settled(molecule: Mol) -> tuple[str, Mol]:
    """The canonical isomeric SMILES that reading and writing again does not change, and what it reads as.

    RDKit's first answer may change once more when it is read back (stereo and aromaticity are perceived anew). It is
    read back until it repeats itself; of answers that follow each other in a circle the smallest is taken.
    """
    from rdkit import Chem

    seen: dict[str, Mol] = {}
    smiles = Chem.MolToSmiles(molecule)
    while smiles not in seen:
        again = Chem.MolFromSmiles(smiles)
        if again is None or len(seen) >= 8:
            raise DataError(f"RDKit's own canonical SMILES does not read back: {smiles[:60]}")
        seen[smiles] = again
        smiles = Chem.MolToSmiles(again)
    chosen = min(list(seen)[list(seen).index(smiles) :])
    return chosen, seen[chosen]


def standardise(text: str) -> Molecule:
    """The standard forms of a SMILES; raises DataError with the reason when it is refused."""
    return standard_forms(read_smiles(text))


def read_structure(given: tuple[str, str]) -> Molecule:
    """The standard forms of a SMILES or, when that is empty, of a mol block."""
    smiles, block = given
    return standardise(smiles) if smiles.strip() else standard_forms(read_molblock(block))


WATER = "XLYOFNOQVPJJNP-UHFFFAOYSA-N"
HEAVY_WATER = "XLYOFNOQVPJJNP-ZSJDYOACSA-N"
MARKS = re.compile(r"[.@/\\]|\[\d")
"""A component, a stereo mark or an isotope: without any, a SMILES has no relation to compute."""


def relations_of(smiles: str) -> list[tuple[str, str]]:
    """What the substance of a SMILES is to other substances: pairs of a relation and the other's InChIKey.

    ``salt of`` its parent without counter-ions and solvents, neutralised; ``hydrate of`` the same without water;
    ``mixture with`` each of several parents; ``isotope of`` the unlabelled substance; ``stereo-unspecified of`` names
    the flat form of a substance with stereo (read from the flat one). Fragments and charges are those of RDKit's
    MolStandardize (after Atkinson's standardiser). Raises DataError for what RDKit refuses.
    """
    if not MARKS.search(smiles):
        return []
    molecule = read_smiles(smiles)
    own = _inchikey(molecule)
    found = _of_components(molecule) if "." in smiles else []
    if any(atom.GetIsotope() for atom in molecule.GetAtoms()):
        found.append(("isotope of", _without_isotopes(molecule)))
    if re.search(r"[@/\\]", smiles):
        found.append(("stereo-unspecified of", _without_stereo(molecule)))
    return sorted({(relation, other) for relation, other in found if other != own})


def _of_components(molecule: Mol) -> list[tuple[str, str]]:
    from rdkit.Chem import GetMolFrags, MolToSmiles

    parts = GetMolFrags(molecule, asMols=True)
    keys = [_keys_of_part(MolToSmiles(part)) for part in parts]
    dry = [n for n, (key, _) in enumerate(keys) if key not in (WATER, HEAVY_WATER)]
    found: list[tuple[str, str]] = []
    if not dry:
        return found
    if len(dry) < len(parts):
        found.append(("hydrate of", _inchikey(_combine([parts[n] for n in dry]))))
    neutral = [key for _, key in (keys[n] for n in dry) if key is not None]
    active = [key for key in neutral if key[:14] not in counter_ions()] or neutral
    parents = sorted(set(active))
    if len(parents) == 1 and len(active) < len(dry):
        found.append(("salt of", parents[0]))
    elif 1 < len(parents) <= MOST_PARENTS:
        found += [("mixture with", parent) for parent in parents]
    return found


@lru_cache(maxsize=4096)
def _keys_of_part(smiles: str) -> tuple[str, str | None]:
    """The InChIKeys of a component and of its neutral form, None for what RDKit knows as an ion or a solvent."""
    from rdkit.Chem import MolFromSmiles

    part, (known, uncharger) = MolFromSmiles(smiles), _standardisers()
    if part is None:
        raise DataError(f"RDKit's own canonical SMILES does not read back: {smiles[:60]}")
    return _inchikey(part), _inchikey(uncharger.uncharge(part)) if known.remove(part).GetNumAtoms() else None


@cache
def _standardisers() -> tuple[FragmentRemover, Uncharger]:
    """MolStandardize's remover of ions and solvents, which takes milliseconds to make, and what takes charges away."""
    from rdkit.Chem.MolStandardize import rdMolStandardize

    return rdMolStandardize.FragmentRemover(leave_last=False), rdMolStandardize.Uncharger()


COUNTER_IONS = (
    "OS(=O)(=O)c1ccccc1", "Cc1ccc(cc1)S(O)(=O)=O", "CS(O)(=O)=O", "CCS(O)(=O)=O", "OCCS(O)(=O)=O",
    "OS(=O)(=O)CCS(O)(=O)=O", "OS(=O)(=O)c1ccc2ccccc2c1", "CC1(C)C2CCC1(CS(O)(=O)=O)C(=O)C2", "OC(=O)C=CC(O)=O",
    "OC(=O)C(O)C(O)C(O)=O", "OC(=O)CC(O)(CC(O)=O)C(O)=O", "OC(=O)CCC(O)=O", "OC(=O)CC(O)C(O)=O", "CC(O)C(O)=O",
    "CC(O)=O", "OC=O", "OC(=O)C(O)=O", "OC(=O)CC(O)=O", "OC(=O)C(F)(F)F", "OC(=O)c1ccccc1", "OC(=O)c1cc2ccccc2cc1O",
    "OC(=O)C(O)c1ccccc1", "OC(=O)CCCCC(O)=O", "OC(=O)CNC(=O)c1ccccc1", "OCC(O)C(O)C(O)C(O)C(O)=O", "OCC(O)CO",
    "CCCCCCCCCCCCCCCCCC(O)=O", "CC(C)(C)C(O)=O", "Oc1c(Cc2c(O)c(cc3ccccc23)C(O)=O)c2ccccc2cc1C(O)=O", "CCC(O)=O",
    "CNCC(O)C(O)C(O)C(O)CO", "NC(CO)(CO)CO", "NCCO", "OCCNCCO", "NCCN", "C[N+](C)(C)CCO", "NCCCCC(N)C(O)=O",
    "NC(CCCNC(N)=N)C(O)=O", "C(CNCc1ccccc1)NCc1ccccc1", "CCNCC", "CCN(CC)CC", "C1CNCCN1", "CO", "CCO", "CC(C)O",
    "CC(C)=O", "CC#N", "CS(C)=O", "C1CCOC1", "CCOC(C)=O", "ClCCl", "CN(C)C=O",
)
"""Acids, bases and solvents that drugs are made into salts and solvates with (Stahl and Wermuth, Handbook of
Pharmaceutical Salts, 2011); RDKit's own list has the inorganic ones."""


@cache
def counter_ions() -> frozenset[str]:
    """The first blocks of the InChIKeys of ``COUNTER_IONS``, so without stereo."""
    return frozenset(inchikey_of(smiles)[:14] for smiles in COUNTER_IONS)


MOST_PARENTS = 8
"""Components of a mixture that are related to it; an extract of hundreds is not."""


def _combine(parts: list[Mol]) -> Mol:
    from rdkit.Chem import CombineMols

    whole = parts[0]
    for part in parts[1:]:
        whole = CombineMols(whole, part)
    return whole


def _without_isotopes(molecule: Mol) -> str:
    from rdkit import Chem

    bare = Chem.RWMol(molecule)
    for atom in bare.GetAtoms():
        atom.SetIsotope(0)
    return _inchikey(Chem.MolFromSmiles(Chem.MolToSmiles(Chem.RemoveHs(bare.GetMol()))))


def _without_stereo(molecule: Mol) -> str:
    from rdkit import Chem

    flat = Chem.Mol(molecule)
    Chem.RemoveStereochemistry(flat)
    return _inchikey(flat)
