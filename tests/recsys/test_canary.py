"""No patient's identifier, date or free text leaves the cohort's folder: outputs, logs, runs, database and report."""

import logging
import random

import numpy as np
import pytest
from sqlalchemy import text
from test_drug_knowledge import filled  # noqa: F401
from typer.testing import CliRunner

from cli import app

PATIENT, VISIT, NOTE, DATE = "917471", "826471", "for mrs canary4711", "2171-03"
CANARIES = (PATIENT, VISIT, "canary", DATE)
DRUGS = ("Aspirin", "Warfarin", "Insulin human", "Clopidogrel")


def write_export(root, patients=45):
    """A MIMIC-III export whose every identifier and date is a canary; one order is free text about a person."""
    draw = random.Random(0)
    admissions, diagnoses, procedures, orders = [], [], [], []
    for patient in range(patients):
        for visit in range(2 + patient % 3):
            subject, hadm = f"{PATIENT}{patient:03d}", f"{VISIT}{patient:03d}{visit}"
            admissions.append(f"{subject},{hadm},{DATE}-{1 + visit:02d} 10:00:00")
            diagnoses += [f"{subject},{hadm},{code}" for code in draw.sample(("4280", "42731", "4019", "25000"), 2)]
            procedures.append(f"{subject},{hadm},{draw.choice(('3893', '9604', '0331'))}")
            orders += [f"{hadm},{drug},0,PO" for drug in draw.sample(DRUGS, 2)]
    orders.append(f"{VISIT}0000,{NOTE},0,PO")
    diagnoses.append(f"{PATIENT}000,{VISIT}0000,{NOTE}")
    tables = {"ADMISSIONS": ("SUBJECT_ID,HADM_ID,ADMITTIME", admissions),
              "PATIENTS": ("SUBJECT_ID", [f"{PATIENT}{patient:03d}" for patient in range(patients)]),
              "DIAGNOSES_ICD": ("SUBJECT_ID,HADM_ID,ICD9_CODE", diagnoses),
              "PROCEDURES_ICD": ("SUBJECT_ID,HADM_ID,ICD9_CODE", procedures),
              "PRESCRIPTIONS": ("HADM_ID,DRUG,NDC,ROUTE", orders)}
    root.mkdir()
    for name, (head, lines) in tables.items():
        (root / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n")


@pytest.fixture
def said(filled, database_environment, tmp_path, caplog):  # noqa: F811
    """Everything that was printed on the way from the export to the report; the home is ``tmp_path / home``."""
    caplog.set_level(logging.DEBUG)
    write_export(tmp_path / "export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MKMED_HOME", str(tmp_path / "home"))
        yield _walk(tmp_path) + caplog.text


def _walk(folder):
    tell, heard = CliRunner(), []

    def run(*words, ok=True):
        result = tell.invoke(app, [str(word) for word in words])
        assert (result.exit_code == 0) == ok, (words, result.output)
        heard.append(result.output + str(result.exception or ""))
        return result.output

    run("recsys", "prepare", "--format", "mimic3", "--root", folder / "export", "--name", "c", "--dry-run")
    assert not (folder / "home" / "cohorts").exists()
    assert "kept" in run("recsys", "prepare", "--format", "mimic3", "--root", folder / "export", "--name", "c")
    small = ("--cohort", "c", "--set", "vectors=learned", "--set", "epochs=2", "--set", "dim=8")
    run("recsys", "train", *small, "--dry-run")
    for name in ("mkmed", "popularity"):
        run("recsys", "train", *small, "--recommender", name)
    first, second = (path.name for path in (folder / "home" / "runs" / "recsys").iterdir())
    run("recsys", "compare", first, second)
    for by in ("summary", "visits", "rarity", "bucket", "calibration", "literature"):
        run("recsys", "evaluate", "--by", by, "--format", "json")
    (folder / "patient.json").write_text('{"visits": [{"diagnoses": ["ICD9CM:4280"]}]}')
    for form in ("table", "json", "csv"):
        run("recsys", "recommend", "--visit", folder / "patient.json", "--explain", "--format", form,
            "--picture", folder / "home" / "why.svg")
    run("recsys", "cohorts")
    run("recsys", "runs")
    run("report", "--out", folder / "home" / "report.html")
    for name in ("PRESCRIPTIONS", "ADMISSIONS"):  # and when the files are broken
        path = folder / "export" / f"{name}.csv"
        path.write_text(path.read_text().replace("HADM_ID", "WRONG", 1))
        run("--debug", "recsys", "prepare", "--format", "mimic3", "--root", folder / "export", ok=False)
    return "\n".join(heard)


def test_nothing_of_a_patient_leaves_the_cohort(said, filled, tmp_path):  # noqa: F811
    for canary in CANARIES:
        assert canary not in said.lower(), canary
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"cohort.npz", "cohort.json", "best.pt", "metrics.jsonl", "report.json",
                                             "report.html", "why.svg"}
    for path in files:
        content = path.read_bytes().lower()
        assert not any(canary.encode() in content for canary in CANARIES), path
        if path.name == "sums.npz":
            with np.load(path) as arrays:
                assert max(float(np.abs(arrays[name]).max(initial=0)) for name in arrays) < 1e5, path
    with filled.connect() as connection:
        rows = connection.execute(text("SELECT r::text FROM mkmed.run r WHERE stage = 'recsys'")).scalars().all()
    assert len(rows) == 2 and not any(canary in row.lower() for row in rows for canary in CANARIES)


def test_the_export_is_full_of_canaries(tmp_path):
    write_export(tmp_path / "export")
    content = "".join(path.read_text() for path in (tmp_path / "export").iterdir())
    assert all(canary in content for canary in CANARIES)
