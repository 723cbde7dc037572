"""Nothing that only few patients have leaves the cohort's folder: values are followed, whatever they are called.

Values are planted in an export: identifiers, times, free text, codes that one patient has, also many times. Then the
whole way from the export to the report is walked, and everything that it wrote outside ``cohorts``, said, logged or
stored in the database is unpacked and searched for the values in the forms that they may take.
"""

import gzip
import io
import json
import logging
import random
import re
import stat
import zipfile
import zlib
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import text
from test_drug_knowledge import filled  # noqa: F401
from typer.testing import CliRunner

from cli import app

PATIENT, VISIT, YEAR = "917471", "826471", 2171
NOTE = "for mrs canary4711 née Żółć"
MINUTE = "10:47:13"
RARE = {"diagnosis": "V0991", "procedure": "9985", "drug": "canarycillin 47 mg", "treatment": "canary|bed 47|by dr owl"}
"""Codes and texts of one patient, given at every visit."""
DRUGS = ("Aspirin", "Warfarin", "Insulin human", "Clopidogrel")
DIAGNOSES, PROCEDURES = ("4280", "42731", "4019", "25000"), ("3893", "9604", "0331")
TREATMENTS = ("pulmonary|oxygen therapy", "cardiovascular|consultation", "renal|dialysis")


def moment(patient, visit):
    return datetime(YEAR, 3, 1 + visit, *map(int, MINUTE.split(":")), tzinfo=UTC).replace(day=1 + (patient * 5 + visit) % 28)


def write_mimic(root, patients=60):
    """A MIMIC-III export whose identifiers and dates are canaries, with one patient of rare codes and free text."""
    draw = random.Random(0)
    admissions, diagnoses, procedures, orders = [], [], [], []
    for patient in range(patients):
        for visit in range(2 + patient % 3):
            subject, hadm = f"{PATIENT}{patient:03d}", f"{VISIT}{patient:03d}{visit}"
            reason = NOTE if patient in (0, 1, 2) else ("SEPSIS", "CHEST PAIN")[patient % 2]
            admissions.append(f"{subject},{hadm},{moment(patient, visit):%Y-%m-%d %H:%M:%S},{reason}")
            diagnoses += [f"{subject},{hadm},{code}" for code in draw.sample(DIAGNOSES, 2)]
            procedures.append(f"{subject},{hadm},{draw.choice(PROCEDURES)}")
            orders += [f"{hadm},{drug},0,PO" for drug in draw.sample(DRUGS, 2)]
            if patient in (0, 1, 2):  # three patients: wherever the split puts them, fewer than five
                diagnoses += [f"{subject},{hadm},{RARE['diagnosis']}", f"{subject},{hadm},{NOTE}"]
                procedures.append(f"{subject},{hadm},{RARE['procedure']}")
                orders += [f'{hadm},"{RARE["drug"]} {route}",0,{route}' for route in ("PO", "IV")]
                orders += [f"{hadm},{NOTE},0,{route}" for route in ("PO", "IV", "SC")]
    tables = {"ADMISSIONS": ("SUBJECT_ID,HADM_ID,ADMITTIME,DIAGNOSIS", admissions),
              "PATIENTS": ("SUBJECT_ID", [f"{PATIENT}{patient:03d}" for patient in range(patients)]),
              "DIAGNOSES_ICD": ("SUBJECT_ID,HADM_ID,ICD9_CODE", diagnoses),
              "PROCEDURES_ICD": ("SUBJECT_ID,HADM_ID,ICD9_CODE", procedures),
              "PRESCRIPTIONS": ("HADM_ID,DRUG,NDC,ROUTE", orders)}
    _write(root, tables)


def write_eicu(root, patients=60):
    """An eICU export with free-text treatments that one patient has at every stay."""
    draw = random.Random(1)
    stays, diagnoses, treatments, orders = [], [], [], []
    for patient in range(patients):
        for visit in range(2 + patient % 2):
            stay = f"{VISIT}{patient:03d}{visit}"
            stays.append(f"{stay},{PATIENT}{patient:03d},2014,6{patient % 10},{stay},-{47000 + patient},{visit + 1}")
            diagnoses += [f"{stay},{code}" for code in draw.sample(("428.0", "427.31", "401.9"), 2)]
            treatments += [f"{stay},{code}" for code in draw.sample(TREATMENTS, 2)]
            orders += [f"{stay},{drug},PO,No" for drug in draw.sample(DRUGS, 2)]
            if patient in (0, 1, 2):
                treatments += [f"{stay},{RARE['treatment']}", f"{stay},{NOTE}"]
                orders += [f"{stay},{RARE['drug']},{route},No" for route in ("PO", "IV", "SC")]
    _write(root, {
        "patient": ("patientunitstayid,uniquepid,hospitaldischargeyear,age,patienthealthsystemstayid,hospitaladmitoffset,"
                    "unitvisitnumber", stays),
        "diagnosis": ("patientunitstayid,icd9code", diagnoses), "treatment": ("patientunitstayid,treatmentstring", treatments),
        "medication": ("patientunitstayid,drugname,routeadmin,drugordercancelled", orders)})


