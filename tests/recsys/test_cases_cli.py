"""Exports and visits as people met them, by the command line: what becomes of each row, or the reason of a refusal."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from test_drug_knowledge import filled  # noqa: F401
from test_patient import home  # noqa: F401

import cli
from recsys.cohorts.files import load_cohort, save_cohort
from tests.bundled_drugs import drugs, resolver

CASES = Path(__file__).parents[1] / "data" / "cases"
VISITS = Path(__file__).parents[1] / "data" / "visits"
UNMAPPED, SAME, NOWHERE = "concept 0: not mapped in the source", "identical duplicate in the visit", "no visit identifier"
EXPORTS = {
    ("omop", "ehr_omop"): {  # ends missing or before the start, visits named by events only, concept 0
        "person": {"kept": 2, "no visit of the patient is kept": 1},
        "visit_occurrence": {"kept": 4, "no admission time": 1, "visit without a diagnosis": 1},
        "condition_occurrence": {"kept": 4, UNMAPPED: 1}, "procedure_occurrence": {UNMAPPED: 1}},
    ("mimic3", "ehr_mimic3"): {  # codes that differ by zeros, an admission listed twice, no drug
        "admissions": {"kept": 6, "visit listed again": 1}, "patients": {"kept": 3}, "procedures_icd": {"kept": 7},
        "diagnoses_icd": {"kept": 13, "visit not in the visit table": 1, "no code": 1, SAME: 1},
        "prescriptions": {"neither drug name nor drug code": 3, NOWHERE: 1}},
    ("mimic4", "ehr_mimic4_v22"): {"diagnoses_icd": {"kept": 7, "unknown ICD version": 1}, "procedures_icd": {"kept": 4}},
    ("eicu", "ehr_eicu"): {"patient": {"kept": 4}, "diagnosis": {"kept": 5, "no code": 1}, "treatment": {"kept": 4},
                           "medication": {"neither drug name nor drug code": 1, "order cancelled": 1}},
    ("meds", "ehr_meds_slash"): {"admissions": {"kept": 2}, "events": {"another kind of event": 4, "no time": 1}},
    ("meds", "ehr_meds_dirty"): {"admissions": {"kept": 1, "visit without a diagnosis": 1}, "events": {
        "no time": 2, "no drug name": 2, "not a code of its system": 1, "no subject": 1}},
    ("fhir", "ehr_fhir"): {
        "encounters": {"kept": 1, "status entered-in-error": 1, "visit without a diagnosis": 1},
        "conditions": {"kept": 1, "status refuted": 1, "a fact of the patient: no encounter, and none spans its day": 1},
        "orders": {"not to be given (doNotPerform)": 1, "status entered-in-error": 1}},
}
ALIKE = {"ehr_omop_athena": ("omop", "ehr_omop"), "ehr_mimic4_v20": ("mimic4", "ehr_mimic4_v22"),
         "ehr_meds_patient_id": ("meds", "ehr_meds_slash")}


def prepared(form, root, capsys):
    """Exit code, the accounting by table and reason, the line of the fingerprint, what was said."""
    code = cli.run(["recsys", "prepare", "--ehr", form, "--root", str(root), "--min-visits", "1", "--require", "diagnosis",
                    "--dry-run", "--format", "csv"])
    printed = capsys.readouterr()
    rows = {}
    for row in csv.DictReader(io.StringIO(printed.out)):
        rows.setdefault(row["table"], {})[row["reason"]] = int(row["rows"])
    return code, rows, next((line for line in printed.err.splitlines() if "patients," in line), ""), printed.err


@pytest.fixture
def base(filled, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setenv("MKMED_DATABASE_URL", filled.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MKMED_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(("form", "name"), sorted(EXPORTS))
def test_every_row_of_an_export_is_kept_or_lost_for_its_reason(form, name, base, capsys):
    code, rows, _, _ = prepared(form, CASES / name, capsys)
    assert code == 0
    for table, expected in EXPORTS[form, name].items():
        assert expected.items() <= rows[table].items(), table


@pytest.mark.parametrize("name", sorted(ALIKE))
def test_other_spellings_of_an_export_give_the_same_cohort(name, base, capsys):
    form, twin = ALIKE[name]
    assert prepared(form, CASES / name, capsys)[:3] == prepared(form, CASES / twin, capsys)[:3]


@pytest.mark.parametrize(("form", "name", "said"), [
    ("meds", "ehr_meds_text_time.parquet", "times are VARCHAR"), ("omop", "ehr_mimic3", "no table"),
    ("mimic3", "ehr_eicu", "no table"), ("fhir", "ehr_eicu", "FHIR"), ("meds", "ehr_fhir", "no Parquet files")])
def test_what_is_no_such_export_is_refused_with_what_to_do(form, name, said, base, capsys):
    code, _, _, told = prepared(form, CASES / name, capsys)
    assert code == 1 and said in told and "hint:" in told


VISITS_TOLD = {  # exit code, and what is said; 3: of too little is anything understood
    "dots_and_case": (0, ""), "no_system": (3, "understood"), "unknown_everything": (3, "understood"), "empty": (1, "visit"),
    "missing_keys": (0, ""), "numeric_times": (0, ""), "times_in_several_forms": (0, ""), "bom": (0, ""),
    "cut_off": (1, "JSON"), "nan": (1, ""), "not_visits": (1, ""), "wrong_types": (1, ""), "duplicates": (0, ""),
    "time_in_one_visit_only": (1, "time"),
}


@pytest.mark.parametrize("name", sorted(VISITS_TOLD))
def test_a_visit_is_answered_or_refused_by_the_command(name, home, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setenv("MKMED_HOME", str(home))
    code = cli.run(["recsys", "recommend", "--visit", str(VISITS / f"{name}.json"), "--format", "json"])
    printed = capsys.readouterr()
    expected, said = VISITS_TOLD[name]
    assert code == expected and said in printed.err + printed.out and "Traceback" not in printed.err
    if code == 0:
        assert json.loads(printed.out)["coverage"]["share"] >= 0.5


def test_a_matrix_of_another_vocabulary_is_refused_and_one_of_the_cohort_is_checked(base, home, tmp_path, capsys):  # noqa: F811
    from kb.settings import Settings

    cohort = load_cohort("named", Settings(home=home))
    save_cohort(cohort)
    codes = cohort.vocabularies["medication"].codes
    matrix = np.zeros((len(codes), len(codes)), int)
    matrix[0, 1] = matrix[1, 0] = 1
    path = tmp_path / "ddi.csv"
    path.write_text("\n".join([",".join(["", *codes]), *(",".join([code, *map(str, row)]) for code, row in
                                                       zip(codes, matrix.tolist(), strict=True))]))
    ask = ["recsys", "interactions", "--cohort", cohort.name, "--matrix", str(path), "--format", "json"]
    assert cli.run(ask) == 0
    assert json.loads(capsys.readouterr().out)[0]["pairs in it"] == 1
    path.write_text(",ATC:Z99Z,ATC:Z99Y\nATC:Z99Z,0,1\nATC:Z99Y,1,0\n")
    assert cli.run(ask) == 1
    assert "another vocabulary" in capsys.readouterr().err


NAMES = {  # E29, E35-E37: what is written, and the ingredients that it must have; none where it is no drug, or unknown
    "adalimumab-atto": {"adalimumab"}, "insulin glargine-yfgn": {"insulin glargine"}, "*NF* dapagliflozin": {"dapagliflozin"},
    "OxycoDONE (Immediate Release)": {"oxycodone"}, "UNK": set(), "Bag": set(), "Taxol": {"paclitaxel"},
    "Temodar": {"temozolomide"}, "Cytoxan": {"cyclophosphamide"}, "5FU": {"fluorouracil"}, "5-FU": {"fluorouracil"},
    "VP-16": {"etoposide"}, "CPT-11": {"irinotecan"}, "PACILTAXEL": set(), "TYLENOL": {"acetaminophen"},
    "Premarin": {"conjugated estrogens"}, "ACETAMINOPHEN; HYDROCODONE": {"acetaminophen", "hydrocodone"},
    "Dyazide": {"hydrochlorothiazide", "triamterene"}, "acetylsalicylic acid": {"acetylsalicylic acid"},
    "carboplatin/taxol": {"carboplatin", "paclitaxel"}, "Humalog Mix 25": {"insulin lispro"}, "Advil": {"ibuprofen"},
    "acetaminophen & hydrocodone": {"acetaminophen", "hydrocodone"}, "99999": set(), "55555": set(),
}


def cohort_of_command(form, root, folder, monkeypatch, capsys, *more):
    """The cohort that the command makes with the bundled corpus' names and ATC codes."""
    from kb.settings import Settings

    monkeypatch.setattr("recsys.orders.medications.read_resolver", lambda connection, own_map, keep_vehicles: resolver(own_map))
    code = cli.run(["recsys", "prepare", "--format", form, "--root", str(root), "--min-visits", "1", "--require", "diagnosis",
                    "--name", "made", *more])
    assert code == 0, capsys.readouterr().err
    return load_cohort("made", Settings(home=folder))


