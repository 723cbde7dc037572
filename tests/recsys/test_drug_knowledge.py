"""Medications' knowledge from a real knowledge base and a published run, and a training run recorded in it."""


import numpy as np
import pytest
from by_hand import DOCUMENT, write
from sqlalchemy import text

from embed.config import load_config
from embed.runs import store
from kb.errors import DataError, NotFound, UsageError
from kb.ledger.entries import start_run
from kb.normalise import Identifier
from kb.query.read import INDICATIONS, drugs
from kb.settings import Settings
from kb.sources.contract import DrugRecord, InteractionRecord
from recsys.cohorts.files import save_cohort
from recsys.experiments.config import from_json
from recsys.experiments.runs import train_run
from recsys.generators import clusters
from recsys.generators.population import Shape
from recsys.knowledge.gather import bundled_knowledge, read_knowledge, refuse_treat_edges

ASPIRIN, WARFARIN, INSULIN, CLOPIDOGREL = "drugbank:DB00945", "drugbank:DB00682", "drugbank:DB00030", "drugbank:DB00758"
KEYS = {ASPIRIN: "BSYNRYMUTXBXSQ-UHFFFAOYSA-N", WARFARIN: "PJVWKTKQMONHTI-UHFFFAOYSA-N"}
ROWS = {ASPIRIN: ("Aspirin", "CC(=O)Oc1ccccc1C(=O)O", ("B01AC06", "N02BA01")),
        WARFARIN: ("Warfarin", "CC(=O)CC(c1ccccc1)C1=C(O)c2ccccc2OC1=O", ("B01AA03",)),
        INSULIN: ("Insulin human", None, ("A10AB01",)),
        CLOPIDOGREL: ("Clopidogrel", None, ("B01AC04",))}
MEDICATIONS = ("ATC:A10A", "ATC:B01A", "ATC:N02B", "ATC:C03C", f"DRUG:inchikey:{KEYS[WARFARIN]}")


@pytest.fixture(scope="module")
def filled(database):
    records = [DrugRecord(key, name, DOCUMENT, smiles=smiles, inchikey=KEYS.get(key), identifiers=(Identifier.parse(key),))
               for key, (name, smiles, _) in ROWS.items()]
    pairs = [InteractionRecord(WARFARIN, ASPIRIN, DOCUMENT, "NDF-RT", "CC0-1.0", "Critical")]
    write(database, records, {key: codes for key, (*_, codes) in ROWS.items()}, pairs)
    return database


def test_without_a_published_run_the_hint_names_both_ways_out(filled):
    with pytest.raises(NotFound) as error:
        read_knowledge(filled, MEDICATIONS)
    assert "pretrain" in error.value.hint and "vectors=learned" in error.value.hint
    knowledge = read_knowledge(filled, MEDICATIONS, vectors=False)
    assert not knowledge.known.any() and knowledge.vectors_run == "none"


def test_interactions_names_and_molecules_of_classes(filled):
    knowledge = read_knowledge(filled, MEDICATIONS, vectors=False)
    interacting = {tuple(pair) for pair in np.argwhere(np.triu(knowledge.interactions.matrix)).tolist()}
    # warfarin (B01A, and itself) with aspirin (B01A and N02B); never a class with itself
    assert interacting == {(1, 2), (1, 4), (2, 4)}
    assert knowledge.names[0] == "Insulin human" and knowledge.names[3] == "ATC:C03C"
    assert len(knowledge.smiles[1]) == 2 and knowledge.smiles[0] == ()


@pytest.fixture(scope="module")
def published(filled):
    with filled.begin() as connection:
        listed, run = drugs(connection), start_run(connection, "pretrain")
    ids = dict(zip(listed.names, listed.ids.tolist(), strict=True))
    order = np.array(sorted(ids[name] for name in ("Aspirin", "Insulin human", "Warfarin")))
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3, 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    rests_on = np.zeros((3, 6), bool)
    rests_on[:, 1] = True
    rests_on[order == ids["Aspirin"], 5] = True
    store.write_run(filled, run, {"fused": (order, matrix), "text": (order, matrix)}, rests_on)
    store.publish(filled, run)
    return run, ids, dict(zip(order.tolist(), matrix, strict=True))


