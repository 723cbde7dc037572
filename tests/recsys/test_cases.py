"""Exports as people met them: each small input of ``tests/data/cases`` is read right, or refused for its reason."""

import csv
import gzip
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from kb.errors import DataError, NotFound
from kb.normalise import normalise_ndc
from recsys.cohorts.prepare import choose_visits
from recsys.formats import FORMATS
from recsys.formats.contract import DUPLICATE, KEPT, Limits
from recsys.formats.fhir import code_of, medication_key, reference, seconds
from recsys.formats.meds import recognise
from recsys.formats.written import order_key
from recsys.orders.codes import icd_of_either_version, prefixed
from recsys.orders.medications import MedicationMap, OrderLabels, map_orders
from recsys.orders.order import Order

TESTS = Path(__file__).parents[1] / "data"
CASES = TESTS / "cases"
DAY = 86_400


class Every(MedicationMap):
    """Takes every order as a medication of its own."""

    def label(self, order):
        return OrderLabels(((f"KEY:{order.key}", ""),))


def read(form, name):
    return FORMATS[form].read(CASES / name, {}, Limits())


def cohort(form, recorded, requires=None, min_visits=1):
    return choose_visits(form, recorded, map_orders(recorded.pairs["medication"], Every("3")),
                  requires or ("diagnosis",), min_visits)


def codes(recorded, kind):
    """Each visit's codes of a kind."""
    pairs = recorded.pairs[kind]
    found = {visit: set() for visit in range(len(recorded.visit_patient))}
    for visit, code in zip(pairs.visits.tolist(), pairs.codes.tolist(), strict=True):
        found[visit].add(pairs.names[code])
    return found


def names(recorded):
    """Each visit's drug names."""
    return {visit: {name for key in keys for name in Order.parse(key).name} for visit, keys in
            codes(recorded, "medication").items()}


def losses(recorded, table):
    return {reason: rows for (where, reason), rows in recorded.ledger.losses.items() if where == table}


# OMOP.

def test_vocabulary_files_as_athena_gives_them_are_read_like_comma_separated_ones():
    plain, athena = read("omop", "ehr_omop"), read("omop", "ehr_omop_athena")
    assert cohort("omop", plain).fingerprint == cohort("omop", athena).fingerprint
    assert plain.ledger.losses == athena.ledger.losses
    assert "ATC:B01AF03\tRXCUI:1364430\tNAME:apixaban" in athena.pairs["medication"].names


@pytest.fixture(scope="module")
def omop():
    return read("omop", "ehr_omop")


def test_omop_visits_without_an_end_or_with_one_before_the_start_stay(omop):
    made = cohort("omop", omop, requires=("medication",))
    assert made.visits == 5 and made.patients == 3
    stay = made.length_of_stay
    assert np.isnan(stay[1]) and np.isnan(stay[2]) and np.nanmin(stay) >= 0  # 102 ends before it begins, 103 never


def test_omop_days_of_supply_mean_nothing_and_concept_0_takes_the_ndc_of_the_source(omop):
    drugs = codes(omop, "medication")
    assert drugs[0] == {"RXCUI:67108\tNAME:enoxaparin", "NDC:00406055262"}
    assert len(drugs[2]) == 1 and len(drugs[3]) == 2
    assert losses(omop, "drug_exposure") == {}


def test_omop_an_exposure_without_a_visit_goes_to_the_visit_that_spans_its_date(omop):
    assert omop.ledger.notes["drug_exposure", "rows without a visit, placed by date"] == 1
    assert any("apixaban" in key for key in codes(omop, "medication")[3])  # visit 104
    assert losses(omop, "condition_occurrence") == {"concept 0: not mapped in the source": 1}
    assert losses(omop, "visit_occurrence") == {"no admission time": 1}  # the 30th of February


def test_omop_visit_types_are_kept(omop):
    assert omop.attributes["visit_type"].levels == ("inpatient", "outpatient")


