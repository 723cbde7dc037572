"""The transfer head: its kernels, leaving one out in closed form, what it keeps, and what it does without MiniMol."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import RDLogger
from scipy.sparse import csr_array
from small_corpus import SMILES

from embed.features.cache import FeatureCache
from embed.training.pairs import read_pairs, unknown_pairs
from embed.transfer import fit, molecules
from embed.transfer.carriers import carriers
from embed.transfer.fit import TransferDrugs, fit_head
from embed.transfer.head import TransferHead, csls, hubness
from embed.transfer.kernel import bit_tanimoto, count_tanimoto
from kb.errors import CheckpointError, DataError

RDLogger.DisableLog("rdApp.*")
PLAIN = [text for text in SMILES if "." not in text]
TEXTS = [tail + text for tail in ("", "CCCC", "NCCOC", "OCC") for text in PLAIN]


@pytest.fixture(scope="module")
def drugs() -> TransferDrugs:
    read, found = molecules.read(TEXTS, FeatureCache(None), bits=512, network=False)
    side = (np.arange(len(read)) % 5 == 4).astype(np.int8)
    return TransferDrugs(found, np.arange(len(read)), [f"drug {k}" for k in read], side)


@pytest.fixture(scope="module")
def truths(drugs):
    rng = np.random.default_rng(0)
    numbers = drugs.molecules.numbers
    known = np.ones(len(numbers), bool)
    known[3::7] = False
    text = np.tanh(numbers[:, :20] @ rng.normal(size=(20, 12)) / 20).astype(np.float32)
    return {"text": (text, known), "fused": (text[:, :6].copy(), np.ones(len(text), bool))}


@pytest.fixture(scope="module")
def head(drugs, truths) -> TransferHead:
    made = fit_head(drugs, truths, width=16, encoder=None)
    assert made is not None
    return made


def test_kernels_equal_their_definitions(drugs):
    counts = np.minimum(drugs.molecules.counts.toarray(), molecules.MOST_COUNT)
    a, b = counts[:7], counts[7:19]
    smaller, larger = np.minimum(a[:, None], b[None]).sum(2), np.maximum(a[:, None], b[None]).sum(2)
    np.testing.assert_allclose(count_tanimoto(csr_array(a), csr_array(b)), smaller / larger, atol=1e-6)
    on_a, on_b = a > 0, b > 0
    both, any_ = (on_a[:, None] & on_b[None]).sum(2), (on_a[:, None] | on_b[None]).sum(2)
    np.testing.assert_allclose(bit_tanimoto(csr_array(a), csr_array(b)), both / any_, atol=1e-6)


def test_a_training_molecule_is_foretold_without_itself(drugs, truths, head):
    """As by a regression that never had the drug, solved anew."""
    found = head.foretell(drugs.molecules)
    matrix, known = truths["text"]
    truth = fit.unit(matrix)
    similarity, penalty = head.kernel(drugs.molecules), head.chosen["penalty"]
    landmark = np.flatnonzero(drugs.side == 0)
    own = similarity.copy()
    own[landmark, np.arange(len(landmark))] = 0
    alone = np.flatnonzero((drugs.side == 0) & known & (own.max(1) < 0.99))[:5]
    mean = truth[(drugs.side == 0) & known].mean(0)
    for row in alone:
        rest = np.array([k for k in landmark if known[k] and k != row])
        place = np.searchsorted(landmark, rest)
        inner = similarity[np.ix_(rest, place)].astype(np.float64) + penalty * np.eye(len(rest))
        expected = similarity[row, place] @ np.linalg.solve(inner, truth[rest] - mean) + mean
        np.testing.assert_allclose(found.vectors["text"][row], expected, atol=2e-4)
    held = np.flatnonzero(drugs.side == 1)[:5]
    target = head.targets["text"]
    np.testing.assert_allclose(found.vectors["text"][held], similarity[held] @ target.alpha + target.mean, atol=1e-5)


def test_an_unlike_molecule_is_foretold_with_less_confidence(head, drugs):
    read, odd = molecules.read(["[He]", "F[Si](F)(F)[Ge]"], FeatureCache(None), bits=512, network=False)
    strange = head.foretell(odd).agreement["text"]
    usual = head.foretell(drugs.molecules).agreement["text"]
    assert len(read) == 2 and (strange <= np.median(usual)).all()


def test_the_head_is_the_same_after_it_was_kept(head, drugs):
    from embed.runs.artefact import arrays_bytes, read_arrays

    again = TransferHead.from_arrays(*read_arrays(arrays_bytes(head.arrays(), head.meta()), "transfer"))
    few = drugs.molecules.take(np.arange(6))
    before, after = head.foretell(few), again.foretell(few)
    np.testing.assert_allclose(after.wide, before.wide, atol=1e-6)
    np.testing.assert_allclose(after.vectors["text"], before.vectors["text"], atol=1e-6)
    assert again.names == head.names and again.chosen["penalty"] == head.chosen["penalty"]
    np.testing.assert_allclose(np.linalg.norm(after.wide, axis=1), 1, atol=1e-5)


def test_molecules_are_alike_by_the_weighted_mean_of_their_parts(head, drugs, truths):
    """By hand from the head's numbers; the same molecule is 1, and traits are cut and joined as they lie."""
    traits = head.foretell(drugs.molecules).traits
    found = head.alike(traits.take(np.arange(6)), traits)
    counts = drugs.molecules.counts.toarray() > 0
    tanimoto = (counts[:6, None] & counts[None]).sum(2) / (counts[:6, None] | counts[None]).sum(2)
    described = np.flatnonzero((drugs.side == 0) & truths["text"][1])
    own = counts[described]
    among = (own[:, None] & own[None]).sum(2) / (own[:, None] | own[None]).sum(2)
    of_text = fit.unit(head.foretell(drugs.molecules).vectors["text"] - head.wide.mean["text"])
    above = np.triu_indices(len(own), 1)
    share = 1 / np.array([among[above].std(), (of_text[described] @ of_text[described].T)[above].std()])
    expected = np.stack([tanimoto, of_text[:6] @ of_text.T], 2) @ share / share.sum()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found[np.arange(6), np.arange(6)], 1, atol=1e-5)
    parted = traits.take(np.arange(3)).joined(traits.take(np.arange(3, len(traits))))
    np.testing.assert_array_equal(head.alike(traits, parted), head.alike(traits, traits))


