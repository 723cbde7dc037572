"""MIMIC-III 1.4: PRESCRIPTIONS, DIAGNOSES_ICD, PROCEDURES_ICD, ADMISSIONS and, where there, PATIENTS.

A visit is a hospital admission, ordered by ``admittime`` (``hadm_id`` is random). Diagnoses are ICD-9-CM, procedures
ICD-9 procedure codes. An order carries NDC (``0`` is no drug), GSN, the names, route, form, DRUG_TYPE and strength.
Ages
over 89 are shifted to 300 in the source: one band. Row counts: MIT-LCP/mimic-code, ``buildmimic``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recsys.formats.contract import ADMISSION, ADMITTED_FOR, AGE, DIED, DISCHARGE, RACE, SEX, Ledger, Limits, Recorded
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
from recsys.orders.codes import prefixed

NOT_A_CODE = "not a code of its system"
DRUGS = {"ndc": False, "gsn": False, "drug": True, "drug_name_poe": False, "drug_name_generic": False, "route": False,
         "form_rx": False, "form_unit_disp": False, "drug_type": False, "prod_strength": False}


def one_code(system: str) -> Callable[[tuple[str, ...]], Coded]:
    """A coder for a table with one code a row."""

    def code(row: tuple[str, ...]) -> Coded:
        if not row[0]:
            return "no code"
        found = prefixed(system, row[0])
        return (found,) if found else NOT_A_CODE

    return code


def ordered(row: tuple[str, ...]) -> Coded:
    """The key of a prescription, a row of ``DRUGS``."""
    ndc, gsn, drug, entered, generic, route, form, dispensed, kind, strength = row
    key = order_key(ndc=ndc, gsn=gsn, names=(drug, entered, generic), route=route, form=dispensed or form, kind=kind,
                    strength=strength)
    return (key,) if key else NO_DRUG


def read_patients(export: Export) -> People:
    """The patients of MIMIC, where the export lists them."""
    if not export.has("patients"):
        return NO_PEOPLE
    wanted = {"subject_id": True, "gender": False, "dob": False, "anchor_age": False, "anchor_year": False}
    staged = export.stage("patients", wanted, "whole(s.subject_id) AS id, sex_of(s.gender) AS sex,"
                          " moment(s.dob) AS birth, TRY_CAST(s.anchor_age AS INT) AS anchor_age,"
                          " TRY_CAST(s.anchor_year AS INT) AS anchor_year")
    return read_people(export, "patients", staged)


def read_admissions(export: Export, people: People, age: str) -> Visits:
    """The admissions of MIMIC; ``age`` is SQL over ``v`` (an admission) and ``p`` (a patient)."""
    export.need("admissions")
    wanted = {"hadm_id": True, "subject_id": True, "admittime": True, "dischtime": False, "deathtime": False,
              "admission_type": False, "discharge_location": False, "hospital_expire_flag": False, "ethnicity": False,
              "race": False, "diagnosis": False}
    alive = "'no'" if "deathtime" in export.columns("admissions") else "NULL"
    # MIMIC-III calls it ethnicity, MIMIC-IV race; both hold both.
    listed = Listing("admissions", wanted, "whole(s.hadm_id) AS id, whole(s.subject_id) AS patient,"
                          " moment(s.admittime) AS start, moment(s.dischtime) AS stop, year_of(s.admittime) AS year,"
                          " said(s.admission_type) AS admission, said(s.discharge_location) AS discharged,"
                          " coalesce(said(s.race), said(s.ethnicity)) AS race,"
                          " lower(said(s.diagnosis)) AS admitted_for, CASE WHEN"
                          " whole(s.hospital_expire_flag) = '1' OR moment(s.deathtime) IS NOT NULL THEN 'yes' WHEN"
                          " whole(s.hospital_expire_flag) = '0' THEN 'no'"
                          f" ELSE {alive} END AS died", ("hadm_id", "subject_id"))
    attributes = {ADMISSION: "v.admission", DISCHARGE: "v.discharged", RACE: "v.race", DIED: "v.died",
                  ADMITTED_FOR: "v.admitted_for"}
    if people.sql:
        attributes |= {SEX: "p.sex", AGE: age}
    return read_visits(export, "admissions", listed, people, attributes)


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

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the export records."""
        with open_export(root, limits, Ledger()) as export:
            for table in ("admissions", "diagnoses_icd", "procedures_icd", "prescriptions"):
                export.need(table)
            visits = read_admissions(export, read_patients(export), AGE_AT_START)
            icd = {"icd9_code": True}
            pairs = {
                "diagnosis": read_codes(export, "diagnoses_icd", "hadm_id", icd, one_code("ICD9CM"), visits),
                "procedure": read_codes(export, "procedures_icd", "hadm_id", icd, one_code("ICD9PROC"), visits),
                "medication": read_codes(export, "prescriptions", "hadm_id", DRUGS | {"ndc": True}, ordered, visits),
            }
            return recorded(export, visits, pairs)


FORMAT = Mimic3()
