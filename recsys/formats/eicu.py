"""eICU Collaborative Research Database 2.0: patient, medication, diagnosis, treatment.

A visit is a unit stay. eICU has no calendar but the year of hospital discharge and minutes relative to the unit's
admission, so stays of a patient are ordered by (year of discharge, age at admission, hospital stay, time of unit
admission within the hospital stay, number of the unit visit). Two hospital stays of one patient in the same year and at
the same age have no known order: they are taken in the order of their numbers, and counted in the notes. The times in a
cohort carry this order, not dates; the length of a stay is real.

Diagnoses: ``icd9code`` lists codes of both versions. Procedures: the treatment's path. Medications: drug names, no NDC;
an order without a name is named as other orders of its ``drughiclseqno`` are; cancelled orders are left out. The number
of unit stays is that of Pollard et al. 2018 (doi:10.1038/sdata.2018.178).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb.normalise import tidy
from recsys.formats.contract import (
    ADMISSION,
    ADMITTED_FOR,
    AGE,
    DIED,
    DISCHARGE,
    ETHNICITY,
    HOSPITAL,
    SEX,
    VISIT_TYPE,
    CodePairs,
    Ledger,
    Limits,
    Recorded,
)
from recsys.formats.rows import Coded, Visits, cells, distinct_pairs, read_codes, read_visits, recorded
from recsys.formats.tables import Export, open_export
from recsys.formats.written import NO_DRUG, order_key
from recsys.orders.codes import icd_of_either_version

STAYS = {"patientunitstayid": True, "uniquepid": True, "hospitaldischargeyear": True, "age": True,
         "patienthealthsystemstayid": True, "hospitaladmitoffset": True, "unitvisitnumber": True, "gender": False,
         "ethnicity": False, "hospitalid": False, "hospitaladmitsource": False, "hospitaldischargelocation": False,
         "hospitaldischargestatus": False, "unittype": False, "unitdischargeoffset": False,
         "apacheadmissiondx": False}
YEAR = 31_556_952  # seconds


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
    """The key of a row (drugname, the HICL number, what others call it, routeadmin, drugordercancelled)."""
    name, number, others, route, cancelled = row
    if cancelled.lower() in ("yes", "true", "1"):
        return "order cancelled"
    key = order_key(names=(name or others,), hicl=number, route=route)
    if not key:
        return NO_DRUG
    # A number that no order of the export names leads nowhere by itself.
    return (key,) if name or others else "no drug name, and its HICL number is named nowhere"


def _stays(export: Export) -> tuple[Visits, int]:
    """The unit stays with times that carry their order, and how many have no known place among the others."""
    export.need("patient")
    staged = export.stage(
        "patient", STAYS,
        "whole(s.patientunitstayid) AS id, trim(s.uniquepid) AS patient,"
        " TRY_CAST(whole(s.hospitaldischargeyear) AS SMALLINT)::BIGINT AS year,"
        # '> 89' is 90, no age is 0.
        " coalesce(TRY_CAST(trim(replace(s.age, '>', '')) AS DOUBLE), 0) + CASE WHEN s.age LIKE '%>%' THEN 1 ELSE 0"
        " END AS age, s.age <> '' AS aged, coalesce(TRY_CAST(s.patienthealthsystemstayid AS DOUBLE), 0) AS"
        " hospital_stay, coalesce(-TRY_CAST(s.hospitaladmitoffset AS DOUBLE), 0) AS unit_time,"
        " coalesce(TRY_CAST(s.unitvisitnumber AS DOUBLE), 0) AS turn_number, sex_of(s.gender) AS sex,"
        " said(s.ethnicity) AS ethnicity, said(whole(s.hospitalid)) AS hospital, said(s.hospitaladmitsource) AS source,"
        " said(s.hospitaldischargelocation) AS location, lower(said(s.hospitaldischargestatus)) AS status,"
        " said(s.unittype) AS unittype, lower(said(s.apacheadmissiondx)) AS admitted_for,"
        " TRY_CAST(s.unitdischargeoffset AS INT)::BIGINT * 60 AS length")
    # A year, then the place among all stays: order is all that the seconds of a start mean.
    order = "patient, year, age, hospital_stay, unit_time, turn_number, TRY_CAST(id AS BIGINT), id"
    placed = export.fresh("placed")
    export.run(f"CREATE TEMP TABLE {placed} AS SELECT *, start + CASE WHEN length >= 0 THEN length END AS stop FROM"
               f" (SELECT *, (year - 1970) * {YEAR} + row_number() OVER (ORDER BY {order}) - 1 AS start FROM {staged})")
    unordered = export.count(
        "SELECT count(*) FROM (SELECT hospital_stay, lag(hospital_stay) OVER w AS before FROM (SELECT DISTINCT"
        f" patient, year, age, hospital_stay FROM {placed}) WINDOW w AS (PARTITION BY patient, year, age ORDER BY"
        " hospital_stay)) WHERE before IS NOT NULL")
    attributes = {
        AGE: "CASE WHEN v.aged THEN age_band(v.age) END", SEX: "v.sex", ETHNICITY: "v.ethnicity",
        HOSPITAL: "v.hospital",
        ADMISSION: "v.source", DISCHARGE: "v.location", VISIT_TYPE: "v.unittype",
        ADMITTED_FOR: "v.admitted_for",
        DIED: "CASE v.status WHEN 'expired' THEN 'yes' WHEN 'alive' THEN 'no' END",
    }
    export.drop(staged)
    return read_visits(export, "patient", placed, attributes=attributes, readmission=None), unordered


def _orders(export: Export, visits: Visits) -> CodePairs:
    """The orders; those without a name take the commonest name of their HICL number in the same file."""
    export.need("medication")
    wanted = {"patientunitstayid": True, "drugname": True, "drughiclseqno": False, "routeadmin": False,
              "drugordercancelled": True}
    raw = export.stage("medication", wanted)
    named = export.fresh("named")
    export.run(f"CREATE TEMP TABLE {named} AS SELECT DISTINCT ON (hicl) hicl, name FROM (SELECT whole(drughiclseqno)"
               f" AS hicl, trim(drugname) AS name, count(*) AS times FROM {raw} WHERE said(drugname) IS NOT NULL"
               " AND whole(drughiclseqno) NOT IN ('', '0') GROUP BY ALL) ORDER BY hicl, times DESC, name")
    export.ledger.note("medication", "orders named through their HICL number", export.count(
        f"SELECT count(*) FROM {raw} s JOIN {named} n ON n.hicl = whole(s.drughiclseqno) WHERE said(s.drugname) IS NULL"
        " AND lower(s.drugordercancelled) <> 'yes'"))
    staged = export.fresh("staged")
    row = cells(("drugname", "hicl", "others", "routeadmin", "drugordercancelled"))
    export.run(f"CREATE TEMP TABLE {staged} AS SELECT visit, {row} AS key FROM (SELECT CASE WHEN"
               " whole(s.patientunitstayid) = '' THEN -2 ELSE coalesce(v.number, -1) END AS visit,"
               " coalesce(said(s.drugname), '') AS drugname,"
               " whole(s.drughiclseqno) AS hicl, coalesce(n.name, '') AS others, s.routeadmin, s.drugordercancelled"
               f" FROM {raw} s LEFT JOIN {visits.sql} v ON v.id = whole(s.patientunitstayid)"
               f" LEFT JOIN {named} n ON n.hicl = whole(s.drughiclseqno)) s")
    export.drop(raw, named)
    return distinct_pairs(export, "medication", staged, ordered)


class Eicu:
    """The eICU format."""

    name = "eicu"
    requires: tuple[str, ...] = ("diagnosis", "procedure", "medication")
    published: Mapping[str, Mapping[str, int]] = {"eICU 2.0": {"patient": 200_859}}

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the export records."""
        with open_export(root, limits, Ledger()) as export:
            for table in ("patient", "diagnosis", "treatment", "medication"):
                export.need(table)
            visits, unordered = _stays(export)
            stay = "patientunitstayid"
            pairs = {
                "diagnosis": read_codes(export, "diagnosis", stay, {"icd9code": True}, diagnosed, visits),
                "procedure": read_codes(export, "treatment", stay, {"treatmentstring": True}, treated, visits),
                "medication": _orders(export, visits),
            }
            notes = {"hospital stays of one patient whose order is not known": unordered}
            return recorded(export, visits, pairs, notes)


FORMAT = Eicu()
