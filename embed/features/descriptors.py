"""RDKit's cheap descriptors of a molecule: global numbers, functional group counts and surface area bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rdkit import Chem, RDLogger, rdBase
from rdkit.Chem import Descriptors, rdMolDescriptors

from embed.features.molecule import parse
from embed.features.packed import Packed, vectors

VERSION = f"1-rdkit{rdBase.rdkitVersion}"
GLOBAL = (
    "MolWt", "MolLogP", "TPSA", "NumHDonors", "NumHAcceptors", "NumRotatableBonds", "HeavyAtomCount", "RingCount",
    "FractionCSP3", "NumAromaticRings", "NumAliphaticRings", "NumSaturatedRings", "NumHeteroatoms",
    "NumAromaticHeterocycles", "NumAromaticCarbocycles", "NumAliphaticHeterocycles", "NumAliphaticCarbocycles",
    "NHOHCount", "NOCount", "MolMR", "LabuteASA", "HallKierAlpha", "Kappa1", "Kappa2", "Kappa3", "Chi0v", "Chi1v",
    "Chi2v", "BalabanJ", "BertzCT",
)
COUNTED = (7, 8, 9, 15, 16, 17, 35, 53)
"""Elements that are counted: N, O, F, P, S, Cl, Br, I."""


def _functions() -> list[Callable[[Chem.Mol], float]]:
    named: dict[str, Any] = dict(Descriptors.descList)
    return [named[n] for n in GLOBAL] + [f for n, f in sorted(named.items()) if n.startswith("fr_")]


def descriptor_names() -> list[str]:
    """The names of the columns, in their order."""
    counted = [f"atoms_{z}" for z in COUNTED]
    groups = sorted(name for name, _ in Descriptors.descList if name.startswith("fr_"))
    surface = (("SlogP_VSA", 12), ("SMR_VSA", 10), ("PEOE_VSA", 14))
    bins = [f"{kind}{k}" for kind, count in surface for k in range(count)]
    return [*GLOBAL, *groups, "charge", "spiro", "bridgehead", "amides", "stereo", *counted, *bins]


def _row(mol: Chem.Mol, functions: list[Callable[[Chem.Mol], float]]) -> list[float]:
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return [
        *(f(mol) for f in functions), Chem.GetFormalCharge(mol), rdMolDescriptors.CalcNumSpiroAtoms(mol),
        rdMolDescriptors.CalcNumBridgeheadAtoms(mol), rdMolDescriptors.CalcNumAmideBonds(mol),
        rdMolDescriptors.CalcNumAtomStereoCenters(mol), *(numbers.count(z) for z in COUNTED),
        *rdMolDescriptors.SlogP_VSA_(mol), *rdMolDescriptors.SMR_VSA_(mol), *rdMolDescriptors.PEOE_VSA_(mol),
    ]


def descriptors(smiles: Sequence[str]) -> tuple[list[int], Packed]:
    """``(done, items)``: ``vector`` (n, F) float32; a number that RDKit cannot compute is NaN."""
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    functions = _functions()
    done, rows = [], []
    for index, text in enumerate(smiles):
        mol = parse(text)
        if mol is not None:
            done.append(index)
            rows.append(_row(mol, functions))
    table = np.array(rows, np.float64).reshape(len(rows), -1)
    table[~np.isfinite(table) | (np.abs(table) > 1e30)] = np.nan
    return done, vectors(table.astype(np.float32))
