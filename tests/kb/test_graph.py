"""The knowledge graph's loader: encoding, deduplication, constraints, repetition, links to drugs and the ledger."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from facts import TRIPLES, Rows
from sqlalchemy import Connection, Engine, text
from sqlalchemy.schema import CreateTable

from kb.db import migrate
from kb.db.address import bare
from kb.errors import DataError
from kb.graph.link import count_forms
from kb.graph.load import DescribedRelation, GraphCounts, encode_rows, is_loaded, load_triples, relink
from kb.ingest.retract import remove_named
from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.ledger.verify import verify
from kb.normalise import Identifier
from kb.query.snapshot import cite, diff, take_snapshot
from kb.schema.graph import kg_triple
from kb.sources.contract import Document, DrugRecord, RecordBatch

RELATIONS = {name: DescribedRelation(name, "Gene", "Biological Process", "test", "CC0-1.0") for name in ("GpBP", "DDI", "r")}
ASPIRIN, ASPIRIN_LIKE = "BSYNRYMUTXBXSQ-UHFFFAOYSA-N", "BSYNRYMUTXBXSQ-GFCCVEGCSA-N"


def document(source: str, content: bytes = b"x") -> Document:
    return Document(source, "file:x", "text/plain", "CC0-1.0", "", datetime.now(UTC), "test/1", payload=content)


@pytest.fixture
def engine(fresh_database: Engine) -> Engine:
    with fresh_database.begin() as connection:
        connection.execute(text("INSERT INTO licence (id, title, share) VALUES ('CC0-1.0', 'CC0', 'open'),"
                                " ('CC-BY-NC-4.0', 'NC', 'non-commercial')"))
        for name in ("one", "two", "drugs"):
            connection.execute(
                text(
                    "INSERT INTO source (name, title, url, origin, licence_id) VALUES (:n, '', '', 'user', 'CC0-1.0')"
                ),
                {"n": name},
            )
    return fresh_database


def run(connection: Connection) -> uuid.UUID:
    return start_run(connection, "ingest", name="test")


def load(
    engine: Engine,
    source: str,
    rows: Rows,
    content: bytes = b"x",
    *,
    described: Mapping[str, DescribedRelation] = RELATIONS,
    licence: str = "CC0-1.0",
    **options: Any,
) -> GraphCounts:
    with engine.begin() as connection:
        file = replace(document(source, content), licence=licence)
        return load_triples(connection, run(connection), file, encode_rows(rows), described, **options)


def add_drugs(engine: Engine, *drugs: tuple[str, str | None, list[str]]) -> dict[str, int]:
    records = [
        DrugRecord(key, key, document("drugs"), inchikey=inchikey, identifiers=tuple(map(Identifier.parse, found)))
        for key, inchikey, found in drugs
    ]
    with engine.begin() as connection:
        return write_batch(connection, run(connection), "drugs", RecordBatch(drugs=records))


def fetch(engine: Engine, query: str, **values: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), values)]


def everything(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that a load or a relinking may write, but for runs."""
    tables = ("kg_entity", "kg_relation", "kg_provenance", "kg_triple", "kg_alias", "drug_entity", "cell", "lookup", "artifact")
    return {table: fetch(engine, f"SELECT t::text FROM mkmed.{table} t ORDER BY 1") for table in tables}


def named(engine: Engine) -> list[tuple[Any, ...]]:
    query = """SELECT h.name, r.name, t.name FROM mkmed.kg_triple k JOIN mkmed.kg_entity h ON h.id = k.head
        JOIN mkmed.kg_relation r ON r.id = k.relation JOIN mkmed.kg_entity t ON t.id = k.tail ORDER BY 1, 2, 3"""
    return fetch(engine, query)