def test_omop_a_person_without_any_visit_gets_one_for_each_run_of_days(tmp_path):
    for name in ("concept", "concept_ancestor", "person"):
        (tmp_path / f"{name}.csv").write_text((CASES / "ehr_omop" / f"{name}.csv").read_text())
    (tmp_path / "condition_occurrence.csv").write_text(
        "person_id,condition_concept_id,condition_start_date,visit_occurrence_id\n"
        "1,201826,2010-01-01,\n1,201826,2010-01-02,\n1,320128,2010-01-09,\n2,201826,,\n")
    (tmp_path / "drug_exposure.csv").write_text(
        "person_id,drug_concept_id,drug_exposure_start_date,visit_occurrence_id,route_source_value\n"
        "1,43012718,2010-01-03,,oral\n1,43012718,2010-01-10,0,\n")
    recorded = FORMATS["omop"].read(tmp_path, {}, Limits())
    assert recorded.notes["visits made of days with events"] == 2
    assert np.diff(recorded.visit_time).tolist() == [8 * DAY]
    assert list(codes(recorded, "medication")[0]) == ["ATC:B01AF03\tRXCUI:1364430\tNAME:apixaban\tROUTE:ORAL"]
    assert losses(recorded, "condition_occurrence") == {
        "no visit identifier, and no visit of the patient spans its date": 1, DUPLICATE: 1}


def test_omop_without_a_vocabulary_is_read_when_asked_for(tmp_path):
    for path in (CASES / "ehr_omop").iterdir():
        if not path.name.startswith("concept"):
            (tmp_path / path.name).write_text(path.read_text())
    with pytest.raises(NotFound, match="no table 'concept'") as caught:
        FORMATS["omop"].read(tmp_path, {}, Limits())
    assert "vocabulary=none" in caught.value.hint
    recorded = FORMATS["omop"].read(tmp_path, {"vocabulary": "none"}, Limits())
    assert recorded.pairs["diagnosis"].names == ["OMOP:201826", "OMOP:320128"]
    assert recorded.pairs["medication"].names == ["CODE:OMOP:1301025", "CODE:OMOP:43012718", "NDC:00406055262"]


# MIMIC-III.

@pytest.fixture(scope="module")
def mimic3():
    return read("mimic3", "ehr_mimic3")


def test_codes_that_differ_by_zeros_or_that_no_dictionary_has_stay_apart(mimic3):
    first = codes(mimic3, "diagnosis")[1]
    assert {"ICD9CM:042", "ICD9CM:0042", "ICD9CM:01882", "ICD9CM:1882", "ICD9CM:4019"} == first
    assert codes(mimic3, "procedure")[1] == {"ICD9PROC:0117", "ICD9PROC:117"}
    assert {"ICD9CM:0414", "ICD9CM:V5861", "ICD9CM:E9342", "ICD9CM:71970"} == codes(mimic3, "diagnosis")[0]
    assert losses(mimic3, "diagnoses_icd") == {DUPLICATE: 1, "no code": 1, "visit not in the visit table": 1}


def test_what_drugs_come_in_is_no_drug_and_a_missing_ndc_leaves_the_name(mimic3):
    assert losses(mimic3, "prescriptions") == {"neither drug name nor drug code": 3, "no visit identifier": 1, DUPLICATE: 2}
    assert not {"bag", "syringe"} & set.union(*names(mimic3).values())
    assert names(mimic3)[0] == {"metoprolol tartrate", "metoprolol", "heparin"}
    assert {name for name in names(mimic3)[1] if "oxycodone" in name} == {"oxycodone (immediate release)", "oxycodone"}
    assert "warfarin" in names(mimic3)[1]  # with dates missing


def test_stays_are_ordered_by_admission_and_none_is_negative(mimic3):
    made = cohort("mimic3", mimic3)
    assert made.visits == 6 and (np.nan_to_num(made.length_of_stay) >= 0).all()
    assert losses(mimic3, "admissions") == {"visit listed again": 1}
    assert np.isnan(made.length_of_stay).sum() == 1  # discharged before it was admitted


def test_ages_are_bands_and_never_300(mimic3):
    assert set(mimic3.attributes["age"].levels) == {"40-49", "50-59", "90+"}
    eicu = read("eicu", "ehr_eicu")
    assert eicu.attributes["age"].levels == ("90+",) and (eicu.attributes["age"].values < 0).sum() == 2


# MIMIC-IV.

def test_versions_of_mimic4_that_differ_by_a_column_give_the_same():
    old, new = read("mimic4", "ehr_mimic4_v20"), read("mimic4", "ehr_mimic4_v22")
    assert cohort("mimic4", old).fingerprint == cohort("mimic4", new).fingerprint


def test_icd_versions_are_kept_and_an_empty_one_is_counted():
    recorded = read("mimic4", "ehr_mimic4_v22")
    found = codes(recorded, "diagnosis")
    assert found[0] == {"ICD9CM:4280", "ICD10CM:E119", "ICD9CM:E119"} and found[2] == {"ICD9CM:0389"}
    assert found[3] == {"ICD9CM:V5861", "ICD10CM:V5861"}
    assert losses(recorded, "diagnoses_icd") == {"unknown ICD version": 1}
    drugs = {Order.parse(key).kind for keys in codes(recorded, "medication").values() for key in keys}
    assert drugs == {"MAIN", "BASE", "ADDITIVE"}
    assert Order.parse(next(k for k in codes(recorded, "medication")[0])).gsn == "008205"


