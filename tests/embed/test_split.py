"""The split keeps scaffolds and substances together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import SMILES

from embed.training.split import families, family_digests, scaffolds, split_by_family


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


def split_of(family, seed, has=None):
    names = [f"family {k}".encode() for k in range(int(np.max(family)) + 1)]
    return split_by_family(np.asarray(family), names, np.ones(len(family), bool) if has is None else has, seed, 0.1, 0.2)


@given(st.lists(st.integers(0, 60), min_size=40, max_size=300), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_parts_are_whole_families_and_cover_all(labels, seed):
    _, family = np.unique(labels, return_inverse=True)
    split = split_of(family, seed)
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(family)))
    sides = [set(family[p]) for p in parts]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert np.array_equal(split.test, split_of(family, seed).test)


def test_the_shares_are_met_about_and_depend_on_the_seed():
    split = split_of(np.arange(5000), 0)
    assert len(split.validation) / 5000 == pytest.approx(0.1, abs=0.02)
    assert len(split.test) / 5000 == pytest.approx(0.2, abs=0.02)
    assert not np.array_equal(split.test, split_of(np.arange(5000), 1).test)


def test_drugs_that_are_added_move_no_other_drug():
    family = np.arange(2000) // 2
    before, after = split_of(family, 3), split_of(np.concatenate([family, np.arange(500, 1600)]), 3)
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(after, part)[getattr(after, part) < 2000], getattr(before, part))


def test_drugs_that_have_nothing_count_for_nothing():
    """321 of 2,000 drugs are one family: too many to be held out, however many bare names stand beside them."""
    family = np.concatenate([np.zeros(321, int), np.arange(1, 1680), np.arange(1680, 11680)])
    has = np.arange(len(family)) < 2000
    for seed in range(12):
        split = split_of(family, seed, has)
        assert set(range(321)) <= set(split.train.tolist())
        assert max(map(max, (split.train, split.validation, split.test))) < 2000


def test_a_family_is_named_by_what_does_not_change_with_its_size():
    a, b = b"a" * 32, b"b" * 32
    family = families([b, a, None, None], ["K1", "K1", "K2", ""])
    assert family_digests(family, [b, a, None, None], ["K1", "K1", "K2", ""], ["i0", "i1", "i2", "i3"]) == [a, b"K2", b"i3"]
