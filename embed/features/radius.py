"""Radius graphs of 3D conformers, parsed once: who is near whom, and the integers that the structure tower reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDLogger
from scipy.spatial import cKDTree

from embed.features.molecule import MAX_ATOMS
from embed.features.packed import Packed

VERSION = "2"
# The 43 elements that occur in medicines; everything else is the 44th.
ELEMENTS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53, 3, 11, 19, 12, 20, 38, 56, 13, 31, 22, 23, 24, 25, 26, 27, 28,
            29, 30, 40, 42, 43, 44, 46, 47, 50, 51, 78, 79, 80, 33)
_INDEX = {number: k for k, number in enumerate(ELEMENTS)}


def near_pairs(position: NDArray[np.float32], cutoff: float, most: int) -> NDArray[np.int64]:
    """Directed pairs (E, 2), (near atom, atom), sorted by atom: its nearest ``most`` within the cutoff."""
    n = len(position)
    if n < 2:
        return np.empty((0, 2), np.int64)
    distance, index = cKDTree(position).query(position, k=min(most + 1, n), distance_upper_bound=cutoff)
    atom = np.repeat(np.arange(n), index.shape[1])
    near, found = index.ravel(), np.isfinite(distance).ravel()
    kept = found & (near != atom)
    return np.stack([near[kept], atom[kept]], 1)


def _atoms(mol: Chem.Mol) -> NDArray[np.int16]:
    rows = [(_INDEX.get(a.GetAtomicNum(), len(ELEMENTS)), a.GetDegree(), a.GetTotalNumHs(includeNeighbors=True),
             a.GetValence(Chem.ValenceType.IMPLICIT), a.GetIsAromatic()) for a in mol.GetAtoms()]
    return np.minimum(np.array(rows, np.int16).reshape(-1, 5), np.array([43, 6, 6, 6, 1], np.int16))


def conformer_graphs(blocks: Sequence[str], cutoff: float, most: int, hydrogens: bool) -> tuple[list[int], Packed]:
    """``(done, items)``: ``atom.x`` (V, 5), ``atom.position`` (V, 3) Angstrom, centred, and ``edge.ends`` (E, 2).

    A block that does not parse, has no atom, is a flat drawing, or has all atoms in one place is left out.
    """
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    done: list[int] = []
    x, positions, edges = [], [], []
    for index, block in enumerate(blocks):
        mol = Chem.MolFromMolBlock(block, removeHs=not hydrogens)
        if mol is None or not 0 < mol.GetNumAtoms() <= MAX_ATOMS or not mol.GetNumConformers():
            continue
        if not mol.GetConformer().Is3D():
            continue
        position = mol.GetConformer().GetPositions().astype(np.float32)
        if not np.isfinite(position).all() or (len(position) > 1 and np.ptp(position, axis=0).max() < 1e-3):
            continue
        position -= position.mean(0)
        done.append(index)
        x.append(_atoms(mol))
        positions.append(position)
        edges.append(near_pairs(position, cutoff, most))
    if not done:
        shapes = {"atom.x": 5, "atom.position": 3, "edge.ends": 2}
        empty: dict[str, NDArray[Any]] = {name: np.zeros((0, width), np.int16) for name, width in shapes.items()}
        return [], Packed(0, empty, {"atom": np.zeros(1, np.int64), "edge": np.zeros(1, np.int64)})
    columns = {"atom.x": np.concatenate(x), "atom.position": np.concatenate(positions),
               "edge.ends": np.concatenate(edges).astype(np.int16)}
    pointers = {"atom": _pointer([len(p) for p in positions]), "edge": _pointer([len(e) for e in edges])}
    return done, Packed(len(done), columns, pointers)


def _pointer(counts: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
