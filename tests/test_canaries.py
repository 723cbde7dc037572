"""Nothing but what is open leaves: by any table, view or function as a reader, or in any format of an open export.

A database is filled with every kind of fact in an open version and in one under each closed share, each with a canary of
its own, and then everything that is in the catalogue is asked.
"""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg2
import pyarrow.parquet as pq
import pytest
from rdkit import Chem
from sqlalchemy import Connection, Engine, text

from embed.runs import store
from kb.db.roles import create_roles
from kb.graph.load import DescribedRelation, encode_rows, load_triples, relink
from kb.graph.words import EdgeNote
from kb.identity.fingerprints import renew
from kb.ingest.engine import register_source
from kb.ingest.write import write_batch
from kb.ledger.entries import finish_run, start_run
from kb.licences import LICENCES
from kb.modalities import State
from kb.normalise import Identifier
from kb.query.export import ExportFormat, export
from kb.sources.contract import (
    AtcClassRecord,
    AtcRecord,
    ConformerRecord,
    DddRecord,
    Document,
    DrugRecord,
    ImageRecord,
    IndicationRecord,
    InteractionRecord,
    Name,
    Origin,
    Outcome,
    ProductIngredient,
    ProductRecord,
    PropertyRecord,
    RecordBatch,
    TextRecord,
)
from tests.databases import roles_lock

CLOSED = {"nc": "CC-BY-NC-4.0", "nd": "CC-BY-ND-4.0", "terms": "LicenseRef-provider-terms", "unknown": "LicenseRef-unstated"}
OPEN = {"cc0": "CC0-1.0", "sa": "CC-BY-SA-4.0"}
SMILES = {"open": "CCCCCCCCCCCCCCCCO", "open too": "CCCCCCCCCCCCCCCO", "nc": "FCCCCCCCCCCl", "nd": "FCCCCCCCCCBr", "terms": "FCCCCCCCCCI",
          "unknown": "FCCCCCCCCCS", "computed": "FCCCCCCCCCN"}
NUMBER = {"open": 77123.0, "closed": 88123.0}
ATC = {"cc0": "X77XX77", "sa": "X66XX66", "nc": "Z81ZZ88", "nd": "Z82ZZ88", "terms": "Z83ZZ88", "unknown": "Z84ZZ88"}
TARGET, USE = "DrugCentral::target::Compound:Gene", "Hetionet::CtD::Compound:Disease"
SHUT = re.compile(r"shut-|88123|SHUT|Z8\dZ?Z?|"
                  + "|".join(re.escape(c) for k, s in SMILES.items() if not k.startswith("open") for c in (
                      Chem.CanonSmiles(s), Chem.MolToInchiKey(Chem.MolFromSmiles(s)))))
"""What must never be seen."""
MOLBLOCK = "{}\n  test  3D\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.1000 C   0  0\nM  END\n"


def document(source: str, licence: str, what: str) -> Document:
    return Document(source, f"https://example.org/{what}", "text/plain", licence, f"by {what}", datetime.now(UTC),
                    f"parser {what}", payload=f"bytes {what}".encode(), upstream_version=f"version {what}")


def structure(which: str) -> dict[str, str]:
    molecule = Chem.MolFromSmiles(SMILES[which])
    return {"smiles": Chem.MolToSmiles(molecule), "inchikey": Chem.MolToInchiKey(molecule)}


