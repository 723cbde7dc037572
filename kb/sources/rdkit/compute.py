"""What RDKit computes from a SMILES: properties, a depiction, a conformer. Pure functions, run in child processes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kb.chemistry import read_smiles
from kb.compute.pool import PoolTask
from kb.errors import DataError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SEED = 42
IMAGE_SIZE = 224
"""Pixels; the width that image encoders of the EfficientNet and ViT families take."""
EMBED_SECONDS = 10
MAX_ATOMS = 999
"""Atoms with hydrogens that an MDL V2000 block can count."""
MMFF_STEPS = 200


@dataclass(frozen=True, slots=True)
class ComputedConformer:
    """An embedded and relaxed conformer; energy in kcal/mol of the force field that ``method`` names."""

    molblock: str
    heavy_atoms: int
    energy: float | None
    method: str


def compute_properties(smiles: str) -> dict[str, float]:
    """The properties of ``kb.properties`` that RDKit has, by name."""
    from rdkit.Chem import QED, GetFormalCharge, rdMolDescriptors
    from rdkit.Chem.Descriptors import MolWt  # type: ignore[attr-defined]

    molecule = read_smiles(smiles)
    log_p, refractivity = rdMolDescriptors.CalcCrippenDescriptors(molecule)
    values = {
        "mol_weight": MolWt(molecule),
        "exact_mass": rdMolDescriptors.CalcExactMolWt(molecule),
        "xlogp": log_p,
        "tpsa": rdMolDescriptors.CalcTPSA(molecule),
        "hbond_donors": rdMolDescriptors.CalcNumHBD(molecule),
        "hbond_acceptors": rdMolDescriptors.CalcNumHBA(molecule),
        "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds(molecule),
        "heavy_atoms": molecule.GetNumHeavyAtoms(),
        "rings": rdMolDescriptors.CalcNumRings(molecule),
        "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings(molecule),
        "charge": GetFormalCharge(molecule),
        "stereo_centers": rdMolDescriptors.CalcNumAtomStereoCenters(molecule),
        "fsp3": rdMolDescriptors.CalcFractionCSP3(molecule),
        "qed": QED.qed(molecule),
        "molar_refractivity": refractivity,
    }
    return {name: round(float(value), 6) for name, value in values.items()}


def computed(asked: tuple[str, str]) -> Any:
    """What the function "module:name" makes of a SMILES; both are in ``asked``."""
    function, smiles = asked
    return PoolTask(function).open()(smiles)


def property_payload(smiles: str) -> bytes:
    """The properties as JSON with sorted keys, so that the same molecule gives the same bytes."""
    return json.dumps(compute_properties(smiles), sort_keys=True).encode()


def depict(smiles: str) -> bytes:
    """The 2D depiction as an RGB PNG of ``IMAGE_SIZE`` squared, without metadata."""
    from rdkit.Chem.Draw import rdMolDraw2D

    molecule = read_smiles(smiles)
    drawing = rdMolDraw2D.MolDraw2DCairo(IMAGE_SIZE, IMAGE_SIZE)
    drawing.drawOptions().includeMetadata = False  # type: ignore[assignment]
    rdMolDraw2D.PrepareAndDrawMolecule(drawing, molecule)
    drawing.FinishDrawing()
    return bytes(drawing.GetDrawingText())


def embed(smiles: str) -> ComputedConformer:
    """One conformer: ETKDGv3 (Wang 2020), then MMFF94 (Halgren 1996), or UFF where MMFF has no types.

    Raises RuntimeError when no conformer is found in time, and DataError for what V2000 cannot hold.
    """
    from rdkit import Chem

    molecule = Chem.AddHs(read_smiles(smiles))
    if molecule.GetNumAtoms() > MAX_ATOMS:
        raise DataError(f"{molecule.GetNumAtoms()} atoms with hydrogens: an MDL V2000 block holds {MAX_ATOMS}")
    _place(molecule)
    field, energy = _relax(molecule)
    block = Chem.MolToMolBlock(molecule, kekulize=True)
    return ComputedConformer(block, molecule.GetNumHeavyAtoms(), energy, f"ETKDGv3 seed {SEED}, {field}")


def _place(molecule: Mol) -> None:
    """Give the molecule coordinates; a second try starts from random ones."""
    from rdkit.Chem import rdDistGeom

    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = SEED  # type: ignore[assignment]
    parameters.timeout = EMBED_SECONDS // 2  # type: ignore[assignment]
    for random_start in (False, True):
        parameters.useRandomCoords = random_start  # type: ignore[assignment]
        if rdDistGeom.EmbedMolecule(molecule, parameters) == 0:
            return
    raise RuntimeError(f"no conformer was found within {EMBED_SECONDS} s")


def _relax(molecule: Mol) -> tuple[str, float | None]:
    """The force field used and the energy it ended at, in kcal/mol."""
    from rdkit.Chem import rdForceFieldHelpers

    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        (_, energy), *_ = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=MMFF_STEPS)
        return f"MMFF94 {MMFF_STEPS} steps", round(float(energy), 4)
    if rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        (_, energy), *_ = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(molecule, maxIters=MMFF_STEPS)
        return f"UFF {MMFF_STEPS} steps", round(float(energy), 4)
    return "not relaxed: no force field has its atom types", None
