"""Synthea's CSV export: patients, encounters, conditions, procedures, medications, with old and new headers.

A visit is an encounter. Conditions and procedures are SNOMED CT codes, medications RxNorm codes with a description.
Few encounters record all three, so by default a visit needs a diagnosis and a medication. Until 2018 Synthea wrote
``ID`` and whole days (``DATE``), and patients' ``birthdate``; both are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.formats.contract import AGE, DIED, ETHNICITY, RACE, SEX, VISIT_TYPE, Ledger, Limits, Recorded
from recsys.formats.mimic3 import one_code
from recsys.formats.rows import (
    AGE_AT_START,
    NO_PEOPLE,
    Coded,
    Listing,
    People,
    Visits,
    read_codes,
    read_people,
    read_visits,
    recorded,
)
from recsys.formats.tables import Export, open_export
from recsys.formats.written import NO_DRUG, order_key

FOLDERS = ("", "csv", "output/csv")


def ordered(row: tuple[str, ...]) -> Coded:
    """The key of a row (code, description)."""
    key = order_key(rxcuis=(row[0],), names=(row[1],))
    return (key,) if key else NO_DRUG


def _people(export: Export) -> People:
    if not export.has("patients"):
        return NO_PEOPLE
    wanted = {"id": True, "birthdate": False, "deathdate": False, "race": False, "ethnicity": False, "gender": False}
    staged = export.stage("patients", wanted, "trim(s.id) AS id, moment(s.birthdate) AS birth, moment(s.deathdate)"
                                              " AS death,"
                          " said(s.race) AS race, said(s.ethnicity) AS ethnicity, sex_of(s.gender) AS sex")
    return read_people(export, "patients", staged)


def _encounters(export: Export, people: People) -> Visits:
    start = "start" if "start" in export.columns("encounters") else "date"
    wanted = {"id": True, "patient": True, start: True, "stop": False, "encounterclass": False}
    listed = Listing("encounters", wanted, f"trim(s.id) AS id, trim(s.patient) AS patient, moment(s.{start}) AS"
                                                f" start,"
                          " moment(s.stop) AS stop, lower(said(s.encounterclass)) AS kind")
    attributes = {VISIT_TYPE: "v.kind"}
    if people.sql:
        attributes |= {AGE: AGE_AT_START, SEX: "p.sex", RACE: "p.race",
                       ETHNICITY: "p.ethnicity",
                       DIED: "CASE WHEN v.kind = 'inpatient' THEN CASE WHEN p.death BETWEEN v.start AND v.stop + 86400"
                             " THEN 'yes' ELSE 'no' END END"}
    return read_visits(export, "encounters", listed, people, attributes, readmission="coalesce(v.kind = 'inpatient',"
                                                                                     " false)")


class Synthea:
    """The Synthea format."""

    name = "synthea"
    requires: tuple[str, ...] = ("diagnosis", "medication")
    published: Mapping[str, Mapping[str, int]] = {}

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the export records."""
        with open_export(root, limits, Ledger(), FOLDERS) as export:
            for table in ("encounters", "conditions", "medications"):
                export.need(table)
            visits = _encounters(export, _people(export))
            snomed, code = one_code("SNOMED"), {"code": True}
            pairs = {
                "diagnosis": read_codes(export, "conditions", "encounter", code, snomed, visits),
                "procedure": read_codes(export, "procedures", "encounter", code, snomed, visits),
                "medication": read_codes(export, "medications", "encounter", {"code": True, "description": False},
                                         ordered, visits),
            }
            return recorded(export, visits, pairs)


FORMAT = Synthea()