def facts(source: str, licence: str, mark: str, of: str, *, is_open: bool) -> RecordBatch:
    """Every kind of fact about the record ``of`` of the source, each marked."""
    word = f"open-{mark}" if is_open else f"shut-{mark}"

    def paper(what: str) -> Document:
        return document(source, licence, f"{word}-{what}")

    number = NUMBER["open" if is_open else "closed"]
    other = "chembl:CHEMBL1"
    return RecordBatch(
        payloads=[
            TextRecord(of, paper("text"), f"{word}-provider", f"{word}-content", licence, f"{word}-heading",
                       f"https://example.org/{word}-url"),
            ImageRecord(of, paper("picture"), 10, 10),
            ConformerRecord(of, paper("conformer"), MOLBLOCK.format(f"{word}-mol"), 1, f"{word}-method", note=f"{word}-note"),
            PropertyRecord(of, paper("numbers"), {"mol_weight": number}),
        ],
        atc=[AtcRecord(of, paper("atc"), ATC[mark])],
        atc_classes=[AtcClassRecord(ATC[mark][:3], f"{word}-class", paper("classes"))],
        interactions=[InteractionRecord(of, other, paper("pair"), f"{word}-says", licence, f"{word}-severe",
                                        f"{word}-described")],
        indications=[IndicationRecord(of, paper("use"), f"{word}-says", licence, f"{word}-disease", "contraindication",
                                      (f"mesh:{word}",), (f"{word}-code",), "table", 4, f"{word}-evidence",
                                      f"https://example.org/{word}-reference")],
        ddd=[DddRecord(ATC[mark], number, f"{word}-unit", paper("doses"), f"{word}-route", f"{word}-dose")],
        products=[ProductRecord(f"{word}-product-{of}", f"{word}-sold", paper("products"),
                                (ProductIngredient(of, f"{word}-strength", f"{word}-salt"),), f"{word}-brand", f"{word}-form",
                                f"{word}-by", f"{word}-labeler", (f"{word}-ndc",), f"{word}-set")],
        outcomes=[Outcome(of, "graph", State.failed, error=f"{word}-error")],
    )


def fill(engine: Engine) -> None:
    """The open drug, drugs that only closed sources know, and drugs of which both say something."""
    with engine.begin() as connection:
        run_id = start_run(connection, "ingest", name="shut-run",
                           config={"path": "/home/SHUT/secret", "url": "https://me:SHUT@example.org/?token=SHUT"})
        for mark, licence in (OPEN | CLOSED).items():
            word = "open" if mark in OPEN else "shut"
            register_source(connection, Origin(f"{word}-{mark}", f"{word}-title", f"https://{word}.example", "fetched",
                                               (LICENCES[licence], LICENCES["CC0-1.0"])))
        register_source(connection, Origin("program", "", "https://example.org", "computed", (LICENCES["CC0-1.0"],)))
        for mark, licence in OPEN.items():
            source = f"open-{mark}"
            paper = document(source, licence, f"open-{mark}-drugs")
            batch = facts(source, licence, mark, "chembl:CHEMBL77123", is_open=True)
            batch.drugs = [
                DrugRecord("chembl:CHEMBL77123", f"open-{mark}-drug", paper, "small molecule", **structure("open"),
                           formula="OPENFORMULA", identifiers=(Identifier("chembl", "CHEMBL77123"),),
                           names=(Name(f"open-{mark}-synonym"),)),
                DrugRecord("chembl:CHEMBL1", f"open-{mark}-partner", paper, identifiers=(Identifier("chembl", "CHEMBL1"),),
                           **structure("open too")),
                *(DrugRecord(f"chembl:CHEMBL9{n}", f"open-{mark}-shared-{n}", paper,
                             identifiers=(Identifier("chembl", f"CHEMBL9{n}"),)) for n in range(len(CLOSED))),
            ]
            ids = write_batch(connection, run_id, source, batch)
            compute(connection, run_id, ids["chembl:CHEMBL77123"], f"open-{mark}")
        for n, (mark, licence) in enumerate(CLOSED.items()):
            source = f"shut-{mark}"
            paper = document(source, licence, f"shut-{mark}-drugs")
            alone, shared = f"chembl:CHEMBL88123{n}", f"chembl:CHEMBL9{n}"
            batch = facts(source, licence, mark, alone, is_open=False)
            both = facts(source, licence, mark, shared, is_open=False)
            for name in ("payloads", "atc", "interactions", "outcomes", "ddd", "products"):
                getattr(batch, name).extend(getattr(both, name))
            partner = DrugRecord("chembl:CHEMBL1", f"shut-{mark}-partner", paper, identifiers=(Identifier("chembl", "CHEMBL1"),))
            batch.drugs = [
                partner,
                DrugRecord(alone, f"shut-{mark}-drug", paper, identifiers=(Identifier.parse(alone),), formula="SHUTFORMULA",
                           names=(Name(f"shut-{mark}-synonym"),)),
                DrugRecord(shared, f"shut-{mark}-other", paper, "small molecule", **structure(mark), formula="SHUTFORMULA",
                           identifiers=(Identifier.parse(shared), Identifier("drugbank", f"DB88{n}23")),
                           names=(Name(f"shut-{mark}-name"),)),
            ]
            ids = write_batch(connection, run_id, source, batch)
            connection.execute(text("UPDATE mkmed.drug SET name = :name WHERE id = ANY(:ids)"),
                               {"name": f"shut-{mark}-main", "ids": [ids[alone], ids[shared]]})
            for drug in (ids[alone], ids[shared]):
                compute(connection, run_id, drug, f"shut-{mark}")
        graph(connection, run_id)
        mixed(connection, run_id)
        relink(connection, run_id)
        finish_run(connection, run_id, "failed", error="shut-error at /home/SHUT")
        ids = np.asarray(connection.scalars(text("SELECT id FROM mkmed.drug ORDER BY id")).all(), np.int64)
        pretrain = start_run(connection, "pretrain", name="shut-run")
        renew(connection)
    vectors = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
    store.write_run(engine, pretrain, {"fused": (ids, vectors), "text": (ids, vectors)}, np.ones((len(ids), 6), bool))
    store.publish(engine, pretrain)


