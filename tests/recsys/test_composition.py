"""Vectors taken apart: the run's own fusion without a modality or a fragment, and an encoder that goes on learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cohort import make_encoded, sides
from test_drug_knowledge import MEDICATIONS, ROWS, filled  # noqa: F401

from embed.config import load_config, to_json
from embed.features import molecule
from embed.runs import checkpoint, store
from embed.runs.folder import pretrain_folder
from embed.training.data import make_table
from embed.training.model import AlignmentModel
from kb.errors import ConfigError
from kb.ledger.entries import start_run
from kb.query.read import drugs
from kb.settings import Settings
from recsys.answers.explain import BY_FUSION, BY_MEAN, explain
from recsys.answers.fragments import fragment_reader
from recsys.answers.patient import Patient, Visit
from recsys.answers.recommend import RecommenderService
from recsys.cohorts.batches import Sizes
from recsys.experiments.calibration import Platt
from recsys.experiments.checkpoint import Trained, load_recommender, save_recommender
from recsys.experiments.config import from_json
from recsys.experiments.config import load_recommender_config as recommender_config
from recsys.experiments.decode import Decision, logit
from recsys.experiments.signatures import attention_entropy
from recsys.knowledge.gather import read_knowledge
from recsys.orders.interactions import from_pairs
from recsys.recommenders.encoded import EncodedTable
from recsys.registry import RECOMMENDERS

TOWERS = {"molecule": {"hidden": 8, "depth": 1, "fragments": True, "fragment_depth": 1, "heads": 2,
                       "fingerprint_width": 0, "fingerprint_hidden": 8, "dropout": 0.3},
          "text": {"in_width": 5, "hidden": 8, "dropout": 0.1}, "graph": {"in_width": 4, "hidden": 8, "dropout": 0.1}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def run(filled, home):  # noqa: F811
    """An embedding run with random weights: its folder, its stored vectors, published."""
    torch.manual_seed(0)
    model = AlignmentModel(8, TOWERS, "gated", 0.1).eval()
    with torch.no_grad():
        model.fusion.score.normal_()
        model.fusion.gate.normal_()
    with filled.begin() as connection:
        listed, run_id = drugs(connection), start_run(connection, "pretrain")
    ids, smiles = listed.ids, listed.smiles
    present = np.array([[bool(text), True, row % 2 == 0] for row, text in enumerate(smiles)])
    z = np.random.default_rng(0).standard_normal((len(ids), 3, 8)).astype(np.float32)
    z /= np.linalg.norm(z, axis=2, keepdims=True)
    has = np.flatnonzero(present[:, 0])
    _, items = molecule.featurise([smiles[row] for row in has])
    _, inputs = make_table("molecule", items, np.arange(len(has)), torch.device("cpu")).inputs(torch.arange(len(has)))
    with torch.no_grad():
        z[has, 0] = model.encode("molecule", inputs).numpy()
        fused = model.fusion(torch.from_numpy(z * present[..., None]), torch.from_numpy(present)).numpy()
    rests_on = np.zeros((len(ids), 6), bool)
    rests_on[:, 5], rests_on[:, 1], rests_on[:, 4] = present.T
    vectors = {name: (ids[present[:, m]], z[present[:, m], m]) for m, name in enumerate(model.names)}
    store.write_run(filled, run_id, {**vectors, "fused": (ids, fused)}, rests_on)
    store.publish(filled, run_id)
    config = load_config(None, ["width=8", "molecule.fingerprint_bits=0", "modalities=text,graph"])
    checkpoint.save(pretrain_folder(home) / str(run_id) / "best.pt", {"model": model.state_dict(), "extra": {}},
                    {"model": model.kwargs, "config": to_json(config)})
    return run_id


@pytest.fixture(scope="module")
def knowledge(filled, home, run):  # noqa: F811
    return read_knowledge(filled, MEDICATIONS, runs=pretrain_folder(home), encoder=True)


def test_the_parts_give_the_published_vectors_again(knowledge):
    assert knowledge.composition.names == ("molecule", "text", "graph")
    np.testing.assert_allclose(knowledge.composition.vectors(), knowledge.vectors, atol=1e-5)
    assert knowledge.known.tolist() == [True, True, True, False, True]


def test_a_modality_is_left_out_by_the_fusion_itself(filled, knowledge, run):  # noqa: F811
    """Warfarin alone is a medication: its vector without the text is the fusion of the rest, no mean of anything."""
    parts, row = knowledge.composition, MEDICATIONS.index("DRUG:inchikey:PJVWKTKQMONHTI-UHFFFAOYSA-N")
    drug = parts.drug[parts.medication == row]
    present = torch.from_numpy(parts.present[drug]).clone()
    present[:, 1] = False
    with torch.no_grad():
        expected = parts.fresh_fusion()(torch.from_numpy(parts.z[drug]), present)[0]
    np.testing.assert_allclose(parts.without("text")[row], expected * present.any(), atol=1e-6)
    insulin = parts.without("text")[0]
    assert not insulin.any() or parts.present[parts.drug[parts.medication == 0], 2].any()


def test_without_the_run_on_this_disk_the_answer_says_so(filled, home, run, tmp_path, capsys):  # noqa: F811
    elsewhere = read_knowledge(filled, MEDICATIONS, runs=tmp_path)
    assert elsewhere.composition is None and "not on this disk" in capsys.readouterr().err
    other = tmp_path / str(run) / "best.pt"
    tensors, meta = checkpoint.load_checkpoint(pretrain_folder(home) / str(run) / "best.pt")
    tensors["model"]["fusion.score"] += torch.arange(3.0)
    checkpoint.save(other, tensors, meta)
    assert read_knowledge(filled, MEDICATIONS, runs=tmp_path).composition is None
    assert "do not give its published vectors" in capsys.readouterr().err


class Setting:
    """A small cohort whose five medications are those of the knowledge base."""

    def __init__(self, knowledge):
        self.knowledge = replace(knowledge, interactions=from_pairs({(1, 2)}, 5, "by hand"))
        self.encoded = make_encoded(sizes=(12, 8, 5), rates=(3, 2, 2))
        self.train, self.validation, self.test = sides(self.encoded)

    def fitted(self, **settings):
        config = from_json({"epochs": 3, "dim": 8, "batch": 8, "learning_rate": 0.02, "code_dropout": 0.0,
                            "ddi_target": 0.0, **settings})
        model = RECOMMENDERS["mkmed"](self.train.sizes, self.knowledge, config)
        return model

    def trained(self, model):
        names = {kind: self.encoded.vocabularies[kind].codes for kind in ("diagnosis", "procedure")}
        return Trained(model, {**names, "medication": MEDICATIONS}, Decision(0.3), Platt(), {"run": "r"})

    def patient(self):
        diagnosis = self.encoded.vocabularies["diagnosis"].codes
        return Patient((Visit(diagnosis[:2], (), MEDICATIONS[1:2]), Visit(diagnosis[1:4])))


@pytest.fixture(scope="module")
def setting(knowledge):
    return Setting(knowledge)


@pytest.mark.parametrize("mode", ["network", "reference"])
def test_a_share_is_the_published_vector_minus_the_modality(setting, knowledge, mode):
    model = setting.fitted(mode=mode)
    model.fit(setting.train, setting.validation)
    service = RecommenderService(setting.trained(model))
    patient, code = setting.patient(), MEDICATIONS[1]
    explanation, = explain(service, patient, [code])
    assert explanation.method == BY_FUSION
    visits, _ = service.histories([patient])
    whole = logit(service.probabilities(visits))[0, 1]
    kept = model.network.drugs.vectors.clone()
    model.network.drugs.vectors.copy_(torch.from_numpy(
        np.where(knowledge.rests_on[:, [4]], knowledge.composition.without("graph"), knowledge.vectors)))
    without = logit(service.probabilities(visits))[0, 1]
    model.network.drugs.vectors.copy_(kept)
    assert explanation.modalities["graph"] == pytest.approx(whole - without, abs=1e-4)
    assert abs(whole - without) > 1e-4 and explanation.modalities["image"] == 0
    plain = RecommenderService(setting.trained(model))
    plain.knowledge = replace(plain.knowledge, composition=None)
    assert explain(plain, patient, [code])[0].method == BY_MEAN


def test_a_fragment_is_taken_out_of_its_own_drug(setting, home, run, knowledge):
    model = setting.fitted()
    model.fit(setting.train, setting.validation)
    service = RecommenderService(setting.trained(model))
    reader = fragment_reader(home, str(run))
    explanation, = explain(service, setting.patient(), [MEDICATIONS[1]], reader)
    assert explanation.fragments and max(abs(share) for _, share in explanation.fragments) > 1e-4
    parts = knowledge.composition
    drug = parts.molecules(1, 8)
    assert [parts.smiles[d] for d in drug] == sorted((ROWS[k][1] for k in ROWS if ROWS[k][1]),
                                                     key=[parts.smiles[d] for d in drug].index)
    np.testing.assert_allclose(parts.with_molecules(1, drug, np.zeros((len(drug), 8), np.float32)),
                               knowledge.vectors[1], atol=1e-5)


def test_an_encoded_table_begins_at_the_published_vectors_and_learns(setting, knowledge):
    model = setting.fitted(frozen=False, encoder=True)
    table = model.network.drugs
    assert isinstance(table, EncodedTable)
    known = knowledge.known
    np.testing.assert_allclose(table.encode().detach().numpy()[known], knowledge.vectors[known], atol=1e-5)
    calls = []
    table.encoder.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    model.fit(setting.train, setting.validation)
    steps = 3 * -(-setting.train.patients // 8)
    assert sum(calls) == steps  # once a step, whatever the number of visits
    assert len(calls) - steps <= 3 + 1 + 1  # after each epoch, at the end, and for the knowledge that is kept
    moved = [max(float(p.detach().abs().max()) for p in part.change.values()) for part in (table.encoder, table.fusion)]
    assert min(moved) > 1e-4, moved
    attention = table.attention
    assert attention.shape[0] == len(knowledge.composition.tower.drugs) and attention.shape[1] > 1
    torch.testing.assert_close(attention.sum(1), torch.ones(len(attention)))  # each molecule's fragments share one
    assert 0 < attention_entropy(model) <= 1
    gap = np.abs(model.knowledge.vectors - knowledge.vectors)[known]
    assert gap.max() > 1e-3
    np.testing.assert_allclose(model.knowledge.composition.vectors()[known], model.knowledge.vectors[known], atol=1e-5)


def test_an_encoded_table_is_stored_with_what_it_learned_and_needs_no_run_then(setting, tmp_path):
    model = setting.fitted(frozen=False, encoder=True)
    model.fit(setting.train, setting.validation)
    save_recommender(tmp_path / "best.pt", setting.trained(model))
    again = load_recommender(tmp_path / "best.pt")
    np.testing.assert_array_equal(model.predict_proba(setting.test), again.recommender.predict_proba(setting.test))
    first, second = (explain(RecommenderService(t), setting.patient(), list(MEDICATIONS))
                     for t in (setting.trained(model), again))
    assert [e.modalities for e in first] == [e.modalities for e in second] and first[0].method == BY_FUSION


def test_a_resumed_encoder_ends_where_an_uninterrupted_one_does(setting, tmp_path):
    class Stopped(Exception):
        pass

    def stop(row):
        if row["epoch"] == 2:
            raise Stopped

    whole, part = (setting.fitted(frozen=False, encoder=True) for _ in range(2))
    whole.fit(setting.train, setting.validation)
    with pytest.raises(Stopped):
        part.fit(setting.train, setting.validation, folder=tmp_path, log=stop)
    rest = setting.fitted(frozen=False, encoder=True)
    rest.fit(setting.train, setting.validation, folder=tmp_path, resume=True)
    np.testing.assert_array_equal(whole.predict_proba(setting.test), rest.predict_proba(setting.test))


def test_the_encoder_needs_a_run_and_settings_that_fit(setting, knowledge):
    bare = replace(knowledge, composition=replace(knowledge.composition, tower=None))
    with pytest.raises(ConfigError, match="published embedding run"):
        RECOMMENDERS["mkmed"](Sizes(4, 4, 5), bare, from_json({"frozen": False, "encoder": True}))
    for wrong in (["encoder=true"], ["encoder=true", "frozen=false", "vectors=random"],
                  ["encoder=true", "frozen=false", "recommender=retain"]):
        with pytest.raises(ConfigError, match="encoder"):
            recommender_config(None, wrong)