def _write(root, tables):
    root.mkdir()
    for name, (head, lines) in tables.items():
        (root / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")


# -- what is looked for -----------------------------------------------------------------------------------------------

def forms_of(value):
    """The bytes that a text may be written as, in lower case: encodings, JSON and HTML escapes, URL escapes."""
    from html import escape
    from urllib.parse import quote

    texts = {value, json.dumps(value)[1:-1], escape(value), quote(value), value.replace("|", " › "), value.replace("|", ", ")}
    return {low for form in texts for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")
            for low in (form.lower().encode(code), form.encode(code).lower())}


def canaries():
    """What must be nowhere: name -> forms."""
    words = {PATIENT, VISIT, "canary", "Żółć", MINUTE, f"{YEAR}-03", f"ICD9CM:{RARE['diagnosis']}", f"ICD9PROC:{RARE['procedure']}",
             RARE["drug"], RARE["treatment"], "bed 47", "by dr owl"}
    return {word: forms_of(word) for word in words}


def numbers():
    """Numbers that stand for patients: identifiers and times, in seconds and as dates."""
    seconds = {int(moment(patient, visit).timestamp()) for patient in range(60) for visit in range(4)}
    whole = {int(f"{PATIENT}{n:03d}") for n in range(60)} | {int(f"{VISIT}{n:03d}{v}") for n in range(60) for v in range(4)}
    return np.array(sorted(seconds | whole), np.int64)


def unpacked(name, data, depth=0):
    """(name, bytes) of a file and everything packed in it: zip members (npz, pt), gzip, zlib."""
    yield name, data
    if depth > 3:
        return
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield from unpacked(f"{name}!{member}", archive.read(member), depth + 1)
    elif data[:2] == b"\x1f\x8b":
        yield from unpacked(f"{name}!gz", gzip.decompress(data), depth + 1)
    else:
        for start in (found.start() for found in re.finditer(rb"x[\x01\x9c\xda]", data[:64])):
            try:
                yield from unpacked(f"{name}!zlib", zlib.decompress(data[start:]), depth + 1)
            except zlib.error:
                continue


def strays(name, data):
    """What of the canaries stands in some bytes."""
    found = []
    for where, content in unpacked(name, data):
        low = content.lower()
        found += [(where, word) for word, forms in canaries().items() if any(form in low for form in forms)]
        if where.endswith(".npy"):
            array = np.load(io.BytesIO(content), allow_pickle=False)
            if array.dtype.kind in "iuf" and np.isin(array, numbers()).any():
                found.append((where, "a number of a patient"))
        for kind in ("<i8", "<f8"):  # tensors of a torch file have no header
            if "/data/" in where and len(content) % 8 == 0 and np.isin(np.frombuffer(content, kind), numbers()).any():
                found.append((where, "a number of a patient"))
    return found


# -- the way ----------------------------------------------------------------------------------------------------------

def _walk(folder, form, write):
    tell, heard = CliRunner(), []
    root, home = folder / "export", folder / "home"

    def run(*words, code=0):
        logged = ("--log-file", home / "mkmed.log", "--log-format", "json")
        home.mkdir(exist_ok=True)
        result = tell.invoke(app, [str(word) for word in (*logged, *words)])
        assert (result.exit_code == 0) == (code == 0), (words, result.output)
        heard.append(result.output + str(result.exception or ""))
        return result.output

    write(root)
    prepare = ("recsys", "prepare", "--ehr", form, "--root", root, "--name", "c")
    run(*prepare, "--dry-run")
    assert not list((home / "cohorts").glob("*/*")), "a dry run writes nothing"
    for output in ("table", "json", "csv"):
        assert "kept" in run(*prepare, "--format", output)
    for output in ("table", "csv"):
        run("recsys", "unmapped", "--ehr", form, "--root", root, "--all", "--format", output)
    run("recsys", "interactions", "--cohort", "c")
    small = ("--cohort", "c", "--set", "vectors=learned", "--set", "epochs=2", "--set", "dim=8")
    run("recsys", "train", *small, "--dry-run")
    for name in ("mkmed", "popularity", "gamenet"):
        run("recsys", "train", *small, "--recommender", name)
    run("recsys", "train", *small, "--recommender", "pairs", "--set", "titles=off")
    run("recsys", "train", *small, "--recommender", "logistic_history", "--set", "task=order-time")
    run("recsys", "train", *small, "--recommender", "retain", "--set", "task=admission")
    runs = sorted((home / "runs" / "recsys").iterdir(), key=lambda path: path.stat().st_mtime)
    run("recsys", "compare", runs[0].name, runs[1].name)
    for by in ("summary", "visits", "rarity", "bucket", "calibration", "literature", "subgroup"):
        for output in ("table", "json"):
            run("recsys", "evaluate", "--run", runs[0].name, "--by", by, "--format", output)
    code = "ICD9CM:4280"
    (folder / "patient.json").write_text(json.dumps({"visits": [{"diagnoses": [code, "ICD9CM:4019"], "medications": ["warfarin 5 mg", "aspirin"]},
                                                              {"diagnoses": [code]}]}))
    for output in ("table", "json", "csv"):
        run("recsys", "recommend", "--run", runs[0].name, "--visit", folder / "patient.json", "--explain", "--format", output,
            "--picture", home / "why.svg")
    run("recsys", "cohorts")
    run("recsys", "runs")
    run("report", "--out", home / "report.html")
    broken = {"mimic3": ("PRESCRIPTIONS", "ADMISSIONS"), "eicu": ("medication", "patient")}[form]
    for path in (root / f"{name}.csv" for name in broken):
        path.write_text(path.read_text().replace("HADM_ID", "WRONG", 1).replace("patientunitstayid", "WRONG", 1))
        run("--debug", *prepare, code=1)
    return "\n".join(heard)


@pytest.fixture(params=[("mimic3", write_mimic), ("eicu", write_eicu)], ids=["mimic3", "eicu"])
def walked(request, filled, database_environment, tmp_path, caplog):  # noqa: F811
    """(format, everything that was said on the way from the export to the report); the home is ``tmp_path / home``."""
    caplog.set_level(logging.DEBUG)
    form, write = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MKMED_HOME", str(tmp_path / "home"))
        yield form, _walk(tmp_path, form, write) + caplog.text


def test_nothing_of_a_patient_leaves_the_cohort(walked, filled, tmp_path):  # noqa: F811
    home = tmp_path / "home"
    _form, said = walked
    assert strays("what was said", said.encode()) == []
    files = [path for path in home.rglob("*") if path.is_file()]
    outside = [path for path in files if "cohorts" not in path.relative_to(home).parts[:1]]
    assert {path.name for path in outside} >= {"best.pt", "last.pt", "metrics.jsonl", "report.json", "config.json",
                                               "report.html", "why.svg", "mkmed.log"}
    told = [json.loads(line) for line in (home / "mkmed.log").read_text().splitlines()]
    assert {line["message"] for line in told} >= {"begun", "run begun", "epoch", "run ended"}
    for path in outside:
        assert strays(str(path.relative_to(home)), path.read_bytes()) == [], path
    with filled.connect() as connection:
        names = connection.execute(text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'mkmed'"
                                        " AND table_type = 'BASE TABLE'")).scalars().all()
        for name in names:
            rows = connection.execute(text(f'SELECT t::text FROM mkmed."{name}" t')).scalars().all()
            assert strays(name, "\n".join(row or "" for row in rows).encode()) == []
        assert connection.scalar(text("SELECT count(*) FROM mkmed.run WHERE stage = 'recsys'")) >= 5