def compute(connection: Connection, run_id: uuid.UUID, drug: int, word: str) -> None:
    """What a program under an open licence makes of the drug's structure."""
    number = NUMBER["open" if word.startswith("open") else "closed"]
    paper = document("program", "CC0-1.0", f"{word}-computed-{drug}")
    write_batch(connection, run_id, "program", RecordBatch(payloads=[
        ImageRecord(drug, paper, 5, 5), PropertyRecord(drug, paper, {"qed": number}),
        ConformerRecord(drug, paper, MOLBLOCK.format(f"{word}-computed"), 1, f"{word}-computed")]))


def graph(connection: Connection, run_id: uuid.UUID) -> None:
    """Edges of one relation and of several, some between the same entities."""
    for mark, licence in (CLOSED | OPEN).items():
        word = f"{'open' if mark in OPEN else 'shut'}-{mark}"
        paper = document(word, licence, f"{word}-graph")
        described = {name: DescribedRelation(name, "Gene", "Gene", f"{word}-provider", licence, f"{word}-description")
                     for name in ("binds", f"{word}-relation")}
        described |= {name: DescribedRelation(name, "Compound", tail, f"{word}-provider", licence, f"{word}-description")
                      for name, tail in ((TARGET, "Gene"), (USE, "Disease"))}
        rows = [("Gene::1", "binds", f"Gene::{word}"), (f"Gene::{word}-a", f"{word}-relation", f"Gene::{word}-b"),
                ("Gene::1", "binds", "Gene::2"), ("Compound::CHEMBL77123", "binds", f"Gene::{word}")]
        rows += [("Compound::CHEMBL77123", TARGET, f"Gene::{word}"), ("Compound::CHEMBL77123", USE, f"Disease::{word}")]
        if mark in CLOSED:
            rows.append((f"Compound::DB88{list(CLOSED).index(mark)}23", "binds", f"Gene::{word}"))
        load_triples(connection, run_id, paper, encode_rows(rows), described, labels={
            "Gene::1": f"{word}-label", f"Gene::{word}": f"{word}-label", "Gene::2": f"{word}-label-2",
            f"Disease::{word}": f"{word}-disease"}, notes={
                row: EdgeNote(NUMBER["open" if mark in OPEN else "closed"], f"{word}-basis", f"{word}-paper", {"more": f"{word}-more"})
                for row in rows})


