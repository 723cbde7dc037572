"""What is done with a finished run: evaluate, explain, map, search, ablate."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import SecretStr
from rdkit import Chem
from small_kb import NO_STRUCTURE, fill
from sqlalchemy import text

from embed import explain
from embed.atlas import draw_map, project
from embed.config import load_config
from embed.config import paper as paper_config
from embed.evaluation import ablation
from embed.evaluation import run as evaluation
from embed.runs.found import load_run, open_embedder
from embed.search import nearest, neighbours
from embed.training import job
from kb.errors import NotFound, UsageError
from kb.settings import load_settings

QUICK = (
    "text.model=scratch",
    "image.model=scratch",
    "train.epochs=3",
    "train.batch_size=16",
    "image.components=8",
    "graph.components=6",
    "molecule.fingerprint_components=16",
    "structure.depth=1",
    "device=cpu",
    "property.descriptors=false",
    "train.test=0.3",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return load_settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def everybody_is_core(monkeypatch):
    """The small knowledge base has none of the evaluation set's drugs."""
    def labels(*args, own=ablation.read_labels):
        found = own(*args)
        return replace(found, core=np.ones_like(found.core))

    monkeypatch.setattr(ablation, "read_labels", labels)


@pytest.fixture
def place(tmp_path):
    """A home without a study in it."""
    return load_settings(home=tmp_path)


@pytest.fixture(scope="module")
def filled(database):
    """The small knowledge base, every drug in one of two ATC classes by its parity."""
    fill(database)
    with database.begin() as connection:
        artifact = connection.scalar(text("SELECT artifact FROM mkmed.cell WHERE artifact IS NOT NULL LIMIT 1"))
        for statement in (
            "INSERT INTO mkmed.atc_class VALUES ('A', 1, NULL, NULL, 'hand', :a), ('C', 1, NULL, NULL, 'hand', :a)",
            "INSERT INTO mkmed.drug_atc (drug_id, code, source, record_source, record_key, artifact)"
            " SELECT drug_id, CASE drug_id % 2 WHEN 0 THEN 'A' ELSE 'C' END, source, source, key, :a FROM mkmed.drug_record",
            "INSERT INTO mkmed.interaction (drug_a, a_source, a_key, drug_b, b_source, b_key, source, provider, licence_id,"
            " artifact) SELECT a.drug_id, a.source, a.key, b.drug_id, b.source, b.key, 'hand', 'p', 'CC0-1.0', :a"
            " FROM mkmed.drug_record a JOIN mkmed.drug_record b ON a.key < b.key WHERE (a.drug_id + b.drug_id) % 3 = 0",
        ):
            connection.execute(text(statement), {"a": artifact})
    return database


@pytest.fixture(scope="module")
def finished(filled, home):
    return job.pretrain(filled, home, load_config(sets=QUICK))


def test_evaluation_is_written_and_measures_held_out_drugs_only(filled, home, finished, monkeypatch):
    run = load_run(filled, home)
    kept = evaluation.read_evaluation_snapshot(run)
    everyone = replace(kept, labels=replace(kept.labels, core=np.ones(len(kept.side), bool)))
    monkeypatch.setattr(evaluation, "read_evaluation_snapshot", lambda run: everyone)
    monkeypatch.setattr(evaluation.retrieval_rows, "__defaults__", (2,))
    report = evaluation.evaluate_run(run)
    assert json.loads((finished.folder / "evaluation.json").read_text())["run"] == str(finished.run_id)
    assert report["retrieval"]
    assert all(2 <= row["drugs"] <= len(kept.test) for row in report["retrieval"])
    ours = [row for row in report["classes"] if row["ours"]]
    assert {row["drugs"] for row in ours} >= {"core drugs"}
    assert {row["vectors"] for row in report["classes"]} >= {"random", "ECFP4, Tanimoto", "mkmed, fused"}
    told = {row["vectors"] for row in report["interactions"]}
    assert told >= {"mkmed, fused", "untrained, fused", "how many interactions the drugs have"}
    rival = next(row for row in report["classes"] if row["vectors"].startswith("untrained concatenation"))
    assert rival["low"] <= rival["mkmed minus this"] <= rival["high"]


