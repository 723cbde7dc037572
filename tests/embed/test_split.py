"""The split keeps scaffolds and substances together."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import SMILES

from embed.training.split import families, scaffolds, split_by_family


def test_scaffold_and_substance_tie_even_in_steps():
    a, b = b"a" * 32, b"b" * 32
    family = families([a, a, b, b, None, bytes(32), bytes(32)], ["K1", "K2", "K2", "K3", "", "K4", "K5"])
    assert len(set(family[:4])) == 1  # 0 and 1 by ring, 1 and 2 by substance, 2 and 3 by ring
    assert len(set(family[3:])) == 4  # no ring and no structure tie nothing


def test_molecules_with_one_ring_system_share_a_scaffold():
    done, items = scaffolds(["CC(=O)Oc1ccccc1C(=O)O", "OC(=O)c1ccccc1O", "CCO", "bad", "C1CCCCC1C"])
    digests = items.columns["scaffold"]
    assert done == [0, 1, 2, 4]
    assert (digests[0] == digests[1]).all()
    assert not digests[2].any()
    assert not (digests[0] == digests[3]).all()
    assert scaffolds(SMILES)[1].n == len(SMILES)


@given(st.lists(st.integers(0, 60), min_size=40, max_size=300), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_parts_are_whole_families_and_cover_all(labels, seed):
    _, family = np.unique(labels, return_inverse=True)
    split = split_by_family(family, seed, 0.1, 0.2)
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(family)))
    sides = [set(family[p]) for p in parts]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert len(split.validation) <= 0.1 * len(family) and len(split.test) <= 0.2 * len(family)
    again = split_by_family(family, seed, 0.1, 0.2)
    assert np.array_equal(split.test, again.test)


def test_the_shares_are_met_where_families_are_small():
    split = split_by_family(np.arange(1000), 0, 0.1, 0.2)
    assert (len(split.train), len(split.validation), len(split.test)) == (700, 100, 200)
    assert not np.array_equal(split.test, split_by_family(np.arange(1000), 1, 0.1, 0.2).test)
