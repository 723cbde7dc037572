"""A cohort as MEDS, by the ``meds`` package: ``data/<n>.parquet``, ``metadata/{codes.parquet, dataset.json}``.

A visit is an admission event at its start and, where the end is known, a discharge event there. Diagnoses and
procedures
stand at the end, where they are coded, medications at the start. A code ``SYSTEM:VALUE`` becomes ``SYSTEM//VALUE``, and
``recsys.formats.meds`` reads all of it back. Subjects are the cohort's numbers: no identifier of the source is known
here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kb.errors import UsageError
from recsys.cohorts.cohort import KINDS, UNKNOWN_TIME, Cohort
from recsys.formats.contract import ADMISSION, DISCHARGE, RACE, SEX

if TYPE_CHECKING:
    import pyarrow as pa

SUBJECTS_A_FILE = 100_000


def write_meds(cohort: Cohort, folder: Path) -> list[Path]:
    """Write the cohort to a new folder that only the user can read, and return the data files.

    Raises UsageError where the folder holds something already.
    """
    import meds
    from pyarrow import parquet

    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="name a new folder")
    for part in (folder, folder / meds.data_subdirectory, folder / "metadata"):
        part.mkdir(parents=True, exist_ok=True, mode=0o700)
    files: list[Path] = []
    for first in range(0, max(cohort.patients, 1), SUBJECTS_A_FILE):
        last = min(first + SUBJECTS_A_FILE, cohort.patients)
        table = meds.DataSchema.align(_events(cohort, first, last))
        files.append(folder / meds.data_subdirectory / f"{len(files)}.parquet")
        parquet.write_table(table, files[-1])
    names = sorted({meds_code(code) for kind in KINDS for code in cohort.vocabularies[kind].codes})
    parquet.write_table(meds.CodeMetadataSchema.align(_codes(names)), folder / meds.code_metadata_filepath)
    facts = {"dataset_name": cohort.name, "etl_name": "mkmed", "meds_version": meds.__version__,
             "other_extension_columns": []}
    meds.DatasetMetadataSchema.validate(facts)
    (folder / meds.dataset_metadata_filepath).write_text(json.dumps(facts, indent=1) + "\n")
    return files


def meds_code(code: str) -> str:
    """The code with MEDS's mark between system and value."""
    system, _, value = code.partition(":")
    return f"{system}//{value}"


def _codes(names: list[str]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"code": pa.array(names, pa.string()), "description": pa.nulls(len(names), pa.string()),
                     "parent_codes": pa.nulls(len(names), pa.list_(pa.string()))})


def _events(cohort: Cohort, first: int, last: int) -> pa.Table:
    """The events of patients ``first`` to ``last - 1``: (subject_id, time, code), facts without a time first."""
    import pyarrow as pa

    rows = np.arange(cohort.patient_indptr[first], cohort.patient_indptr[last])
    start = cohort.visit_time[rows]
    end = cohort.visit_end[rows] if cohort.visit_end is not None else np.full(len(rows), UNKNOWN_TIME)
    ended = (end != UNKNOWN_TIME) & (end >= start)
    patient = cohort.visit_patient[rows].astype(np.int64)
    subjects: list[np.ndarray] = [patient, patient[ended]]
    times: list[np.ndarray] = [start, end[ended]]
    # Within a second: what ends a visit before what begins the next, facts of a visit in between.
    ranks: list[np.ndarray] = [np.full(len(rows), 3), np.full(int(ended.sum()), 2)]
    codes: list[pa.Array] = [_joined("HOSPITAL_ADMISSION", cohort, ADMISSION, rows),
                             _joined("HOSPITAL_DISCHARGE", cohort, DISCHARGE, rows[ended])]
    for kind in KINDS:
        table = cohort.codes[kind].take(rows)
        visit = table.rows()
        late = ended[visit] & (kind != "medication")
        subjects.append(patient[visit])
        times.append(np.where(late, end[visit], start[visit]))
        ranks.append(np.where(late, 1, 4))
        names = pa.array([meds_code(code) for code in cohort.vocabularies[kind].codes], pa.string())
        codes.append(names.take(pa.array(table.values)) if len(names) else pa.array([], pa.string()))
    facts, words = _static(cohort, first, last)
    subjects.append(facts)
    times.append(np.full(len(facts), UNKNOWN_TIME))
    ranks.append(np.zeros(len(facts), np.int64))
    codes.append(words)
    subject, time, rank = (np.concatenate(parts) for parts in (subjects, times, ranks))
    order = np.lexsort((rank, time, subject))
    stamps = pa.array(time[order], pa.int64(), mask=time[order] == UNKNOWN_TIME)
    return pa.table({
        "subject_id": subject[order].astype(np.int64), "time": stamps.cast(pa.timestamp("s")).cast(pa.timestamp("us")),
        "code": pa.chunked_array(codes).combine_chunks().take(pa.array(order)),
        "numeric_value": pa.nulls(len(order), pa.float32())})


def _joined(word: str, cohort: Cohort, name: str, rows: np.ndarray) -> pa.Array:
    """The event's word with the level of an attribute of each visit, ``UNK`` where it is not known."""
    import pyarrow as pa

    attribute = cohort.attributes.get(name)
    if attribute is None:
        return pa.array([f"{word}//UNK"] * len(rows), pa.string())
    levels = pa.array([*(f"{word}//{level}" for level in attribute.levels), f"{word}//UNK"], pa.string())
    return levels.take(pa.array(attribute.values[rows] % len(levels)))


def _static(cohort: Cohort, first: int, last: int) -> tuple[np.ndarray, pa.Array]:
    """Subjects and codes of sex and race, which have no time."""
    import pyarrow as pa

    subjects: list[int] = []
    codes: list[str] = []
    for patient in range(first, last):
        for word, name in (("GENDER", SEX), ("RACE", RACE)):
            attribute = cohort.attributes.get(name)
            value = -1 if attribute is None else int(attribute.values[cohort.patient_indptr[patient]])
            if attribute is not None and value >= 0:
                subjects.append(patient)
                codes.append(f"{word}//{attribute.levels[value]}")
    return np.asarray(subjects, np.int64), pa.array(codes, pa.string())
