"""What it costs to read an EHR export of a hospital's size: rows a second and peak memory, beside DuckDB and pandas.

Run: ``python benchmarks/bench_prepare.py [--mimic PRESCRIPTIONS] [--omop PATIENTS]``, with a filled knowledge base. Two
exports are written to a temporary folder, each in turn: MIMIC-IV's layout (20 million prescriptions; MIMIC-IV has 20.3
million) and OMOP's (a million patients with 40 visits each, a condition and a drug a visit). Each is read by its format
into arrays, and made into a cohort from the files to the disk (``recsys prepare``), within the default ``--memory``.
Its files are loaded into tables by plain ``read_csv`` of DuckDB with the same bound (the columns that mkmed reads, no
join, nothing distinct), as texts and with the types that DuckDB finds; and by pandas, which would not fit the whole
OMOP export, in a tenth of the rows. Every reader is a process of its own; times are CPU seconds of all its threads,
because the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kb.output import emit

COLUMNS = {
    "mimic4": {
        "admissions": ["subject_id", "hadm_id", "admittime", "dischtime", "admission_type"],
        "prescriptions": ["hadm_id", "drug", "gsn", "ndc", "form_rx", "route", "drug_type", "prod_strength"],
        "diagnoses_icd": ["hadm_id", "icd_code", "icd_version"],
        "procedures_icd": ["hadm_id", "icd_code", "icd_version"],
    },
    "omop": {
        "person": ["person_id", "year_of_birth", "gender_concept_id"],
        "visit_occurrence": ["visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date",
                             "visit_end_date"],
        "condition_occurrence": ["person_id", "condition_concept_id", "condition_start_date", "visit_occurrence_id"],
        "drug_exposure": ["person_id", "drug_concept_id", "drug_exposure_start_date", "visit_occurrence_id"],
    },
}


def write_mimic4(root: Path, rows: int) -> None:
    """An export with ``rows`` prescriptions, 38 an admission as in MIMIC-IV, 4,000 drugs of falling frequency."""
    visits = max(rows // 38, 1)
    patients = max(visits // 2, 1)
    with duckdb.connect() as base:
        base.execute("SELECT setseed(0.5)")
        queries = {
            "patients": f"SELECT 10000000 + range AS subject_id, 'F' AS gender, 60 AS anchor_age, 2150 AS anchor_year"
                        f" FROM range({patients})",
            "admissions": f"SELECT 10000000 + range % {patients} AS subject_id, 20000000 + range AS hadm_id,"
                          " TIMESTAMP '2150-01-01' + to_hours(range % 700000) AS admittime, TIMESTAMP '2150-01-03' +"
                          " to_hours(range % 700000) AS dischtime, 'EW EMER.' AS admission_type, 'HOME' AS"
                          f" discharge_location, 0 AS hospital_expire_flag FROM range({visits})",
            "prescriptions": f"SELECT 10000000 + v % {patients} AS subject_id, 20000000 + v AS hadm_id,"
                             " n AS pharmacy_id, n || '-1' AS poe_id, '2150-01-01 10:00:00' AS starttime,"
                             " '2150-01-02 10:00:00' AS stoptime, 'MAIN' AS drug_type,"
                             f" {[*NAMES]}[1 + d % {len(NAMES)}] || ' Tablet, ' || d || ' mg' AS drug,"
                             " lpad(d::VARCHAR, 6, '0') AS gsn,"
                             " lpad((d * 7919 + 1000000000)::VARCHAR, 11, '0') AS ndc, d % 13 || 'mg Tablet' AS"
                             " prod_strength, 'TAB' AS form_rx, CASE WHEN d % 3 = 0 THEN 'IV' ELSE 'PO' END AS route"
                             f" FROM (SELECT range AS n, hash(range) % {visits} AS v,"
                             f" CAST(4000 * power(random(), 3) AS INT) AS d FROM range({rows}))",
            "diagnoses_icd": f"SELECT 20000000 + hash(range) % {visits} AS hadm_id, 1 AS seq_num, 1000 + hash(range"
                             f" + 7) % 8999 AS icd_code, 9 AS icd_version FROM range({visits * 11})",
            "procedures_icd": f"SELECT 20000000 + hash(range) % {visits} AS hadm_id, 1 AS seq_num, 1000 + hash(range"
                              f" + 7) % 8999 AS icd_code, 9 AS icd_version FROM range({visits * 2})",
        }
        for table, query in queries.items():
            base.execute(f"COPY ({query}) TO '{root}/{table}.csv' (HEADER)")


def write_omop(root: Path, patients: int, visits: int = 40) -> None:
    """An export of that many persons, ``visits`` visits each, one of 3,000 conditions and 2,000 drugs each."""
    total = patients * visits
    each = f"SELECT range AS v, range // {visits} + 1 AS p, DATE '1990-01-01' + CAST(range % {visits} * 90 AS INT) AS d"
    with duckdb.connect() as base:
        queries = {
            "person": f"SELECT range + 1 AS person_id, 1950 AS year_of_birth, 8532 AS gender_concept_id FROM"
                      f" range({patients})",
            "visit_occurrence": "SELECT v + 1 AS visit_occurrence_id, p AS person_id, 9201 AS visit_concept_id, d AS"
                                f" visit_start_date, d + 2 AS visit_end_date FROM ({each} FROM range({total}))",
            "condition_occurrence": "SELECT v AS condition_occurrence_id, p AS person_id, 1000000 + hash(v) % 3000 AS"
                                    " condition_concept_id, d AS condition_start_date, v + 1 AS visit_occurrence_id"
                                    f" FROM ({each} FROM range({total}))",
            "drug_exposure": "SELECT v AS drug_exposure_id, p AS person_id, 2000000 + hash(v + 7) % 2000 AS"
                             " drug_concept_id, d AS drug_exposure_start_date, v + 1 AS visit_occurrence_id FROM"
                             f" ({each} FROM range({total}))",
            "concept": "SELECT range + 1000000 AS concept_id, 'condition ' || range AS concept_name, 'SNOMED' AS"
                       " vocabulary_id, 'Disorder' AS concept_class_id, 10000000 + range AS concept_code FROM"
                       " range(3000) UNION ALL SELECT range + 2000000,"
                       f" {[*NAMES]}[1 + range % {len(NAMES)}] || ' ' || range || ' mg tablet', 'RxNorm', 'Ingredient',"
                       " range + 1 FROM range(2000)",
        }
        for table, query in queries.items():
            base.execute(f"COPY ({query}) TO '{root}/{table}.csv' (HEADER)")


NAMES = ("Aspirin", "Metformin", "Lisinopril", "Atorvastatin", "Furosemide", "Metoprolol", "Amlodipine", "Omeprazole",
         "Warfarin", "Digoxin", "Prednisone", "Morphine", "Vancomycin", "Ceftriaxone", "Ondansetron", "Sertraline",
         "Gabapentin", "Levothyroxine", "Simvastatin", "Losartan")


def ours(form: str, root: Path) -> int:
    from recsys.formats import FORMATS
    from recsys.formats.contract import Limits

    recorded = FORMATS[form].read(root, {}, Limits(spill=root / "spill"))
    return sum(recorded.ledger.rows.values())


def prepared(form: str, root: Path) -> int:
    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from recsys.cohorts.prepare import prepare

    own = load_settings().model_copy(update={"home": root / "home"})
    with open_engine(load_settings()).connect() as connection:
        made = prepare(form=form, root=root, connection=connection, settings=own, allow_subset=True,
                       requires=("diagnosis", "medication"))
    return sum(row.rows for row in made.cohort.accounting)


def duckdb_alone(form: str, root: Path, options: str = ", all_varchar = true") -> int:
    rows = 0
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(root / "tmp"),
                                "preserve_insertion_order": "false"}) as base:
        for table, columns in COLUMNS[form].items():
            chosen = ", ".join(columns)
            base.execute(f"CREATE TEMP TABLE {table} AS SELECT {chosen} FROM read_csv('{root}/{table}.csv'{options})")
            rows += base.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    return rows


def duckdb_typed(form: str, root: Path) -> int:
    return duckdb_alone(form, root, "")


def pandas_alone(form: str, root: Path) -> int:
    import pandas as pd

    rows = 0
    for table, columns in COLUMNS[form].items():
        path = root / f"{table}.csv"
        part = None if path.stat().st_size < 10**6 else path.stat().st_size // 10 // 60
        frame = pd.read_csv(path, usecols=columns, dtype=str, nrows=part)
        rows += len(frame)
        frame.drop_duplicates()
    return rows


READERS = {"mkmed, read": ours, "mkmed, prepare": prepared, "DuckDB read_csv": duckdb_alone,
           "DuckDB read_csv, types found": duckdb_typed, "pandas, a tenth": pandas_alone}


def measured(reader: str, form: str, root: Path) -> dict[str, float]:
    """Rows, CPU and wall seconds and peak memory of a reader in a process of its own."""
    command = [sys.executable, __file__, "--read", reader, form, str(root)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def main() -> None:
    if sys.argv[1:2] == ["--read"]:
        start, wall = time.process_time(), time.monotonic()
        rows = READERS[sys.argv[2]](sys.argv[3], Path(sys.argv[4]))
        status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
        print(json.dumps({"rows": rows, "cpu_s": time.process_time() - start, "wall_s": time.monotonic() - wall,
                          "peak_mib": peak}))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--mimic", type=int, default=20_000_000)
    parser.add_argument("--omop", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    chosen = parser.parse_args()
    path = Path(__file__).parent / "results" / "prepare.json"
    path.parent.mkdir(exist_ok=True)
    results: list[dict[str, object]] = []
    for form, size, write in (("mimic4", chosen.mimic, write_mimic4), ("omop", chosen.omop, write_omop)):
        if not size:
            continue
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            write(Path(folder), size)
            mib = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20
            found = {reader: measured(reader, form, Path(folder)) for reader in chosen.readers}
        base = found["DuckDB read_csv"]
        for reader, got in found.items():
            results.append({
                "export": f"{form}, {size:,} {'prescriptions' if form == 'mimic4' else 'patients'}", "MiB": round(mib),
                "reader": reader, "rows": got["rows"], "CPU s": round(got["cpu_s"], 1),
                "wall s": round(got["wall_s"], 1),
                "rows/CPU s": round(got["rows"] / got["cpu_s"]), "peak MiB": round(got["peak_mib"]),
                "CPU a row beside DuckDB": round(got["cpu_s"] / got["rows"] / (base["cpu_s"] / base["rows"]), 2),
            })
        path.write_text(json.dumps(results, indent=1) + "\n")
    emit(results)


if __name__ == "__main__":
    main()