def mixed(connection: Connection, run_id: uuid.UUID) -> None:
    """One answer that quotes an open and a closed text, filed as open; of one drug."""
    paper = document("open-cc0", "CC0-1.0", "shut-mixed").__class__(
        "open-cc0", "https://example.org/open-mixed", "application/json", "CC0-1.0", "", datetime.now(UTC), "p",
        payload=b"quotes shut-mixed-text")
    write_batch(connection, run_id, "open-cc0", RecordBatch(payloads=[
        TextRecord(drug_of(connection, "CHEMBL77123"), paper, "open-mixed", "open-mixed-text", "CC0-1.0"),
        TextRecord(drug_of(connection, "CHEMBL77123"), paper, "shut-mixed", "shut-mixed-text", "CC-BY-NC-4.0")]))


def drug_of(connection: Connection, chembl: str) -> int:
    return int(connection.scalar(text("SELECT drug_id FROM mkmed.identifier WHERE value = :v LIMIT 1"), {"v": chembl}) or 0)


@pytest.fixture(scope="module")
def filled(database: Engine) -> Iterator[Engine]:
    with roles_lock():
        fill(database)
        create_roles(database)
        yield database
        with database.begin() as connection:
            for role in ("mkmed_ingest", "mkmed_reader", "mkmed_nc"):
                connection.execute(text(f"DROP OWNED BY {role}"))


RELATIONS = """SELECT c.relname, c.relkind FROM pg_class c WHERE c.relnamespace = 'mkmed'::regnamespace
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1"""
ROUTINES = "SELECT proname, prokind, proretset FROM pg_proc WHERE pronamespace = 'mkmed'::regnamespace ORDER BY 1"
NAMES = [f"{word}-{mark}-{what}" for word, marks in (("open", OPEN), ("shut", CLOSED)) for mark in marks
         for what in ("drug", "synonym", "main", "other", "name", "shared-0", "shared-1")]
HANDLES = [*NAMES, "chembl:CHEMBL77123", "chembl:CHEMBL90", "chembl:CHEMBL881230", "DB88023", "drugbank:DB88123",
           *(structure(which)["inchikey"] for which in SMILES if which != "computed")]
CALLS = {
    "find_drug": [f"SELECT d.* FROM mkmed.drugs d WHERE d.drug_id = mkmed.find_drug('{h}')" for h in HANDLES],
    "find_drugs": [f"SELECT * FROM mkmed.find_drugs('{h}')" for h in HANDLES],
    "vector_of": [f"SELECT mkmed.vector_of('{h}')" for h in HANDLES],
    "similar_drugs": [f"SELECT * FROM mkmed.similar_drugs('{h}', {how}100)" for h in HANDLES
                      for how in ("", "'mechanism', ", "'use', ", "'structure', ", "'late', ")],
    "facet_features": [f"SELECT * FROM mkmed.facet_features('{facet}')" for facet in ("mechanism", "use")],
    "late_fusion": ["SELECT f.*, d.name FROM mkmed.drugs w, mkmed.late_fusion(w.drug_id, '{text,molecule}') f"
                    " JOIN mkmed.drugs d USING (drug_id)"],
    "action_of": ["SELECT mkmed.action_of('DGIDB::AGONIST::Gene:Compound')"],
    "says_use": ["SELECT mkmed.says_use('Hetionet::CtD::Compound:Disease')"],
    "similar_across": [f"SELECT * FROM mkmed.similar_across('{h}', 'text', 'fused', 100)" for h in HANDLES],
    "similar_to": ["SELECT * FROM mkmed.similar_to('[1,1,1,1,1,1,1,1]', 100)",
                   "SELECT * FROM mkmed.similar_to('[1,1,1,1,1,1,1,1]', 100, atc => 'Z')",
                   "SELECT * FROM mkmed.similar_to('[1,1,1,1,1,1,1,1]', 100, has => '{image}')"],
    "nearest": ["SELECT * FROM mkmed.nearest('[1,1,1,1,1,1,1,1]', 100, 'fused', NULL, NULL, NULL)"],
    "candidates": ["SELECT d.* FROM mkmed.drugs d WHERE d.drug_id = ANY (mkmed.candidates('Z', NULL))",
                   "SELECT d.* FROM mkmed.drugs d WHERE d.drug_id = ANY (mkmed.candidates(NULL, '{image,text}'))"],
    "search_text": [f"SELECT * FROM mkmed.search_text('{h}')" for h in
                    ("open", "shut", "content", "drug", "synonym", "shut-nc-content", *HANDLES[:8])],
    "similar_structures": [f"SELECT * FROM mkmed.similar_structures('{h}', 100)" for h in HANDLES],
    "similar_to_bits": [f"SELECT * FROM mkmed.similar_to_bits(B'{'1' * 2048}', 100)"],
    "is_open": [f"SELECT mkmed.is_open('{licence}')" for licence in CLOSED.values()],
    "is_open_share": ["SELECT mkmed.is_open_share('unknown')"],
    "may_read_closed": ["SELECT mkmed.may_read_closed()"],
    "modality_names": ["SELECT mkmed.modality_names(63::smallint)"],
}
DENIED = {"add_reader", "artifact_id", "attach_vector_tables", "build_triple_keys", "drop_triple_keys", "drop_vector_tables",
          "index_vector_table", "make_vector_tables", "retire"}