def test_without_texts_and_graph_molecules_are_alike_by_their_substructures_alone(drugs, truths):
    head = fit_head(drugs, {"fused": truths["fused"]}, width=16, encoder=None)
    assert head is not None and head.wide.parts == ["tanimoto"]
    few = drugs.molecules.take(np.arange(6))
    traits = head.foretell(few).traits
    np.testing.assert_allclose(head.alike(traits, traits), bit_tanimoto(few.counts, few.counts), atol=1e-6)


def test_a_head_of_a_development_version_says_that_it_is_one(head, tmp_path):
    """It was kept without what molecules are compared by."""
    class Run:
        folder = tmp_path / "0123456789"

        def has(self, name):
            return True

        def arrays(self, name):
            meta = head.meta()
            return head.arrays(), {**meta, "wide": {key: value for key, value in meta["wide"].items() if key != "spread"}}

    with pytest.raises(CheckpointError, match="01234567") as error:
        TransferHead.of(Run())
    assert "pretrain" in error.value.hint


def test_carriers_shares_add_up_to_the_whole_move(head, drugs):
    held = drugs.molecules.take(np.flatnonzero(drugs.side == 1)[:1])
    found = head.foretell(held)
    target = head.targets["text"]
    move = found.vectors["text"][0] - target.mean
    every = found.landmark[0] * (target.alpha @ move) / (move @ move)
    assert every.sum() == pytest.approx(1, abs=1e-4)
    told = carriers(head, found, "text")
    assert told[0].share == pytest.approx(every.max(), abs=1e-6) and told[0].drug.startswith("drug ")


def test_many_training_drugs_are_compared_with_some_of_them(drugs, truths):
    made = fit_head(drugs, truths, width=16, encoder=None, penalty=0.3, compared=30)
    assert made is not None and len(made.kernel.landmarks) == 30
    found = made.foretell(drugs.molecules)
    held = drugs.side == 1
    cosine = (fit.unit(found.vectors["fused"][held]) * fit.unit(truths["fused"][0][held])).sum(1)
    assert cosine.mean() > 0.3 and found.wide.shape == (len(held), 16)


