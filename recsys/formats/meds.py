"""MEDS 0.3 and 0.4: Parquet files of (subject_id, time, code), as ``data/**/*.parquet``, in one folder, or one file.

A visit is a hospital admission: from the day of its admission event to the discharge that follows, or to the next
admission where none does. Where no event is an admission but the events have a ``visit_id``, a visit is what shares it.
Events outside every visit are counted. Codes are read in both spellings, ``NDC//…`` and ``NDC/…``, with any vocabulary
before them: ICD9CM, ICD10CM, ICD9Proc, ICD10PCS, SNOMED (as diagnoses), CPT4, HCPCS, NDC, RxNorm, ATC, and the texts of
the MIMIC-IV extraction (``MEDICATION//START//<name>``, ``DIAGNOSIS//ICD//<version>//<code>``,
``MIMIC_IV_Drug/<name>``).
Spec: Medical-Event-Data-Standard/meds, DataSchema.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb.duck import identifier
from kb.errors import DataError, NotFound
from recsys.cohorts.cohort import KINDS
from recsys.formats.contract import (
    ADMISSION,
    AGE,
    DIED,
    DISCHARGE,
    RACE,
    SEX,
    CodePairs,
    Ledger,
    Limits,
    Recorded,
)
from recsys.formats.rows import AGE_AT_START, People, Visits, distinct_pairs, read_visits, recorded
from recsys.formats.tables import Export, open_export
from recsys.formats.written import order_key, said
from recsys.orders.codes import DIAGNOSIS, MEDICATION, PROCEDURE, icd, prefixed, system_of

TABLE, ADMISSIONS = "events", "admissions"
OTHER = "another kind of event"
NO_NAME = "no drug name"
NOT_A_CODE = "not a code of its system"
_IN = {"HOSPITAL_ADMISSION", "MIMIC_IV_ADMISSION"}
_OUT = {"HOSPITAL_DISCHARGE", "MIMIC_IV_DISCHARGE_LOCATION"}
_KINDS = {"ICD9CM": DIAGNOSIS, "ICD10CM": DIAGNOSIS, "ICD9PROC": PROCEDURE, "ICD10PCS": PROCEDURE, "SNOMED": DIAGNOSIS,
          "CPT": PROCEDURE, "HCPCS": PROCEDURE}
_DRUGS = {"NDC": "ndc", "RXCUI": "rxcuis", "ATC": "atc"}
_DOMAINS = {"DIAGNOSIS": DIAGNOSIS, "CONDITION": DIAGNOSIS, "PROCEDURE": PROCEDURE, "MEDICATION": MEDICATION,
            "DRUG": MEDICATION}
_VISIT_COLUMNS = ("visit_id", "hadm_id", "visit_occurrence_id", "encounter_id")


def recognise(code: str, kind: str = "") -> tuple[str, str] | str:
    """The kind and our code of a MEDS code, or why it is none of ours; admissions and discharges are kinds too.

    ``kind`` is what an enclosing word said (``PROCEDURE//SNOMED//…``); else the system decides.
    """
    mark = "//" if "//" in code else "/"
    system, _, rest = code.partition(mark)
    parts = rest.split(mark)
    name = system.strip().upper()
    if name in _IN or name in _OUT:
        return ("admission" if name in _IN else "discharge"), rest
    if name in ("DIAGNOSIS", "PROCEDURE") and parts[0] == "ICD" and len(parts) >= 3:
        found = icd(parts[2], parts[1], procedure=name == "PROCEDURE")
        return (name.lower(), found) if found else NOT_A_CODE
    if (name == "MEDICATION" and parts[0] == "START" and len(parts) >= 2) or name == "MIMIC_IV_DRUG":
        text = rest if name == "MIMIC_IV_DRUG" else parts[1] if mark == "//" else rest.partition(mark)[2]
        key = order_key(names=(text,))
        return (MEDICATION, key) if key else NO_NAME
    if name in _DOMAINS and not kind and len(parts) >= 2 and system_of(parts[0]):
        return recognise(rest, _DOMAINS[name])
    known = system_of(name, kind or DIAGNOSIS) or ""
    if known == "DRUG":  # as mkmed writes a drug without another code
        return (MEDICATION, order_key(code=f"DRUG:{rest}")) if said(rest) else NO_NAME
    if known in _KINDS:
        found = prefixed(known, rest)
        return (kind or _KINDS[known], found) if found else NOT_A_CODE
    if known in _DRUGS:
        key = order_key(**{_DRUGS[known]: rest if known == "NDC" else (rest,)})  # type: ignore[arg-type]
        return (MEDICATION, key) if key else NOT_A_CODE
    return OTHER


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    folder = root / "data" if (root / "data").is_dir() else root
    files = sorted(path for path in folder.rglob("*.parquet") if "metadata" not in path.parts)
    if not files:
        raise NotFound(f"{root} has no Parquet files", hint="a MEDS folder holds data/*.parquet")
    return files


def _events(export: Export) -> tuple[str, str]:
    """SQL of every event as (subject, since, code, visit), and the column that tells visits, or nothing."""
    selects: list[str] = []
    visit_columns: set[str] = set()
    for part in export.parts(TABLE):
        source = f"read_parquet({export.link(part.path)})"
        types = {str(row[0]).lower(): (str(row[0]), str(row[1])) for row in export.fetch(f"DESCRIBE SELECT * FROM"
                                                                                         f" {source}")}
        subject = "subject_id" if "subject_id" in types else "patient_id"  # as before MEDS 0.3
        missing = {subject if subject in types else "subject_id", "time", "code"} - set(types)
        if missing:
            raise DataError(f"{part.path.name} has no column {', '.join(sorted(missing))}",
                            hint="MEDS data has subject_id, time and code")
        kind = types["time"][1]
        if not kind.startswith(("TIMESTAMP", "DATE")):
            raise DataError(f"{part.path.name}: its times are {kind}, MEDS wants timestamps",
                            hint="write the column as timestamp[us], e.g. pandas.to_datetime(table['time']); a text"
                                 " such as 01/02/2150 has two meanings")
        visit = next((column for column in _VISIT_COLUMNS if column in types), "")
        visit_columns.add(visit)
        chosen = f"CAST({identifier(types[visit][0])} AS VARCHAR)" if visit else "NULL"
        name = {key: identifier(value[0]) for key, value in types.items()}
        selects.append(f"SELECT TRY_CAST({name[subject]} AS BIGINT) AS subject, CAST(floor(epoch({name['time']})) AS"
                       f" BIGINT) AS since, CAST({name['code']} AS VARCHAR) AS code, {chosen} AS visit FROM {source}")
    return " UNION ALL ".join(selects), visit_columns.pop() if len(visit_columns) == 1 else ""


def _admissions(export: Export, ours: str) -> str:
    """Admissions with ``number`` in the order of (subject, start), their end, and what their events say."""
    name = export.fresh("admission")
    event = f"SELECT subject, since, min(text) AS text FROM {ours} WHERE role = '{{}}' GROUP BY subject, since"
    out = f"({event.format('discharge')})"
    export.run(
        f"CREATE TEMP TABLE {name} AS WITH opened AS (SELECT a.subject, a.since AS start, a.text, d.since AS first,"
        f" d.text AS first_text, e.since AS second, e.text AS second_text FROM ({event.format('admission')}) a"
        f" ASOF LEFT JOIN {out} d ON d.subject = a.subject AND d.since >= a.since"
        f" ASOF LEFT JOIN {out} e ON e.subject = a.subject AND e.since > a.since),"
        # A discharge of the very second in which the next admission begins closes the one before.
        " turned AS (SELECT *, lag(first) OVER w IS NOT DISTINCT FROM start AND first = start AS shared,"
        " lead(start) OVER w AS following FROM opened WINDOW w AS (PARTITION BY subject ORDER BY start))"
        " SELECT CAST(row_number() OVER (ORDER BY subject, start) - 1 AS INT) AS number, subject, start, text,"
        " CASE WHEN shared THEN second ELSE first END AS out, CASE WHEN shared THEN second_text ELSE first_text END"
        " AS out_text, least(coalesce(CASE WHEN shared THEN second ELSE first END, following), coalesce(following,"
        " CASE WHEN shared THEN second ELSE first END)) AS stop FROM turned")
    return name


class Meds:
    """The MEDS format."""

    name = "meds"
    requires: tuple[str, ...] = ("diagnosis", "procedure", "medication")
    published: Mapping[str, Mapping[str, int]] = {}

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the events record."""
        with open_export(root, limits, Ledger()) as export:
            export.adopt(TABLE, _files(root))
            events, visit_column = _events(export)
            ours = _take(export, events)
            if export.count(f"SELECT count(*) FROM {ours} WHERE role = 'admission'"):
                staged, where = self._by_admission(export, ours)
            elif visit_column:
                staged, where = self._by_column(export, ours)
            else:
                raise DataError(f"{root.name} has no event that begins a visit", hint="MEDS needs"
                                                                                      " HOSPITAL_ADMISSION//… "
                                "events, or a column visit_id")
            subjects = export.count(f"SELECT count(DISTINCT subject) FROM ({events}) WHERE subject IS NOT NULL")
            export.ledger.read("subjects", subjects)
            visits = read_visits(export, ADMISSIONS, staged, *_static(export, events))
            pairs = {kind: _pairs(export, ours, where, kind, visits) for kind in KINDS}
            return recorded(export, visits, pairs)

    def _by_admission(self, export: Export, ours: str) -> tuple[str, str]:
        """The visits of admission events, and SQL of (row, visit identifier) of the events inside them."""
        admission = _admissions(export, ours)
        listed = export.count(f"SELECT count(*) FROM {ours} WHERE role = 'admission'")
        distinct = export.count(f"SELECT count(*) FROM {admission}")
        export.ledger.read(ADMISSIONS, listed)
        export.ledger.lose(ADMISSIONS, "visit listed again", listed - distinct)
        staged = export.fresh("staged")
        export.run(f"CREATE TEMP TABLE {staged} AS SELECT CAST(number AS VARCHAR) AS id, CAST(subject AS VARCHAR) AS"
                   " patient, start, out AS stop, said(split_part(text, '//', 1)) AS admitted,"
                   f" said(split_part(out_text, '//', 1)) AS discharged FROM {admission}")
        # The admission that an event lies in; else one that begins later on its day. A diagnosis of the second in which
        # one admission ends and the next begins was coded at the end of the first.
        where = (
            "SELECT e.rowid AS row, CASE WHEN e.role = 'diagnosis' AND e.since = a.start AND a.before = e.since"
            " THEN a.number - 1 WHEN a.number IS NOT NULL AND (a.stop IS NULL OR e.since <= a.stop) THEN a.number"
            f" WHEN b.start - b.start % 86400 <= e.since THEN b.number END AS visit FROM (SELECT rowid, * FROM"
            f" {ours}) e ASOF LEFT JOIN (SELECT *, lag(out) OVER (PARTITION BY subject ORDER BY start) AS before FROM"
            f" {admission}) a ON a.subject = e.subject AND e.since >= a.start ASOF LEFT JOIN {admission} b"
            " ON b.subject = e.subject AND e.since < b.start")
        return staged, f"SELECT row, CAST(visit AS VARCHAR) AS visit FROM ({where}) WHERE visit IS NOT NULL"

    def _by_column(self, export: Export, ours: str) -> tuple[str, str]:
        """The visits of a column of the events: each from its first event to its last."""
        staged = export.fresh("staged")
        export.run(f"CREATE TEMP TABLE {staged} AS SELECT subject || ' ' || visit AS id, CAST(subject AS VARCHAR) AS"
                   " patient, min(since) AS start, max(since) AS stop, NULL::VARCHAR AS admitted, NULL::VARCHAR AS"
                   f" discharged FROM {ours} WHERE visit IS NOT NULL GROUP BY subject, visit")
        export.ledger.read(ADMISSIONS, export.count(f"SELECT count(*) FROM {staged}"))
        return staged, f"SELECT rowid AS row, subject || ' ' || visit AS visit FROM {ours} WHERE visit IS NOT NULL"


def _take(export: Export, events: str) -> str:
    """The events of ours: ``subject``, ``since``, ``visit``, ``role``, ``text``; all others are counted."""
    ledger = export.ledger
    ledger.read(TABLE, export.count(f"SELECT count(*) FROM ({events})"))
    missing = ("CASE WHEN subject IS NULL THEN 'no subject' WHEN since IS NULL THEN 'no time' WHEN code IS NULL THEN"
               " 'no code' END")
    codes = export.fetch(f"SELECT {missing} AS why, CASE WHEN {missing} IS NULL THEN code END, count(*) FROM ({events})"
                         " GROUP BY ALL")
    known: list[tuple[str, str, str]] = []
    for why, code, rows in codes:
        found = why or recognise(code)
        if isinstance(found, str):
            ledger.lose(TABLE, found, rows)
            continue
        if found[0] not in KINDS:  # admissions and discharges are kept as visits
            ledger.lose(TABLE, OTHER, rows)
        known.append((code, *found))
    table = export.load(("code", "role", "text"), known)
    ours = export.fresh("ours")
    export.run(f"CREATE TEMP TABLE {ours} AS SELECT e.subject, e.since, e.visit, k.role, k.text FROM ({events}) e"
               f" JOIN {table} k USING (code) WHERE e.subject IS NOT NULL AND e.since IS NOT NULL")
    export.drop(table)
    return ours


def _static(export: Export, events: str) -> tuple[People, dict[str, str]]:
    """The subjects with sex, race, birth and death as their events say, and the attributes made of them."""
    name = export.fresh("people")
    text = "regexp_extract(code, '^[^/]+/+(.+)$', 1)"
    export.run(
        f"CREATE TEMP TABLE {name} AS SELECT CAST(subject AS VARCHAR) AS id,"
        f" min(CASE WHEN regexp_matches(code, '^(GENDER|SEX|MIMIC_IV_Gender)/') THEN sex_of({text}) END) AS sex,"
        f" min(CASE WHEN regexp_matches(code, '^(RACE|MIMIC_IV_Race)/') THEN said({text}) END) AS race,"
        " min(CASE WHEN code = 'MEDS_BIRTH' THEN since END) AS birth,"
        " min(CASE WHEN code = 'MEDS_DEATH' THEN since END) AS death"
        f" FROM ({events}) WHERE subject IS NOT NULL AND code IS NOT NULL AND"
        " regexp_matches(code, '^(GENDER|SEX|RACE|MIMIC_IV_Gender|MIMIC_IV_Race)/|^MEDS_(BIRTH|DEATH)$') GROUP BY"
        " subject")
    return People(name), {
        ADMISSION: "v.admitted", DISCHARGE: "v.discharged", SEX: "p.sex", RACE: "p.race",
        AGE: AGE_AT_START,
        DIED: "CASE WHEN upper(v.discharged) IN ('DIED', 'EXPIRED', 'DEAD/EXPIRED', 'HOSPICE-EXPIRED') OR p.death"
              " BETWEEN v.start"
              " AND v.stop THEN 'yes' WHEN v.stop IS NOT NULL THEN 'no' END"}


def _pairs(export: Export, ours: str, where: str, kind: str, visits: Visits) -> CodePairs:
    staged = export.fresh("staged")
    export.run(f"CREATE TEMP TABLE {staged} AS SELECT coalesce(v.number, -1) AS visit, e.text AS key FROM"
               f" (SELECT rowid, * FROM {ours} WHERE role = '{kind}') e LEFT JOIN ({where}) w ON w.row = e.rowid"
               f" LEFT JOIN {visits.sql} v ON v.id = w.visit")
    return distinct_pairs(export, TABLE, staged, lambda row: row, lost={-1: "outside every admission"})


FORMAT = Meds()
