"""The public package: what a notebook does, against the same facts in SQL; reading imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

import mkmed
from embed.runs import store
from kb.db.address import bare
from kb.errors import Ambiguous, ConfigError, DatabaseError, NotFound, UsageError
from kb.ledger.entries import start_run
from kb.settings import load_settings
from tests.few_drugs import DRUGS, TEXTS, fill


@pytest.fixture(scope="module")
def filled(database: Engine) -> Engine:
    """The few drugs, with vectors that are published; one of them has no vector."""
    fill(database)
    with database.begin() as connection:
        ids = np.asarray(connection.scalars(text("SELECT id FROM mkmed.drug ORDER BY id")).all(), np.int64)[:-1]
        run = start_run(connection, "pretrain", name="by hand")
    matrix = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    store.write_run(database, run, {"fused": (ids, matrix)}, np.ones((len(ids), 6), bool))
    store.publish(database, run)
    return database


@pytest.fixture
def base(filled: Engine) -> Iterator[mkmed.KnowledgeBase]:
    with mkmed.open(url=bare(filled.url)) as opened:
        yield opened


def test_everything_public_is_there_and_typed() -> None:
    assert [name for name in mkmed.__all__ if not hasattr(mkmed, name)] == []
    assert (Path(mkmed.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mkmed.nonsense
    with pytest.raises(UsageError, match="both"):
        mkmed.open(url="postgresql://x/y", home="/nowhere")


def test_names_are_resolved_in_the_order_asked(base: mkmed.KnowledgeBase) -> None:
    found = base.resolve(["Aspirin", "nonsense", "metformin", "metformin hydrate 50%"])
    assert found["input"].tolist() == ["Aspirin", "nonsense", "metformin", "metformin hydrate 50%"]
    assert found["drug"].tolist()[0::2] == ["Aspirin", "Metformin"] and found["how"].tolist()[3] == "synonym"
    assert found["drug_id"].isna().tolist() == [False, True, False, False]
    assert "no drug 'nonsense'" in found["how"][1] and found["candidates"][1] == []


def test_tables_are_those_of_sql(base: mkmed.KnowledgeBase) -> None:
    assert isinstance(base.drugs(), pd.DataFrame) and set(base.drugs()["name"]) == set(DRUGS)
    two = base.drugs(["Aspirin", "metformin", "Metformin"])
    assert two["name"].tolist() == ["Aspirin", "Metformin"] and two["atc"].tolist()[1] == ["A10BA02"]
    assert base.drugs(int(two["drug_id"][0]))["name"].tolist() == ["Aspirin"]
    assert set(base.texts()["content"]) == set(TEXTS.values())
    assert base.properties("metformin")[["property", "value"]].values.tolist() == [["mol_weight", 129.16]]
    assert base.interactions("Heparin")["name_a"].tolist() == ["Aspirin"]
    assert base.triples("metformin").empty and "relation" in base.triples().columns
    assert base.sql("SELECT %(a)s::int AS b, 'x:y%%' AS c", {"a": 3}).values.tolist() == [[3, "x:y%"]]
    assert base.sql("SELECT count(*) AS n FROM mkmed.drugs WHERE name LIKE '%e%'")["n"][0] == sum("e" in n for n in DRUGS)
    for wrong, error in ((["nonsense"], NotFound), ([10**9], NotFound)):
        with pytest.raises(error):
            base.drugs(wrong)


def test_sql_reads_only(base: mkmed.KnowledgeBase) -> None:
    for query in ("DELETE FROM mkmed.drug", "CREATE TABLE mkmed.mine (a int)", "SELECT * FROM nowhere", "COMMIT; DELETE FROM mkmed.text"):
        with pytest.raises(DatabaseError):
            base.sql(query)
    assert len(base.drugs()) == len(DRUGS) and len(base.texts()) == len(TEXTS)


def test_vectors_and_neighbours(base: mkmed.KnowledgeBase) -> None:
    every = base.vectors()
    assert every.matrix.dtype == np.float32 and every.matrix.shape == (len(DRUGS) - 1, 8) and len(every) == len(every.names)
    two = base.vectors(["Aspirin", "Metformin"])
    assert two.names == ["Aspirin", "Metformin"]
    assert two.frame().shape == (2, 10)
    near = base.neighbours(["Aspirin", "Metformin"], 3)
    assert near["of"].tolist() == ["Aspirin"] * 3 + ["Metformin"] * 3
    others = {name: float(row @ two.matrix[0]) for name, row in zip(every.names, every.matrix, strict=True) if name != "Aspirin"}
    best = sorted(others, key=lambda name: -others[name])[:3]
    assert near["name"].tolist()[:3] == best
    without = (set(DRUGS) - set(every.names)).pop()
    with pytest.raises(NotFound, match="no fused vector"):
        base.vectors(without)
    with pytest.raises(UsageError):
        base.neighbours(None)


def test_search(base: mkmed.KnowledgeBase) -> None:
    assert base.search("metf")["name"].tolist() == ["Metformin"]
    assert base.similar("CC(=O)Oc1ccccc1C(=O)O", 1)["name"].tolist() == ["Aspirin"]
    found = base.substructure("c1ccccc1C(=O)N")
    assert found["name"].tolist() == ["Salicylamide"] and base.search("nothing at all").empty


def test_a_notebook_shows_structures_and_no_markup_of_others(base: mkmed.KnowledgeBase) -> None:
    shown = base.substructure("c1ccccc1")._repr_html_()
    assert shown.count("<svg") == 5 and "<th>structure</th>" in shown
    frame = base.drugs()
    frame.loc[0, "name"] = "<script>alert(1)</script>"
    assert "<script>" not in frame._repr_html_() and "&lt;script&gt;" in frame._repr_html_()
    assert isinstance(frame[frame["smiles"].notna()], mkmed.Frame)


def test_ambiguity_is_told(base: mkmed.KnowledgeBase, filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("""INSERT INTO mkmed.drug_name (drug_id, name, source, key, kind, artifact)
            SELECT drug_id, 'both', source, key, 'synonym', artifact FROM mkmed.drug_name WHERE name IN ('Aspirin', 'Heparin')"""))
    found = base.resolve("both")
    assert found["how"][0] == "ambiguous" and set(found["candidates"][0]) == {"Aspirin", "Heparin"}
    with pytest.raises(Ambiguous):
        base.drugs("both")


READING = """
import sys, mkmed
with mkmed.open(url={url!r}) as kb:
    kb.resolve(["Aspirin"]); kb.drugs("Aspirin"); kb.vectors(); kb.neighbours("Aspirin", 2); kb.search("glucose"); kb.sql("SELECT 1")