def test_too_few_drugs_make_no_head(drugs, truths):
    few = TransferDrugs(drugs.molecules.take(np.arange(10)), drugs.group[:10], list(drugs.names[:10]), drugs.side[:10])
    assert fit_head(few, {name: (m[:10], k[:10]) for name, (m, k) in truths.items()}, width=16, encoder=None) is None


def test_a_hub_loses_what_it_is_near_to_everything():
    a, hub = np.eye(3, dtype=np.float32), np.full((1, 3), 3**-0.5, np.float32)
    b = np.concatenate([hub, 0.8 * a + 0.2 * hub])
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    plain = a @ b.T
    score = csls(plain, hubness(a, b), hubness(b, np.repeat(a, 10, 0) + 0.4 * hub))
    assert (score[:, 1:].diagonal() - score[:, 0] > plain[:, 1:].diagonal() - plain[:, 0]).all()


def test_landmarks_are_first_those_of_which_something_is_told(drugs, truths):
    few = np.zeros(len(drugs.side), bool)
    few[:30] = True
    told = {"text": (truths["text"][0], few), "fused": truths["fused"]}
    made = fit_head(drugs, told, width=8, encoder=None, compared=30)
    wanted = {drugs.names[row] for row in np.flatnonzero(few & (drugs.side == 0))}
    assert wanted <= set(made.names)
    assert len(made.names) == 30


def test_molecules_that_are_no_drugs_train_and_no_answer_goes_by_them(drugs, truths):
    """Their texts move predictions; hubs, certainty and the wide vector are of drugs alone."""
    other = np.zeros(len(drugs.side), bool)
    other[1::4] = True
    other &= drugs.side == 0
    without = TransferDrugs(drugs.molecules, drugs.group, drugs.names, np.where(other, -1, drugs.side).astype(np.int8))
    whole = TransferDrugs(drugs.molecules, drugs.group, drugs.names, drugs.side, other)
    one, both = (fit_head(each, truths, width=8, encoder=None, penalty=0.3) for each in (without, whole))
    assert both.chosen["other molecules"] == other.sum() and one.chosen["other molecules"] == 0
    assert len(both.targets["text"].truth) == len(one.targets["text"].truth) == len(one.targets["text"].foretold)
    test = drugs.molecules.take(np.flatnonzero(drugs.side == 1))
    assert not np.allclose(one.foretell(test).vectors["text"], both.foretell(test).vectors["text"], atol=1e-3)


PAIRS = """CID\tSMILES\tdescription
1\tCC(=O)Oc1ccccc1C(=O)O\ta drug of the corpus
2\tc1ccc2ncccc2c1CC\ta scaffold that is held out
3\tC/C=C\\\\C1CCCCC1\ta molecule of its own
4\tC/C=C\\\\C1CCCCC1\tthe same again
5\tno molecule\tnothing
6\tCCCCCCCC\t
7\tCCCCCCCCCO\tno ring at all
"""


def test_pairs_are_of_no_drug_and_of_no_scaffold_that_is_held_out(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(PAIRS)
    pairs = read_pairs(path)
    assert [text for _, text in pairs] == ["a drug of the corpus", "a scaffold that is held out", "a molecule of its own",
                                           "the same again", "nothing", "no ring at all"]
    assert pairs[2][0] == "C/C=C\\C1CCCCC1"
    aspirin = "BSYNRYMUTXBXSQ"
    kept = unknown_pairs(pairs, {aspirin}, ["c1ccc2ncccc2c1", "CCO"], FeatureCache(None))
    assert [text for _, text in kept] == ["a molecule of its own", "no ring at all"]
    assert len(unknown_pairs(pairs, set(), [], FeatureCache(None))) == 4
    with pytest.raises(DataError, match="no columns SMILES and description"):
        (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
        read_pairs(tmp_path / "other.tsv")
    with pytest.raises(DataError, match="does not exist"):
        read_pairs(tmp_path / "nowhere.tsv")
