"""The molecule: OGB's nine atom and three bond features, and the BRICS fragments, of many SMILES at once.

The categories and their order are those of ``torch_geometric.utils.from_smiles`` (OGB, Hu et al. 2020), which is the
plain reference in the tests. RDKit hands out one Python object per atom and one value per call, which is the floor;
here every getter runs over a whole batch inside ``map``, and the getters that return (slow) enumerations are called
only where their answer can differ from the default.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDLogger
from rdkit.Chem import Atom, Bond

from embed.features.fragments import cut_bonds, fragment_of_atom
from embed.features.packed import Packed, concat

VERSION = "1"
ATOM_SIZES = (119, 9, 11, 12, 9, 5, 8, 2, 2)
"""Categories of: element, chirality, degree, formal charge, hydrogens, radicals, hybridisation, aromatic, ring."""
BOND_SIZES = (22, 6, 2)
"""Categories of: bond type, stereo, conjugated."""

MAX_TEXT = 10_000
MAX_ATOMS = 1_000

# RDKit's HybridizationType has SP2D at 5, which OGB's list has not: it counts as OTHER.
_HYBRID = np.array([0, 1, 2, 3, 4, 7, 5, 6, 7], np.int16)
# Twice RDKit's bond order, where it settles the type: single, aromatic, double, triple.
_BY_ORDER = np.full(64, -1, np.int16)
_BY_ORDER[[2, 3, 4, 6]] = [1, 12, 2, 3]
# Elements whose bonds RDKit may turn into dative ones (order 1 as well): then the enumeration is asked.
_PLAIN = np.zeros(119, bool)
_PLAIN[[1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53]] = True


def parse(smiles: str) -> Chem.Mol | None:
    """The sanitised molecule, or None where the text is empty, too long, no SMILES, or has over 1,000 heavy atoms."""
    if not smiles or len(smiles) > MAX_TEXT or any(c.isspace() for c in smiles):
        return None
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or not 0 < mol.GetNumAtoms() <= MAX_ATOMS:
        return None
    return mol


def _values(getter: Callable[[Any], Any], objects: list[Any]) -> NDArray[np.int16]:
    return np.fromiter(map(getter, objects), np.int16, len(objects))


def _sparse(getter: Callable[[Any], Any], objects: list[Any], starts: NDArray[np.int64],
            asked: NDArray[np.bool_]) -> NDArray[np.int16]:
    """The getter's values for the molecules in ``asked``, 0 elsewhere."""
    out = np.zeros(len(objects), np.int16)
    for i in np.flatnonzero(asked):
        begin, end = int(starts[i]), int(starts[i + 1])
        out[begin:end] = _values(getter, objects[begin:end])
    return out


def _atoms(mols: Sequence[Chem.Mol], starts: NDArray[np.int64], chiral: NDArray[np.bool_]) -> NDArray[np.int16]:
    atoms = [atom for mol in mols for atom in map(mol.GetAtomWithIdx, range(mol.GetNumAtoms()))]
    x = np.empty((len(atoms), 9), np.int16)
    x[:, 0] = _values(Atom.GetAtomicNum, atoms)
    x[:, 1] = _sparse(Atom.GetChiralTag, atoms, starts, chiral)
    x[:, 2] = _values(Atom.GetTotalDegree, atoms)
    x[:, 3] = _values(Atom.GetFormalCharge, atoms) + 5
    x[:, 4] = _values(Atom.GetTotalNumHs, atoms)
    x[:, 5] = _values(Atom.GetNumRadicalElectrons, atoms)
    x[:, 6] = _HYBRID[_values(Atom.GetHybridization, atoms)]
    x[:, 7] = _values(Atom.GetIsAromatic, atoms)
    x[:, 8] = _values(Atom.IsInRing, atoms)
    # A charge of +999999999 parses: what lies outside OGB's categories goes to the nearest one.
    return np.clip(x, 0, np.array(ATOM_SIZES, np.int16) - 1)


def _bonds(mols: Sequence[Chem.Mol], starts: NDArray[np.int64], stereo: NDArray[np.bool_],
           plain: NDArray[np.bool_]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    bonds = [bond for mol in mols for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds()))]
    ends = np.stack([_values(Bond.GetBeginAtomIdx, bonds), _values(Bond.GetEndAtomIdx, bonds)], 1)
    order = np.fromiter(map(Bond.GetBondTypeAsDouble, bonds), np.float64, len(bonds)) * 2
    x = np.empty((len(bonds), 3), np.int16)
    x[:, 0] = _BY_ORDER[order.astype(np.int64)]
    per_bond = np.repeat(np.arange(len(mols)), np.diff(starts))
    odd = ~plain
    odd[per_bond[x[:, 0] < 0]] = True
    exact = _sparse(Bond.GetBondType, bonds, starts, odd)
    x[:, 0] = np.where(odd[per_bond], exact, x[:, 0])
    x[:, 1] = np.minimum(_sparse(Bond.GetStereo, bonds, starts, stereo), BOND_SIZES[1] - 1)
    x[:, 2] = _values(Bond.GetIsConjugated, bonds)
    return ends, x


def _pointer(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """The cycle collector, off: it would scan thousands of atom objects that reference counts free anyway."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def graphs(mols: Sequence[Chem.Mol], smiles: Sequence[str]) -> Packed:
    """The packed graphs: ``atom.x`` (V, 9), ``bond.ends`` (E, 2, each bond once), ``bond.x`` (E, 3)."""
    atoms = _pointer([mol.GetNumAtoms() for mol in mols])
    bonds = _pointer([mol.GetNumBonds() for mol in mols])
    x = _atoms(mols, atoms, np.array(["@" in s for s in smiles], bool))
    dative = np.array(["->" in s or "<-" in s for s in smiles], bool)
    plain = np.logical_and.reduceat(_PLAIN[x[:, 0]], atoms[:-1]) & ~dative if len(mols) else dative
    ends, kinds = _bonds(mols, bonds, np.array(["/" in s or "\\" in s for s in smiles], bool), plain)
    return Packed(len(mols), {"atom.x": x, "bond.ends": ends, "bond.x": kinds}, {"atom": atoms, "bond": bonds})


def featurise(smiles: Sequence[str], *, fragments: bool = True, chunk: int = 64) -> tuple[list[int], Packed]:
    """``(done, items)``: the indices of the SMILES that parse, and their packed graphs.

    With ``fragments``, ``bond.cut`` (E) marks BRICS bonds and ``atom.fragment`` (V) numbers each molecule's fragments.
    """
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    done: list[int] = []
    parts: list[Packed] = []
    for start in range(0, len(smiles), chunk):
        texts = smiles[start:start + chunk]
        parsed = [(start + i, mol) for i, mol in enumerate(map(parse, texts)) if mol is not None]
        if not parsed:
            continue
        mols = [mol for _, mol in parsed]
        with _collector_paused():
            items = graphs(mols, [smiles[i] for i, _ in parsed])
        if fragments:
            cut = cut_bonds(mols, items)
            items = Packed(items.n, {**items.columns, "bond.cut": cut, "atom.fragment": fragment_of_atom(items, cut)},
                           items.indptr)
        parts.append(items)
        done.extend(i for i, _ in parsed)
    return done, concat(parts) if parts else graphs([], [])
