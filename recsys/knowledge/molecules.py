"""ECFP4 of a medication's molecules: the rival that any learned vector has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BITS = 2048


def mean_fingerprints(smiles: Sequence[Sequence[str]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """float32[K, 2048] unit rows, the mean ECFP4 of each medication's molecules, and bool[K], who has a molecule."""
    from rdkit.Chem import MolFromSmiles, rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS)
    out, known = np.zeros((len(smiles), BITS), np.float32), np.zeros(len(smiles), bool)
    for row, members in enumerate(smiles):
        made = [generator.GetFingerprintAsNumPy(mol) for text in members if (mol := MolFromSmiles(text)) is not None]
        if made:
            mean = np.mean(made, axis=0)
            out[row], known[row] = mean / max(float(np.linalg.norm(mean)), 1e-6), True
    return out, known