def test_patients_with_equal_times_have_one_order():
    made = [cohort("mimic4", read("mimic4", "ehr_mimic4_v22")) for _ in range(3)]
    assert len({one.fingerprint.sha256 for one in made}) == 1
    last = made[0].codes["diagnosis"].row(3)
    assert "ICD9CM:V5861" in {made[0].vocabularies["diagnosis"].codes[i] for i in last}  # hadm 24, after 23


# eICU.

def test_eicu_orders_are_named_by_their_number_and_cancelled_ones_left_out():
    recorded = read("eicu", "ehr_eicu")
    assert recorded.ledger.notes["medication", "orders named through their HICL number"] == 1
    assert losses(recorded, "medication") == {
        "order cancelled": 1, "neither drug name nor drug code": 1, DUPLICATE: 1}
    assert codes(recorded, "medication")[0] == {"HICL:2102\tNAME:metoprolol tartrate 25 mg po tabs\tROUTE:PO"}
    assert codes(recorded, "diagnosis") == {
        0: {"ICD9CM:41400", "ICD10CM:I2510"}, 1: {"ICD9CM:49120", "ICD10CM:J449"},
        2: {"ICD9CM:0389", "ICD10CM:A419"}, 3: {"ICD9CM:78009", "ICD10CM:R4182", "ICD9CM:V583"}}
    assert losses(recorded, "diagnosis") == {"no code": 1}


def test_eicu_demo_loses_few_orders_as_nameless():
    root = Path(__file__).parents[2] / "mkmed" / "demo" / "data" / "ehr_eicu_demo"
    recorded = FORMATS["eicu"].read(root, {}, Limits())
    nameless = sum(rows for reason, rows in losses(recorded, "medication").items() if "name" in reason)
    assert nameless / recorded.ledger.rows["medication"] <= 0.12
    assert recorded.attributes["hospital"].levels and "no" in recorded.attributes["died_in_hospital"].levels


# MEDS.

@pytest.mark.parametrize("name", ["ehr_meds_slash", "ehr_meds_patient_id"])
def test_meds_codes_of_one_slash_and_the_older_column_are_read(name):
    recorded = read("meds", name)
    assert codes(recorded, "medication") == {0: {"NDC:00517570425", "NAME:metoprolol tartrate"}, 1: {"RXCUI:866924"}}
    assert codes(recorded, "diagnosis") == {0: {"ICD9CM:4280", "ICD10CM:E119"}, 1: {"SNOMED:84114007"}}
    assert codes(recorded, "procedure") == {0: {"ICD10PCS:0BH17EZ"}, 1: set()}
    assert recorded.attributes["discharge"].levels == ("HOME",)


def test_meds_null_parts_are_no_names_and_the_second_of_two_stays_is_the_right_one():
    recorded = read("meds", "ehr_meds_dirty")
    assert losses(recorded, "events") == {
        "no subject": 1, "no time": 2, "no drug name": 2, "not a code of its system": 1, "another kind of event": 4}
    assert codes(recorded, "medication") == {0: {"NAME:heparin"}, 1: {"NAME:warfarin"}}
    assert codes(recorded, "diagnosis") == {0: {"ICD9CM:4280", "ICD10CM:I509"}, 1: set()}


def test_meds_times_as_texts_are_refused_with_what_to_do():
    with pytest.raises(DataError, match="its times are VARCHAR, MEDS wants timestamps") as caught:
        read("meds", "ehr_meds_text_time.parquet")
    assert "timestamp[us]" in caught.value.hint


@pytest.mark.parametrize(("code", "expected"), [
    ("ATC//N02BE01", ("medication", "ATC:N02BE01")), ("ICD9PCS/0331", ("procedure", "ICD9PROC:0331")),
    ("PROCEDURE//SNOMED//80146002", ("procedure", "SNOMED:80146002")), ("CPT4/99213", ("procedure", "CPT:99213")),
    ("MEDICATION//RxNorm//1191", ("medication", "RXCUI:1191")), ("LOINC/2345-7", "another kind of event"),
    ("MEDICATION//START//", "no drug name"), ("NDC//0", "not a code of its system"), ("", "another kind of event"),
    ("MIMIC_IV_Admission/URGENT", ("admission", "URGENT")), ("/", "another kind of event"), ("DRUG//UNK", "no drug name"),
    ("Drug/RxNorm/6809", ("medication", "RXCUI:6809")), ("DIAGNOSIS/ICD/10/I50.9", ("diagnosis", "ICD10CM:I509")),
    ("MEDICATION/START/ace/hydrocodone", ("medication", "NAME:ace/hydrocodone")),
])
def test_meds_codes_of_any_vocabulary(code, expected):
    assert recognise(code) == expected


