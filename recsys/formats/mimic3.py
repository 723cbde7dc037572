"""MIMIC-III 1.4: PRESCRIPTIONS, DIAGNOSES_ICD, PROCEDURES_ICD, ADMISSIONS and, where there, PATIENTS.

A visit is a hospital admission, ordered by ``admittime`` (``hadm_id`` is random). Diagnoses are ICD-9-CM, procedures
ICD-9 procedure codes. A prescription is identified by its NDC first (``0`` is no drug), then by its name.
Row counts: MIT-LCP/mimic-code, ``buildmimic``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recsys.formats.contract import Ledger, Recorded
from recsys.formats.rows import Coded, read_codes, read_patients, read_visits
from recsys.formats.tables import find_table, need_table, seconds
from recsys.formats.written import order_key
from recsys.orders.codes import prefixed

NOT_A_CODE = "not a code of its system"


def one_code(system: str) -> Callable[[tuple[str, ...]], Coded]:
    """A coder for a table with one code a row."""

    def code(row: tuple[str, ...]) -> Coded:
        if not row[0]:
            return "no code"
        found = prefixed(system, row[0])
        return (found,) if found else NOT_A_CODE

    return code


def ordered(row: tuple[str, ...]) -> Coded:
    """The medication key of a row (ndc, name, generic name, route)."""
    ndc, drug, generic, route = row
    key = order_key(ndc=ndc, names=(drug, generic), route=route)
    return (key,) if key else "neither NDC nor drug name"


class Mimic3:
    """The MIMIC-III format."""

    name = "mimic3"
    requires: tuple[str, ...] = ("diagnosis", "procedure", "medication")
    published: Mapping[str, Mapping[str, int]] = {
        "MIMIC-III 1.4": {
            "prescriptions": 4_156_450,
            "diagnoses_icd": 651_047,
            "procedures_icd": 240_095,
            "admissions": 58_976,
            "patients": 46_520,
        }
    }

    def read(self, root: Path, options: Mapping[str, Any]) -> Recorded:
        """Everything that the export records."""
        ledger = Ledger()
        patients = read_patients(find_table(root, "patients"), "subject_id", ledger)
        columns = ("hadm_id", "subject_id", "admittime")
        visits = read_visits(need_table(root, "admissions"), "admissions", columns, ledger, patients, seconds)
        drug_columns = [("ndc", True), ("drug", True), ("drug_name_generic", False), ("route", False)]
        pairs = {
            "diagnosis": read_codes(need_table(root, "diagnoses_icd"), "diagnoses_icd", "hadm_id",
                                    [("icd9_code", True)], one_code("ICD9CM"), visits, ledger),
            "procedure": read_codes(need_table(root, "procedures_icd"), "procedures_icd", "hadm_id",
                                    [("icd9_code", True)], one_code("ICD9PROC"), visits, ledger),
            "medication": read_codes(need_table(root, "prescriptions"), "prescriptions", "hadm_id",
                                     drug_columns, ordered, visits, ledger),
        }
        return Recorded(visits.patients, visits.times, pairs, ledger, visits.table, visits.patients_in_source)


FORMAT = Mimic3()