def test_loads_and_loading_again_changes_nothing(engine: Engine) -> None:
    first = load(engine, "one", TRIPLES, labels={"Compound::DB00945": "aspirin"})
    assert first.new_triples == 5 and first.entities == 8
    assert ("Compound::DB00945", "DDI", "Compound::DB00945") in named(engine)
    assert fetch(engine, "SELECT label FROM mkmed.kg_entity WHERE name = 'Compound::DB00945'") == [("aspirin",)]
    before = everything(engine)
    assert load(engine, "one", TRIPLES[::-1], labels={"Compound::DB00945": "aspirin"}).new_triples == 0
    assert everything(engine) == before


def test_keys_are_rebuilt_as_the_migrations_made_them(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    query = """SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
        WHERE conrelid = 'mkmed.kg_triple'::regclass UNION ALL
        SELECT indexname, indexdef, true FROM pg_indexes WHERE tablename = 'kg_triple' ORDER BY 1, 2"""
    before, declared = fetch(engine, query), str(CreateTable(kg_triple))
    monkeypatch.setattr("kb.graph.tables.REBUILD_FROM", 1)
    load(engine, "one", TRIPLES)
    load(engine, "two", [("Gene::1", "r", "Gene::2"), *TRIPLES], b"y")
    assert fetch(engine, query) == before
    assert migrate.schema_differences(engine) == []
    assert str(CreateTable(kg_triple)) == declared and declared.count("FOREIGN KEY") == 3


@pytest.mark.parametrize("rebuild_from", [1, 10_000])
def test_the_order_of_files_makes_no_difference(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, rebuild_from: int
) -> None:
    monkeypatch.setattr("kb.graph.tables.REBUILD_FROM", rebuild_from)
    parts = [TRIPLES[:4], TRIPLES[3:], [("Gene::1", "r", "Gene::2"), ("Compound::DB00945", "r", "Gene::1")]]
    for number, part in enumerate(parts):
        load(engine, "one", part, bytes([number]))
    assert named(engine) == sorted({row for row in TRIPLES if "Gene::" not in row} | set(parts[2]))
    before = everything(engine)["kg_triple"]
    for number, part in reversed(list(enumerate(parts))):
        load(engine, "one", part, bytes([number]))
    assert everything(engine)["kg_triple"] == before


LICENCES = """SELECT h.name, p.source, p.licence_id FROM mkmed.kg_triple k JOIN mkmed.kg_provenance p ON p.id = k.provenance
    JOIN mkmed.kg_relation r ON r.id = k.relation JOIN mkmed.kg_entity h ON h.id = k.head WHERE r.name = 'DDI' ORDER BY 1, 2"""


@pytest.mark.parametrize("rebuild_from", [1, 10_000])
def test_every_edge_keeps_the_licence_of_the_file_that_it_came_with(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, rebuild_from: int
) -> None:
    monkeypatch.setattr("kb.graph.tables.REBUILD_FROM", rebuild_from)
    closed = {name: replace(relation, licence="CC-BY-NC-4.0") for name, relation in RELATIONS.items()}
    load(engine, "one", TRIPLES[1:2])
    load(engine, "two", [TRIPLES[1], TRIPLES[3]], b"all", described=closed)
    open_one, aspirin = ("Compound::DB00945", "one", "CC0-1.0"), ("Compound::DB00945", "two", "CC-BY-NC-4.0")
    assert fetch(engine, LICENCES) == [open_one, aspirin, aspirin]
    load(engine, "one", TRIPLES[1:2], b"another file")
    assert fetch(engine, LICENCES) == [open_one, aspirin, aspirin], "what a source has stated is not stated again"
    load(engine, "two", [TRIPLES[1]], b"corrected")
    assert ("Compound::DB00945", "two", "CC0-1.0") in fetch(engine, LICENCES)


def test_a_cell_rests_on_an_edge_of_its_own_source(engine: Engine) -> None:
    ids = add_drugs(engine, ("drugbank:DB00945", ASPIRIN, ["drugbank:DB00945"]), ("drugbank:DB00331", None, ["drugbank:DB00331"]))
    load(engine, "one", [("Compound::DB00945", "DDI", "Gene::1")])
    load(engine, "two", [("Compound::DB00331", "DDI", "Gene::1")], b"y")
    found = fetch(engine, "SELECT drug_id, source FROM mkmed.cell WHERE modality = 'graph' AND state = 'present'")
    assert sorted(found) == sorted([(ids["drugbank:DB00945"], "one"), (ids["drugbank:DB00331"], "two")])


def test_an_open_label_takes_the_place_of_a_closed_one(engine: Engine) -> None:
    label = "SELECT label FROM mkmed.kg_entity WHERE name = 'Gene::NaN'"
    load(engine, "one", TRIPLES, licence="CC-BY-NC-4.0", labels={"Gene::NaN": "closed"})
    load(engine, "two", TRIPLES, b"y", labels={"Gene::NaN": "open"})
    assert fetch(engine, label) == [("open",)]
    load(engine, "one", TRIPLES, b"z", labels={"Gene::NaN": "later"})
    assert fetch(engine, label) == [("open",)]


def test_a_changed_graph_is_noticed_and_healed(engine: Engine) -> None:
    load(engine, "one", TRIPLES)
    load(engine, "two", [("Gene::1", "r", "Gene::2")], b"y")
    sha = document("one").sha256
    with engine.connect() as connection:
        assert is_loaded(connection, "one", sha) and not is_loaded(connection, "one", document("one", b"y").sha256)
    kept = named(engine)
    for damage in (
        "DELETE FROM mkmed.kg_triple WHERE head = tail",
        "UPDATE mkmed.kg_triple SET tail = (SELECT max(id) FROM mkmed.kg_entity) WHERE head = tail",
    ):
        with engine.begin() as connection:
            assert connection.execute(text(damage)).rowcount == 1
            assert not is_loaded(connection, "one", sha)
        load(engine, "one", TRIPLES)
        assert set(kept) <= set(named(engine))
        with engine.connect() as connection:
            assert is_loaded(connection, "one", sha) and is_loaded(connection, "two", document("two", b"y").sha256)


def test_an_undescribed_relation_is_refused_and_nothing_is_written(engine: Engine) -> None:
    with pytest.raises(DataError, match="not described"):
        load(engine, "one", [("Gene::1", "new", "Gene::2")])
    assert everything(engine)["kg_entity"] == []


LINKED = [
    ("drugbank:DB00945", ASPIRIN, ["drugbank:DB00945"]),
    ("mesh:C113043", None, ["mesh:C113043"]),
    ("user:stereo", ASPIRIN_LIKE, ["cas:50-78-2"]),
    ("drugbank:DB99999", None, ["drugbank:DB99999"]),
    ("user:other", None, ["rxcui:1191"]),
]
EXPECTED_LINKS = [
    ("drugbank:DB00945", "Compound::DB00945", "identifier", "drugbank:DB00945", False),
    ("mesh:C113043", "Compound::MESH:C002480|MESH:C113043", "alias", "mesh:C113043", False),
    ("user:stereo", "Compound::DB00945", "skeleton", ASPIRIN, True),
]
LINKS = """SELECT r.key, e.name, l.method, l.via, l.weak FROM mkmed.drug_entity l
    JOIN mkmed.kg_entity e ON e.id = l.entity_id JOIN mkmed.drug_record r USING (drug_id) ORDER BY 1, 2"""
CELLS = """SELECT r.key, c.state, c.evidence, encode(c.artifact, 'hex') FROM mkmed.cell c JOIN mkmed.drug_record r
    USING (drug_id) WHERE c.modality = 'graph' AND c.source = 'one' ORDER BY 1"""


@pytest.mark.parametrize("drugs_first", [True, False])
def test_links_and_cells(engine: Engine, drugs_first: bool) -> None:
    if drugs_first:
        add_drugs(engine, *LINKED)
    load(engine, "one", TRIPLES)
    if not drugs_first:
        add_drugs(engine, *LINKED)
        with engine.begin() as connection:
            relink(connection, run(connection))
    assert fetch(engine, LINKS) == EXPECTED_LINKS
    proof = document("one").id.hex()
    assert fetch(engine, CELLS) == [
        ("drugbank:DB00945", "present", None, proof),
        ("drugbank:DB99999", "absent", "rule:not-in-graph drugbank:DB99999 and 1 names", None),
        ("mesh:C113043", "present", None, proof),
        ("user:stereo", "present", "rule:linked-by-skeleton", proof),
    ]
    with engine.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []
        assert relink(connection, run(connection)).changes == 0
        forms = {form.form: (form.entities, form.linked) for form in count_forms(connection)}
    assert forms == {"DrugBank": (2, 1), "list of MESH": (1, 1), "ChEMBL": (1, 0)}


def test_every_form_of_an_id_links(engine: Engine) -> None:
    forms = {
        "drugbank:DB00945": "Compound::db00945", "hmdb:HMDB0001879": "Compound::hmdb:HMDB01879",
        "zinc:ZINC000000000053": "Compound::zinc:ZINC00000053", "molport:MolPort-000-871-622":
        "Compound::molport:MolPort-000-871-622", "bindingdb:22360": "Compound::bindingdb:22360",
        "mesh:D001241": "Compound::MESH:D001241", "chebi:15365": "Compound::chebi:CHEBI:15365",
    }
    add_drugs(engine, *((f"user:u{n}", None, [given]) for n, given in enumerate(forms)))
    load(engine, "one", [(entity, "DDI", "Disease::1") for entity in forms.values()])
    assert {(row[1], row[2]) for row in fetch(engine, LINKS)} == {(entity, "identifier") for entity in forms.values()}


def test_a_drug_is_known_by_its_exact_name(engine: Engine) -> None:
    """Weak where several drugs or entities have the name, or where the entity is another drug by its identifier."""
    add_drugs(engine, ("drugbank:DB00945", None, ["drugbank:DB00945"]), ("mesh:C1", None, ["mesh:C000001"]),
              ("mesh:C2", None, ["mesh:C000002"]), ("mesh:C3", None, ["mesh:C000003"]), ("mesh:C4", None, ["mesh:C000004"]))
    names = {"mesh:C1": "Rare thing", "mesh:C2": "twin", "mesh:C3": "Twin", "mesh:C4": "Asprin"}
    with engine.begin() as connection:
        for key, name in names.items():
            connection.execute(text("UPDATE mkmed.drug_name SET name = :name WHERE key = :key"), {"name": name, "key": key})
    load(engine, "one", [("Compound::rare thing", "DDI", "Disease::1"), ("Compound::TWIN", "DDI", "Disease::1"),
                         ("Compound::DB00945", "DDI", "Disease::1"), ("Compound::MESH:D9", "DDI", "Disease::1")])
    with engine.begin() as connection:
        connection.execute(text("UPDATE mkmed.kg_entity SET label = 'Asprin', label_artifact = (SELECT id FROM"
                                " mkmed.artifact LIMIT 1) WHERE name = 'Compound::DB00945'"))
        relink(connection, run(connection))
        assert [check for check in verify(connection) if check.broken] == []
    found = {row[0]: row[1:] for row in fetch(engine, LINKS)}
    assert found["mesh:C1"] == ("Compound::rare thing", "name", "rare thing", False)
    assert found["mesh:C2"] == found["mesh:C3"] == ("Compound::TWIN", "name", "twin", True)
    assert found["mesh:C4"] == ("Compound::DB00945", "name", "asprin", True)
    evidence = {row[0]: row[2] for row in fetch(engine, CELLS)}
    assert evidence["mesh:C2"] == "rule:linked-by-name"


def test_a_part_of_a_graph_proves_no_absence(engine: Engine) -> None:
    add_drugs(engine, *LINKED)
    load(engine, "one", TRIPLES, complete=False)
    assert {row[1] for row in fetch(engine, CELLS)} == {"present"}
    load(engine, "one", TRIPLES, complete=True)
    assert ("drugbank:DB99999", "absent") in {row[:2] for row in fetch(engine, CELLS)}


def test_a_link_without_ground_is_taken_back(engine: Engine) -> None:
    add_drugs(engine, LINKED[0])
    load(engine, "one", TRIPLES, complete=False)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM mkmed.identifier; UPDATE mkmed.drug_record SET identifiers = '[]'"))
        assert relink(connection, run(connection)).removed == 1
        assert [check for check in verify(connection) if check.broken] == []
    assert [row[1] for row in fetch(engine, CELLS)] == ["unknown"]


def test_a_drug_in_one_graph_is_absent_from_the_other(engine: Engine) -> None:
    add_drugs(engine, LINKED[0])
    load(engine, "one", [("Compound::DB00001", "r", "Gene::1")])
    load(engine, "two", TRIPLES, b"y")
    states = fetch(engine, "SELECT source, state FROM mkmed.cell WHERE modality = 'graph' ORDER BY 1")
    assert states == [("one", "absent"), ("two", "present")]


CHILD = """
import sys
from sqlalchemy import text
from kb.db.address import parse_url
from kb.db.engine import engine_for
from kb.graph import load as graph
from kb.graph import tables as graph_tables
from kb.graph.load import DescribedRelation, encode_rows, load_triples
sys.path.insert(0, sys.argv[2])
from test_graph import document, run
graph_tables.REBUILD_FROM = 1
stop = sys.argv[3]
original = getattr(graph if stop in ("relink", "_write_step") else graph_tables, stop)
def pause(*arguments, **options):
    print("here", flush=True)
    sys.stdin.read()
    return original(*arguments, **options)
setattr(graph if stop in ("relink", "_write_step") else graph_tables, stop, pause)
rows = [(f"Gene::{i}", "r", f"Gene::{i + 1}") for i in range(2000)]
relations = {"r": DescribedRelation("r", "Gene", "Gene", "test", "CC0-1.0")}
with engine_for(parse_url(sys.argv[1])).begin() as connection:
    load_triples(connection, run(connection), document("two", b"z"), encode_rows(rows), relations)
"""


@pytest.mark.parametrize("stop", ["_drop_keys", "_build_keys", "_write_step", "relink"])
def test_a_kill_leaves_the_old_graph(engine: Engine, stop: str) -> None:
    load(engine, "one", TRIPLES)
    before = everything(engine)
    arguments = [sys.executable, "-c", CHILD, bare(engine.url), str(Path(__file__).parent), stop]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGKILL)
    assert everything(engine) == before


