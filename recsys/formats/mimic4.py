"""MIMIC-IV 3.1: hosp/{prescriptions, diagnoses_icd, procedures_icd, admissions, patients}.

A visit is a hospital admission, ordered by ``admittime``. Codes keep their ``icd_version``. Row counts: MIT-LCP/
mimic-code, ``validate.sql``. The open demo in its rebuilt form has names but no NDC: that column may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recsys.formats.contract import Ledger, Limits, Recorded
from recsys.formats.mimic3 import DRUGS, NOT_A_CODE, ordered, read_admissions, read_patients
from recsys.formats.rows import Coded, read_codes, recorded
from recsys.formats.tables import open_export
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

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the export records."""
        with open_export(root, limits, Ledger()) as export:
            for table in ("admissions", "diagnoses_icd", "procedures_icd", "prescriptions"):
                export.need(table)
            # The age at an admission, from the age in the year that stands for the patient's first years.
            visits = read_admissions(export, read_patients(export), "age_band(p.anchor_age + v.year - p.anchor_year)")
            coded = {"icd_code": True, "icd_version": True}
            pairs = {
                "diagnosis": read_codes(export, "diagnoses_icd", "hadm_id", coded, versioned(procedure=False), visits),
                "procedure": read_codes(export, "procedures_icd", "hadm_id", coded, versioned(procedure=True), visits),
                "medication": read_codes(export, "prescriptions", "hadm_id", DRUGS, ordered, visits),
            }
            return recorded(export, visits, pairs)


FORMAT = Mimic4()
