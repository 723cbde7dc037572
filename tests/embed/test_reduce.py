"""Projections: fitted on the training rows only, missing stays missing, and saved whole."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from embed.features import reduce
from embed.features.neighbourhood import GraphVocabulary, fit_vocabulary, neighbourhoods
from kb.query.read import Triples

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 12)).astype(np.float32) * 3 + 1
FIT = np.arange(30)


def test_held_out_rows_have_no_say():
    other = X.copy()
    other[30:] = 1e3
    for fit in (lambda x: reduce.standardise_columns(x, FIT), lambda x: reduce.centre(x, FIT),
                lambda x: reduce.principal(x, FIT, 5, 0), lambda x: reduce.singular(x, FIT, 5, 0)):
        np.testing.assert_array_equal(fit(X).apply(X[:30]), fit(other).apply(X[:30]))


def test_standardise_leaves_the_missing_missing():
    x = X.copy()
    x[3, 2] = np.nan
    x[:, 5] = 7.0
    x[:, 6] = np.nan
    y = reduce.standardise_columns(x, FIT, log=True, clip=2.0).apply(x)
    assert np.isnan(y[3, 2]) and np.isnan(y[:, 6]).all()
    assert (y[:, 5] == 0).all()
    assert np.nanmax(np.abs(y)) <= 2.0
    assert abs(np.nanmean(reduce.standardise_columns(x, FIT).apply(x)[FIT, 0])) < 1e-5


def test_singular_keeps_inner_products_when_it_keeps_all():
    full = reduce.singular(X, FIT, 12, 0, gain=1.0).apply(X)
    np.testing.assert_allclose(full @ full.T, reduce.unit(X) @ reduce.unit(X).T, atol=1e-4)
    sparse = reduce.singular(csr_array(reduce.unit(X)), FIT, 12, 0, gain=1.0).apply(csr_array(reduce.unit(X)))
    np.testing.assert_allclose(sparse @ sparse.T, full @ full.T, atol=1e-4)


def test_state_round_trip():
    for one in (reduce.standardise_columns(X, FIT, log=True), reduce.principal(X, FIT, 4, 0), reduce.singular(X, FIT, 4, 0)):
        np.testing.assert_array_equal(reduce.projection_of(one.state()).apply(X), one.apply(X))


def described(triples, rows, entities, drugs, train, *, least=2, second=()):
    """The neighbourhoods in the words of the training drugs, which went through a file on the way."""
    words = fit_vocabulary(triples, (rows, entities), drugs, train, least=least, second=second)
    return neighbourhoods(GraphVocabulary.from_state(words.state()), triples, (rows, entities), drugs, second=second)


def test_neighbourhoods_by_hand():
    # Entities: drugs d0 d1 d2 (0-2), genes g3 g4. d0 and d1 share g3; everybody has g4; d2 alone is not training.
    triples = Triples(np.array([0, 1, 0, 1, 4]), np.array([0, 0, 1, 1, 2]), np.array([3, 3, 4, 4, 2]),
                      ["d0", "d1", "d2", "g3", "g4"], ["Compound"] * 3 + ["Gene"] * 2, np.arange(5), ["a", "b", "c"])
    rows = np.array([0, 1, 2, 3])  # drug 3 is linked to the same entity as drug 0; drug 4 is not in the graph
    found = described(triples, rows, np.array([0, 1, 2, 0]), 5, np.array([0, 1, 3, 4]), least=2)
    assert found.position.tolist()[:2] == [0, 1] and found.position[4] == -1
    dense = found.matrix.toarray()
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(dense[0], dense[1], rtol=1e-6)
    # (a, g3), (b, g4) and the bare g3, g4: three training drugs of four have each.
    assert dense.shape[1] == 4 and np.allclose(dense[0], 0.5)


def test_the_second_step_goes_through_targets_and_never_through_drugs():
    # d0 -> p3 -> b5 and d1 -> p4 -> b5 along "path"; d2 is linked to d0 alone; two training drugs reach b5.
    triples = Triples(np.array([0, 1, 3, 4, 2]), np.array([0, 0, 0, 0, 0]), np.array([3, 4, 5, 5, 0]),
                      ["d0", "d1", "d2", "p3", "p4", "b5"], ["Compound"] * 3 + ["Protein"] * 2 + ["Process"],
                      np.arange(6), ["path"])
    rows = np.arange(3)
    near = described(triples, rows, rows, 4, np.arange(4))
    assert (near.position == -1).all()  # within one step nothing is shared
    far = described(triples, rows, rows, 4, np.arange(4), second=("path",))
    assert far.position.tolist() == [0, 1, -1, -1]
    np.testing.assert_allclose(far.matrix.toarray() @ far.matrix.toarray().T, 1.0, rtol=1e-6)
    assert (described(triples, rows, rows, 4, np.arange(4), second=("other",)).position == -1).all()


def test_a_new_drug_is_described_in_the_words_of_training():
    """Another graph, numbered otherwise, with more drugs and entities: a drug that did not change has the same row."""
    old = Triples(np.array([0, 1, 0, 1, 3, 4]), np.array([0, 0, 1, 1, 2, 2]), np.array([3, 3, 4, 4, 5, 5]),
                  ["d0", "d1", "d2", "g3", "g4", "b5"], ["Compound"] * 3 + ["Gene"] * 2 + ["Process"], np.arange(6),
                  ["a", "b", "path"])
    words = fit_vocabulary(old, (np.arange(3), np.arange(3)), 3, np.arange(3), second=("path",))
    before = neighbourhoods(words, old, (np.arange(3), np.arange(3)), 3, second=("path",))
    names = ["new gene", "b5", "g4", "d9", "g3", "d1", "d0", "d2"]
    place = {name: k for k, name in enumerate(names)}
    edges = [("d0", "a", "g3"), ("d1", "a", "g3"), ("d0", "b", "g4"), ("d1", "b", "g4"), ("g3", "path", "b5"),
             ("g4", "path", "b5"), ("d9", "a", "g3"), ("d9", "z", "new gene"), ("d0", "z", "new gene"), ("d9", "z", "d0")]
    relations = ["z", "path", "b", "a"]
    new = Triples(*(np.array(column) for column in zip(
        *((place[h], relations.index(r), place[t]) for h, r, t in edges), strict=True)), names,
        ["Gene", "Process", "Gene", "Compound", "Gene", "Compound", "Compound", "Compound"], np.arange(8), relations)
    drugs = ["d9", "d0", "d1", "d2"]
    after = neighbourhoods(words, new, (np.arange(4), np.array([place[d] for d in drugs])), 4, second=("path",))
    assert after.position.tolist() == [0, 1, 2, -1] and after.matrix.shape[1] == words.width
    np.testing.assert_array_equal(after.matrix.toarray()[1:], before.matrix.toarray())