def test_the_opened_run_gives_the_stored_vectors(filled, home, finished):
    from embed.runs import store
    from embed.source import read_corpus

    run, stored = open_embedder(filled, home), store.read_published(filled)
    corpus = read_corpus(filled, **run.corpus_options())
    found = run.encode(corpus)
    for column, name in enumerate(run.names):
        one = store.read(filled, stored.run_id, name)
        at = np.searchsorted(corpus.drug_ids, one.drug_ids)
        assert found.present[at, column].all() and found.present[:, column].sum() == len(at)
        np.testing.assert_allclose(found.z[at, column], one.matrix, atol=1e-6, err_msg=name)
    rows = np.searchsorted(corpus.drug_ids, stored.drug_ids)
    np.testing.assert_allclose(found.fused[rows], stored.matrix, atol=1e-6)


def test_explain_adds_up_to_what_the_store_says(filled, home, finished):
    found = explain.explain_likeness(filled, home, "drug 0", "drug 1")
    near = {row["name"]: row["similarity"] for row in neighbours(filled, "drug 0", 10_000)}
    assert found.fused == pytest.approx(near["drug 1"], abs=1e-5)
    assert set(found.modalities) == {"molecule", "image", "text", "structure", "property", "graph"}
    assert {f.drug for f in found.fragments} <= {"drug 0", "drug 1"}
    assert explain.draw_likeness(found).count("<svg") == 1


def test_explain_without_a_structure_has_no_fragments(filled, home, finished):
    found = explain.explain_likeness(filled, home, *NO_STRUCTURE)
    assert found.fragments == []
    assert found.modalities["text"][1] is None, "there is nothing left without the only modality"
    with pytest.raises(NotFound):
        explain.draw_likeness(found)


def test_no_explanation_says_nan(filled, home, finished, monkeypatch):
    """Whatever two drugs lack, an unknown number is said to be unknown."""
    from typer.testing import CliRunner

    from embed import commands

    monkeypatch.setattr("kb.db.engine.open_engine", lambda settings=None: filled)
    monkeypatch.setattr("kb.settings.load_settings", lambda **k: home)
    for pair in (("drug 0", NO_STRUCTURE[0]), NO_STRUCTURE, ("drug 1", "drug 2")):
        for form in ("table", "json", "csv"):
            told = CliRunner().invoke(commands.app, ["explain", *pair, "--format", form])
            assert told.exit_code == 0, told.output
            assert "nan" not in told.output.lower().replace("nanomol", "")


def test_fragments_cover_the_molecule_once():
    molecule = Chem.MolFromSmiles("CC(=O)Oc1ccccc1C(=O)NCCN1CCOCC1")
    parts = explain.fragment_atoms(molecule)
    assert len(parts) > 2
    assert sorted(atom for part in parts for atom in part) == list(range(molecule.GetNumAtoms()))
    assert explain.without_atoms(molecule, parts[0]) is not None
    assert explain.without_atoms(molecule, tuple(range(molecule.GetNumAtoms()))) is None


def test_a_text_or_a_molecule_from_outside_finds_its_own_drug(filled, home, finished):
    run = open_embedder(filled, home)
    with filled.connect() as connection:
        content, name = connection.execute(
            text("SELECT content, name FROM mkmed.texts WHERE name = :n LIMIT 1"), {"n": NO_STRUCTURE[0]}
        ).one()
        smiles = connection.scalar(text("SELECT smiles FROM mkmed.drug WHERE name = 'drug 0'"))
    assert nearest(filled, run.texts([content])[0], 1)[0]["name"] == name
    assert len(nearest(filled, run.smiles([smiles])[0], 5)) == 5


@pytest.mark.parametrize(("options", "hint"), [({"modality": "smell"}, None), ({"to": "smell"}, "it has")])
def test_search_errors_are_ours(filled, finished, options, hint):
    with pytest.raises(NotFound) as error:
        neighbours(filled, "drug 0", 3, **options)
    assert hint is None or hint in error.value.hint
    with pytest.raises(NotFound):
        neighbours(filled, "nobody", 3)


