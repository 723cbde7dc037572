"""Alike by one facet: mechanism tells agonists from antagonists, uses are shared, structures have a width of their own."""

from __future__ import annotations

import numpy as np
import pytest
from small_kb import fill
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from embed.runs import store
from embed.search import neighbours
from kb.errors import NotFound
from kb.ledger.entries import start_run

AGONIST, ANTAGONIST = "DGIDB::AGONIST::Gene:Compound", "DGIDB::ANTAGONIST::Gene:Compound"
ENZYME, TREATS = "Hetionet::CbG::Compound:Gene", "Hetionet::CtD::Compound:Disease"
EDGES = (  # relation, drug, other
    (AGONIST, "drug 0", "mu"), (AGONIST, "drug 0", "kappa"), (AGONIST, "drug 1", "mu"), (ANTAGONIST, "drug 2", "mu"),
    (ANTAGONIST, "drug 2", "kappa"), (ENZYME, "drug 0", "CYP3A4"), (ENZYME, "drug 3", "CYP3A4"), (ENZYME, "drug 4", "mu"),
    (TREATS, "drug 0", "Diabetes mellitus, type 2"), (TREATS, "drug 5", "Type 2 diabetes mellitus"), (TREATS, "drug 6", "gout"),
)


@pytest.fixture(scope="module")
def told(database):
    """A knowledge base with a graph of hand-made actions and uses, and stored vectors of two widths."""
    fill(database)
    with database.begin() as connection:
        def say(statement: str, **values: object) -> None:
            connection.execute(text(statement), values)

        artifact = connection.scalar(text("SELECT id FROM mkmed.artifact LIMIT 1"))
        relations = {name: 50 + k for k, name in enumerate((AGONIST, ANTAGONIST, ENZYME, TREATS))}
        for name, number in relations.items():
            head, _, tail = name.rpartition("::")[2].partition(":")
            say("INSERT INTO mkmed.kg_relation (id, name, head_type, tail_type) VALUES (:i, :n, :h, :t)", i=number, n=name,
                h=head, t=tail)
            say("INSERT INTO mkmed.kg_provenance (id, relation, provider, licence_id, source, artifact)"
                " VALUES (:i, :i, 'hand', 'CC0-1.0', 'hand', :a)", i=number, a=artifact)
        others = sorted({other for _, _, other in EDGES})
        for k, label in enumerate(others):
            say("INSERT INTO mkmed.kg_entity (id, name, type, label) VALUES (:i, :n, 'Gene', :l)", i=900 + k,
                n=f"Gene::facet {k}", l=label)
        entity = dict(connection.execute(text(
            "SELECT d.name, l.entity_id FROM mkmed.drug d JOIN mkmed.drug_entity l ON l.drug_id = d.id")).all())
        for relation, drug, other in EDGES:
            ends = (entity[drug], 900 + others.index(other))
            head, tail = ends if relation.rpartition("::")[2].startswith("Compound") else ends[::-1]
            say("INSERT INTO mkmed.kg_triple VALUES (:h, :r, :t, :r)", h=head, t=tail, r=relations[relation])
        run_id = start_run(connection, "pretrain")
        ids = np.array(connection.scalars(text("SELECT id FROM mkmed.drug ORDER BY id")).all())
    rng = np.random.default_rng(0)
    made = {name: (ids, rng.normal(size=(len(ids), width)).astype(np.float32))
            for name, width in (("fused", 4), ("text", 4), ("molecule", 4), ("predicted", 7))}
    store.write_run(database, run_id, made, np.ones((len(ids), 6), bool))
    store.publish(database, run_id)
    return database, made


def test_mechanism_lists_agonists_and_never_their_antagonist(told):
    found = {row["name"]: row for row in neighbours(told[0], "drug 0", by="mechanism")}
    assert next(iter(found)) == "drug 1" and found["drug 1"]["because"] == ["mu +"]
    assert "drug 2" not in found and [row["name"] for row in neighbours(told[0], "drug 2", by="mechanism")] == ["drug 4"]
    assert 0 < found["drug 4"]["similarity"] < found["drug 1"]["similarity"]
    assert "drug 3" not in found, "an enzyme that clears both is no mechanism"
    assert {row["facet"] for row in found.values()} == {"mechanism"}


def test_one_disease_by_two_names_is_one_use(told):
    found = neighbours(told[0], "drug 0", by="use")
    assert [(row["name"], row["similarity"]) for row in found] == [("drug 5", pytest.approx(1))]


def test_structure_is_compared_by_vectors_of_their_own_width(told):
    engine, made = told
    ids, matrix = made["predicted"]
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    with engine.connect() as connection:
        own = int(np.searchsorted(ids, connection.scalar(text("SELECT mkmed.find_drug('drug 0')"))))
    score = unit @ unit[own]
    score[own] = -2
    found = neighbours(engine, "drug 0", 3, by="structure")
    assert [row["drug_id"] for row in found] == ids[np.argsort(-score)[:3]].tolist()
    assert found[0]["similarity"] == pytest.approx(score.max(), abs=1e-5) and found[0]["because"] == ["predicted vectors"]
    with pytest.raises(DBAPIError, match="predicted vectors have 7"), engine.connect() as connection:
        connection.execute(text("SELECT * FROM mkmed.similar_to('[1,2,3,4]', 3, 'predicted')"))
    assert len(store.read(engine, store.published_run(engine), "predicted").matrix) == len(ids)


def test_late_fusion_is_the_mean_of_standardised_similarities(told):
    engine, made = told
    with engine.connect() as connection:
        wanted = connection.scalar(text("SELECT mkmed.find_drug('drug 0')"))
    total = 0.0
    for name in ("text", "molecule"):
        ids, matrix = made[name]
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        other = ids != wanted
        cosine = unit[other] @ unit[~other][0]
        total = total + (cosine - cosine.mean()) / cosine.std() / 2
    found = neighbours(engine, "drug 0", 5, by="late")
    assert [row["similarity"] for row in found] == pytest.approx(np.sort(total)[::-1][:5].tolist(), abs=1e-4)


def test_what_cannot_be_compared_is_told(told):
    with pytest.raises(NotFound, match="compared by") as caught:
        neighbours(told[0], "drug 0", by="colour")
    assert "mechanism" in caught.value.hint
    with pytest.raises(NotFound, match="says nothing of the use") as caught:
        neighbours(told[0], "drug 9", by="use")
    assert "structure" in caught.value.hint
    assert neighbours(told[0], "drug 6", by="use") == []