def test_every_name_of_the_cases_has_its_ingredients_by_the_command(base, tmp_path, monkeypatch, capsys):
    with (CASES / "codes" / "names.tsv").open() as file:
        assert {row["given"] for row in csv.DictReader(file, delimiter="\t")} <= set(NAMES)
    root = tmp_path / "export"
    root.mkdir()
    for table, head, cell in (("admissions", "subject_id,hadm_id,admittime", "{0},{0},2130-01-{0:02} 10:00:00"),
                              ("diagnoses_icd", "hadm_id,icd9_code", "{0},4019"), ("procedures_icd", "hadm_id,icd9_code", "{0},66"),
                              ("prescriptions", "hadm_id,drug,ndc", '{0},"{1}",0')):
        lines = [cell.format(i, name) for i, name in enumerate(NAMES, start=1)]
        (root / f"{table}.csv").write_text("\n".join([head, *lines]) + "\n")
    made = cohort_of_command("mimic3", root, tmp_path / "home", monkeypatch, capsys, "--level", "ingredient")
    word = {f"DRUG:{row['key']}": row["name"].lower() for row in drugs()}
    codes = made.vocabularies["medication"].codes
    found = [{word[codes[i]] for i in made.codes["medication"].row(visit)} for visit in range(made.visits)]
    assert dict(zip(NAMES, found, strict=True)) == NAMES


def test_diagnoses_that_lost_zeros_and_suffixes_of_a_survey_by_the_command(base, tmp_path, monkeypatch, capsys):
    data = CASES.parent
    made = cohort_of_command("diabetes130", data / "ehr_diabetes130", tmp_path / "home", monkeypatch, capsys)  # E33
    codes = made.vocabularies["diagnosis"].codes
    assert {"ICD9CM:008", "ICD9CM:038", "ICD9CM:041"} <= set(codes)
    assert all(code.startswith("ICD9CM:") and len(code) >= len("ICD9CM:038") for code in codes)
    made = cohort_of_command("nhanes", data / "ehr_nhanes1314", tmp_path / "home", monkeypatch, capsys, "--level", "ingredient")
    codes = made.vocabularies["diagnosis"].codes  # E34
    assert codes and not [code for code in codes if code.endswith("P")]
    lost = {(loss.table, loss.reason): loss.rows for loss in made.accounting}
    with (data / "ehr_nhanes1314" / "medications.csv").open() as file:
        sentinels = sum(row["RXDDRUG"] in ("", "55555", "77777", "99999") for row in csv.DictReader(file))
    assert lost["medications", "no drug name"] == sentinels and lost["reasons", "not a code of its system"] > 0
