"""BRICS fragments (Degen et al. 2008) as a labelling of a molecule's own atoms: no fragment is parsed a second time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import BRICS

from embed.features.packed import Packed


def cut_bonds(mols: Sequence[Chem.Mol], items: Packed) -> NDArray[np.bool_]:
    """Which of the packed bonds BRICS would cut, in the order of ``bond.ends``."""
    cut = np.zeros(len(items.columns["bond.ends"]), bool)
    for mol, start in zip(mols, items.indptr["bond"], strict=False):
        for (begin, end), _ in BRICS.FindBRICSBonds(mol):
            cut[start + mol.GetBondBetweenAtoms(begin, end).GetIdx()] = True
    return cut


def fragment_of_atom(items: Packed, cut: NDArray[np.bool_]) -> NDArray[np.int16]:
    """The fragment, counted from 0 in each molecule by first atom, of every packed atom."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    atoms, bonds = items.indptr["atom"], items.indptr["bond"]
    total = int(atoms[-1])
    ends = items.columns["bond.ends"].astype(np.int64) + np.repeat(atoms[:-1], np.diff(bonds))[:, None]
    kept = ends[~cut]
    graph = coo_array((np.ones(len(kept), bool), (kept[:, 0], kept[:, 1])), shape=(total, total))
    _, label = connected_components(graph, directed=False)
    # Components come numbered in the order of their first atom, so a molecule's own numbers start at its first atom's.
    _, first = np.unique(label, return_index=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    ordered = rank[label]
    return (ordered - np.repeat(ordered[atoms[:-1]], np.diff(atoms))).astype(np.int16)
