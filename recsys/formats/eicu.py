"""eICU Collaborative Research Database 2.0: patient, medication, diagnosis, treatment.

A visit is a unit stay. eICU has no calendar but the year of hospital discharge and minutes relative to the unit's
admission, so stays of a patient are ordered by (year of discharge, age at admission, hospital stay, time of unit
admission within the hospital stay, number of the unit visit). Two hospital stays of one patient in the same year and at
the same age have no known order: they are taken in the order of their numbers, and counted in the notes. The times in a
cohort carry this order, not dates.

Diagnoses: ``icd9code`` lists codes of both versions. Procedures: the treatment's path. Medications: drug names, no NDC;
cancelled orders are left out. The number of unit stays is that of Pollard et al. 2018 (doi:10.1038/sdata.2018.178).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kb.normalise import tidy
from recsys.formats.contract import Interner, Ledger, Recorded
from recsys.formats.rows import Coded, VisitReader, Visits, read_codes
from recsys.formats.tables import need_table, stream, together
from recsys.formats.written import order_key
from recsys.orders.codes import icd_of_either_version

COLUMNS = ("patientunitstayid", "uniquepid", "hospitaldischargeyear", "age", "patienthealthsystemstayid",
           "hospitaladmitoffset", "unitvisitnumber")


def diagnosed(row: tuple[str, ...]) -> Coded:
    """The codes of a row (icd9code)."""
    if not row[0]:
        return "no code"
    return icd_of_either_version(row[0]) or "not a code of its system"


def treated(row: tuple[str, ...]) -> Coded:
    """The code of a row (treatmentstring): the path itself, the only code that eICU has for a procedure."""
    text = tidy(row[0].lower())
    return (f"EICU:{text}",) if text else "no code"


def ordered(row: tuple[str, ...]) -> Coded:
    """The medication key of a row (drugname, routeadmin, drugordercancelled)."""
    if row[2].lower() == "yes":
        return "order cancelled"
    key = order_key(names=(row[0],), route=row[1])
    return (key,) if key else "no drug name"


def _number(text: str) -> float:
    """The number in a text; ``> 89`` is 90, no number is 0."""
    digits = text.replace(">", "").strip()
    try:
        return float(digits) + (1 if ">" in text else 0)
    except ValueError:
        return 0.0


def _stays(path: Path, ledger: Ledger) -> tuple[Visits, int]:
    """The unit stays with times that carry their order, and how many have no known place among the others."""
    reader = VisitReader("patient", ledger, Interner())
    keys: dict[str, tuple[float, ...]] = {}
    for _, batch in stream(path, "patient", dict.fromkeys(COLUMNS, True), ledger):
        rows, which = together([batch[name] for name in COLUMNS])
        for row, count in zip(rows, np.bincount(which, minlength=len(rows)), strict=True):
            before = len(reader.visits.numbers)
            reader.add(row[0], row[1], 0 if row[2].isdigit() else None, int(count))
            if len(reader.visits.numbers) > before:
                keys[row[0]] = _number(row[2]), _number(row[3]), _number(row[4]), -_number(row[5]), _number(row[6])
    visits = reader.finish()
    table = np.asarray([keys[stay] for stay in visits.numbers.texts], float).reshape(-1, 5)
    order = np.lexsort((*table.T[::-1], visits.patients))
    same = np.diff(visits.patients[order]) == 0
    alike = same & (np.diff(table[order][:, :2], axis=0) == 0).all(1) & (np.diff(table[order][:, 2]) != 0)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    # A year, then the place among all stays: order is all that these seconds mean.
    years = (table[:, 0] - 1970) * 31_556_952
    return Visits(visits.table, visits.numbers, visits.patients, years.astype(np.int64) + place,
                  visits.patients_in_source), int(alike.sum())


class Eicu:
    """The eICU format."""

    name = "eicu"
    requires: tuple[str, ...] = ("diagnosis", "procedure", "medication")
    published: Mapping[str, Mapping[str, int]] = {"eICU 2.0": {"patient": 200_859}}

    def read(self, root: Path, options: Mapping[str, Any]) -> Recorded:
        """Everything that the export records."""
        ledger = Ledger()
        visits, unordered = _stays(need_table(root, "patient"), ledger)
        stay = "patientunitstayid"
        drug_columns = [("drugname", True), ("routeadmin", False), ("drugordercancelled", True)]
        pairs = {
            "diagnosis": read_codes(need_table(root, "diagnosis"), "diagnosis", stay, [("icd9code", True)],
                                    diagnosed, visits, ledger),
            "procedure": read_codes(need_table(root, "treatment"), "treatment", stay, [("treatmentstring", True)],
                                    treated, visits, ledger),
            "medication": read_codes(need_table(root, "medication"), "medication", stay, drug_columns, ordered,
                                     visits, ledger),
        }
        notes = {"hospital stays of one patient whose order is not known": unordered}
        return Recorded(visits.patients, visits.times, pairs, ledger, visits.table, visits.patients_in_source, notes)


FORMAT = Eicu()
