"""Diabetes 130-US hospitals (Strack et al. 2014, UCI data set 296, CC BY 4.0): the one file ``diabetic_data.csv``.

A visit is an encounter. The file has no dates: encounters of a patient go in the order of ``encounter_id``, which is
all
that the times in a cohort mean; the days in hospital are real. Diagnoses are ICD-9-CM, of which whole numbers lost
their
leading zeros in the file (``38`` is 038, ``8`` is 008): they are padded to three digits. An order is a drug column that
says Steady, Up or Down. There are no procedures. ``?`` is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb.duck import identifier, literal
from recsys.formats.contract import (
    ADMISSION,
    AGE,
    DIED,
    DISCHARGE,
    RACE,
    READMITTED,
    SEX,
    Ledger,
    Limits,
    Recorded,
)
from recsys.formats.rows import Coded, distinct_pairs, read_visits, recorded
from recsys.formats.tables import open_export
from recsys.formats.written import order_key
from recsys.orders.codes import prefixed

TABLE = "diabetic_data"
DIAGNOSES = ("diag_1", "diag_2", "diag_3")
DRUGS = (
    "metformin", "repaglinide", "nateglinide", "chlorpropamide", "glimepiride", "acetohexamide", "glipizide",
    "glyburide", "tolbutamide", "pioglitazone", "rosiglitazone", "acarbose", "miglitol", "troglitazone", "tolazamide",
    "examide", "citoglipton", "insulin", "glyburide-metformin", "glipizide-metformin", "glimepiride-pioglitazone",
    "metformin-rosiglitazone", "metformin-pioglitazone",
)
ADMISSIONS = {"1": "Emergency", "2": "Urgent", "3": "Elective", "4": "Newborn", "7": "Trauma Center"}
DISCHARGES = {
    "1": "Home", "2": "Short term hospital", "3": "Skilled nursing facility", "4": "Intermediate care facility",
    "5": "Other inpatient care", "6": "Home health service", "7": "Against medical advice", "11": "Expired",
    "13": "Hospice, home", "14": "Hospice, facility", "19": "Expired at home, hospice",
    "20": "Expired in a facility, hospice", "21": "Expired, hospice", "22": "Rehabilitation",
    "23": "Long term care hospital", "24": "Nursing facility", "28": "Psychiatric hospital",
}
FIRST = 915_148_800  # 1999, the first of the ten years


def diagnosed(row: tuple[str, ...]) -> Coded:
    """The code of a diagnosis, its category padded to three digits."""
    if row[0] in ("", "?"):
        return "no code"
    category, dot, rest = row[0].partition(".")
    padded = category.zfill(3) if re.fullmatch(r"\d{1,3}", category) else category
    found = prefixed("ICD9CM", f"{padded}{dot}{rest}")
    return (found,) if found else "not a code of its system"


def ordered(row: tuple[str, ...]) -> Coded:
    """The key of a drug column (its name and what it says)."""
    if row[1] not in ("Steady", "Up", "Down"):
        return "not given" if row[1] == "No" else "neither given nor not given"
    return (order_key(names=(row[0],)),)


def _cases(column: str, names: Mapping[str, str]) -> str:
    return f"CASE whole({column}) {' '.join(f'WHEN {literal(k)} THEN {literal(v)}' for k, v in names.items())} END"


class Diabetes130:
    """The format of the Diabetes-130 file."""

    name = "diabetes130"
    requires: tuple[str, ...] = ("diagnosis", "medication")
    published: Mapping[str, Mapping[str, int]] = {"Diabetes-130": {TABLE: 101_766}}

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the file records."""
        with open_export(root, limits, Ledger(), ("", "dataset_diabetes")) as export:
            export.need(TABLE)
            wanted = dict.fromkeys((
                "encounter_id", "patient_nbr", "race", "gender", "age", "admission_type_id", "discharge_disposition_id",
                "time_in_hospital", "readmitted", *DIAGNOSES), True)
            columns = ", ".join(f"s.{identifier(name)}" for name in (*wanted, *DRUGS))
            raw = export.stage(TABLE, wanted | dict.fromkeys(DRUGS, True), columns)
            staged = export.fresh("staged")
            export.run(
                f"CREATE TEMP TABLE {staged} AS SELECT *, start + days * 86400 AS stop FROM (SELECT"
                f" whole(encounter_id) AS id, whole(patient_nbr) AS patient, {FIRST} + row_number() OVER (ORDER BY"
                " TRY_CAST(encounter_id AS BIGINT), encounter_id) AS start, TRY_CAST(time_in_hospital AS INT)::BIGINT"
                " AS days, said(race) AS race, CASE WHEN lower(gender) IN ('male', 'female') THEN lower(gender) END"
                " AS sex, age_band(TRY_CAST(regexp_extract(age, '(\\d+)', 1) AS INT)) AS age,"
                f" {_cases('admission_type_id', ADMISSIONS)} AS admission,"
                f" {_cases('discharge_disposition_id', DISCHARGES)} AS discharged,"
                " CASE WHEN whole(discharge_disposition_id) IN ('11', '19', '20', '21') THEN 'yes' ELSE 'no' END AS"
                " died, CASE trim(readmitted) WHEN '<30' THEN 'yes' WHEN '>30' THEN 'no' WHEN 'NO' THEN 'no' END AS"
                f" again FROM {raw})")
            visits = read_visits(export, TABLE, staged, attributes={
                RACE: "v.race", SEX: "v.sex", AGE: "v.age", ADMISSION: "v.admission", DISCHARGE: "v.discharged",
                DIED: "v.died", READMITTED: "v.again"}, readmission=None)
            pairs = {}
            for kind, table, code, names in (("diagnosis", "diagnoses", diagnosed, DIAGNOSES),
                                             ("medication", "drugs", ordered, DRUGS)):
                cell = "name || chr(31) || value" if kind == "medication" else "value"
                cells = export.fresh("cells")
                export.run(f"CREATE TEMP TABLE {cells} AS SELECT coalesce(v.number, -1) AS visit, {cell} AS key FROM"
                           f" (UNPIVOT {raw} ON {', '.join(map(identifier, names))} INTO NAME name VALUE value) s"
                           f" LEFT JOIN {visits.sql} v ON v.id = whole(s.encounter_id)")
                export.ledger.read(table, export.count(f"SELECT count(*) FROM {cells}"))
                pairs[kind] = distinct_pairs(export, table, cells, code)
            return recorded(export, visits, pairs)


FORMAT = Diabetes130()