heavy = {{"torch", "torch_geometric", "pykeen", "transformers", "matplotlib", "sklearn"}} & set(sys.modules)
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""


def test_reading_imports_no_torch(filled: Engine) -> None:
    done = subprocess.run([sys.executable, "-c", READING.format(url=bare(filled.url))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_cohort_and_a_recommender(filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.cohorts.prepare import prepare

    monkeypatch.setenv("MKMED_DATABASE_URL", bare(filled.url))
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    with filled.connect() as connection:
        prepare(form="synthetic", connection=connection, name="made", options={"patients": "60"}, settings=load_settings())
    assert mkmed.cohorts() == ["made"]
    cohort = mkmed.cohort("made")
    assert len(cohort) == 60 and cohort.fingerprint in repr(cohort)
    visits, codes = cohort.visits(), cohort.codes()
    patients = visits.explode("medication").groupby("medication")["patient"].nunique()
    told = codes.dropna().set_index("code")["patients"]
    assert told.to_dict() == patients[patients >= 5].to_dict()
    with pytest.raises(UsageError):
        cohort.codes("nonsense")
    with pytest.raises(ConfigError):
        mkmed.train("made", "popularity", nonsense=1)
    trained = mkmed.train("made", "popularity", vectors="learned", resamples=50)
    again = mkmed.recommender(trained.run[:8])
    assert again.run == trained.run and again.metrics()["jaccard"].notna().all()
    diagnosis = visits["diagnosis"][0][0]
    asked = {"visits": [{"diagnoses": [diagnosis], "medications": [codes["code"][0]]}, {"diagnoses": [diagnosis]}]}
    answer = again.recommend(asked)
    assert answer.refused is None and len(answer.medications) and "not a medical device" in answer._repr_html_()
    assert [one.medications["code"].tolist() for one in again.recommend([asked, asked])] == [answer.medications["code"].tolist()] * 2
    strange = again.recommend({"visits": [{"diagnoses": ["ICD9CM:NOPE"]}]})
    assert strange.refused and strange.medications.empty
