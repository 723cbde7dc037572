"""Morgan fingerprints (Rogers and Hahn 2010): how often each circular substructure occurs, folded to a fixed length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rdkit import RDLogger
from rdkit.Chem import rdFingerprintGenerator

from embed.features.molecule import parse
from embed.features.packed import Packed, vectors


def version(bits: int, radius: int = 2) -> str:
    """The cache's version of fingerprints of this length."""
    return f"1-{radius}-{bits}"


def fingerprints(smiles: Sequence[str], bits: int, radius: int = 2) -> tuple[list[int], Packed]:
    """``(done, items)``: the counts as ``vector`` (n, bits) uint8, those above 255 as 255."""
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    done, rows = [], []
    for index, text in enumerate(smiles):
        mol = parse(text)
        if mol is None:
            continue
        rows.append(np.minimum(generator.GetCountFingerprintAsNumPy(mol), 255).astype(np.uint8))
        done.append(index)
    return done, vectors(np.stack(rows) if rows else np.zeros((0, bits), np.uint8))
