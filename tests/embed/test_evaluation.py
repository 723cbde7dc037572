"""The figures of the evaluation, against cases that can be worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from embed.config import LossConfig
from embed.evaluation.classes import cosine, nearest_class, shared_classes, tanimoto
from embed.evaluation.intervals import over_seeds, paired
from embed.evaluation.pairs import aurocs, indication_auroc, interaction_auroc
from embed.evaluation.retrieval import ranks, retrieve, retrieve_both_ways
from embed.evaluation.rivals import concatenation, reduced, substructures, teacher_similarity


def test_several_codes_share_a_class_when_any_does():
    shared = shared_classes([["A10BA02", "C07AB02"], ["C07AA05"], ["A10AB01"], []], 2)
    assert shared.tolist() == [
        [True, True, True, False],
        [True, True, False, False],
        [True, False, True, False],
        [False] * 4,
    ]


def test_nearest_class_equals_scikit_learn_where_every_drug_has_one_code():
    rng = np.random.default_rng(0)
    matrix, labels = rng.normal(size=(80, 8)), rng.integers(4, size=80)
    codes = [["ABCD"[label]] for label in labels]
    ours = nearest_class(cosine(matrix), codes, [""] * 80, levels=(1,)).accuracy[1]
    hits = 0
    for row in range(80):
        rest = np.arange(80) != row
        theirs = KNeighborsClassifier(1, metric="cosine").fit(matrix[rest], labels[rest])
        hits += theirs.predict(matrix[row : row + 1])[0] == labels[row]
    assert ours == pytest.approx(hits / 80)


def test_the_same_substance_is_no_neighbour():
    similarity = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
    codes = [["A"], ["A"], ["B"]]
    assert nearest_class(similarity, codes, ["", "", ""], levels=(1,)).accuracy[1] == pytest.approx(2 / 3)
    assert nearest_class(similarity, codes, ["X", "X", "Y"], levels=(1,)).accuracy[1] == 0


def test_tanimoto():
    assert tanimoto(np.array([[1.0, 1, 0], [1, 0, 1]]))[0, 1] == pytest.approx(1 / 3)


def test_perfect_and_useless_retrieval():
    eye = np.eye(20)
    perfect = retrieve(eye, eye, np.arange(20))
    assert perfect.recall == {1: 1.0, 5: 1.0, 10: 1.0}
    assert perfect.mrr == 1
    assert perfect.lift(10) == pytest.approx(2)
    constant = np.ones((20, 4))
    assert retrieve(constant, constant, np.arange(20)).recall[10] == 0, "ties must not count as found"


def test_retrieval_by_hand():
    a = np.eye(4)
    b = a[[1, 0, 2, 3]]  # the first two are each other's best
    found = retrieve(a, b, np.arange(4), ks=(1, 2))
    assert found.recall == {1: 0.5, 2: 0.5}  # ties count against: the own partner scores like two others, 0
    assert found.mrr == pytest.approx((1 + 1 + 1 / 4 + 1 / 4) / 4)
    assert retrieve(a, b, [0, 0, 2, 3], ks=(1,)).mrr == pytest.approx((1 + 1 + 1 / 3 + 1 / 3) / 4)


def test_both_ways_is_the_mean_of_the_ways():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 4))
    there, back, both = (find(*pair, np.arange(30)) for find, pair in (
        (retrieve, (a, b)), (retrieve, (b, a)), (retrieve_both_ways, (a, b))))
    assert there.recall != back.recall
    assert both.figures() == pytest.approx({k: (v + back.figures()[k]) / 2 for k, v in there.figures().items()})


def test_vectors_that_are_not_numbers_find_nothing():
    a = np.full((12, 3), np.nan)
    assert retrieve(a, a, np.arange(12)).recall[10] == 0


def test_chance_is_chance():
    found = []
    for seed in range(20):
        a, b = np.random.default_rng(seed).normal(size=(2, 200, 16))
        found.append(retrieve(a, b, np.arange(200)))
    assert np.mean([f.recall[10] for f in found]) == pytest.approx(found[0].chance[10], abs=0.015)


@given(st.integers(2, 30), st.integers(0, 5))
def test_ranks_are_those_of_a_plain_sort(rows, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(rows, 5)), rng.normal(size=(rows, 5))
    plain = [1 + sorted(range(rows), key=lambda j, i=i: -(a[i] @ b[j])).index(i) for i in range(rows)]
    assert ranks(a, b, np.arange(rows)).tolist() == plain


def test_duplicates_of_a_substance_are_neither_right_nor_wrong():
    a = np.array([[1.0, 0], [1, 0], [0, 1]])
    found = retrieve(a, a, np.array([0, 0, 1]), ks=(1,))
    assert found.recall[1] == 1
    assert found.chance[1] == pytest.approx((0.5 + 0.5 + 1 / 3) / 3)


def test_interactions_that_follow_from_the_vectors_are_found_and_random_ones_are_not():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(200, 6))
    held_out = np.arange(200) >= 150
    score = matrix[:, 0][:, None] * matrix[:, 0][None, :]
    pairs = np.argwhere(np.triu(score > 1.2, 1))
    assert interaction_auroc(matrix, pairs, held_out).auroc > 0.9
    noise = np.unique(rng.integers(200, size=(900, 2)), axis=0)
    assert 0.4 < interaction_auroc(matrix, noise[noise[:, 0] < noise[:, 1]], held_out).auroc < 0.6


def test_indications():
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(5, 8))
    label = rng.integers(5, size=150)
    matrix = centres[label] + 0.3 * rng.normal(size=(150, 8))
    pairs = np.stack([np.arange(150), label], axis=1)
    assert indication_auroc(matrix, pairs, np.arange(150) >= 120).auroc > 0.95
    shuffled = np.stack([np.arange(150), rng.permutation(label)], axis=1)
    assert 0.35 < indication_auroc(matrix, shuffled, np.arange(150) >= 120).auroc < 0.65


def test_intervals():
    mean, low, high = over_seeds([1.0, 2.0, 3.0])
    assert (mean, round(high - mean, 3)) == (2.0, 2.484)
    assert low == pytest.approx(4 - high)
    assert np.isnan(over_seeds([1.0])[1])


def test_a_difference_of_the_same_queries_has_an_interval_around_it():
    ours, theirs = np.array([1, 1, 0, 1] * 50), np.array([1, 0, 0, 1] * 50)
    gain, low, high = paired(ours, theirs)
    assert gain == 0.25 and 0.15 < low < 0.25 < high < 0.35
    assert paired(ours, ours) == (0, 0, 0)


def raw_features(n=60):
    rng = np.random.default_rng(4)
    bits = np.packbits(rng.random((n, 64)) < 0.2, axis=1)
    known = np.ones(n, bool)
    known[:5] = False
    return {"molecule": (bits, known), "text": (rng.normal(size=(n, 12)).astype(np.float32), ~known | (np.arange(n) > 20))}


def test_rivals_use_what_is_there_and_nothing_else():
    raw, train = raw_features(), np.arange(10, 60)
    molecules = substructures(raw, train)
    whole = concatenation(raw, molecules)
    assert whole.shape == (60, 50 + 12)
    assert not whole[:5, :50].any() and not whole[7, 50:].any() and whole[30].any()
    np.testing.assert_allclose(np.linalg.norm(whole[30, 50:]), 1, rtol=1e-5)
    assert concatenation(raw, None).shape == (60, 12)
    assert reduced(whole, train, 8).shape == (60, 8)
    rows = np.arange(60)
    taught = teacher_similarity(raw, LossConfig(relation_shrink=0.0, relation_of=("text",), relation_weights=(1.0,)), rows)
    both = np.flatnonzero(raw["text"][1])
    near = cosine(raw["text"][0])[np.ix_(both, both)]
    np.fill_diagonal(near, -9)
    ours = taught[np.ix_(both, both)].copy()
    np.fill_diagonal(ours, -99)
    assert (ours.argmax(1) == near.argmax(1)).all()


def test_with_matched_negatives_being_a_partner_of_many_says_nothing():
    rng = np.random.default_rng(0)
    popular = rng.random(200) ** 3
    pairs = np.array([(a, b) for a in range(200) for b in range(a) if rng.random() < popular[a] * popular[b]])
    held = np.arange(200) % 5 == 0
    plain, matched = (interaction_auroc(None, pairs, held, matched=m).auroc for m in (False, True))
    assert plain > 0.65 and abs(matched - 0.5) < 0.06


def test_aurocs_by_row_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, scores = rng.random((40, 30)) < 0.2, np.round(rng.random((40, 30)), 1)  # with ties
    truth[3], truth[4] = False, True
    found = aurocs(truth, scores)
    assert np.isnan(found[[3, 4]]).all()
    mixed = np.flatnonzero(truth.any(1) & ~truth.all(1))
    assert np.allclose(found[mixed], [roc_auc_score(truth[k], scores[k]) for k in mixed])