def test_folders_and_files_that_come_from_patients_are_their_owner_s_alone(walked, tmp_path):
    home = tmp_path / "home"
    for top in (home / "cohorts", home / "runs" / "recsys"):
        for path in (top, *top.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o077 == 0, (path, oct(mode))
    assert stat.S_IMODE((home / "why.svg").stat().st_mode) == 0o600
    for run in (home / "runs" / "recsys").iterdir():
        shown = json.loads((run / "report.json").read_text())
        assert shown["rare"]["procedure"] >= 1 and not list(run.glob("*.npz"))


def test_the_search_finds_what_is_planted(tmp_path):
    """A search that finds nothing must be one that could."""
    write_mimic(tmp_path / "mimic")
    write_eicu(tmp_path / "eicu")
    for root in (tmp_path / "mimic", tmp_path / "eicu"):
        content = b"".join(path.read_bytes() for path in root.iterdir())
        assert {word for _, word in strays("x", content)} >= {PATIENT, VISIT, "canary", "Żółć"}
    import torch

    buffer = io.BytesIO()
    torch.save({"meta": json.dumps({"code": RARE["treatment"]}), "t": torch.tensor([int(f"{PATIENT}001")])}, buffer)
    assert {word for _, word in strays("best.pt", buffer.getvalue())} >= {"canary", "a number of a patient"}
    packed = io.BytesIO()
    np.savez_compressed(packed, a=np.array([moment(3, 1).timestamp()]), b=np.array(["née Żółć"]))
    assert {word for _, word in strays("x.npz", packed.getvalue())} == {"Żółć", "a number of a patient"}
    for data in (json.dumps({"a": NOTE}).encode(), NOTE.encode("utf-16"), gzip.compress(NOTE.encode()), zlib.compress(NOTE.encode())):
        assert strays("x", data), data


def test_identifiers_with_digits_of_other_scripts_are_read(tmp_path):
    """``²`` is a digit to str.isdigit and no number to int."""
    from recsys.formats import FORMATS
    from recsys.formats.contract import Limits

    write_mimic(tmp_path / "export", 8)
    for path in (tmp_path / "export").iterdir():
        path.write_text(path.read_text().replace(f"{PATIENT}001", "12²").replace(f"{PATIENT}002", "٣٤"))
    assert FORMATS["mimic3"].read(tmp_path / "export", {}, Limits()).patients == 8
