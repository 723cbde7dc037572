"""From orders to medications through a real knowledge base, and a cohort prepared end to end."""

from pathlib import Path

import numpy as np
import pytest
from by_hand import DOCUMENT, write
from sqlalchemy import text

from kb.errors import UsageError
from kb.normalise import Identifier
from kb.query.snapshot import cite
from kb.settings import load_settings
from kb.sources.contract import DrugRecord, Name
from recsys.cohorts.files import load_cohort
from recsys.cohorts.prepare import prepare, unmapped
from recsys.formats.contract import CodePairs
from recsys.generators.clusters import generate
from recsys.generators.population import Shape
from recsys.orders.medications import NO_ATC, TOO_COARSE, MedicationMap, map_orders, read_map
from recsys.orders.own_map import OwnMap
from recsys.orders.resolve import NO_DRUG, VEHICLE

DATA = Path(__file__).parents[2] / "mkmed" / "demo" / "data"
DRUGS = {  # key: (name, synonyms, identifiers, ATC codes)
    "drugbank:DB00945": ("Aspirin", ("Acetylsalicylic acid",), ("rxcui:1191", "ndc:00536338101"), ("B01AC06", "N02BA01")),
    "drugbank:DB00682": ("Warfarin", (), ("rxcui:11289",), ("B01AA03",)),
    "drugbank:DB01234": ("Dexamethasone", (), (), ("H02AB02", "S01BA01", "D07AB19", "R01AD03")),
    "drugbank:DB01060": ("Amoxicillin", (), (), ("J01CA04",)),
    "drugbank:DB00766": ("Clavulanic acid", ("Clavulanate",), (), ("J01CR02",)),
    "drugbank:DB09153": ("Sodium chloride", (), (), ()),
    "drugbank:DB00030": ("Insulin human", (), (), ("A10AB01",)),
    "drugbank:DB00316": ("Acetaminophen", ("Paracetamol",), ("rxcui:161",), ("N02BE01",)),
    "drugbank:DB11089": ("Docusate sodium", (), (), ()),
    "drugbank:DB99999": ("Obscurine", (), (), ()),
}


@pytest.fixture(scope="module")
def filled(database):
    records = [
        DrugRecord(key, name, DOCUMENT, identifiers=tuple(Identifier.parse(i) for i in (key, *identifiers)),
                   names=tuple(Name(n) for n in synonyms))
        for key, (name, synonyms, identifiers, _) in DRUGS.items()
    ]
    write(database, records, {key: codes for key, (*_, codes) in DRUGS.items()})
    return database


@pytest.fixture
def maps(filled):
    with filled.connect() as connection:
        yield lambda level: read_map(connection, level)


@pytest.mark.parametrize(("key", "codes"), [
    ("NDC:00536338101\tNAME:no such name", ("ATC:B01A",)),
    ("RXCUI:11289", ("ATC:B01A",)),
    ("NAME:warfarin sodium 5 mg po tabs", ("ATC:B01A",)),
    ("RXCUI:999999\tNAME:paracetamol 500 mg", ("ATC:N02B",)),
    ("NAME:dexamethasone\tROUTE:IV", ("ATC:H02A",)),
    ("NAME:dexamethasone\tROUTE:LEFT EYE", ("ATC:S01B",)),
    ("NAME:dexamethasone\tROUTE:TP", ("ATC:D07A",)),
    ("NAME:dexamethasone\tROUTE:NASAL", ("ATC:R01A",)),
    ("NAME:dexamethasone", ("ATC:H02A",)),
    ("NAME:amoxicillin 250 mg / clavulanate 125 mg oral tablet", ("ATC:J01C",)),
    ("ATC:C07AB02", ("ATC:C07A",)),
    ("ATC:C07", TOO_COARSE),
    ("NAME:ns 1000 ml\tROUTE:IV", ("ATC:B05B",)),  # a drug without an ATC code in the knowledge base
    ("NAME:ns\tROUTE:IV", VEHICLE),
    ("NAME:tylenol 325 mg po tabs", ("ATC:N02B",)),
    ("NAME:percocet", ("ATC:N02B",)),  # of its two drugs one is in this knowledge base
    ("NAME:docusate sodium 100 mg", ("ATC:A06A",)),
    ("NAME:obscurine", NO_ATC),
    ("NAME:unobtainium 5 mg", NO_DRUG),
])
def test_orders_find_their_class(maps, key, codes):
    assert maps("3").codes(key) == codes