# FHIR.

def test_fhir_references_are_followed_and_what_did_not_happen_is_left_out():
    recorded = read("fhir", "ehr_fhir")
    assert names(recorded) == {0: {"metformin"}, 1: {"lisinopril", "amlodipine"}}
    assert codes(recorded, "diagnosis") == {0: {"SNOMED:44054006"}, 1: set()}
    assert losses(recorded, "orders") == {"status entered-in-error": 1, "not to be given (doNotPerform)": 1}
    assert losses(recorded, "conditions") == {
        "status refuted": 1, "a fact of the patient: no encounter, and none spans its day": 1}
    assert losses(recorded, "encounters") == {"status entered-in-error": 1}
    assert cohort("fhir", recorded, requires=("medication",)).visits == 2
    one = FORMATS["fhir"].read(CASES / "ehr_fhir" / "bundle.json", {}, Limits())
    assert one.ledger.losses == recorded.ledger.losses


def test_fhir_bulk_exports_are_read_like_bundles(tmp_path):
    import json

    bundle = json.loads((CASES / "ehr_fhir" / "bundle.json").read_text())
    for entry in bundle["entry"]:
        resource = entry["resource"]
        text = json.dumps(resource).replace("urn:uuid:p1", "Patient/p1").replace("urn:uuid:e11", "Encounter/e11")
        with (tmp_path / f"{resource['resourceType']}.ndjson").open("a") as file:
            file.write(text + "\n\n")
    expected = read("fhir", "ehr_fhir")
    found = FORMATS["fhir"].read(tmp_path, {}, Limits())
    assert cohort("fhir", found).fingerprint == cohort("fhir", expected).fingerprint
    with (tmp_path / "Condition.ndjson").open("a") as file:
        file.write('{"resourceType": "Condition", "id": \n' + "[" * 100_000 + "\n[]\n7\n")
    assert losses(FORMATS["fhir"].read(tmp_path, {}, Limits()), "lines") == {"malformed row": 2}
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match=r"bad\.json is no JSON"):
        FORMATS["fhir"].read(tmp_path, {}, Limits())


def test_fhir_words():
    assert seconds("2010-01-01T00:30:00+02:00") == seconds("2009-12-31T22:30:00Z")
    assert seconds("2010", last=True) == seconds("2010-12-31", last=True) == seconds("2010-12-31T23:59:59Z")
    assert seconds("2012-02-30") is None and seconds(7) is None
    assert reference({"reference": "https://h/fhir/Encounter/e1/_history/3"}) == "Encounter/e1"
    assert reference({"reference": "urn:uuid:AB"}) == "urn:uuid:ab" and reference({"display": "x"}) == ""
    concept = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.90", "code": "I50.9"}, {"code": "x"}]}
    assert code_of(concept, "diagnosis") == "ICD10CM:I509"
    assert medication_key({"text": "Aspirin 81 mg", "coding": [{"system": "http://hl7.org/fhir/sid/ndc", "code": "0005-3618-01"}]},
                    route="oral") == "NDC:00005361801\tNAME:aspirin 81 mg\tROUTE:ORAL"


# Codes, names and the national files.

