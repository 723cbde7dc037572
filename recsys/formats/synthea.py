"""Synthea's CSV export: patients, encounters, conditions, procedures, medications.

A visit is an encounter. Conditions and procedures are SNOMED CT codes, medications RxNorm codes with a description.
Few encounters record all three, so by default a visit needs a diagnosis and a medication.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.formats.contract import Ledger, Recorded
from recsys.formats.mimic3 import one_code
from recsys.formats.rows import Coded, read_codes, read_patients, read_visits
from recsys.formats.tables import find_table, need_table, seconds
from recsys.formats.written import order_key

FOLDERS = ("", "csv", "output/csv")


def ordered(row: tuple[str, ...]) -> Coded:
    """The medication key of a row (code, description)."""
    key = order_key(rxcuis=(row[0],), names=(row[1],))
    return (key,) if key else "neither code nor description"


class Synthea:
    """The Synthea format."""

    name = "synthea"
    requires: tuple[str, ...] = ("diagnosis", "medication")
    published: Mapping[str, Mapping[str, int]] = {}

    def read(self, root: Path, options: Mapping[str, Any]) -> Recorded:
        """Everything that the export records."""
        ledger = Ledger()
        patients = read_patients(find_table(root, "patients", FOLDERS), "id", ledger)
        path = need_table(root, "encounters", FOLDERS)
        visits = read_visits(path, "encounters", ("id", "patient", "start"), ledger, patients, seconds)
        snomed, coded = one_code("SNOMED"), [("code", True)]
        pairs = {
            "diagnosis": read_codes(need_table(root, "conditions", FOLDERS), "conditions", "encounter", coded,
                                    snomed, visits, ledger),
            "procedure": read_codes(find_table(root, "procedures", FOLDERS), "procedures", "encounter", coded,
                                    snomed, visits, ledger),
            "medication": read_codes(need_table(root, "medications", FOLDERS), "medications", "encounter",
                                     [("code", True), ("description", False)], ordered, visits, ledger),
        }
        return Recorded(visits.patients, visits.times, pairs, ledger, visits.table, visits.patients_in_source)


FORMAT = Synthea()