def test_levels(maps):
    key = "NAME:warfarin"
    found = {level: maps(level).codes(key) for level in "12345"}
    assert found == {"1": ("ATC:B",), "2": ("ATC:B01",), "3": ("ATC:B01A",), "4": ("ATC:B01AA",), "5": ("ATC:B01AA03",)}
    drugs = maps("ingredient").codes("NAME:amoxicillin/clavulanate")
    assert len(drugs) == 2 and all(code.startswith("DRUG:") for code in drugs)
    assert maps("ingredient").codes("NAME:insulin\tROUTE:SC") == maps("ingredient").codes("NAME:insulin human")
    assert maps("ingredient").codes("NAME:unobtainium") == NO_DRUG
    with pytest.raises(UsageError, match="7"):
        maps("7")


def test_mapping_keeps_count_of_rows():
    known = MedicationMap("3")
    names = ["ATC:B01AA03", "ATC:B01AC06\tATC:N02BA01", "NAME:unobtainium", "ATC:C07"]
    pairs = CodePairs("rx", np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 1, 3]), np.ones(5, np.int64), names)
    mapped = map_orders(pairs, known)
    assert mapped.lost == {NO_DRUG: 1, TOO_COARSE: 1}
    assert mapped.pairs.rows.sum() + sum(mapped.lost.values()) == 5
    assert (mapped.keys_in, mapped.keys_mapped) == (4, 2)
    given = {(int(v), mapped.pairs.names[c]) for v, c in zip(mapped.pairs.visits, mapped.pairs.codes, strict=True)}
    assert given == {(0, "ATC:B01A"), (1, "ATC:B01A")}


def test_a_name_of_several_drugs_means_the_one_that_bears_it_first(filled):
    with filled.begin() as connection:
        connection.execute(text("""
            INSERT INTO mkmed.drug_name (drug_id, name, source, key, kind, artifact)
            SELECT drug_id, 'Warfarin', source, key, 'synonym', :sha FROM mkmed.drug_record WHERE name = 'Aspirin'"""),
            {"sha": connection.scalar(text("SELECT artifact FROM mkmed.drug_name LIMIT 1"))})
        assert read_map(connection, "3").codes("NAME:warfarin") == ("ATC:B01A",)
        connection.rollback()


@pytest.mark.parametrize(("form", "folder"), [("mimic3", "ehr_mimic3_demo"), ("eicu", "ehr_eicu_demo")])
def test_prepare_end_to_end(filled, tmp_path, form, folder):
    home = load_settings(home=tmp_path)
    with filled.connect() as connection:
        made = prepare(form=form, root=DATA / folder, connection=connection, name="demo", settings=home)
    assert made.folder == tmp_path / "cohorts" / "demo"
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"cohorts"}
    loaded = load_cohort("demo", home)
    assert loaded.fingerprint == made.cohort.fingerprint
    assert set(loaded.vocabularies["medication"].codes) >= {"ATC:B01A", "ATC:N02B", "ATC:B05B"}
    assert loaded.provenance["format"] == form and loaded.provenance["level"] == "3"
    with filled.connect() as connection:
        assert loaded.provenance["knowledge"] == cite(connection)
    assert [{k: row[k] for k in ("table", "reason", "rows")} for row in made.accounting] == [
        vars(loss) for loss in loaded.accounting]
    for table in {row["table"] for row in made.accounting}:
        rows = [row for row in made.accounting if row["table"] == table]
        assert {row["read"] for row in rows} == {sum(row["rows"] for row in rows)}
    assert {row["reason"] for row in made.unmapped} >= {NO_DRUG}
    assert all(row["rows"] >= 5 for row in made.unmapped if not row["order"].startswith("("))


