"""ATC codes: every level with its ancestors, and the user's own table."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kb.errors import MkmedError, UsageError
from kb.ingest.engine import Summary, ingest
from kb.ingest.retract import remove_named
from kb.ledger.verify import verify
from kb.query.names import find_drug
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


WHO_ATC = """<?xml version="1.0" encoding="UTF-8"?>
<xml xmlns:s="uuid:BDC6E3F0-6DA3-11d1-A2A3-00AA00C14882" xmlns:rs="urn:schemas-microsoft-com:rowset" xmlns:z="#RowsetSchema">
<s:Schema id="RowsetSchema"><s:ElementType name="row" content="eltOnly"><s:AttributeType name="ATCCode"/></s:ElementType></s:Schema>
<rs:data><z:row ATCCode="B" Name="BLOOD AND BLOOD FORMING ORGANS"/><z:row ATCCode="B01AA03" Name="warfarin" Comment="x"/>
</rs:data></xml>"""
WHO_DDD = """<xml xmlns:rs="urn:schemas-microsoft-com:rowset" xmlns:z="#RowsetSchema"><rs:data>
<z:row ATCCode="B01AA03" DDD="7.5" UnitType="mg" AdmCode="O" DDDComment=""/>
<z:row ATCCode="B01AA03" DDD="7.5" UnitType="mg" AdmCode="P"/>
<z:row ATCCode="J01CA04" DDD="1,5" UnitType="g" AdmCode="O" DDDComment="children"/>
<z:row ATCCode="J01CA04" DDD="none" UnitType="g" AdmCode="P"/>
<z:row ATCCode="J01CA04" DDD="0" UnitType="g" AdmCode="R"/>
<z:row ATCCode="J01CA04" DDD="3" AdmCode="P"/>
<z:row ATCCode="not a code" DDD="3" UnitType="g" AdmCode="P"/>
</rs:data></xml>"""
WHO_CSV = """atc_code,atc_name,ddd,uom,adm_r,note
A,ALIMENTARY TRACT AND METABOLISM,NA,NA,NA,NA
A01AA01,sodium fluoride,1.1,mg,O,0.5 mg fluoride
"""


def ddds(engine: Engine) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        query = "SELECT code, class_name, value, unit, route, note, licence_id FROM mkmed.ddd ORDER BY code, route"
        return [tuple(row) for row in connection.execute(text(query))]


def test_whos_files_give_names_and_daily_doses(fresh_database: Engine, tmp_path: Path) -> None:
    def load(name: str, written: str) -> dict[str, int]:
        (tmp_path / name).write_text(written, encoding="utf-8")
        return ingest(fresh_database, Settings(), "atc", IngestOptions(path=tmp_path / name, yes=True)).counts

    load("2024 ATC.xml", WHO_ATC)
    assert load("2024 ATC_ddd.xml", WHO_DDD)["rejected"] == 4
    user = "LicenseRef-user"
    of_who = [("B01AA03", "warfarin", 7.5, "mg", "O", "", user), ("B01AA03", "warfarin", 7.5, "mg", "P", "", user),
              ("J01CA04", None, 1.5, "g", "O", "children", user)]
    assert ddds(fresh_database) == of_who
    assert load("2024 ATC_ddd.xml", WHO_DDD).get("rows", 0) == 0
    load("2024 ATC_ddd.xml", WHO_DDD.replace('DDD="7.5"', 'DDD="5"', 1).replace('AdmCode="P"/>\n<z:row ATCCode="J01CA04" DDD="1', 'AdmCode="R"/>\n<z:row ATCCode="J01CA04" DDD="1'))
    assert [(row[2], row[4]) for row in ddds(fresh_database)] == [(5.0, "O"), (7.5, "R"), (1.5, "O")]
    load("WHO ATC-DDD 2026.csv", WHO_CSV)
    assert ("A01AA01", "sodium fluoride", 1.1, "mg", "O", "0.5 mg fluoride", user) in ddds(fresh_database)
    with fresh_database.begin() as connection:
        connection.execute(text("SET LOCAL mkmed.open_only = 'on'"))
        assert connection.execute(text("SELECT * FROM mkmed.ddd")).all() == []
        past = connection.scalar(text("SELECT count(*) FROM mkmed.history WHERE kind = 'atc_ddd' AND until IS NOT NULL"))
        assert past == 0  # a reader does not see what was
    with fresh_database.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM mkmed.history WHERE kind = 'atc_ddd' AND until IS NOT NULL")) == 2
    remove_named(fresh_database, dataset="2024-atc_ddd")
    assert [row[0] for row in ddds(fresh_database)] == ["A01AA01"]


@pytest.mark.parametrize(("written", "said"), [
    ("<xml><row ATCCode='A'", "not whole XML"), ("<xml/>", "has no rows"), ("<xml><row Other='A'/></xml>", "no column 'code'"),
    ("<!DOCTYPE x [<!ENTITY a 'b'>]><xml><row ATCCode='&a;'/></xml>", "document type"),
    ("<xml><row ATCCode='A'/></xml>", "neither drugs nor class names nor doses"),
])
def test_xml_that_is_no_table_is_refused(written: str, said: str, fresh_database: Engine, tmp_path: Path) -> None:
    (tmp_path / "atc.xml").write_text(written, encoding="utf-8")
    with pytest.raises(MkmedError, match=said):
        ingest(fresh_database, Settings(), "atc", IngestOptions(path=tmp_path / "atc.xml"))
