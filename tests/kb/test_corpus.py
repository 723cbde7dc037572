"""The bundled corpus: its files are what the manifest says, and one command fills the knowledge base with them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from kb.bundle import Bundle
from kb.errors import ContractViolation, NotFound
from kb.ingest.engine import Summary, ingest
from kb.ledger.verify import verify
from kb.normalise import Identifier
from kb.query.drug import find_drug
from kb.query.read import availability, drugs, indications
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from mkmed.demo.paths import data_path
from mkmed.demo.step import DESCRIBED
from tests.kb import published


def run(engine: Engine, source: str = "corpus", **options: object) -> Summary:
    return ingest(engine, Settings(workers=2), source, IngestOptions(**options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def filled(database: Engine) -> Engine:
    run(database)
    return database


def snapshot(connection: Connection) -> dict[str, object]:
    tables = ("drug", "drug_record", "drug_name", "identifier", "text", "conformer", "property_set", "cell", "lookup",
              "interaction", "indication", "drug_atc", "atc_class", "kg_triple", "kg_entity", "drug_entity", "artifact",
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
        assert sum(s is None for s in listed.smiles) > 4_000
        mask = availability(connection)
        have = dict(zip(mask.modalities, mask.mask.sum(axis=0).tolist(), strict=True))
        assert have["text"] > 3_000 and have["structure"] > 6_000 and have["graph"] > 1_400 and have["property"] > 600
        assert have["image"] == 0


def test_most_drugs_have_a_modality_and_a_structure_of_exactly_their_key(filled: Engine) -> None:
    with filled.begin() as connection:
        mask = availability(connection).mask
        assert (~mask.any(axis=1)).mean() <= 0.35
        structures = connection.scalar(text("SELECT count(*) FROM mkmed.drug WHERE smiles IS NOT NULL"))
        assert structures > 8_600
        assert connection.scalar(text("SELECT count(*) FROM mkmed.conformer WHERE source = 'ccd'")) > 5_700


def test_indications_are_facts_with_a_source_and_a_licence(filled: Engine) -> None:
    with filled.begin() as connection:
        rows = connection.execute(text("SELECT provider, licence_id, count(*) AS n, bool_and(sha256 IS NOT NULL) AS known"
                                       " FROM mkmed.indications GROUP BY 1, 2")).all()
        assert {(r.provider, r.licence_id) for r in rows} == {
            ("DrugMechDB", "CC0-1.0"), ("FDA label (LabeledIn)", "LicenseRef-US-Government"), ("DrugCentral", "CC-BY-4.0"),
            ("PharmacotherapyDB (Hetionet v1.0)", "CC0-1.0")}
        assert all(r.known for r in rows) and sum(r.n for r in rows) > 8_500
        gout = set(connection.scalars(text("SELECT DISTINCT name FROM mkmed.indications WHERE icd10 && '{M10}'")))
        assert {"Allopurinol", "Colchicine", "Febuxostat", "Probenecid"} <= gout
        said = indications(connection)
        assert {i.kind for i in said} == {"indication", "symptomatic"}
        metformin = find_drug(connection, "metformin")
        assert any("E11" in i.icd10 for i in said if i.drug_id == metformin)


def test_brand_names_have_their_own_licence_and_find_their_drug(filled: Engine) -> None:
    with filled.begin() as connection:
        warfarin = find_drug(connection, "warfarin")
        assert find_drug(connection, "Coumadin") == warfarin
        found = connection.execute(text("SELECT source, licence_id FROM mkmed.names WHERE name_key = 'coumadin'")).all()
        assert [tuple(row) for row in found] == [("names", "CC-BY-SA-3.0")]
        shared = connection.scalar(text("SELECT count(*) FROM mkmed.drug d WHERE (SELECT count(*) FROM mkmed.drug_record r"
                                        " WHERE r.drug_id = d.id AND r.source = 'names') > 2"))
        assert shared == 0


def test_no_bundled_edge_is_of_hetionets_non_commercial_origins() -> None:
    licences = {r["relation"]: r["licence"] for r in Bundle.open().rows("kg_relations.tsv.gz")}
    assert licences["Hetionet::CbG::Compound:Gene"] == "CC-BY-SA-3.0"  # ChEMBL's, the strictest of those that are left
    bindings = [r for r in Bundle.open().rows("kg_triples.tsv.gz") if r["relation"] == "Hetionet::CbG::Compound:Gene"]
    # Lepirudin binds thrombin by DrugBank alone (CC BY-NC); imatinib binds ABL1 by ChEMBL too.
    assert ("Compound::DB00001", "Gene::2147") not in {(r["head"], r["tail"]) for r in bindings}
    assert len(bindings) == 1_073


def test_the_demo_takes_all_that_are_described() -> None:
    tiers = [row["tier"] for row in Bundle.open().rows("drugs.tsv.gz")]
    assert set(tiers[:DESCRIBED]) == {"core", "text", "further"} and set(tiers[DESCRIBED:]) == {"structure", "vocabulary"}


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
        assert found["ccd", "structure", "present"] > 5_000 and found["rdkit", "structure", "present"] > 1_200
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


@pytest.fixture(scope="module")
def asked(filled: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The corpus with samples of RxNorm, ChEMBL and PrimeKG beside it."""
    folder = tmp_path_factory.mktemp("published")
    run(filled, "rxnorm", path=published.write_rxnorm(folder / "rrf"))
    run(filled, "chembl", path=published.write_chembl(folder / "chembl_36.db"))
    run(filled, "primekg", path=published.write_text(folder / "kg.csv", published.PRIMEKG))
    return filled


