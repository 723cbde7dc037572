"""The whole job on a real database: what it stores, publishes, resumes, refuses and leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import uuid

import numpy as np
import pytest
import torch
from small_kb import NO_STRUCTURE, NOTHING, fill
from sqlalchemy import text

from embed.config import load_config
from embed.runs import folder as run_folder
from embed.runs import store
from embed.runs.embedder import Embedder
from embed.source import read_corpus
from embed.training import job
from embed.training.estimate import estimate
from kb.errors import Busy, ConfigError, DataError, Interrupted, NotFound, TrainingDiverged, UsageError
from kb.query import read as query
from kb.settings import load_settings

QUICK = ("text.model=scratch", "image.model=scratch", "train.epochs=3", "train.batch_size=16", "image.components=8",
         "graph.components=6", "molecule.fingerprint_components=16", "structure.depth=1", "device=cpu",
         "property.descriptors=false", "graph.dimension=8", "graph.epochs=2", "graph.features=neighbourhood")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return load_settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def filled(database):
    fill(database)
    return database


@pytest.fixture(scope="module")
def finished(filled, home):
    return job.pretrain(filled, home, load_config(sets=QUICK))


def ids_by_name(engine):
    with engine.connect() as connection:
        drugs = query.drugs(connection)
    return dict(zip(drugs.names, drugs.ids.tolist(), strict=True))


def test_every_drug_with_anything_has_a_vector_and_no_other(filled, finished):
    fused, ids = store.read_published(filled), ids_by_name(filled)
    assert fused.run_id == finished.run_id
    assert set(fused.drug_ids.tolist()) == set(ids.values()) - {ids[NOTHING]}
    np.testing.assert_allclose(np.linalg.norm(fused.matrix, axis=1), 1.0, rtol=1e-5)
    rests_on = dict(zip(fused.drug_ids.tolist(), fused.rests_on.tolist(), strict=True))
    assert rests_on[ids[NO_STRUCTURE[0]]] == [False, True, False, False, False, False]
    assert rests_on[ids["drug 0"]] == [True] * 6


def test_each_modality_is_stored_for_those_that_have_it(filled, finished):
    with filled.connect() as connection:
        known = query.availability(connection)
        linked = set(connection.execute(text("SELECT drug_id FROM mkmed.drug_entity JOIN mkmed.kg_triple"
                                             " ON head = entity_id")).scalars())
    for column, modality in enumerate(known.modalities):
        vectors = store.read(filled, finished.run_id, modality)
        expected = known.drug_ids[known.mask[:, column]]
        assert vectors.drug_ids.tolist() == (sorted(linked) if modality == "graph" else expected.tolist())


def test_the_run_folder_tells_the_whole_story(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "last.pt", "best.pt", "env.json", "curves.svg", "manifest.json"} <= names
    assert [row["epoch"] for row in run_folder.read_metrics(finished.folder)] == [0, 1, 2]
    facts = json.loads((finished.folder / "env.json").read_text())
    assert facts["encoders"]["text"]["trained"] == "from scratch"
    assert facts["packages"]["torch"] == torch.__version__.partition("+")[0] or "+" in facts["packages"]["torch"]
    assert (finished.folder / "curves.svg").read_text().startswith("<?xml")
    assert run_folder.read_config(finished.folder) == load_config(sets=QUICK)


def digest(engine, run_id):
    return hashlib.sha256(b"".join(store.read(engine, run_id, m).matrix.tobytes() for m in ("fused", "text"))).hexdigest()


def test_one_seed_one_result_and_resume_equals_uninterrupted(filled, home, finished):
    def stop(metrics):
        if metrics["epoch"] == 1:
            raise KeyboardInterrupt

    before = store.published_run(filled)
    with pytest.raises(Interrupted) as caught:
        job.pretrain(filled, home, load_config(sets=QUICK), on_epoch=stop)
    assert "--resume last" in caught.value.hint
    assert store.published_run(filled) == before
    folder = run_folder.find_folder(home, "last")
    kept = (folder / "metrics.jsonl").read_bytes()
    with run_folder.alone(folder), pytest.raises(Busy, match=f"process {os.getpid()} of .* since"):
        job.pretrain(filled, home, load_config(), resume="last")
    assert (folder / "metrics.jsonl").read_bytes() == kept
    again = job.pretrain(filled, home, load_config(sets=["seed=99"]), resume="last", publish=False)
    assert again.run_id != finished.run_id
    assert digest(filled, again.run_id) == digest(filled, finished.run_id)
    assert store.published_run(filled) == before
    with pytest.raises(UsageError, match="is finished"):
        job.pretrain(filled, home, load_config(), resume=str(again.run_id))
    with filled.connect() as connection:
        states = connection.execute(text("SELECT status, error FROM mkmed.run WHERE id = :id"), {"id": again.run_id}).one()
    assert tuple(states) == ("complete", None)


def test_what_diverges_is_never_published(filled, home, finished, monkeypatch):
    import embed.training.loop as loop

    real = loop.objective
    monkeypatch.setattr(loop, "objective", lambda *a: {k: v * float("inf") for k, v in real(*a).items()})
    with pytest.raises(TrainingDiverged):
        job.pretrain(filled, home, load_config(sets=QUICK), name="broken")
    assert store.published_run(filled) == finished.run_id
    with filled.connect() as connection:
        status, error = connection.execute(text("SELECT status, error FROM mkmed.run WHERE name = 'broken'")).one()
        stored = connection.scalar(text("SELECT count(*) FROM mkmed.embedding_run WHERE state <> 'complete'"))
    assert (status, stored) == ("failed", 0)
    assert "not finite" in error


def test_intersection_trains_on_complete_drugs_only(filled, home):
    config = load_config(sets=[*QUICK, "arm=intersection"])
    prepared = job.prepare_training(filled, config, job.FeatureCache(home.cache / "features"), torch.device("cpu"))
    rows = job.training_rows(prepared, config)
    everyone = job.training_rows(prepared, load_config(sets=QUICK))
    assert prepared.inputs.data.present[rows].all()
    assert 0 < len(rows) < len(everyone)
    assert set(rows) < set(everyone)


def test_modalities_choose_the_towers(filled, home):
    run = job.pretrain(filled, home, load_config(sets=[*QUICK, "modalities=text", "train.epochs=1", "width=16"]),
                       publish=False)
    assert set(run.metrics["encoders"]) == {"molecule", "text"}
    assert store.read(filled, run.run_id).matrix.shape[1] == 16
    with pytest.raises(NotFound):
        store.read(filled, run.run_id, "graph")


def test_new_texts_and_molecules(filled, home, finished):
    trained = Embedder.open(finished.folder)
    ids = ids_by_name(filled)
    with filled.connect() as connection:
        drugs = query.drugs(connection)
    row = drugs.ids.tolist().index(ids["drug 3"])
    stored = store.read(filled, finished.run_id, "molecule")
    expected = stored.matrix[stored.drug_ids.tolist().index(ids["drug 3"])]
    np.testing.assert_allclose(trained.smiles([drugs.smiles[row]])[0], expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(trained.texts(["two rings", "a " * 500]), axis=1), 1.0, rtol=1e-5)
    label, share = trained.fragment_shares("CC(=O)Nc1ccc(OCC)cc1")
    assert share.sum() == pytest.approx(1.0, abs=1e-5) and len(share) == label.max() + 1 > 1
    with pytest.raises(DataError, match="nonsense"):
        trained.smiles(["CCO", "nonsense"])
    with pytest.raises(DataError, match="empty"):
        trained.texts([" "])
    trained._arguments = {**trained._arguments, "towers": {"molecule": trained._arguments["towers"]["molecule"]}}
    with pytest.raises(UsageError, match="no text tower"):
        trained.texts(["x"])


def test_dry_run_counts_and_stores_nothing(filled, home, finished, monkeypatch):
    before = sorted(path.as_posix() for path in home.home.rglob("*"))
    monkeypatch.setattr("embed.source.read_corpus", None)  # nothing is read in whole
    cost = estimate(filled, home, load_config(sets=QUICK))
    assert cost.train + cost.validation + cost.test == cost.drugs - 1  # one drug has nothing
    assert cost.steps == 3 * (cost.train // 16)
    assert cost.train_seconds == pytest.approx(cost.step_seconds * cost.steps)
    assert cost.data_bytes > 10_000 and cost.weights > 10_000
    assert sorted(path.as_posix() for path in home.home.rglob("*")) == before
    fresh = estimate(filled, load_settings(home=home.home / "nowhere"), load_config(sets=QUICK))
    assert fresh.feature_seconds > cost.feature_seconds


def test_features_are_read_from_the_cache(filled, home, finished, monkeypatch):
    from embed.features import image, molecule, radius

    def fail(*_):
        raise AssertionError("a cached feature was computed again")

    monkeypatch.setattr(molecule, "featurise", fail)
    monkeypatch.setattr(radius, "conformer_graphs", fail)
    monkeypatch.setattr(image, "pixels", fail)
    prepared = job.prepare_training(filled, load_config(sets=QUICK), job.FeatureCache(home.cache / "features"),
                           torch.device("cpu"))
    assert len(prepared.inputs.data.tables) == 6


def test_labels_do_not_enter_through_the_graph(filled):
    corpus = read_corpus(filled, exclude_relations=("ind",))
    assert len(corpus.triples.head) == 0
    assert len(read_corpus(filled).triples.head) == 90
    assert len(read_corpus(filled, exclude_types=("Gene",)).triples.head) == 0


def test_errors_before_any_work(fresh_database, home, monkeypatch):
    with pytest.raises(DataError, match="no drug"):
        job.pretrain(fresh_database, home, load_config(sets=QUICK))
    with pytest.raises(NotFound, match="no pretraining runs match"):
        job.pretrain(fresh_database, home, load_config(), resume=str(uuid.uuid4()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA card"):
        job.pick_device("cuda")
    assert job.pick_device("auto").type == "cpu"
