"""Sources that read publishers' files, on samples of their shapes: every item is accounted for, and twice is once."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from kb.errors import SourceError, UsageError
from kb.graph.words import word_of
from kb.ingest.engine import Summary, ingest
from kb.ingest.write import write_batch
from kb.ledger.entries import finish_run
from kb.ledger.verify import verify
from kb.normalise import Identifier
from kb.query.export import ExportFormat, export
from kb.query.read import texts
from kb.query.snapshot import release_of
from kb.settings import Settings
from kb.sources import stream
from kb.sources.contract import Document, DrugRecord, IngestOptions, RecordBatch, TextRecord
from tests.kb import published
from tests.kb.facts import begin, document
from tests.kb.published import known


def run(engine: Engine, source: str, **options: object) -> Summary:
    return ingest(engine, Settings(), source, IngestOptions(**options))  # type: ignore[arg-type]


def column(connection: Connection, query: str, **given: object) -> list[object]:
    return list(connection.scalars(text(query), given))


def test_rxnorm_has_brands_products_and_codes(fresh_database: Engine, tmp_path: Path) -> None:
    counts = run(fresh_database, "rxnorm", path=published.write_rxnorm(tmp_path)).counts
    assert counts["left out: suppressed"] == 1 and counts["left out: restricted by its vocabulary"] == 1
    assert counts["left out: malformed"] == 2 and counts["left out: of a product with an ingredient that is not known"] == 1
    assert counts["products"] == 5 and counts["values left out"] == 1  # ten digits that are no NDC
    with fresh_database.begin() as connection:
        ids = column(connection, "SELECT namespace || ':' || value FROM mkmed.identifiers WHERE drug_id ="
                     " mkmed.find_drug('warfarin') ORDER BY 1")
        assert ids == ["ndc:00056017270", "ndc:00093172001", "rxcui:11289", "unii:5Q7ZVV76EI"]
        assert column(connection, "SELECT code FROM mkmed.atc") == ["B01AA03"]
        brands = column(connection, "SELECT name FROM mkmed.names WHERE kind = 'brand' ORDER BY 1")
        assert brands == ["Coumadin", "Jantoven"]
        products = connection.execute(text("""
            SELECT p.head_label, b.tail_label FROM mkmed.edges p JOIN mkmed.edges b ON b.head = p.head AND b.word = 'has brand'
            WHERE p.word = 'has ingredient' AND p.tail = 'Compound::rxcui:11289'""")).all()
        assert [tuple(row) for row in products] == [("warfarin sodium 5 MG Oral Tablet [Coumadin]", "Coumadin")]
        products = connection.execute(text("""
            SELECT name, product, brand, form, strength, substance, ingredients, ndc FROM mkmed.products ORDER BY key, name""")).all()
        plain, pair = "warfarin sodium 5 MG Oral Tablet", "aspirin 81 MG / omeprazole 40 MG Delayed Release Oral Tablet"
        assert [tuple(row) for row in products] == [
            ("aspirin", pair, None, None, "81 MG", None, 2, []), ("omeprazole", pair, None, None, "40 MG", None, 2, []),
            ("aspirin", f"{pair} [Yosprala]", "Yosprala", None, "81 MG", None, 2, ["70347008130"]),
            ("omeprazole", f"{pair} [Yosprala]", "Yosprala", None, "40 MG", None, 2, ["70347008130"]),
            ("warfarin", "{10 (warfarin sodium 5 MG Oral Tablet) } Pack", None, "Pack", "5 MG", "warfarin sodium", 1, []),
            ("warfarin", plain, None, "Oral Tablet", "5 MG", "warfarin sodium", 1, ["00093172001"]),
            ("warfarin", f"{plain} [Coumadin]", "Coumadin", "Oral Tablet", "5 MG", "warfarin sodium", 1, ["00056017270"])]
        assert column(connection, "SELECT DISTINCT licence_id FROM mkmed.edges") == ["LicenseRef-US-Government"]


def test_rxnorm_reads_the_zip_and_a_new_version_changes_what_differs(fresh_database: Engine, tmp_path: Path) -> None:
    folder = published.write_rxnorm(tmp_path / "rrf")
    packed = tmp_path / "RxNorm_full_prescribe.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("RXNCONSO", "RXNREL", "RXNSAT"):
            archive.write(folder / f"{name}.RRF", f"rrf/{name}.RRF")
    assert run(fresh_database, "rxnorm", path=packed).counts["drugs"] == 5
    again = run(fresh_database, "rxnorm", path=published.write_rxnorm(tmp_path / "new", without=["aspirin"]))
    assert again.counts["drugs"] == 0  # what is said of the others is the same
    with fresh_database.begin() as connection:
        assert column(connection, "SELECT name FROM mkmed.drugs ORDER BY 1") == ["glyburide", "omeprazole", "warfarin", "warfarin sodium"]
        # Of what was aspirin with omeprazole one ingredient is not known any more: it is no product of omeprazole alone.
        assert column(connection, "SELECT DISTINCT name FROM mkmed.products") == ["warfarin"]
    with pytest.raises(UsageError, match="has no RXNREL"):
        (folder / "RXNREL.RRF").unlink()
        run(fresh_database, "rxnorm", path=folder)


def test_chembl_takes_what_is_clinical_and_says_what_was_wrong(fresh_database: Engine, tmp_path: Path) -> None:
    path = published.write_chembl(tmp_path / "chembl_36.db")
    counts = run(fresh_database, "chembl", path=path).counts
    assert (counts["taken"], counts["left out: without a clinical phase, code, mechanism or indication"]) == (6, 2)
    assert counts["values left out"] == 2  # a structure of another key, and a code that is none
    with fresh_database.begin() as connection:
        row = connection.execute(text("SELECT * FROM mkmed.drugs WHERE name = 'ALLOPURINOL'")).mappings().one()
        assert row["inchikey"] == "OFCNXPDARWKPPY-UHFFFAOYSA-N" and row["licences"] == ["CC-BY-SA-3.0"]
        wrong = connection.execute(text("SELECT * FROM mkmed.drugs WHERE name = 'WRONGLY DRAWN'")).mappings().one()
        assert wrong["smiles"] is None and wrong["inchikey"] is None
        gout = connection.execute(text("SELECT name, phase, disease_ids FROM mkmed.indications WHERE disease = 'Gout'"
                                       " ORDER BY 1")).all()
        assert [r.name for r in gout] == ["ALLOPURINOL", "COLCHICINE", "FEBUXOSTAT"]
        assert {(r.phase, tuple(r.disease_ids)) for r in gout} == {(4.0, ("mesh:D006073", "efo:0004274"))}
        active = connection.execute(text("SELECT score, evidence FROM mkmed.edges WHERE relation LIKE '%active_at%'")).all()
        assert [tuple(r) for r in active] == [(8.5, "mean pChEMBL of 2 measurements")]
        told = connection.execute(text("SELECT DISTINCT name, target_label, action FROM mkmed.drug_targets ORDER BY 1, 2, 3")).all()
        assert ("ALLOPURINOL", "Xanthine dehydrogenase", "inhibits") in [tuple(r) for r in told]
        version = column(connection, "SELECT DISTINCT upstream_version FROM mkmed.documents WHERE source = 'chembl'")
        assert version == ["ChEMBL_36"]
    run(fresh_database, "chembl", path=published.write_chembl(path, gout="Podagra"))
    with fresh_database.begin() as connection:
        assert column(connection, "SELECT DISTINCT disease FROM mkmed.indications WHERE disease_ids && '{mesh:D006073}'"
                      ) == ["Podagra"]
        past = column(connection, "SELECT count(*) FROM mkmed.history WHERE kind = 'indication' AND until IS NOT NULL")
        assert past[0] == 4  # of the three drugs whose indications changed, one has two


def test_chembl_refuses_what_is_no_chembl(fresh_database: Engine, tmp_path: Path) -> None:
    path = published.write_chembl(tmp_path / "chembl.db")
    data = path.read_bytes()
    with pytest.raises(SourceError, match="no SQLite database"):
        run(fresh_database, "chembl", path=published.write_text(tmp_path / "page.db", "<html>"))
    path.write_bytes(data.replace(b"CREATE TABLE drug_mechanism", b"CREATE TABLE drug_mechanicm"))
    with pytest.raises(SourceError):
        run(fresh_database, "chembl", path=path)


def test_primekg_gives_contraindications_and_one_edge_for_both_directions(fresh_database: Engine, tmp_path: Path) -> None:
    known(fresh_database, "DB00780", "DB00437", "DB00682")
    counts = run(fresh_database, "primekg", path=published.write_text(tmp_path / "kg.csv", published.PRIMEKG)).counts
    assert counts["left out: that are an edge the other way round"] == 2
    assert counts["left out: with an unknown type of node"] == 1 and counts["indications"] == 3
    with fresh_database.begin() as connection:
        assert [tuple(row) for row in connection.execute(text("SELECT name, target_label, action FROM mkmed.drug_targets"))] == [
            ("DB00437", "XDH", "binds")]
        uses = connection.execute(text("SELECT name, kind, disease, disease_ids, licence_id FROM mkmed.indications ORDER BY 1")).all()
        assert [tuple(row) for row in uses] == [
            ("DB00437", "indication", "gout", ["mondo:5393"], "CC-BY-SA-4.0"),
            ("DB00682", "off-label", "stroke, ischemic", ["mondo:13924", "mondo:12592"], "CC-BY-SA-4.0"),
            ("DB00780", "contraindication", "pheochromocytoma", ["mondo:8233"], "CC-BY-SA-4.0")]
        words = {r.word: r.licence_id for r in connection.execute(text("SELECT word, licence_id FROM mkmed.relations"))}
        assert words == {"contraindicated in": "CC-BY-SA-4.0", "treats": "CC-BY-SA-4.0", "used off label for": "CC-BY-SA-4.0",
                         "binds": "LicenseRef-PrimeKG", "interacts with": "LicenseRef-PrimeKG"}


def test_hetionet_speaks_drkgs_words_under_its_own_licences(fresh_database: Engine, tmp_path: Path) -> None:
    known(fresh_database, "DB00437")
    counts = run(fresh_database, "hetionet", **published.SAMPLES["hetionet"].write(tmp_path)).counts
    assert counts["left out: with an unknown metaedge"] == 1
    with fresh_database.begin() as connection:
        rows = connection.execute(text("SELECT relation, licence_id FROM mkmed.relations"))
        licences = {row.relation: row.licence_id for row in rows}
        assert licences["Hetionet::CtD::Compound:Disease"] == "CC0-1.0"
        assert licences["Hetionet::CcSE::Compound:Side Effect"] == "CC-BY-NC-SA-4.0"
        assert licences["Hetionet::CbG::Compound:Gene"] == "LicenseRef-Hetionet"
        assert column(connection, "SELECT disease FROM mkmed.indications") == ["gout"]
        assert column(connection, "SELECT name FROM mkmed.drug_entities") == ["DB00437"]


def test_columns_of_ones_own_in_hetionets_edge_list_say_nothing(fresh_database: Engine, tmp_path: Path) -> None:
    first, *rows = published.HETIONET.splitlines()
    path = published.write_text(tmp_path / "edges.sif", "\n".join(
        [f"{first}\tlicence\tproperties", *(f"{row}\tCC0-1.0\t{{no JSON" for row in rows)]))
    assert run(fresh_database, "hetionet", path=path).counts["edges"] == 6
    with fresh_database.begin() as connection:
        assert "LicenseRef-Hetionet" in column(connection, "SELECT licence_id FROM mkmed.relations")


def test_edges_of_hetionets_json_have_each_its_own_licence(fresh_database: Engine, tmp_path: Path) -> None:
    known(fresh_database, "DB00437")
    path = published.write_hetionet_json(tmp_path / "hetionet-v1.0.json.bz2")
    counts = run(fresh_database, "hetionet", path=path).counts
    assert (counts["items"], counts["taken"], counts["left out: malformed"]) == (7, 5, 2)
    query = "SELECT provider, licence_id, score, evidence, reference, properties FROM mkmed.edges WHERE relation = :r ORDER BY 1"
    with fresh_database.begin() as connection:
        binds = connection.execute(text(query), {"r": "Hetionet::CbG::Compound:Gene"}).all()
        assert [tuple(row) for row in binds] == [
            ("BindingDB, DrugBank (Hetionet v1.0)", "CC-BY-NC-4.0", None, None, "Shut: 1", {"actions": '["inhibitor"]'}),
            ("ChEMBL (Hetionet v1.0)", "CC-BY-SA-3.0", 12.5, None, None, {"affinity_nM": "12.5"})]
        stated = connection.execute(text(query), {"r": "Hetionet::CdG::Compound:Gene"}).all()
        assert [tuple(row)[:4] for row in stated] == [("LINCS L1000 (Hetionet v1.0)", "LicenseRef-Hetionet", -4.156, "Shut: measured")]
        assert column(connection, "SELECT licence_id FROM mkmed.edges WHERE relation = 'Hetionet::Gr>G::Gene:Gene'") == ["CC0-1.0"]
        assert column(connection, "SELECT disease FROM mkmed.indications WHERE licence_id = 'CC0-1.0'") == ["gout"]
        assert column(connection, "SELECT head_label FROM mkmed.edges WHERE relation LIKE '%CbG%'") == ["Allopurinol"] * 2
        before = release_of(connection)
    assert run(fresh_database, "hetionet", path=path).counts.get("rows", 0) == 0
    export(fresh_database, tmp_path / "open.sqlite", ExportFormat.sqlite, open_only=True)
    assert b"Shut:" not in (tmp_path / "open.sqlite").read_bytes() and b"affinity_nM" in (tmp_path / "open.sqlite").read_bytes()
    with fresh_database.begin() as connection:
        assert release_of(connection) == before
        assert [check for check in verify(connection) if check.broken] == []
    cut = tmp_path / "cut.json.bz2"
    cut.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match="is damaged: Compressed file ended"):
        run(fresh_database, "hetionet", path=cut)


def test_a_graph_of_the_users_keeps_what_its_edges_say(fresh_database: Engine, tmp_path: Path) -> None:
    known(fresh_database, "DB00682")
    counts = run(fresh_database, "graph", **published.SAMPLES["graph"].write(tmp_path)).counts
    assert counts["left out: without relation and two typed nodes"] == 1
    with fresh_database.begin() as connection:
        edges = connection.execute(text("SELECT relation, tail_label, score, evidence, reference, properties, source, licence_id"
                                        " FROM mkmed.edges ORDER BY 1")).all()
        assert [tuple(row) for row in edges] == [
            ("infores:mine::interacts_with::Compound:Gene", "CYP2C9", 0.93, "observation", "PMID:12345",
             {"id": "e1", "agent_type": "manual_agent"}, "graph/mine_edges", "LicenseRef-user"),
            ("infores:mine::treats::Compound:Disease", "thrombotic disease", None, "assertion", None,
             {"id": "e2", "agent_type": "manual_agent", "score": "high"}, "graph/mine_edges", "LicenseRef-user")]
        assert column(connection, "SELECT name FROM mkmed.drug_entities") == ["DB00682"]
    plain = published.write_text(tmp_path / "plain.tsv", "a\tb\tc\tw\nCompound::DB00682\tslows\tGene::1559\t2.5\n")
    run(fresh_database, "graph", path=plain, columns={"head": "a", "relation": "b", "tail": "c", "score": "w"})
    with fresh_database.begin() as connection:
        assert column(connection, "SELECT score FROM mkmed.edges WHERE source = 'graph/plain'") == [2.5]
    with pytest.raises(UsageError, match="unknown role 'weight'"):
        run(fresh_database, "graph", path=plain, columns={"weight": "w"})


def test_relations_of_three_graphs_have_one_word() -> None:
    treats = ("DRUGBANK::treats::Compound:Disease", "GNBR::T::Compound:Disease", "Hetionet::CtD::Compound:Disease",
              "PrimeKG::indication::Compound:Disease", "DrugMechDB::indication::Compound:Disease")
    assert {word_of(name) for name in treats} == {"treats"}
    assert word_of("bioarx::DrugHumGen:Compound:Gene") == "binds" and word_of("mine::odd::Compound:Gene") is None


def test_a_digest_does_not_depend_on_the_document() -> None:
    from datetime import UTC, datetime

    def entry(payload: bytes) -> stream.Entry:
        paper = Document("x", "f", "text/plain", "CC0-1.0", "", datetime.now(UTC), "x/1", payload=payload)
        return stream.Entry(DrugRecord("rxcui:1", "a", paper))

    batches = [RecordBatch(), RecordBatch()]
    for batch, payload in zip(batches, (b"1", b"2"), strict=True):
        stream._add(batch, entry(payload))
    assert batches[0].drugs[0].digest == batches[1].drugs[0].digest


def test_drugcentral_reads_the_dump_and_runs_nothing_of_it(fresh_database: Engine, tmp_path: Path) -> None:
    counts = run(fresh_database, "drugcentral", path=published.write_text(tmp_path / "dump.sql", published.DRUGCENTRAL)).counts
    assert counts["left out: malformed"] == 1 and counts["left out: of no structure"] == 1
    assert counts["left out: of the relationship 'reduce risk'"] == 1 and counts["taken"] == 11
    with fresh_database.begin() as connection:
        uses = connection.execute(text("SELECT kind, disease, disease_ids FROM mkmed.indications ORDER BY 1")).all()
        assert [tuple(row) for row in uses] == [
            ("contraindication", "Pheochromocytoma", ["umls:C0031511", "snomedct:302835009"]),
            ("indication", "Depressive disorder", ["umls:C0011581", "snomedct:35489007"]),
            ("off-label", "Panic disorder", ["umls:C0030319"])]
        row = connection.execute(text("SELECT * FROM mkmed.drugs WHERE name = 'phenelzine'")).mappings().one()
        assert {"drugbank:DB00780", "chembl:CHEMBL1089", "cas:51-71-8", "rxcui:8123"} <= set(row["identifiers"])
        assert row["inchikey"] == "RMUCZJUITONUFY-UHFFFAOYSA-N" and row["licences"] == ["CC-BY-SA-4.0"]
    cut = published.DRUGCENTRAL.partition("broken")[0]
    with pytest.raises(SourceError, match="ends within the table structures"):
        run(fresh_database, "drugcentral", path=published.write_text(tmp_path / "cut.sql", cut))


def test_openfda_keeps_the_newest_label_of_a_substance(fresh_database: Engine, tmp_path: Path) -> None:
    pytest.importorskip("ijson", reason="ijson is not installed")
    packed = tmp_path / "drug-label-0001-of-0001.json.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("drug-label-0001-of-0001.json", json.dumps(published.LABELS))
    counts = run(fresh_database, "openfda", path=packed).counts
    assert counts["taken"] == 4 and counts["left out: of several substances, without a product"] == 1
    assert counts["left out: without an identified substance"] == 1 and counts["items"] == 9
    assert counts["left out: of several substances, one of which has no label of its own"] == 1
    assert counts["products"] == 2 and counts["values left out"] == 1  # a package that has no NDC
    with fresh_database.begin() as connection:
        texts = dict(map(tuple, connection.execute(text("SELECT heading, content FROM mkmed.texts"))))
        assert texts == {"indications": "For pain and fever.", "contraindications": "Allergy to NSAIDs.",
                         "boxed warning": "Bleeding."}
        assert column(connection, "SELECT name FROM mkmed.names WHERE kind = 'brand' ORDER BY 1") == ["Bayer Aspirin", "Ecotrin"]
        products = connection.execute(text("SELECT name, product, brand, ingredients, ndc, route, labeler FROM mkmed.products"
                                           " ORDER BY product, name")).all()
        assert [tuple(row) for row in products] == [
            ("Omeprazole", "OMEPRAZOLE", None, 1, ["00186060631"], "ORAL", "Somebody Inc."),
            ("Aspirin", "Yosprala", "Yosprala", 2, ["70347008130"], "ORAL", None),
            ("Omeprazole", "Yosprala", "Yosprala", 2, ["70347008130"], "ORAL", None)]
    with pytest.raises(SourceError, match="not whole JSON"):
        run(fresh_database, "openfda", path=published.write_text(tmp_path / "cut.json", '{"results": [{"set_id": '))


def test_dailymed_reads_labels_and_their_products(fresh_database: Engine, tmp_path: Path) -> None:
    counts = run(fresh_database, "dailymed", path=published.write_dailymed(tmp_path / "dm_spl_release_human_rx_part1.zip")).counts
    assert (counts["items"], counts["taken"], counts["products"]) == (7, 3, 4)
    assert counts["left out: malformed"] == 2 and counts["left out: of a drug for animals"] == 1
    assert counts["left out: without an identified substance"] == 1
    with fresh_database.begin() as connection:
        texts = dict(map(tuple, connection.execute(text("SELECT heading, content FROM mkmed.texts"))))
        assert texts == {
            "boxed warning": "Can cause major bleeding.",
            "indications": "COUMADIN is indicated for: Prophylaxis1 of thrombosis Atrial fibrillation",
            "contraindications": "Pregnancy, except in women with mechanical heart valves.",
            "dose": "2.1 Individualised Dosing INR 2-3"}
        products = connection.execute(text(
            "SELECT name, product, brand, form, strength, substance, ndc, set_id FROM mkmed.products ORDER BY key, name")).all()
        assert [tuple(row) for row in products] == [
            ("Warfarin", "Coumadin", "Coumadin", "TABLET", "2.5 mg", "Warfarin Sodium", ["00056017070"], "set-coumadin"),
            ("Warfarin", "Coumadin", "Coumadin", "TABLET", "5 mg", "Warfarin Sodium", ["00056017270"], "set-coumadin"),
            ("Warfarin", "Warfarin Sodium", None, "TABLET", "5 mg", "Warfarin Sodium", ["00093172070"], "set-old"),
            ("Acetaminophen", "Percocet", "Percocet", "TABLET", "325 mg/5 mL", None, ["63481062370"], "set-percocet"),
            ("Oxycodone", "Percocet", "Percocet", "TABLET", "5 mg", "Oxycodone Hydrochloride", ["63481062370"], "set-percocet")]
        assert column(connection, "SELECT DISTINCT language FROM mkmed.texts WHERE length(content) > 50") in (["en"], [None])
    alone = published.write_text(tmp_path / "coumadin.xml", published.SPLS["coumadin.xml"])
    assert run(fresh_database, "dailymed", path=alone).counts["taken"] == 1
    with fresh_database.begin() as connection:  # another version, in which the others are not
        assert column(connection, "SELECT DISTINCT name FROM mkmed.products") == ["Warfarin"]
        gone = "SELECT count(*) FROM mkmed.history WHERE kind = 'product' AND until IS NOT NULL"
        assert column(connection, gone) == [2]


def test_dailymed_refuses_what_is_no_label(fresh_database: Engine, tmp_path: Path) -> None:
    bomb = '<!DOCTYPE document [<!ENTITY a "aaaaaaaaaa">]><document xmlns="urn:hl7-org:v3"/>'
    deep = published.spl("deep", "", published.spl_section("34067-9", "deep", "<content>" * 5000 + "</content>" * 5000))
    for name, said in {"bomb": bomb, "page": "<html/>", "empty": "", "deep": deep}.items():
        with pytest.raises(SourceError, match=f"{name}.xml has no labels: {name}.xml"):
            run(fresh_database, "dailymed", path=published.write_text(tmp_path / f"{name}.xml", said))
    with zipfile.ZipFile(tmp_path / "nothing.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(SourceError, match="has no labels"):
        run(fresh_database, "dailymed", path=tmp_path / "nothing.zip")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"has no \.xml or \.zip"):
        run(fresh_database, "dailymed", path=tmp_path / "folder")


def test_drugbank_is_restricted_and_has_no_document_type(fresh_database: Engine, tmp_path: Path) -> None:
    pytest.importorskip("defusedxml", reason="defusedxml is not installed")
    counts = run(fresh_database, "drugbank", path=published.write_text(tmp_path / "full.xml", published.DRUGBANK)).counts
    assert counts["taken"] == 2 and counts["left out: without a DrugBank id"] == 1
    with fresh_database.begin() as connection:
        assert column(connection, "SELECT DISTINCT licence_id FROM mkmed.texts") == ["LicenseRef-DrugBank"]
        notes = connection.execute(text("SELECT word, evidence FROM mkmed.edges ORDER BY 1")).all()
        assert [tuple(row) for row in notes] == [("binds", "inhibitor"), ("interacts with drug", "Shut: bleeding.")]
    export(fresh_database, tmp_path / "open.sqlite", ExportFormat.sqlite, open_only=True)
    assert b"Shut:" not in (tmp_path / "open.sqlite").read_bytes()
    bomb = '<!DOCTYPE drugbank [<!ENTITY a "aaaaaaaaaa">]>' + published.DRUGBANK.partition("?>")[2]
    with pytest.raises(SourceError, match="declares a document type"):
        run(fresh_database, "drugbank", path=published.write_text(tmp_path / "bomb.xml", bomb))


def test_unichem_adds_identifiers_to_structures_that_are_known(fresh_database: Engine, tmp_path: Path) -> None:
    run(fresh_database, "chembl", path=published.write_chembl(tmp_path / "chembl.db"))
    options = {"path": published.write_text(tmp_path / "structure.tsv", published.UNICHEM),
               "also": {"reference": published.write_text(tmp_path / "reference.tsv", published.REFERENCE)}}
    counts = run(fresh_database, "unichem", **options).counts
    assert (counts["taken"], counts["left out: of a structure that no drug here has"], counts["values left out"]) == (1, 1, 1)
    with fresh_database.begin() as connection:
        ids = column(connection, "SELECT namespace || ':' || value FROM mkmed.identifiers WHERE source = 'unichem' ORDER BY 1")
        assert ids == ["drugbank:DB00780", "pubchem.compound:3675"]
    assert run(fresh_database, "unichem", **options).counts.get("rows", 0) == 0


def test_tables_of_interactions_are_read_by_their_columns(fresh_database: Engine, tmp_path: Path) -> None:
    known(fresh_database, "DB00682", "DB00945")
    ddinter = published.write_text(tmp_path / "ddinter_downloads_code_B.csv",
                                   "DDInterID_A,Drug_A,DDInterID_B,Drug_B,Level\nDDInter1,DB00682,DDInter2,DB00945,Major\n")
    run(fresh_database, "interactions", path=ddinter, columns={"drug_a": "Drug_A", "drug_b": "Drug_B", "severity": "Level"})
    with fresh_database.begin() as connection:
        assert column(connection, "SELECT severity FROM mkmed.interactions") == ["Major"]


def test_the_same_words_of_two_providers_are_read_once_and_shown_twice(fresh_database: Engine) -> None:
    with fresh_database.begin() as connection:
        run_id, paper = begin(connection), document("words")
        drug = DrugRecord("drugbank:DB00682", "Warfarin", paper, identifiers=(Identifier("drugbank", "DB00682"),))
        said = [TextRecord(drug.key, paper, provider, "An anticoagulant.", "CC0-1.0") for provider in ("A", "B")]
        write_batch(connection, run_id, "hand", RecordBatch(drugs=[drug], payloads=said))
        finish_run(connection, run_id, "complete")
        assert [found.provider for found in texts(connection)] == ["A"]
        assert column(connection, "SELECT provider FROM mkmed.texts ORDER BY 1") == ["A", "B"]


def test_a_disease_known_by_its_id_has_its_codes(fresh_database: Engine, tmp_path: Path) -> None:
    """Of MeSH and UMLS ids, whichever publisher names them; a code that a source states is kept, an unknown id has none."""
    run(fresh_database, "chembl", path=published.write_chembl(tmp_path / "chembl_36.db"))
    run(fresh_database, "drugcentral", path=published.write_text(tmp_path / "dump.sql", published.DRUGCENTRAL))
    with fresh_database.begin() as connection:
        told = {(row.disease, tuple(row.icd10), row.icd10_by) for row in connection.execute(text(
            "SELECT disease, icd10, icd10_by FROM mkmed.indications"))}
    assert {("Gout", ("M10", "M1A"), "an equal id"), ("obstructive sleep apnea", (), None)} <= told
    assert all(bool(codes) == bool(by) for _, codes, by in told)