QUESTIONS: dict[str, tuple[str, set[str]]] = {
    "brands of warfarin and their products": ("""
        SELECT n.name || coalesce(': ' || p.product || ', ' || p.strength, '') AS answer, n.licence_id, n.url, n.sha256
        FROM mkmed.names n LEFT JOIN mkmed.products p ON p.drug_id = n.drug_id AND p.brand = n.name
        WHERE n.kind = 'brand' AND n.drug_id = mkmed.find_drug('warfarin')""",
        {"Coumadin: warfarin sodium 5 MG Oral Tablet [Coumadin], 5 MG", "Jantoven"}),
    "drugs for gout by mechanism": ("""
        SELECT DISTINCT i.name || ': ' || m.evidence AS answer, m.licence_id, m.url, m.sha256
        FROM mkmed.indications i JOIN mkmed.drug_entities e USING (drug_id)
        JOIN mkmed.edges m ON m.head = e.entity AND m.word = 'inhibits' AND m.source = 'chembl'
        WHERE i.icd10 && '{M10}'""",
        {"Allopurinol: Xanthine dehydrogenase inhibitor", "Febuxostat: Xanthine dehydrogenase inhibitor",
         "COLCHICINE: Tubulin inhibitor"}),
    "drugs for gout by target": ("""
        SELECT DISTINCT i.name || ' ' || t.action || ' ' || t.target_label AS answer, t.licence_id, t.url, t.sha256
        FROM mkmed.indications i JOIN mkmed.drug_targets t USING (drug_id) WHERE i.icd10 && '{M10}' AND t.action <> 'binds'""",
        {"Allopurinol inhibits XDH", "Febuxostat inhibits XDH", "Colchicine inhibits Tubulin beta chain", "Probenecid inhibits SLC22A11",
         "Benzbromarone inhibits Solute carrier family 22 member 12"}),
    "what must not be given with MAO inhibitors": ("""
        SELECT DISTINCT CASE WHEN a.drug_id = x.drug_a THEN x.name_b ELSE x.name_a END AS answer, x.licence_id, x.url, x.sha256
        FROM mkmed.atc a JOIN mkmed.interactions x ON a.drug_id IN (x.drug_a, x.drug_b)
        WHERE a.code ~ '^(N06AF|N06AG|N04BD)' AND x.provider LIKE 'ONC-High%'""",
        {"Citalopram", "Fluoxetine", "Meperidine", "Sertraline", "Tramadol", "Dextromethorphan"}),
    "contraindications of phenelzine": ("""
        SELECT disease AS answer, licence_id, url, sha256 FROM mkmed.indications
        WHERE drug_id = mkmed.find_drug('phenelzine') AND kind = 'contraindication'""", {"pheochromocytoma"}),
    "drugs that act on xanthine dehydrogenase": ("""
        SELECT DISTINCT d.name AS answer, e.licence_id, e.url, e.sha256 FROM mkmed.edges e
        JOIN mkmed.drug_entities d ON d.entity IN (e.head, e.tail)
        WHERE 'Gene::7498' IN (e.head, e.tail) AND e.word IN ('binds', 'inhibits')""", {"Allopurinol"}),
    "statins": ("""
        SELECT name AS answer, licence_id, url, sha256 FROM mkmed.atc WHERE code LIKE 'C10AA%'""",
        {"Atorvastatin", "Simvastatin", "Rosuvastatin", "Pravastatin"}),
    "drugs for both hypertension and heart failure": ("""
        SELECT DISTINCT a.name AS answer, b.licence_id, b.url, b.sha256 FROM mkmed.indications a
        JOIN mkmed.indications b USING (drug_id) WHERE a.icd10 && '{I10}' AND b.icd10 && '{I50}'""",
        {"Lisinopril", "Enalapril", "Carvedilol"}),
    "who says that metformin is for type 2 diabetes": ("""
        SELECT provider AS answer, licence_id, url, sha256 FROM mkmed.indications
        WHERE drug_id = mkmed.find_drug('metformin') AND icd10 && '{E11}'""", {"DrugMechDB", "FDA label (LabeledIn)"}),
    "what is approved for gout, by phase": ("""
        SELECT name AS answer, licence_id, url, sha256 FROM mkmed.indications
        WHERE disease_ids && '{mesh:D006073}' AND phase = 4""", {"Allopurinol", "COLCHICINE", "Febuxostat"}),  # the corpus' colchicine has no stereo: another structure
    "what an NDC contains": ("""
        SELECT d.name AS answer, i.licence_id, i.url, i.sha256 FROM mkmed.identifiers i JOIN mkmed.drugs d USING (drug_id)
        WHERE i.namespace = 'ndc' AND i.value = '00056017270'""", {"Warfarin"}),
    "cancer drugs of which nobody has a structure": ("""
        SELECT DISTINCT a.name AS answer, a.licence_id, a.url, a.sha256 FROM mkmed.atc a
        JOIN mkmed.drugs d USING (drug_id) WHERE a.code LIKE 'L01%' AND d.smiles IS NULL""", {"Trastuzumab", "Rituximab"}),
}


WRONG = {"drugs that act on xanthine dehydrogenase": {"Azithromycin", "Fentanyl", "Carvedilol"},
         "what must not be given with MAO inhibitors": {"Phenelzine", "Acetaminophen"}}
"""What a pharmacologist would not accept: DGIdb names genes of which nobody says what the drug does to them."""


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_a_pharmacologist_asks_is_answered_with_its_source(question: str, asked: Engine) -> None:
    query, expected = QUESTIONS[question]
    with asked.begin() as connection:
        rows = connection.execute(text(query)).all()
    answers = {row.answer for row in rows}
    assert expected <= answers and not WRONG.get(question, set()) & answers
    assert all(row.licence_id and row.url and row.sha256 for row in rows)