def test_the_map_is_drawn_and_repeats(filled, finished, tmp_path):
    assert draw_map(filled, tmp_path / "a.svg", by="bucket") > 5
    draw_map(filled, tmp_path / "b.svg", by="atc", coded_only=True)
    assert "alimentary" in (tmp_path / "b.svg").read_text() or "<svg" in (tmp_path / "b.svg").read_text()
    with pytest.raises(UsageError):
        draw_map(filled, tmp_path / "c.svg", by="taste")
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(30, 8)).astype(np.float32)
    np.testing.assert_allclose(project(matrix), project(matrix))


def test_ablation_trains_every_arm_and_draws(filled, home, everybody_is_core):
    config = load_config(sets=[*QUICK, "train.epochs=1", "modalities=text,graph"])
    report = ablation.ablate(filled, home, config, seeds=[0], subsets="all")
    found = {(row["column"], row["arm"], *row["modalities"]) for row in report["rows"]}
    arms = {("all", "text"), ("all", "graph"), ("all", "text", "graph"), ("intersection", "text", "graph")}
    assert found == {(column, *arm) for column in ("plain", "class words masked") for arm in arms}
    trained = {(row["arm"], len(row["modalities"])): row["train"] for row in report["rows"]}
    assert trained["intersection", 2] <= trained["all", 2]
    assert (home.runs / "ablation" / "ablation.svg").is_file()
    by_name = {(row["column"], row["arm"], *row["modalities"]): row for row in report["rows"]}
    plain, masked = (by_name[column, "all", "graph"] for column in ("plain", "class words masked"))
    assert str({**plain, "column": ""}) == str({**masked, "column": ""}), "nothing to mask, nothing to train twice"
    assert np.isfinite([row[name] for row in by_name.values() for name in ablation.METRICS if name != "score"]).all()


@pytest.mark.parametrize("paper", [False, True])
def test_arms_are_equal_in_steps_and_a_stopped_ablation_goes_on(filled, place, monkeypatch, paper):
    """The published variant too, and with a patience that would have ended some arms early."""
    config = load_config(sets=[*QUICK, "train.epochs=4", "train.patience=1", "modalities=text,graph",
                               "graph.epochs=1", "transfer.width=8"], base=paper_config() if paper else None)
    found, trainings = [], []

    def count(*args, own=ablation.train_arm):
        trainings.append(args)
        return own(*args)

    def stop(row):
        found.append(row)
        if len(found) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "train_arm", count)
    with pytest.raises(KeyboardInterrupt):
        ablation.ablate(filled, place, config, seeds=[0], columns=["plain"], on_arm=stop)
    report = ablation.ablate(filled, place, config, seeds=[0], columns=["plain"], on_arm=found.append)
    assert len(report["rows"]) == 3 == len(trainings), "what was measured was not trained again"
    assert str(found[:3]) == str(found[3:])
    assert len({row["steps"] for row in report["rows"]}) == 1
    assert {row["steps"] % 4 for row in report["rows"]} == {0}
    assert {one[1].width for one in trainings} == {64}
    ablation.ablate(filled, place, config, seeds=[0], columns=["plain"], fresh=True)
    assert len(trainings) == 6
    with filled.begin() as connection:
        connection.execute(text("UPDATE mkmed.drug_atc SET code = 'A' WHERE drug_id = (SELECT min(drug_id) FROM"
                                " mkmed.drug_atc WHERE code = 'C')"))
    ablation.ablate(filled, place, config, seeds=[0], columns=["plain"])
    assert len(trainings) == 9, "another label, another figure"


@pytest.mark.slow
def test_two_processes_measure_what_one_does(filled, place):
    config = load_config(sets=[*QUICK, "train.epochs=1", "modalities=text,graph", "transfer.width=8", "graph.epochs=1"])
    place = load_settings(home=place.home, database_url=SecretStr(filled.url.render_as_string(hide_password=False)))
    alone = ablation.ablate(filled, place, config, seeds=[0, 1], subsets="ends", columns=["plain"])
    together = ablation.ablate(filled, place, config, seeds=[0, 1], subsets="ends", columns=["plain"], fresh=True,
                               workers=2)
    assert str(together) == str(alone)


def test_an_unknown_subset_is_told():
    with pytest.raises(UsageError):
        list(ablation.arms(["text"], "some"))
