"""The read API, the views, show, search and export on three drugs."""


import numpy as np
import pytest
from facts import METFORMIN, begin, small_batch
from sqlalchemy import text

from kb.errors import NotFound
from kb.ingest.write import write_batch
from kb.ledger.coverage import bucket_rows, buckets, draw_coverage
from kb.pictures import save_figure
from kb.query import read as query
from kb.query.drug import describe, find_drug, search
from kb.query.read import sources


@pytest.fixture(scope="module")
def filled(database):
    with database.begin() as connection:
        write_batch(connection, begin(connection), "hand", small_batch())
    return database


def test_arrays(filled):
    with filled.connect() as connection:
        drugs = query.drugs(connection)
        assert drugs.names == ["Metformin", "Aspirin", "Insulin human"] or sorted(drugs.names) == [
            "Aspirin",
            "Insulin human",
            "Metformin",
        ]
        assert (np.diff(drugs.ids) > 0).all()
        available = query.availability(connection)
        assert available.mask.sum(axis=1).tolist() == [query_count(connection, i) for i in available.drug_ids.tolist()]
        assert query.properties(connection).names == ["mol_weight", "xlogp"]
        assert [t.provider for t in query.texts(connection)] != []
        assert [i.png for i in query.images(connection)] == [b"png"]
        assert [c.source for c in query.conformers(connection)] == ["hand"]
        assert query.atc(connection) == [(find_drug(connection, "metformin"), "A10BA02")]
        assert query.interactions(connection).severity == ["minor"]
        assert query.identifiers(connection, "cas") == [(find_drug(connection, "aspirin"), "50-78-2")]
        assert query.triples(connection).head.size == 0


def query_count(connection, drug_id):
    return connection.scalar(text("SELECT modalities FROM mkmed.bucket WHERE drug_id = :id"), {"id": drug_id})


@pytest.mark.parametrize(
    "wanted",
    ["metformin", "GLUCOPHAGE", METFORMIN, "drugbank:DB00331", "DB00331", "pubchem.compound:4091", " Metformin "],
)
def test_a_drug_is_found_by_anything_that_names_it(filled, wanted):
    with filled.connect() as connection:
        assert describe(connection, wanted)[0]["name"] == "Metformin"


@pytest.mark.parametrize("wanted", ["metfromin", "x'; DROP TABLE mkmed.drug; --", "%", "'", "\\"])
def test_a_drug_that_is_not_there(filled, wanted):
    with filled.connect() as connection:
        with pytest.raises(NotFound) as error:
            find_drug(connection, wanted)
        if wanted == "metfromin":
            assert "metformin" in error.value.hint
        assert len(query.drugs(connection).ids) == 3


def test_show_tells_sources_and_what_is_missing(filled):
    with filled.connect() as connection:
        _, sections = describe(connection, "insulin human")
        states = {(r["modality"], r["state"]): r["because"] for r in sections["availability"]}
        assert states["structure", "absent"] == "rule:no-structure"
        assert sections["texts"][0]["licence_id"] == "CC-BY-NC-4.0"
        assert {r["licence_id"] for r in sections["provenance"]} == {"CC0-1.0"}


def test_search_takes_wildcards_literally(filled):
    with filled.connect() as connection:
        assert [r["name"] for r in search(connection, "form")] == ["Metformin"]
        assert search(connection, "%") == []
        assert sources(connection)[0]["name"] == "hand"


def test_coverage_adds_up_and_is_drawn(filled, tmp_path):
    with filled.connect() as connection:
        found = buckets(connection)
    assert sum(b.drugs for b in found) == 3
    assert sum(r["share"] for r in bucket_rows(found)) == pytest.approx(1, abs=1e-3)
    save_figure(draw_coverage(found), tmp_path / "bucket.svg")
    save_figure(draw_coverage(found), tmp_path / "again.svg")
    assert (tmp_path / "bucket.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert "drugs that have it" in (tmp_path / "bucket.svg").read_text()
