"""The bundled corpus: its files are what the manifest says, and one command fills the knowledge base with them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from kb.bundle import Bundle
from kb.errors import ContractViolation, NotFound
from kb.identity.identifiers import Identifier
from kb.ingest.engine import Summary, ingest
from kb.ledger.verify import verify
from kb.query.read import availability, drugs, find_drug
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from mkmed.demo.paths import data_path


def run(engine: Engine, source: str = "corpus", **options: object) -> Summary:
    return ingest(engine, Settings(workers=2), source, IngestOptions(**options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def filled(database: Engine) -> Engine:
    run(database)
    return database


def snapshot(connection: Connection) -> dict[str, object]:
    tables = ("drug", "drug_record", "drug_name", "identifier", "text", "conformer", "property_set", "cell", "lookup",
              "interaction", "drug_atc", "atc_class", "kg_triple", "kg_entity", "drug_entity", "artifact",
              "artifact_seen")
    return {
        table: connection.execute(text(f"SELECT count(*), max(xmin::text::bigint) FROM mkmed.{table}")).one()
        for table in tables
    }


def test_every_file_has_its_checksum() -> None:
    sums = dict(reversed(line.split("  ")) for line in data_path("SHA256SUMS").read_text().splitlines())
    manifest = Bundle.open().manifest
    assert manifest.keys() <= sums.keys()
    for name, about in manifest.items():
        found = hashlib.sha256(data_path(name).read_bytes()).hexdigest()
        assert found == sums[name] == about["sha256"], name
        assert all(about[field] for field in ("licence", "attribution", "url", "version", "retrieved_at"))


def test_bundle_is_small_enough() -> None:
    assert sum(p.stat().st_size for p in data_path().rglob("*") if p.is_file()) < 30 * 2**20


def test_every_bundled_identifier_is_in_its_normal_form() -> None:
    for row in Bundle.open().rows("drugs.tsv.gz"):
        for written in filter(None, row["identifiers"].split(" | ")):
            assert str(Identifier.parse(written)) == written


def test_corpus_fills_everything_and_breaks_nothing(filled: Engine) -> None:
    with filled.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []
        listed = drugs(connection)
        assert len(listed.ids) > 13_000
        assert listed.kinds.count("biologic") > 500
        assert sum(s is None for s in listed.smiles) > 5_000
        mask = availability(connection)
        have = dict(zip(mask.modalities, mask.mask.sum(axis=0).tolist(), strict=True))
        assert have["text"] > 3_000 and have["structure"] > 1_800 and have["graph"] > 1_400 and have["property"] > 600
        assert have["image"] == 0


def test_biologics_are_first_class(filled: Engine) -> None:
    with filled.begin() as connection:
        cetuximab = find_drug(connection, "cetuximab")
        row = connection.execute(text("SELECT * FROM mkmed.drug WHERE id = :i"), {"i": cetuximab}).mappings().one()
        assert (row["kind"], row["smiles"], row["inchikey"]) == ("biologic", None, None)
        said = connection.scalar(text("SELECT content FROM mkmed.text WHERE drug_id = :i"), {"i": cetuximab})
        assert "antibody" in said.lower()


def test_each_value_is_filed_under_its_source(filled: Engine) -> None:
    with filled.begin() as connection:
        found = {
            (r.source, r.modality, r.state): r.n
            for r in connection.execute(text("SELECT source, modality, state, count(*) n FROM mkmed.cell GROUP BY 1, 2, 3"))
        }
        assert found["pubchem", "property", "present"] == connection.scalar(text("SELECT count(*) FROM mkmed.property_set"))
        assert found["ccd", "structure", "present"] > 1_000 and found["rdkit", "structure", "present"] > 1_200
        assert not any(source == "corpus" and modality == "structure" for source, modality, _ in found)
        licences = connection.scalars(text("SELECT DISTINCT licence_id FROM mkmed.text ORDER BY 1")).all()
        assert licences == ["CC-BY-4.0", "CC-BY-SA-4.0", "LicenseRef-US-Government", "LicenseRef-WordNet-3.0"]
        assert connection.scalar(text("SELECT count(*) FROM mkmed.text WHERE is_note")) > 100
        reasons = connection.scalars(text("SELECT DISTINCT split_part(evidence, ' ', 1) FROM mkmed.cell "
                                          "WHERE state = 'absent'")).all()
        assert set(reasons) == {"rule:not-in-bundle", "rule:no-component-with-this-inchikey", "rule:not-in-graph"}


def test_definitions_were_joined_by_name(filled: Engine) -> None:
    """DrugCentral's export has ids that belong to other rows: joined by id, cetuximab had a vitamin's structure."""
    known = {"metformin": "biguanide", "warfarin": "anticoagulant", "omeprazole": "ulcer"}
    with filled.begin() as connection:
        for name, word in known.items():
            texts = connection.scalars(
                text("SELECT content FROM mkmed.text WHERE drug_id = :i"), {"i": find_drug(connection, name)}
            ).all()
            assert any(word in content.lower() for content in texts), name


def test_interactions_atc_and_identifiers_come_along(filled: Engine) -> None:
    with filled.begin() as connection:
        aspirin = find_drug(connection, "drugbank:DB00945")
        assert find_drug(connection, "BSYNRYMUTXBXSQ-UHFFFAOYSA-N") == aspirin
        codes = connection.scalars(text("SELECT code FROM mkmed.drug_atc WHERE drug_id = :i"), {"i": aspirin}).all()
        assert {"B01AC06", "N02BA01"} <= set(codes)
        assert connection.scalar(text("SELECT name FROM mkmed.atc_class WHERE code = 'B01AC'"))
        severities = set(connection.scalars(text("SELECT DISTINCT severity FROM mkmed.interaction")))
        assert severities == {"Critical", "Significant", None}
        spaces = set(connection.scalars(text("SELECT DISTINCT namespace FROM mkmed.identifier")))
        assert {"drugbank", "unii", "cas", "rxcui", "ndc", "atc", "pharmgkb", "ccd", "pubchem.compound"} <= spaces


def test_a_second_run_changes_nothing(filled: Engine) -> None:
    with filled.begin() as connection:
        before = snapshot(connection)
    assert run(filled).counts.get("rows", 0) == 0
    for source in ("atc", "interactions"):
        run(filled, source)
        run(filled, source)
    with filled.begin() as connection:
        after = snapshot(connection)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"lookup", "artifact_seen"}  # the two sources leave the mark of their own first run
    run(filled, "atc")
    with filled.begin() as connection:
        assert snapshot(connection) == after


def test_limit_keeps_the_best_described_and_the_full_run_goes_on(fresh_database: Engine) -> None:
    run(fresh_database, limit=40)
    with fresh_database.begin() as connection:
        assert len(drugs(connection).ids) == 40
        assert all(drugs(connection).smiles)
        assert availability(connection).mask[:, 1].all()
        assert [check for check in verify(connection) if check.broken] == []
    run(fresh_database, limit=60)
    with fresh_database.begin() as connection:
        assert len(drugs(connection).ids) == 60
        assert [check for check in verify(connection) if check.broken] == []


def test_ids_choose_drugs(fresh_database: Engine) -> None:
    run(fresh_database, ids=("aspirin", "DB00331", "Cetuximab"))
    with fresh_database.begin() as connection:
        assert sorted(drugs(connection).names) == ["Acetylsalicylic acid", "Cetuximab", "Metformin"]


def test_an_altered_file_is_refused(fresh_database: Engine, tmp_path: Path) -> None:
    copy = tmp_path / "corpus"
    shutil.copytree(data_path(), copy, ignore=shutil.ignore_patterns("ehr_*"))
    (copy / "texts.tsv.gz").write_bytes(b"something else")
    with pytest.raises(ContractViolation, match=r"texts\.tsv\.gz"):
        run(fresh_database, path=copy)
    with pytest.raises(NotFound, match=r"MANIFEST\.json"):
        run(fresh_database, path=tmp_path)
