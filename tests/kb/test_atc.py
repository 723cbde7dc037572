"""ATC codes: every level with its ancestors, and the user's own table."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kb.errors import UsageError
from kb.ingest.engine import Summary, ingest
from kb.ledger.verify import verify
from kb.query.drug import find_drug
from kb.query.read import atc
from kb.settings import Settings
from kb.sources.contract import IngestOptions


def run(engine: Engine, source: str = "atc", **options: object) -> Summary:
    return ingest(engine, Settings(workers=1), source, IngestOptions(**options))  # type: ignore[arg-type]


@pytest.fixture
def two(fresh_database: Engine) -> Engine:
    run(fresh_database, "corpus", ids=("aspirin", "metformin"))
    return fresh_database


def test_every_code_has_its_ancestors_and_most_classes_a_name(two: Engine) -> None:
    with two.begin() as connection:
        metformin = find_drug(connection, "metformin")
        assert (metformin, "A10BA02") in atc(connection)
        line = connection.execute(
            text("SELECT code, level, parent FROM mkmed.atc_class WHERE 'A10BA02' LIKE code || '%' ORDER BY level")
        ).all()
        assert [tuple(row) for row in line] == [
            ("A", 1, None), ("A10", 2, "A"), ("A10B", 3, "A10"), ("A10BA", 4, "A10B"), ("A10BA02", 5, "A10BA")
        ]
        named = connection.execute(text("SELECT level, count(name)::float / count(*) share FROM mkmed.atc_class"
                                        " WHERE level < 5 GROUP BY 1")).all()
        assert len(named) == 4 and all(row.share > 0.9 for row in named)
        assert connection.scalar(text("SELECT count(*) FROM mkmed.identifier WHERE namespace = 'atc'")) > 1


TRUTH = {
    "A": "Alimentary tract and metabolism", "B": "Blood and blood forming organs", "C": "Cardiovascular system",
    "D": "Dermatologicals", "G": "Genito-urinary system and sex hormones",
    "H": "Systemic hormonal preparations, excluding sex hormones and insulins", "J": "Antiinfectives for systemic use",
    "L": "Antineoplastic and immunomodulating agents", "M": "Musculo-skeletal system", "N": "Nervous system",
    "P": "Antiparasitic products, insecticides and repellents", "R": "Respiratory system", "S": "Sensory organs",
    "V": "Various", "N01": "Anesthetics", "N01A": "Anesthetics, general", "N01B": "Anesthetics, local",
    "G03C": "Estrogens", "C09A": "ACE inhibitors, plain", "A12A": "Calcium", "A12B": "Potassium",
    "N05A": "Antipsychotics", "N05AN": "Lithium", "N03A": "Antiepileptics", "B01A": "Antithrombotic agents",
    "C07A": "Beta blocking agents", "G03A": "Hormonal contraceptives for systemic use", "A02BC": "Proton pump inhibitors",
    "R03AC": "Selective beta-2-adrenoreceptor agonists", "A02AA": "Magnesium compounds", "N05AX": "Other antipsychotics",
    "M04AB": "Preparations increasing uric acid excretion", "L01E": "Protein kinase inhibitors", "J05A":
    "Direct acting antivirals", "A10B": "Blood glucose lowering drugs, excluding insulins",
    "H02": "Corticosteroids for systemic use",
}
"""Names of ATC classes as WHO's index has them, by hand: all of level 1, and others."""


def test_bundled_names_of_classes_are_true(fresh_database: Engine) -> None:
    run(fresh_database)
    with fresh_database.begin() as connection:
        names = {row.code: row.name for row in connection.execute(text("SELECT code, name FROM mkmed.atc_class"))}
    assert {code: names[code] for code in TRUTH} == TRUTH
    assert sum(len(code) == 1 for code in names) == 14
    missing = [code for code, name in names.items() if len(code) < 5 and not name]
    assert missing == []


def test_a_later_edition_corrects_its_own_names(two: Engine) -> None:
    """What an earlier version of the bundled list had wrong does not stay in a database."""
    with two.begin() as connection:
        connection.execute(text("UPDATE mkmed.atc_class SET name = 'estradiol valerate' WHERE code = 'N02'"))
        connection.execute(text("DELETE FROM mkmed.lookup WHERE key LIKE 'atc.tsv.gz:%'"))
    run(two)
    with two.begin() as connection:
        assert connection.scalar(text("SELECT name FROM mkmed.atc_class WHERE code = 'N02'")) == "Analgesics"


def test_own_codes_and_names(two: Engine, tmp_path: Path) -> None:
    path = tmp_path / "atc.csv"
    path.write_text("ATC,Substance,Class\nC10AA05,metformin,\nC10AA,,Statins\nQQ,aspirin,\nA02BC01,nothing known,\nB01,,\n")
    summary = run(two, path=path, columns={"code": "ATC", "drug": "Substance", "name": "Class"})
    with two.begin() as connection:
        assert (find_drug(connection, "metformin"), "C10AA05") in atc(connection)
        reasons = {int(k.split(":")[2]) for k in connection.scalars(
            text("SELECT key FROM mkmed.lookup WHERE source = 'atc/atc' AND state = 'rejected'"))}
        assert [check for check in verify(connection) if check.broken] == []
    assert reasons == {4, 5, 6} and summary.counts["rejected"] == 3


def test_a_name_that_is_there_is_kept(two: Engine, tmp_path: Path) -> None:
    with two.begin() as connection:
        before = connection.scalar(text("SELECT name FROM mkmed.atc_class WHERE code = 'A10BA'"))
    path = tmp_path / "atc.csv"
    path.write_text("code,drug,name\nA10BA,,Something else\n")
    run(two, path=path)
    with two.begin() as connection:
        assert connection.scalar(text("SELECT name FROM mkmed.atc_class WHERE code = 'A10BA'")) == before


def test_a_table_without_drugs_and_names_is_refused(two: Engine, tmp_path: Path) -> None:
    path = tmp_path / "atc.csv"
    path.write_text("code\nA10BA02\n")
    with pytest.raises(UsageError, match="neither drugs nor class names"):
        run(two, path=path)
