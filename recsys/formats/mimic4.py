"""MIMIC-IV 3.1: hosp/{prescriptions, diagnoses_icd, procedures_icd, admissions, patients}.

A visit is a hospital admission, ordered by ``admittime``. Codes keep their ``icd_version``. Row counts: MIT-LCP/
mimic-code, ``validate.sql``. The open demo in its rebuilt form has names but no NDC: that column may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recsys.formats.contract import Ledger, Recorded
from recsys.formats.mimic3 import NOT_A_CODE
from recsys.formats.rows import Coded, read_codes, read_patients, read_visits
from recsys.formats.tables import find_table, need_table, seconds
from recsys.formats.written import order_key
from recsys.orders.codes import icd


def versioned(procedure: bool) -> Callable[[tuple[str, ...]], Coded]:
    """A coder for the columns (icd_code, icd_version)."""

    def code(row: tuple[str, ...]) -> Coded:
        if not row[0]:
            return "no code"
        if row[1].removesuffix(".0") not in ("9", "10"):
            return "unknown ICD version"
        found = icd(row[0], row[1], procedure)
        return (found,) if found else NOT_A_CODE

    return code


def ordered(row: tuple[str, ...]) -> Coded:
    """The medication key of a row (ndc, drug, route)."""
    key = order_key(ndc=row[0], names=(row[1],), route=row[2])
    return (key,) if key else "neither NDC nor drug name"


class Mimic4:
    """The MIMIC-IV format."""

    name = "mimic4"
    requires: tuple[str, ...] = ("diagnosis", "procedure", "medication")
    published: Mapping[str, Mapping[str, int]] = {
        "MIMIC-IV 3.1": {
            "prescriptions": 20_292_611,
            "diagnoses_icd": 6_364_488,
            "procedures_icd": 859_655,
            "admissions": 546_028,
            "patients": 364_627,
        }
    }

    def read(self, root: Path, options: Mapping[str, Any]) -> Recorded:
        """Everything that the export records."""
        ledger = Ledger()
        patients = read_patients(find_table(root, "patients"), "subject_id", ledger)
        columns = ("hadm_id", "subject_id", "admittime")
        visits = read_visits(need_table(root, "admissions"), "admissions", columns, ledger, patients, seconds)
        coded = [("icd_code", True), ("icd_version", True)]
        pairs = {
            "diagnosis": read_codes(need_table(root, "diagnoses_icd"), "diagnoses_icd", "hadm_id", coded,
                                    versioned(procedure=False), visits, ledger),
            "procedure": read_codes(need_table(root, "procedures_icd"), "procedures_icd", "hadm_id", coded,
                                    versioned(procedure=True), visits, ledger),
            "medication": read_codes(need_table(root, "prescriptions"), "prescriptions", "hadm_id",
                                     [("ndc", False), ("drug", True), ("route", False)], ordered, visits, ledger),
        }
        return Recorded(visits.patients, visits.times, pairs, ledger, visits.table, visits.patients_in_source)


FORMAT = Mimic4()
