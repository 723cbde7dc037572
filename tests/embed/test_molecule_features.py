"""The vectorised molecular graphs against torch_geometric's, and what becomes of bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import BRICS
from small_corpus import SMILES
from torch_geometric.utils import from_smiles

from embed.features.molecule import featurise
from embed.features.packed import Packed, concat, ranges, vectors
from kb.errors import DataError

ODD = [
    "[NH3+]CC([O-])=O", "F/C=C\\F", "[Fe+2].[O-]S(=O)(=O)[O-]", "[CH3]", "O=[N+]([O-])c1ccccc1", "C#N", "[2H]C",
    "N->[Pt](Cl)(Cl)<-N", "CC[C@@H](C)[C@H](O)F", "B(O)O", "S(=O)(=O)(O)O", "P(=O)(O)(O)O", "[He]", "C1=CC=C[CH-]1",
    "OS(F)(F)(F)(F)F", "c1cc[nH]c1", "[C-]#[O+]", "CC1=C(C)[C@@]2(C)CC1CC2", "[Cu]",
]


def directed(items: Packed) -> tuple[np.ndarray, np.ndarray]:
    ends = items.columns["bond.ends"].astype(int)
    both, kinds = np.concatenate([ends, ends[:, ::-1]]), np.concatenate([items.columns["bond.x"]] * 2)
    order = np.lexsort((both[:, 1], both[:, 0]))
    return both[order].T, kinds[order]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_equals_torch_geometric(chunk):
    texts = SMILES + ODD
    done, items = featurise(texts, chunk=chunk)
    assert done == list(range(len(texts)))
    for row, text in enumerate(texts):
        one, expected = items.take(np.array([row])), from_smiles(text)
        edges, kinds = directed(one)
        np.testing.assert_array_equal(one.columns["atom.x"], expected.x.numpy(), err_msg=text)
        np.testing.assert_array_equal(edges, expected.edge_index.numpy(), err_msg=text)
        np.testing.assert_array_equal(kinds, expected.edge_attr.numpy(), err_msg=text)


def test_bad_smiles_are_left_out():
    texts = ["CCO", "", "not a smiles", "C" * 10_001, "C" * 1_001, "CCO evil name", "c1ccccc", "O", "[C+999999999]"]
    done, items = featurise(texts)
    assert done == [0, 7, 8]
    assert items.columns["atom.x"].max() < 119  # the absurd charge went to the nearest category
    assert featurise([""])[1].n == 0


@pytest.mark.parametrize("text", [s for s in SMILES if "." not in s] + ["CCC(=O)NCc1ccccc1OCC", "CCN(CC)CC"])
def test_fragments_are_those_of_brics(text):
    mol = Chem.MolFromSmiles(text)
    _, items = featurise([text])
    cut = {frozenset(ends) for ends, _ in BRICS.FindBRICSBonds(mol)}
    ends = items.columns["bond.ends"]
    assert {frozenset(map(int, e)) for e in ends[items.columns["bond.cut"]]} == cut
    bonds = [mol.GetBondBetweenAtoms(*pair).GetIdx() for pair in cut]
    pieces = Chem.GetMolFrags(Chem.FragmentOnBonds(mol, bonds, addDummies=False) if bonds else mol)
    label = items.columns["atom.fragment"]
    assert {frozenset(np.flatnonzero(label == k)) for k in np.unique(label)} == {frozenset(p) for p in pieces}
    assert label[0] == 0
    assert set(np.unique(label)) == set(range(len(pieces)))


def test_packed_take_and_concat_are_inverse():
    _, items = featurise(SMILES)
    rows = np.array([3, 0, 3, 19, 7])
    again = concat([items.take(rows[k:k + 1]) for k in range(len(rows))])
    for name, column in items.take(rows).columns.items():
        np.testing.assert_array_equal(column, again.columns[name])


def test_packed_refuses_what_does_not_fit():
    with pytest.raises(DataError, match="2 rows, not 3"):
        Packed(3, {"vector": np.zeros((2, 4))})
    with pytest.raises(DataError, match="pointers"):
        Packed(1, {"a.x": np.zeros(2)}, {"a": np.array([0, 2, 1])})
    assert vectors(np.zeros((0, 3))).n == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=8))
@settings(max_examples=50, deadline=None)
def test_ranges(pairs):
    starts, lengths = (np.array([p[k] for p in pairs], np.int64) for k in (0, 1))
    expected = [i for start, length in pairs for i in range(start, start + length)]
    assert ranges(starts, lengths).tolist() == expected


def test_many_graphs_are_made_ready_in_parts(monkeypatch):
    from embed.features.packed import Packed
    from embed.training import data

    _, items = featurise(["CCO", "c1ccccc1CC(=O)NC", "[Na+].[Cl-]", "C", "CC(=O)Oc1ccccc1C(=O)O"])
    items = Packed(items.n, {**items.columns, "vector": np.arange(items.n)}, items.indptr)
    whole = data.both_directions(items)
    monkeypatch.setattr(data, "ITEMS", 2)
    parts = data.both_directions(items)
    assert set(parts.columns) == set(whole.columns) and set(parts.indptr) == set(whole.indptr)
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(parts.columns[name], column, err_msg=name)
    for axis, pointer in whole.indptr.items():
        np.testing.assert_array_equal(parts.indptr[axis], pointer, err_msg=axis)