def test_a_graph_is_removed_at_one_stroke_and_what_it_stated_stays_history(engine: Engine) -> None:
    triples = sorted({row for row in TRIPLES if "Gene::" not in row})
    load(engine, "one", triples, b"1")
    load(engine, "two", triples[:2], b"2")
    with engine.begin() as connection:
        take_snapshot(connection, "both")
    (removed,) = remove_named(engine, source="one")
    assert removed["triples"] == len(triples)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM kg_triple")) == 2
        assert connection.scalar(text("SELECT count(*) FROM kg_entity")) == len({e for h, _, t in triples[:2] for e in (h, t)})
        kept = "SELECT fact ->> 'relation', (fact ->> 'triples')::int, until IS NULL FROM mkmed.history WHERE kind = 'kg_provenance'"
        stated = sorted(tuple(row) for row in connection.execute(text(f"{kept} AND source = 'one'")))
        count = Counter(relation for _, relation, _ in triples)
        assert stated == sorted((name, n, False) for name, n in count.items())
        assert {row[2] for row in connection.execute(text(f"{kept} AND source = 'two'"))} == {True}
        take_snapshot(connection, "one-less")
        gone = [(c["change"], c["kind"], c["source"]) for c in diff(connection, "both", "one-less")]
        assert gone == [("-", "kg_provenance", "one")]
        assert [check for check in verify(connection) if check.broken] == []
    load(engine, "one", triples, b"1")
    with engine.begin() as connection:
        cited = cite(connection)
        assert cited is not None and cited["snapshot"] == "both", "the same facts are the same release"