def test_a_medication_is_the_mean_of_its_drugs_and_biologics_count(filled, published):
    run, ids, vector = published
    knowledge = read_knowledge(filled, MEDICATIONS)
    assert knowledge.vectors_run == str(run)
    np.testing.assert_allclose(knowledge.vectors[0], vector[ids["Insulin human"]], atol=1e-6)
    mean = (vector[ids["Aspirin"]] + vector[ids["Warfarin"]]) / 2  # clopidogrel has no vector
    np.testing.assert_allclose(knowledge.vectors[1], mean / np.linalg.norm(mean), atol=1e-6)
    assert knowledge.known.tolist() == [True, True, True, False, True]
    assert not knowledge.vectors[3].any()
    on = {name: knowledge.rests_on[:, i].tolist() for i, name in enumerate(knowledge.modalities)}
    assert on["text"] == [True, True, True, False, True] and on["molecule"] == [False, True, True, False, False]
    assert not any(on["graph"])
    with pytest.raises(DataError, match="none of the medications"):
        read_knowledge(filled, ("ATC:C03C",))


@pytest.mark.parametrize(("config", "told"), [
    ({}, INDICATIONS), ({"modalities": ["text", "graph"], "graph": {"exclude": ["PCiC", "CrC"]}}, INDICATIONS),
    ({"modalities": ["graph"], "graph": {"exclude": ["CtD", "CpD", "indication"]}}, ("treats",)),
    ({"modalities": ["graph"], "graph": {"exclude": [*INDICATIONS, "CrC"]}}, ()), ({"modalities": ["text"]}, ())])
def test_a_run_whose_graph_says_what_drugs_treat_is_refused_and_the_hint_makes_one_that_is_not(filled, config, told):
    with filled.begin() as connection:
        listed, run = drugs(connection), start_run(connection, "pretrain", config=config)
    store.write_run(filled, run, {"fused": (listed.ids[:1], np.eye(1, 8, dtype=np.float32))}, np.ones((1, 6), bool))
    if not told:
        return refuse_treat_edges(filled, str(run))
    with pytest.raises(UsageError, match=", ".join(told)) as error:
        refuse_treat_edges(filled, str(run)[:13])
    setting = error.value.hint.partition("--set ")[2]
    assert load_config(None, [setting]).graph.exclude == (*config.get("graph", {}).get("exclude", ()), *told)


def test_a_run_with_published_vectors_has_a_row_and_marks_what_it_learned(filled, published, tmp_path):
    settings = Settings(home=tmp_path)
    save_cohort(clusters.generate("synthetic", Shape().scaled(60)), settings)
    config = from_json({"mode": "network", "epochs": 1, "dim": 8})
    run = train_run(config, settings, filled)
    with filled.connect() as connection:
        stage, status, counts = connection.execute(
            text("SELECT stage, status, counts FROM mkmed.run WHERE id = :id"), {"id": run.run_id}).one()
    assert (stage, status) == ("recsys", "complete")
    assert counts["jaccard"] == pytest.approx(run.report["per_visit"]["jaccard"])
    assert run.report["vectors"] == str(published[0]) and 0 < run.report["learned_vectors"] < 131
    random = train_run(from_json({"mode": "network", "epochs": 1, "dim": 8, "vectors": "random"}), settings, filled)
    assert random.report["vectors"] == "random:0"
    with pytest.raises(NotFound):
        train_run(from_json({"cohort": "none"}), settings, filled)
    with filled.connect() as connection:
        failed = connection.scalar(text("SELECT count(*) FROM mkmed.run WHERE stage = 'recsys' AND status = 'failed'"))
    assert failed == 1


def test_bundled_knowledge_needs_no_database():
    knowledge = bundled_knowledge(("ATC:A02B", "ATC:B01A", "ATC:N02B"))
    assert not knowledge.known.any() and knowledge.interactions.matrix.shape == (3, 3)