"""Routines that a reader may not call."""


def said(connection: psycopg2.extensions.connection, query: str) -> str:
    """Everything that a query answers, its error included; bytes as text."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(query)
            rows = repr([[bytes(v).decode("latin-1") if isinstance(v, memoryview) else str(v) for v in row] for row in cursor])
            return f"rows {rows}"
        except psycopg2.Error as error:
            connection.rollback()
            return f"error {error}"


@pytest.fixture
def reader(filled: Engine) -> Iterator[psycopg2.extensions.connection]:
    connection = psycopg2.connect(host=filled.url.query["host"], user="postgres", dbname=filled.url.database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE mkmed_reader; SET search_path = mkmed, ext")
    yield connection
    connection.close()


def test_every_table_and_view(filled: Engine, reader: psycopg2.extensions.connection) -> None:
    seen = ""
    with filled.connect() as connection:
        relations = connection.execute(text(RELATIONS)).all()
    assert len(relations) > 50
    for name, kind in relations:
        answer = said(reader, f'SELECT * FROM mkmed."{name}"')
        assert not SHUT.search(answer), (name, SHUT.search(answer), answer[:2000])
        assert kind == "v" or "permission denied" in answer, name
        seen += answer
    wanted = {f"open-{mark}-{what}" for mark in OPEN for what in (
        "drug", "synonym", "content", "provider", "heading", "url", "picture", "mol", "method", "note", "says", "severe",
        "described", "label", "relation", "description", "graph", "computed", "shared-0", "sold", "brand", "form", "strength", "salt",
        "labeler", "ndc", "unit", "route", "dose", "basis", "paper", "more")}
    assert {canary for canary in wanted if canary not in seen} - {"open-sa-label", "open-sa-computed"} == set()
    assert {"open-mixed-text", "77123", "open-cc0-class", "X77XX77", "X66XX66"} - set(re.findall(r"[\w-]+", seen)) == set()
    assert structure("open")["inchikey"] in seen and "open-title" in seen


def test_conditions_do_not_tell_by_their_errors(filled: Engine, reader: psycopg2.extensions.connection) -> None:
    with filled.connect() as connection:
        columns = connection.execute(text("""
            SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
            WHERE c.relnamespace = 'mkmed'::regnamespace AND c.relkind = 'v'
            AND has_table_privilege('mkmed_reader', c.oid, 'SELECT')""")).all()
    assert len(columns) > 150
    for view, column in columns:
        answer = said(reader, f'SELECT 1 FROM mkmed."{view}" WHERE "{column}"::text::int = 1')
        assert not SHUT.search(answer), (view, column, answer)


def test_every_function(filled: Engine, reader: psycopg2.extensions.connection) -> None:
    with filled.connect() as connection:
        routines = {row[0] for row in connection.execute(text(ROUTINES))}
        granted = {row[0] for row in connection.execute(text(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'mkmed'::regnamespace"
            " AND has_function_privilege('mkmed_reader', oid, 'EXECUTE')"))}
    assert routines == set(CALLS) | DENIED, "a new function needs a call here"
    assert granted == set(CALLS)
    for name, queries in CALLS.items():
        answers = [said(reader, query) for query in queries]
        for query, answer in zip(queries, answers, strict=True):
            found = SHUT.search(answer.replace(query, "").replace(answer.partition("CONTEXT")[2], "") if "error" in answer[:6]
                                else answer)
            asked = re.search(r"'([^']*)'", query)
            assert not found or (answer.startswith("error") and asked and found.group() in asked.group(1)), (query, answer)
        assert any(answer.startswith("rows [[") for answer in answers), (name, answers)


def test_joins_do_not_open_edges(reader: psycopg2.extensions.connection) -> None:
    answer = said(reader, "SELECT t.*, e.*, r.* FROM mkmed.triples t, mkmed.entities e, mkmed.relations r")
    assert "open-cc0" in answer and not SHUT.search(answer)


@pytest.mark.parametrize("setting", ["SET mkmed.open_only = 'off'", "SET mkmed.open_only = ''", "RESET mkmed.open_only",
                                     "SET row_security = off", "SET ROLE mkmed_reader"])
def test_no_setting_opens_what_is_closed(reader: psycopg2.extensions.connection, setting: str) -> None:
    said(reader, setting)
    assert said(reader, "SELECT mkmed.may_read_closed()") == "rows [['False']]"


def everything_in(place: Path) -> str:
    """All that a file or folder holds, read as its format's own programs do."""
    found = ""
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        found += str(path.relative_to(place.parent)) + raw.decode("latin-1")
        if raw.startswith(b"SQLite"):
            with closing(sqlite3.connect(path)) as database:
                found += "\n".join(database.iterdump())
                for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    found += repr(database.execute(f'SELECT * FROM "{name}"').fetchall())
        if path.suffix == ".parquet":
            found += repr(pq.read_table(path).to_pylist()) + repr(pq.read_schema(path).metadata)
    return found


