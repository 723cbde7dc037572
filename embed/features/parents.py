"""The parent of a molecule: its largest organic fragment without charge, by which salts and charged forms are one.

Computed with RDKit's MolStandardize. Tautomers are settled only where the formula is the same, since that takes long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from rdkit import Chem, RDLogger, rdBase
from rdkit.Chem import rdMolDescriptors
from rdkit.Chem.MolStandardize import rdMolStandardize

from embed.features.molecule import parse
from embed.features.packed import Packed

VERSION = f"1-rdkit{rdBase.rdkitVersion}"
MOST_TRANSFORMS = 200
MOST_ATOMS = 100
"""Tautomers of larger molecules are not looked for."""


@dataclass(frozen=True)
class Forms:
    """A molecule's InChIKey, and of its parent the InChIKey first block, the formula and the canonical SMILES."""

    inchikey: str
    block: str
    formula: str
    smiles: str


def forms(mol: Chem.Mol) -> Forms:
    """The forms of a sanitised molecule."""
    parent = parent_of(mol)
    return Forms(Chem.MolToInchiKey(mol), Chem.MolToInchiKey(parent)[:14], rdMolDescriptors.CalcMolFormula(parent),
                 Chem.MolToSmiles(parent))


def parent_of(mol: Chem.Mol) -> Chem.Mol:
    """The largest organic fragment, with charges taken away where hydrogens can."""
    quiet_standardiser()
    chooser = rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
    return rdMolStandardize.Uncharger().uncharge(chooser.choose(mol))


def tautomer(smiles: str) -> str:
    """The canonical tautomer of a parent, without stereo; the SMILES itself where it is too large to look."""
    quiet_standardiser()
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() > MOST_ATOMS:
        return smiles
    enumerator = rdMolStandardize.TautomerEnumerator()
    enumerator.SetMaxTransforms(MOST_TRANSFORMS)
    found = enumerator.Canonicalize(mol)
    Chem.RemoveStereochemistry(found)
    return str(Chem.MolToSmiles(found))


@cache
def quiet_standardiser() -> None:
    """Keep RDKit's standardiser from telling each step."""
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]


def formula_key(formula: str) -> np.ndarray[Any, Any]:
    """Eight bytes (8,) that stand for a formula."""
    return np.frombuffer(hashlib.sha256(formula.encode()).digest()[:8], np.uint8)


def block_key(block: str) -> np.ndarray[Any, Any]:
    """The first block's letters as bytes (14,); zeros where InChI has no key."""
    return np.frombuffer(block.encode().ljust(14, b"\0"), np.uint8)


def parents(smiles: Sequence[str]) -> tuple[list[int], Packed]:
    """``(done, items)``: ``block`` (n, 14), ``formula`` (n, 8), and ``text.smiles``, the parent's SMILES as bytes."""
    done, blocks, formulas, texts = [], [], [], []
    for index, text in enumerate(smiles):
        mol = parse(text)
        if mol is None:
            continue
        found = forms(mol)
        done.append(index)
        blocks.append(block_key(found.block))
        formulas.append(formula_key(found.formula))
        texts.append(np.frombuffer(found.smiles.encode(), np.uint8))
    pointer = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    columns = {
        "block": np.stack(blocks) if blocks else np.zeros((0, 14), np.uint8),
        "formula": np.stack(formulas) if formulas else np.zeros((0, 8), np.uint8),
        "text.smiles": np.concatenate([np.empty(0, np.uint8), *texts]),
    }
    return done, Packed(len(done), columns, {"text": pointer})
