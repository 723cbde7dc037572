"""Puts the open EHR extracts of ``mkmed/demo/data/ehr_*`` together from published folders, each file by its checksum.

Run: ``python -m mkmed.demo.build.ehr --mimic3 DIR --mimic4 DIR --meds FILE --eicu DIR --synthea DIR --omop FILE
--target T``. Every argument is one published set; a set that is not given is left as it is. CSV is gzipped as it is,
byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from pathlib import Path
from typing import Any

from kb.duck import ATTACHED, open_duck, spill_folder
from kb.errors import ContractViolation, NotFound
from kb.output import say
from mkmed.demo.build.tables import sha256_hex, write_gz

SOURCES: dict[str, dict[str, str]] = {
    "mimic3": {
        "ADMISSIONS.csv": "487e0b87cc81472cc2eb9ee911b3493c39e15d32e8230cec559907060c009b1c",
        "PATIENTS.csv": "f65803a46bcb88127574bfd0b70d78d4123783d05bb411e70d4c9629edd7b703",
        "DIAGNOSES_ICD.csv": "74dc979906bc2172f0cf025271dcd44c7cd52506b297e4b36e63dd40dce923da",
        "PROCEDURES_ICD.csv": "0a1474dcb7e1bc083cc7b329257e5e85305f3e54ee5b0bedd325b3772806d655",
        "PRESCRIPTIONS.csv": "053a015f55044550e4536def11df04432490c4a5ca3e1f380c30ac7e17f33fd3",
        "LICENSE.txt": "136454b9c13b6e1fe49cede8a7eedae5447ffd7c33abe14d458c6370f8eb943b",
    },
    "mimic4": {
        "admissions.csv.gz": "f2a2b55934068faa6c58264a758d0f8d8835a3a055508dd496e88daa7ab37dd5",
        "patients.csv.gz": "177e99fbecb467a523c50923cc8606d9cd6d59e91a27e5876a24e56647d7e5fe",
        "diagnoses_icd.csv.gz": "1fd0dca7336460f1c66f352687fdd76a05338b07ee2df66ced7aa2b429c9c3bf",
        "procedures_icd.csv.gz": "8456cfc9473b3e11790b59d69eff53e48127f856da87caa62a4b36d5f11593a9",
        "prescriptions.csv.gz": "99efb84fa63560e1b010db31eae854a25bb3b45cb0b44398c0e01230b23ea612",
    },
    "meds": {
        "mimic_iv_demo_meds_events.parquet": "b75d03c69b58beb8e619525ea0051869f63c8340a3557d87ec0f04db33c13439",
    },
    "eicu": {
        "patient.csv.gz": "ea5919d333fa32ab9fafe038da86ad7404e209410bcea90e26373865c808c9aa",
        "medication.csv.gz": "f14521056dedc9e60fd0b7197af26a4f8b6c2812f4440f47bdff503762cc2522",
        "diagnosis.csv.gz": "66cb4765d88e3dcb1b52d32b537112bd4e89f92d375436eaa4b59d4bea085e43",
        "treatment.csv.gz": "255e283288395165c2de988cf4dede039856b9df5ef2f68a6459267f02b83169",
        "LICENSE.txt": "136454b9c13b6e1fe49cede8a7eedae5447ffd7c33abe14d458c6370f8eb943b",
    },
    "synthea": {
        "conditions.csv": "14824aae7c0a7b0aecea57e817e5726cb486252fab7061704fd29837f96f303d",
        "encounters.csv": "dd389fd4d1981ba97f7994b4e74b16ebba8a5c10512675dd86ed0a74f190d6d0",
        "medications.csv": "1b123197b75ccd0d36dcc9c2a8975d263e3d7a61a4cafbc341c9f545ed11073f",
        "patients.csv": "edd78e0407bb05abb9f1da02904466e052f3cedb8ee01351309efcacd757194f",
        "procedures.csv": "0e72fa369b07f2c49a3d5e0730039b8cdb32ffb43cb9e50b8d75cd337d4bea72",
        "LICENSE": "b40930bbcf80744c86c46a12bc9da056641d722716c378f5659b9e555ef833e1",
    },
    "omop": {"eunomia.duckdb": "46e0cc89da7ad0b9455af697b075314b7a351f1ffab12b8d4e2dfccae9975907"},
}
FOLDERS = {
    "mimic3": "ehr_mimic3_demo", "mimic4": "ehr_mimic4_demo", "meds": "ehr_mimic4_demo_meds",
    "eicu": "ehr_eicu_demo", "synthea": "ehr_synthea", "omop": "ehr_omop_gibleed",
}
LICENCE_OF = {
    "mimic4": ("ehr_mimic3_demo", "LICENSE.txt"), "meds": ("ehr_mimic3_demo", "LICENSE.txt"),
    "omop": ("ehr_synthea", "LICENSE"),
}
"""Sets that come without the text of their licence (ODbL 1.0, Apache-2.0): it is taken from a set that has it."""
OMOP_TABLES: dict[str, tuple[str, str]] = {
    "person": ("person_id", "WHERE person_id <= :persons"),
    "visit_occurrence": (
        "visit_occurrence_id, person_id, visit_concept_id, visit_start_date, visit_end_date",
        "WHERE person_id <= :persons",
    ),
    "condition_occurrence": (
        "condition_occurrence_id, person_id, condition_concept_id, condition_start_date, visit_occurrence_id",
        "WHERE person_id <= :persons",
    ),
    "procedure_occurrence": (
        "procedure_occurrence_id, person_id, procedure_concept_id, procedure_date, visit_occurrence_id",
        "WHERE person_id <= :persons",
    ),
    "drug_exposure": (
        "drug_exposure_id, person_id, drug_concept_id, drug_exposure_start_date, visit_occurrence_id",
        "WHERE person_id <= :persons",
    ),
    "concept": ("concept_id, concept_name, domain_id, vocabulary_id, concept_class_id, concept_code", ""),
    "concept_ancestor": (
        "CAST(ancestor_concept_id AS BIGINT) AS ancestor_concept_id, descendant_concept_id",
        "WHERE ancestor_concept_id IN (SELECT concept_id FROM concept WHERE concept_class_id = 'Ingredient')",
    ),
}
PERSONS = 600
"""The persons with ids up to 600 are in the OMOP extract; there are 310."""


def checked(name: str, source: Path) -> list[Path]:
    """The files of a published set, in the folder ``source`` or as that file; raises unless their checksums agree."""
    files = []
    for file, expected in SOURCES[name].items():
        path = source if source.is_file() else source / file
        if not path.exists():
            raise NotFound(f"{path} is not there", hint=f"--{name} wants the folder that holds {file}")
        if sha256_hex(path) != expected:
            raise ContractViolation(f"{path.name} is not the published file: its sha256 differs")
        files.append(path)
    return files


def write_extract(files: list[Path], target: Path) -> None:
    """Write tables gzipped and under lower-case names, and licences as they are."""
    for path in files:
        if path.suffix == ".gz":
            write_gz(target / path.name.lower(), gzip.decompress(path.read_bytes()).decode("utf-8"))
        elif path.suffix == ".csv":
            write_gz(target / f"{path.name.lower()}.gz", path.read_bytes().decode("utf-8"))
        else:
            (target / path.name).write_bytes(path.read_bytes())


def trim_meds(path: Path, target: Path) -> None:
    """Write the events that a cohort is made of: admissions, discharges, ICD codes and medication starts."""
    import pyarrow.compute as pc
    from pyarrow import parquet

    wanted = r"^(HOSPITAL_ADMISSION|HOSPITAL_DISCHARGE|DIAGNOSIS//ICD|PROCEDURE//ICD|MEDICATION//START|MEDS_BIRTH)"
    table = parquet.read_table(path, columns=["subject_id", "time", "code"]).replace_schema_metadata()
    table = table.filter(pc.match_substring_regex(table["code"], wanted))
    (target / "data").mkdir(exist_ok=True)
    parquet.write_table(table, target / "data" / "0.parquet", compression="zstd", compression_level=19)


def extract_omop(path: Path, target: Path) -> None:
    """Write the tables of the first persons of an OMOP DuckDB file as gzipped CSV."""
    with spill_folder() as spill, open_duck(spill, database=path) as database:
        database.execute(f"USE {ATTACHED}")
        for table, (columns, where) in OMOP_TABLES.items():
            query = f"SELECT {columns} FROM {table} {where.replace(':persons', str(PERSONS))} ORDER BY ALL"  # noqa: S608
            result = database.execute(query)
            names = [column[0].lower() for column in result.description]
            buffer = io.StringIO()
            writer = csv.writer(buffer, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(result.fetchall())
            write_gz(target / f"{table}.csv.gz", buffer.getvalue())


def build_extract(name: str, source: Path, target: Path) -> None:
    """Put one extract together below ``target``."""
    files = checked(name, source)
    folder = target / FOLDERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    if name == "meds":
        trim_meds(files[0], folder)
    elif name == "omop":
        extract_omop(files[0], folder)
    else:
        write_extract(files, folder)
    if name in LICENCE_OF:
        lender, text = LICENCE_OF[name]
        (folder / text).write_bytes((target / lender / text).read_bytes())
    sums = [f"{sha256_hex(path)}  {path.relative_to(folder)}" for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("SHA256SUMS", "README.md")]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    say(f"{folder}: {len(sums)} files")


def main(arguments: list[str] | None = None) -> None:
    """Build every extract whose source is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path)
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    for name in sorted(SOURCES, key=lambda name: name in LICENCE_OF):
        if given[name] is not None:
            build_extract(name, given[name], given["target"])


if __name__ == "__main__":
    main()