@pytest.mark.parametrize("form", ExportFormat)
def test_every_format_of_an_open_export(filled: Engine, tmp_path: Path, form: ExportFormat) -> None:
    export(filled, tmp_path / "open", form, open_only=True, pictures=True)
    found = everything_in(tmp_path / "open")
    assert not SHUT.search(found), found[max(0, SHUT.search(found).start() - 300):][:600]  # type: ignore[union-attr]
    assert "open-cc0-mol" in found and "open-cc0-computed" in found
    if form is not ExportFormat.sdf:
        wanted = ("open-sa-basis", "open-cc0-sold", "open-cc0-dose", "open-cc0-content", "open-mixed-text", "open-sa-relation", "bytes open-cc0-picture", "77123", "X77XX77")
        assert [canary for canary in wanted if canary not in found] == []


def test_a_full_export_of_the_owners_has_both(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "all", ExportFormat.jsonl)
    found = everything_in(tmp_path / "all")
    assert {f"shut-{mark}-{what}" for mark in CLOSED for what in ("content", "basis", "paper", "more", "sold", "dose")} | {"open-cc0-content"} <= set(re.findall(r"[\w-]+", found))
    assert "/home/SHUT" not in found and "me:SHUT" not in found


def test_mkmed_nc_and_the_owner_see_what_is_closed(filled: Engine) -> None:
    for role in ("mkmed_nc", "mkmed_ingest", "postgres"):
        with filled.connect() as connection:
            connection.execute(text("GRANT mkmed_reader TO mkmed_nc"))
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            assert connection.scalar(text("SELECT count(*) FROM mkmed.texts WHERE content LIKE 'shut-%'")) == 2 * len(CLOSED) + 1
            connection.rollback()


def test_secrets_of_a_run_are_not_stored(filled: Engine) -> None:
    with filled.connect() as connection:
        kept = connection.scalar(text("SELECT string_agg(config::text, ' ') FROM mkmed.run"))
    assert "me:" not in kept and "token=***" in kept
