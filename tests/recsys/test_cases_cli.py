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