def test_the_synthetic_format_is_the_generator(tmp_path):
    home = load_settings(home=tmp_path)
    made = prepare(form="synthetic", settings=home, options={"patients": 1000, "seed": 5})
    assert made.cohort.fingerprint == generate(shape=Shape().scaled(1000), seed=5).fingerprint
    with pytest.raises(UsageError, match="needs the folder"):
        prepare(form="mimic3", settings=home)
    with pytest.raises(UsageError, match="min-visits"):
        prepare(form="synthetic", min_visits=0, settings=home)


def test_the_listing_of_unmapped_orders_can_be_filled_in_and_used(filled, tmp_path):
    export = tmp_path / "export"
    export.mkdir()
    (export / "ADMISSIONS.csv").write_text("subject_id,hadm_id,admittime\n" + "".join(
        f"{n},{n},2100-01-01 00:00:00\n" for n in range(1, 8)))
    rows = "".join(f"{n},{n},2100-01-01,unobtanium elixir,0,PO\n{n},{n},2100-01-01,warfarine,0,PO\n" for n in range(1, 8))
    (export / "PRESCRIPTIONS.csv").write_text("subject_id,hadm_id,startdate,drug,ndc,route\n" + rows
                                              + "1,1,2100-01-01,a secret note,0,PO\n1,1,2100-01-01,ns,0,IV\n")
    for name, column in (("DIAGNOSES_ICD", "icd9_code"), ("PROCEDURES_ICD", "icd9_code")):
        (export / f"{name}.csv").write_text(f"subject_id,hadm_id,{column}\n" + "".join(f"{n},{n},4280\n" for n in range(1, 8)))
    with filled.connect() as connection:
        found = unmapped(form="mimic3", root=export, connection=connection)
        assert [row["order"] for row in found.listed] == ["unobtanium elixir", "warfarine", "(1 others)"]
        assert "warfarin" in found.listed[1]["nearest"] and found.listed[0]["means"] == ""
        assert (found.rows, found.mapped_rows) == (16, 0)
        assert any(row["what"] == VEHICLE for row in found.evidence)
        everything = unmapped(form="mimic3", root=export, connection=connection, everything=True)
        assert "secret" not in str(everything.listed)
        own = OwnMap({"warfarine": "warfarin", "unobtanium elixir": "none"})
        home = load_settings(home=tmp_path / "home")
        made = prepare(form="mimic3", root=export, connection=connection, min_visits=1, own_map=own, settings=home,
                       allow_subset=True)
    assert made.cohort.vocabularies["medication"].codes == ("ATC:B01A",)
    stored = load_cohort("mimic3", home).provenance
    assert stored["own_map"] == dict(own.rows) and stored["protocol"] == "one" and stored["found_by"] == {"map": 7}


def test_protocols_have_fingerprints_of_their_own(filled, tmp_path):
    home = load_settings(home=tmp_path)
    with filled.connect() as connection:
        made = {protocol: prepare(form="eicu", root=DATA / "ehr_eicu_demo", connection=connection, name=protocol,
                                  protocol=protocol, settings=home).cohort for protocol in ("one", "literature")}
        with pytest.raises(UsageError, match="another"):
            prepare(form="eicu", root=DATA / "ehr_eicu_demo", connection=connection, protocol="another", settings=home)
    one, literature = made["one"], made["literature"]
    assert one.fingerprint.sha256 != literature.fingerprint.sha256
    assert literature.fingerprint.per_visit["medication"] > one.fingerprint.per_visit["medication"]
