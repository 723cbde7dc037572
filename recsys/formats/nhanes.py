"""NHANES: prescription medications (RXQ_RX) and demographics (DEMO) of one survey cycle, as CSV.

A visit is a person's interview: there is one, so a cohort needs ``--min-visits 1``, and its time means nothing. Orders
are generic names, several joined by ``;`` for a combination; 55555, 77777 and 99999 stand for names that are not known.
Diagnoses are the ICD-10-CM reasons of the drugs; NCHS's own ``I21.P`` ("to prevent …") are no ICD-10-CM codes and are
counted. Documentation: wwwn.cdc.gov/nchs, RXQ_RX.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.formats.contract import AGE, RACE, SEX, Ledger, Limits, Recorded
from recsys.formats.rows import NO_PEOPLE, Coded, distinct_pairs, read_people, read_visits, recorded
from recsys.formats.tables import open_export
from recsys.formats.written import order_key
from recsys.orders.codes import prefixed

DRUGS = ("medications", *(f"rxq_rx_{cycle}" for cycle in "bcdefghijl"), "p_rxq_rx")
PEOPLE = ("demographic", *(f"demo_{cycle}" for cycle in "bcdefghijl"), "p_demo")
REASONS = ("rxdrsc1", "rxdrsc2", "rxdrsc3")
SENTINELS = ("55555", "77777", "99999")
INTERVIEWED = "1356998400"  # 2013; all interviews are one time


def diagnosed(row: tuple[str, ...]) -> Coded:
    """The code of a reason."""
    if row[0] in ("", *SENTINELS):
        return "no code"
    found = prefixed("ICD10CM", row[0])
    return (found,) if found else "not a code of its system"


def ordered(row: tuple[str, ...]) -> Coded:
    """The key of a drug's name."""
    key = "" if row[0] in SENTINELS else order_key(names=(row[0],))
    return (key,) if key else "no drug name"


class Nhanes:
    """The NHANES format."""

    name = "nhanes"
    requires: tuple[str, ...] = ("diagnosis", "medication")
    published: Mapping[str, Mapping[str, int]] = {}

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the two files record."""
        with open_export(root, limits, Ledger()) as export:
            table = next((name for name in DRUGS if export.has(name)), DRUGS[0])
            export.need(table)
            raw = export.stage(table, dict.fromkeys(("seqn", "rxddrug", *REASONS), True))
            people, attributes = NO_PEOPLE, {}
            listed = next((name for name in PEOPLE if export.has(name)), None)
            if listed:
                staged = export.stage(
                    listed, {"seqn": True, "riagendr": False, "ridageyr": False, "ridreth1": False, "ridreth3": False},
                    "whole(s.seqn) AS id, CASE whole(s.riagendr) WHEN '1' THEN 'male' WHEN '2' THEN 'female' END AS"
                    " sex,"
                    # Ages from 80 on are one value in the file.
                    " CASE WHEN TRY_CAST(s.ridageyr AS DOUBLE) >= 80 THEN '80+' ELSE age_band(TRY_CAST(s.ridageyr AS"
                    " DOUBLE)) END AS age, CASE coalesce(said(whole(s.ridreth3)), whole(s.ridreth1)) WHEN '1' THEN"
                    " 'Mexican American' WHEN '2' THEN 'Other Hispanic' WHEN '3' THEN 'Non-Hispanic White' WHEN '4'"
                    " THEN 'Non-Hispanic Black' WHEN '6' THEN 'Non-Hispanic Asian' WHEN '' THEN NULL ELSE 'Other'"
                    " END AS race")
                people = read_people(export, "person", staged)
                export.ledger.rows["person"] = export.ledger.rows.pop(listed)
                attributes = {SEX: "p.sex", AGE: "p.age", RACE: "p.race"}
            persons = export.fresh("persons")
            export.run(f"CREATE TEMP TABLE {persons} AS SELECT DISTINCT whole(seqn) AS id, whole(seqn) AS patient,"
                       f" {INTERVIEWED}::BIGINT AS start, NULL::BIGINT AS stop FROM {raw} WHERE whole(seqn) <> ''")
            export.ledger.read("interviews", export.count(f"SELECT count(*) FROM {persons}"))
            visits = read_visits(export, "interviews", persons, people, attributes, readmission=None)
            place = f"LEFT JOIN {visits.sql} v ON v.id = whole(s.seqn)"
            where = "CASE WHEN whole(s.seqn) = '' THEN -2 ELSE coalesce(v.number, -1) END AS visit"
            drugs, reasons = export.fresh("drugs"), export.fresh("reasons")
            export.run(f"CREATE TEMP TABLE {drugs} AS SELECT {where}, s.rxddrug AS key FROM {raw} s {place}")
            export.run(f"CREATE TEMP TABLE {reasons} AS SELECT {where}, s.value AS key FROM (UNPIVOT {raw} ON"
                       f" {', '.join(REASONS)} INTO NAME name VALUE value) s {place}")
            export.ledger.read("reasons", export.count(f"SELECT count(*) FROM {reasons}"))
            pairs = {"medication": distinct_pairs(export, table, drugs, ordered),
                     "diagnosis": distinct_pairs(export, "reasons", reasons, diagnosed)}
            return recorded(export, visits, pairs)


FORMAT = Nhanes()