def test_national_drug_codes():
    with (CASES / "codes" / "ndc.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            expected = row["expected"].partition(" ")[0].partition(":")[0]
            found = normalise_ndc(row["given"] or "")
            if expected == "well":
                assert found == row["given"]
            else:
                assert found == (None if expected == "none" else expected), row


def test_icd_fields_of_either_version():
    with (CASES / "codes" / "icd.tsv").open() as file:
        given = {row["field"]: icd_of_either_version(row["field"]) for row in csv.DictReader(file, delimiter="\t")}
    assert given["042"] == ("ICD9CM:042",) and given["0042"] != given["042"]
    assert given["414.00, I25.10"] == ("ICD9CM:41400", "ICD10CM:I2510")
    assert given["491.20,J44.9"] == ("ICD9CM:49120", "ICD10CM:J449")
    assert given["780.09, R41.82,"] == ("ICD9CM:78009", "ICD10CM:R4182")
    assert given[","] == given["?"] == given["I21.P (NHANES suffix)"] == ()
    assert icd_of_either_version("I21.P") == ()
    assert given["E849.0"] == ("ICD9CM:E8490",) and given["U07.1"] == ("ICD10CM:U071",)


def test_every_listed_code_of_icd_10_has_its_form_and_the_suffixes_of_a_survey_have_not():
    packed = files("recsys.knowledge").joinpath("data", "codes.tsv.gz").read_bytes()
    listed = [line.split("\t")[0] for line in gzip.decompress(packed).decode().splitlines()]
    codes = [code for code in listed if code.startswith("ICD10CM:") and "-" not in code]
    assert len(codes) > 90_000 and [code for code in codes if prefixed(*code.split(":")) != code] == []
    assert [prefixed("ICD10CM", text) for text in ("I21.P", "D75.9P", "E78.0P", "T86.9P", "E11.2P")] == [None] * 5


@pytest.mark.parametrize("name", ["UNK", "Bag", "?", "55", "", "0", "nan"])
def test_what_is_no_drug_name(name):
    assert order_key(names=(name,)) == ""


def test_diabetes130_pads_codes_and_takes_question_marks_as_missing():
    root = TESTS / "ehr_diabetes130"
    recorded = FORMATS["diabetes130"].read(root, {}, Limits())
    with (root / "diabetic_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    short = {row[f"diag_{i}"] for row in rows for i in (1, 2, 3) if row[f"diag_{i}"].isdigit() and len(row[f"diag_{i}"]) < 3}
    assert short and {f"ICD9CM:{code.zfill(3)}" for code in short} <= set(recorded.pairs["diagnosis"].names)
    assert all(len(name.removeprefix("ICD9CM:")) >= 3 for name in recorded.pairs["diagnosis"].names)
    assert losses(recorded, "diagnoses").get("not a code of its system", 0) == 0
    given = {(row["encounter_id"], drug) for row in rows for drug in ("insulin", "metformin", "glyburide-metformin")
             if row[drug] != "No"}
    pairs = recorded.pairs["medication"]
    found = [pairs.names[code] for code in pairs.codes]
    assert len(given) == sum(found.count(f"NAME:{drug}") for drug in ("insulin", "metformin", "glyburide-metformin"))
    assert "?" not in recorded.attributes["race"].levels and recorded.attributes["readmitted_30d"].levels == ("no", "yes")
    made = cohort("diabetes130", recorded, requires=("diagnosis", "medication"), min_visits=2)
    assert {loss.table for loss in made.accounting if loss.reason == KEPT} == {"diabetic_data", "diagnoses", "drugs"}


def test_nhanes_sentinels_are_missing_and_its_own_suffixes_no_codes():
    root = TESTS / "ehr_nhanes1314"
    recorded = FORMATS["nhanes"].read(root, {}, Limits())
    with (root / "medications.csv").open() as file:
        rows = list(csv.DictReader(file))
    own = sum(row[f"RXDRSC{i}"].endswith("P") for row in rows for i in (1, 2, 3))
    assert own > sum(row[f"RXDRSC{i}"].endswith(".P") for row in rows for i in (1, 2, 3)) > 0
    assert losses(recorded, "reasons")["not a code of its system"] >= own
    assert losses(recorded, "medications")["no drug name"] == sum(
        row["RXDDRUG"] in ("", "55555", "77777", "99999") for row in rows)
    assert any(";" in name for name in recorded.pairs["medication"].names)
    assert cohort("nhanes", recorded, requires=("diagnosis", "medication")).visits > 20


def test_synthea_of_the_old_header_is_read(tmp_path):
    tables = {
        "patients": "ID,BIRTHDATE,DEATHDATE,GENDER,RACE,ETHNICITY\na,1950-05-05,,F,white,irish\n",
        "encounters": "ID,DATE,PATIENT,CODE,DESCRIPTION\ne1,2010-01-02,a,185345009,Encounter\ne2,2011-01-02,a,185345009,E\n",
        "conditions": "START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION\n2010-01-02,,a,e1,44054006,Diabetes\n",
        "medications": "START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION\n2010-01-02,,a,e1,860975,24 HR Metformin 500 MG\n",
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text)
    recorded = FORMATS["synthea"].read(tmp_path, {}, Limits())
    assert codes(recorded, "diagnosis") == {0: {"SNOMED:44054006"}, 1: set()}
    assert codes(recorded, "medication")[0] == {"RXCUI:860975\tNAME:24 hr metformin 500 mg"}
    assert np.diff(recorded.visit_time).tolist() == [365 * DAY]
    assert recorded.attributes["age"].levels == ("50-59", "60-69") and recorded.attributes["ethnicity"].levels == ("irish",)
