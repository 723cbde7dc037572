"""OMOP CDM 5.3 and 5.4: visit_occurrence, condition_occurrence, procedure_occurrence, drug_exposure, concept, and where
there person, death and concept_ancestor, each as CSV, Parquet or shards, or all in one DuckDB file. The vocabulary
tables
may be Athena's: tab-separated, without quoting.

A visit is a ``visit_occurrence_id``. One that events name but ``visit_occurrence`` does not have becomes a visit at its
earliest event (extracts such as Eunomia's hold few visit rows). An event without a visit id goes to the visit that
spans
its date, the one that began last. A person of whom no visit is known at all gets one for each run of days with events.
All three are counted in the notes.

Conditions and procedures are the standard concept's own code (``SNOMED:…``), or the source concept's where the standard
one is 0. An order carries the ATC classes above its concept, RxNorm (the drug and its ingredients), the concept's name,
its route, and the NDC where the source value or source concept is one. Spec: OHDSI CommonDataModel v5.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kb.duck import literal
from kb.errors import NotFound, UsageError
from kb.normalise import normalise_ndc
from recsys.formats.contract import (
    ADMISSION,
    AGE,
    DIED,
    DISCHARGE,
    ETHNICITY,
    RACE,
    SEX,
    VISIT_TYPE,
    Int64,
    Ledger,
    Limits,
    Recorded,
)
from recsys.formats.rows import (
    AGE_AT_START,
    NO_PEOPLE,
    NO_VISIT,
    STRANGE_VISIT,
    Coded,
    Collected,
    Listing,
    People,
    TextIdentifiers,
    VisitRows,
    Visits,
    as_arrow,
    numbered,
    places,
    ranks_among,
    read_people,
    read_visits,
    recorded,
)
from recsys.formats.tables import Export, open_export
from recsys.formats.written import order_key, said
from recsys.orders.codes import prefixed

VISITS = "visit_occurrence"
NOTES = ("visits that only events name", "visits made of days with events")
UNMAPPED = "concept 0: not mapped in the source"
NOWHERE = "no visit identifier, and no visit of the patient spans its date"

VISIT_TYPES = {
    "9201": "inpatient", "262": "emergency and inpatient", "9203": "emergency", "9202": "outpatient",
    "581477": "office",
    "5083": "telehealth", "32036": "laboratory", "581458": "pharmacy", "581476": "home", "32037": "intensive care",
    "42898160": "non-hospital institution", "8756": "outpatient hospital", "8717": "inpatient", "38004515": "hospital",
}
INPATIENT = ("inpatient", "emergency and inpatient", "intensive care", "hospital")
RACES = {"8527": "White", "8516": "Black or African American", "8515": "Asian", "8657": "American Indian or Alaska"
                                                                                        " Native",
         "8557": "Native Hawaiian or Other Pacific Islander"}
ETHNICITIES = {"38003563": "Hispanic or Latino", "38003564": "Not Hispanic or Latino"}


@dataclass(frozen=True)
class Event:
    """A table of events: the columns of its day, its concept, and what else of a row its code depends on."""

    table: str
    day: str
    columns: tuple[str, ...]


EVENTS = {
    "diagnosis": Event("condition_occurrence", "condition_start_date",
                       ("condition_concept_id", "condition_source_concept_id")),
    "procedure": Event("procedure_occurrence", "procedure_date",
                       ("procedure_concept_id", "procedure_source_concept_id")),
    "medication": Event("drug_exposure", "drug_exposure_start_date",
                        ("drug_concept_id", "drug_source_concept_id", "route_concept_id", "drug_source_value",
                         "route_source_value")),
}


def _cases(of: str, names: Mapping[str, str]) -> str:
    """SQL that names a concept id; ``OMOP:<id>`` for one without a name here, NULL for 0."""
    cases = " ".join(f"WHEN {literal(number)} THEN {literal(name)}" for number, name in names.items())
    cases += " WHEN '0' THEN NULL WHEN '' THEN NULL"
    return f"CASE {of} {cases} ELSE CASE whole({of}) {cases} ELSE 'OMOP:' || whole({of}) END END"


def _known(number: str) -> bool:
    return number not in ("", "0")


@dataclass
class _Vocabulary:
    """What the concept tables say of the concepts that occur."""

    codes: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # id -> vocabulary, code, name
    above: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # drug concept -> (system, code)

    def code(self, row: tuple[str, ...]) -> Coded:
        """The prefixed code of a condition or procedure, or ``OMOP:<id>`` where the concept table lacks it."""
        concept, source = (said(text).removesuffix(".0") for text in row)
        if not _known(concept) and source not in self.codes:
            return UNMAPPED
        number = concept if _known(concept) else source
        vocabulary, code, _ = self.codes.get(number, ("", "", ""))
        return ((prefixed(vocabulary.upper(), code) if vocabulary else None) or f"OMOP:{number}",)

    def medication(self, row: tuple[str, ...]) -> Coded:
        """The key of a drug exposure, a row of its event's columns."""
        concept, source, route, value, route_text = (said(text).removesuffix(".0") for text in row)
        mapped = _known(concept)
        vocabulary, code, name = self.codes.get(concept if mapped else source, ("", "", ""))
        above = self.above.get(concept, []) if mapped else []
        rxcuis = [code] if vocabulary.startswith("RxNorm") else []
        rxcuis += [code for system, code in above if system == "RXCUI"]
        ndc = _source_ndc(value, mapped) or (code if vocabulary == "NDC" else "")
        if not mapped and not ndc:
            ndc = self.codes[source][1] if self.codes.get(source, ("",))[0] == "NDC" else ""
        # The words of the source are a name only where no concept has one.
        words = value if not name and len(re.findall(r"[^\W\d_]", value)) > 3 else ""
        key = order_key(
            atc=[code for system, code in above if system == "ATC"] + ([code] if vocabulary == "ATC" else []),
            ndc=ndc, rxcuis=rxcuis, names=(name, words), code=f"OMOP:{concept}" if mapped and not name else "",
            route=self.codes.get(route, ("", "", ""))[2] or route_text)
        return (key,) if key else UNMAPPED


def _source_ndc(value: str, mapped: bool) -> str:
    """The NDC that a source value is. Beside a concept only a full one counts, other short numbers being RxNorm's."""
    if mapped and not re.fullmatch(r"\d{11}|\d{4,5}-\d{3,4}-\d{1,2}", value):
        return ""
    if not mapped and len(re.sub(r"\D", "", value)) < 9:
        return ""
    return normalise_ndc(value) or ""


def _vocabulary(export: Export, collected: Mapping[str, Collected]) -> _Vocabulary:
    """The concepts that occur in the events, and the ATC classes and ingredients above the drugs."""
    needed: set[str] = set()
    drugs: set[str] = set()
    for kind, rows in collected.items():
        width = 3 if kind == "medication" else 2
        for row in rows.cells():
            concepts = [cell.removesuffix(".0") for cell in row[:width]]
            needed.update(concepts)
            if kind == "medication":
                drugs.add(concepts[0])
    if not export.has("concept"):
        return _Vocabulary()
    wanted = export.load(("id",), ([number] for number in sorted(filter(_known, needed))))
    columns = ("concept_id", "concept_name", "vocabulary_id", "concept_class_id", "concept_code")
    atc = "s.vocabulary_id = 'ATC' AND s.concept_class_id = 'ATC 5th'"
    ingredient = "s.vocabulary_id = 'RxNorm' AND s.concept_class_id = 'Ingredient'"
    concept = export.stage(
        "concept", dict.fromkeys(columns, True),
        "whole(s.concept_id) AS id, s.concept_name AS name, s.vocabulary_id AS vocabulary, trim(s.concept_code) AS"
        f" code, CASE WHEN {atc} THEN 'ATC' WHEN {ingredient} THEN 'RXCUI' END AS target",
        where=f"whole(s.concept_id) IN (SELECT id FROM {wanted}) OR ({atc}) OR ({ingredient})")
    found = _Vocabulary()
    for number, vocabulary, code, name in export.fetch(
            f"SELECT id, vocabulary, code, name FROM {concept} WHERE id IN (SELECT id FROM {wanted})"):
        found.codes[number] = (vocabulary.strip(), code, name)
    if export.has("concept_ancestor") and drugs:
        below = export.load(("id",), ([number] for number in sorted(filter(_known, drugs))))
        pairs = export.stage(
            "concept_ancestor", {"ancestor_concept_id": True, "descendant_concept_id": True},
            "whole(s.descendant_concept_id) AS drug, whole(s.ancestor_concept_id) AS above",
            where=f"whole(s.descendant_concept_id) IN (SELECT id FROM {below})"
                  f" AND whole(s.ancestor_concept_id) IN (SELECT id FROM {concept} WHERE target IS NOT NULL)")
        for drug, system, code in export.fetch(
                f"SELECT DISTINCT p.drug, c.target, c.code FROM {pairs} p JOIN {concept} c ON c.id = p.above ORDER"
                f" BY ALL"):
            found.above.setdefault(drug, []).append((system, code))
        export.drop(below, pairs)
    export.drop(wanted, concept)
    export.ledger.note("concept", "concepts of events that the concept table lacks",
                       len(set(filter(_known, needed)) - set(found.codes)))
    return found


def _people(export: Export) -> People:
    """The persons, and the day of their death where the export has it."""
    if not export.has("person"):
        return NO_PEOPLE
    wanted = {"person_id": True, **dict.fromkeys((
        "gender_concept_id", "gender_source_value", "year_of_birth", "birth_datetime", "race_concept_id",
        "race_source_value", "ethnicity_concept_id", "ethnicity_source_value"), False)}
    staged = export.stage(
        "person", wanted, "whole(s.person_id) AS id, coalesce(moment(s.birth_datetime),"
        " epoch(make_date(year_of(s.year_of_birth), 7, 1))::BIGINT) AS birth,"
        " CASE whole(s.gender_concept_id) WHEN '8507' THEN 'male' WHEN '8532' THEN 'female' ELSE"
        " sex_of(s.gender_source_value) END AS sex,"
        f" coalesce(said(s.race_source_value), {_cases('s.race_concept_id', RACES)}) AS race,"
        f" coalesce(said(s.ethnicity_source_value), {_cases('s.ethnicity_concept_id', ETHNICITIES)}) AS ethnicity")
    people = read_people(export, "person", staged)
    if not {"person_id", "death_date"} <= export.columns("death"):
        return people
    dead = export.stage("death", {"person_id": True, "death_date": True},
                        "whole(s.person_id) AS id, moment(s.death_date) AS day", where="true")
    name = export.fresh("people")
    export.run(f"CREATE TEMP TABLE {name} AS SELECT p.*, d.day AS death FROM {people.sql} p LEFT JOIN (SELECT id,"
               f" min(day) AS day FROM {dead} GROUP BY id) d USING (id)")
    export.drop(people.sql, dead)
    return People(name, ("death",))


VISIT = "CASE WHEN whole(s.visit_occurrence_id) = '0' THEN '' ELSE whole(s.visit_occurrence_id) END"
LISTED = Listing(
    VISITS,
    {"visit_occurrence_id": True, "person_id": True, "visit_start_date": True, **dict.fromkeys((
        "visit_start_datetime", "visit_end_date", "visit_end_datetime", "visit_concept_id",
        "discharged_to_source_value", "discharge_to_source_value", "discharged_to_concept_id",
        "discharge_to_concept_id", "admitted_from_source_value", "admitting_source_value"), False)},
    "whole(s.visit_occurrence_id) AS id, whole(s.person_id) AS patient,"
    " coalesce(moment(s.visit_start_datetime), moment(s.visit_start_date)) AS start,"
    # A visit that ends on a day without an hour ends with that day.
    " coalesce(moment(s.visit_end_datetime), moment(s.visit_end_date) + 86399) AS stop,"
    f" {_cases('s.visit_concept_id', VISIT_TYPES)} AS kind,"
    " coalesce(said(s.discharged_to_source_value), said(s.discharge_to_source_value),"
    f" {_cases('s.discharged_to_concept_id', {})}, {_cases('s.discharge_to_concept_id', {})}) AS discharged,"
    " coalesce(said(s.admitted_from_source_value), said(s.admitting_source_value)) AS admitted",
    ("visit_occurrence_id", "person_id"),
    ("visit_concept_id", "discharged_to_source_value", "discharge_to_source_value", "discharged_to_concept_id",
     "discharge_to_concept_id", "admitted_from_source_value", "admitting_source_value"))


@dataclass(frozen=True)
class _Events:
    """The events of each kind: those of known visits, and tables of the others."""

    collected: dict[str, Collected]
    others: dict[str, str]
    """Temporary tables of the events whose visit is not listed: ``visit`` (an identifier or empty), ``person``,
    ``since`` (seconds), and the columns of the kind."""


def _wanted(event: Event) -> dict[str, bool]:
    columns = {name: i == 0 for i, name in enumerate(event.columns)}
    return {"person_id": True, event.day: True, "visit_occurrence_id": False, **columns}


def _stage(export: Export, event: Event, where: str = "") -> str:
    """A table of events, all or with ``where`` some of them."""
    columns = ", ".join(f"s.{name}" for name in event.columns)
    return export.stage(event.table, _wanted(event), f"{VISIT} AS visit, whole(s.person_id) AS person,"
                        f" moment(s.{event.day}) AS since, {columns}", where=where)


def _collected(export: Export, event: Event) -> Collected:
    return Collected(export, event.table, {NO_VISIT: NOWHERE}, columns=event.columns)


def _read_events(export: Export, keys: Int64) -> _Events:
    """The events; those of listed visits (``keys``) are read once and never leave the engine as texts.

    Raises TextIdentifiers where an event names a visit by what is no number.
    """
    found = _Events({}, {})
    known = ""
    for kind, event in EVENTS.items():
        if not export.has(event.table):
            continue
        collected = found.collected[kind] = _collected(export, event)
        select = f"SELECT {numbered('s.visit_occurrence_id')} AS visit, {collected.select('s')} FROM ({{}}) s"
        others = 0
        for batch in export.rows(event.table, _wanted(event), select.format):
            visit = batch.column(0).to_numpy()
            place = np.where(visit == 0, np.int32(-1), ranks_among(keys, visit))  # visit 0 is none
            if missing := int((place < 0).sum()):
                others += missing
                batch, place = batch.take(as_arrow(np.flatnonzero(place >= 0))), place[place >= 0]
            collected.add(place, batch.column(1).to_numpy(), batch.columns[2:])
        if others:
            known = known or export.take({"id": keys})
            number = f"plain_number({VISIT})"
            table = found.others[kind] = _stage(
                export, event, f"coalesce({number}, 0) = 0 OR {number} NOT IN (SELECT id FROM {known})")
            if export.count(f"SELECT count(*) FROM {table} WHERE visit <> '' AND plain_number(visit) IS NULL"):
                raise TextIdentifiers
    return found


def _more_visits(export: Export, others: Mapping[str, str], visits: str) -> tuple[str, dict[str, int]]:
    """A table of the visits that only events name, and of those made for persons without any; how many of each.

    ``visits`` is a table of the listed ones.
    """
    more = export.fresh("more")
    export.run(f"CREATE TEMP TABLE {more} (id VARCHAR, patient VARCHAR, start BIGINT, stop BIGINT, kind VARCHAR,"
               " discharged VARCHAR, admitted VARCHAR)")
    if not others:
        return more, dict.fromkeys(NOTES, 0)
    every = " UNION ALL ".join(f"SELECT visit, person, since FROM {table}" for table in others.values())
    good = f"SELECT id FROM {visits} WHERE id <> '' AND patient <> '' AND start IS NOT NULL"
    export.run(f"INSERT INTO {more} (id, patient, start) SELECT visit, arg_min(person, (since, person)),"
               f" min(since) FROM ({every}) WHERE visit <> '' AND person <> '' AND since IS NOT NULL AND visit NOT"
               f" IN ({good}) GROUP BY visit")
    named = export.count(f"SELECT count(*) FROM {more}")
    # Runs of days on which a person without any visit has events; they come after all other visits.
    last = export.count(f"SELECT max(TRY_CAST(id AS BIGINT)) FROM (SELECT id FROM {visits} UNION ALL SELECT id FROM"
                        f" {more})")
    seen = " UNION ALL ".join(f"SELECT patient FROM {table} WHERE start IS NOT NULL" for table in (visits, more))
    export.run(
        f"INSERT INTO {more} (id, patient, start, stop) SELECT CAST({last}::HUGEINT + row_number() OVER (ORDER BY"
        " person || ' ' || min(day)) AS VARCHAR), person, min(day) * 86400, max(day) * 86400 + 86399"
        " FROM (SELECT person, day,"
        " sum(new) OVER (PARTITION BY person ORDER BY day) AS run FROM (SELECT person, day, CASE WHEN day <= lag(day)"
        " OVER (PARTITION BY person ORDER BY day) + 1 THEN 0 ELSE 1 END AS new FROM (SELECT DISTINCT person, since //"
        f" 86400 AS day FROM ({every}) WHERE visit = '' AND since IS NOT NULL AND person <> '' AND person NOT IN"
        f" ({seen})))) GROUP BY person, run")
    made = export.count(f"SELECT count(*) FROM {more}") - named
    return more, dict(zip(NOTES, (named, made), strict=True))


def _place(export: Export, table: str, events: str, visits: Sequence[str]) -> str:
    """The events, those without a visit in the one that spans their date, the last begun, where there is one."""
    if not export.count(f"SELECT count(*) FROM {events} WHERE visit = ''"):
        return events
    found, placed = export.fresh("found"), export.fresh("placed")
    spans = " UNION ALL ".join(f"SELECT id, patient, start, stop FROM {one}" for one in visits)
    export.run(
        f"CREATE TEMP TABLE {found} AS SELECT e.rowid AS row, arg_max(v.id, (v.start, TRY_CAST(v.id AS BIGINT), v.id))"
        f" AS visit FROM {events} e JOIN ({spans}) v ON v.patient = e.person AND v.id <> '' AND e.since // 86400 >="
        " v.start // 86400 AND e.since // 86400 <= greatest(coalesce(v.stop, v.start), v.start) // 86400 WHERE e.visit"
        " = '' GROUP BY e.rowid")
    export.run(f"CREATE TEMP TABLE {placed} AS SELECT CASE WHEN e.visit = '' THEN coalesce(f.visit, '') ELSE e.visit"
               f" END AS visit, e.* EXCLUDE visit FROM {events} e LEFT JOIN {found} f ON f.row = e.rowid")
    export.ledger.note(table, "rows without a visit, placed by date", export.count(f"SELECT count(*) FROM {found}"))
    export.drop(events, found)
    return placed


def _visit_attributes(people: People) -> dict[str, str]:
    attributes = {VISIT_TYPE: "v.kind", DISCHARGE: "v.discharged", ADMISSION: "v.admitted"}
    if people.sql:
        attributes |= {AGE: AGE_AT_START, SEX: "p.sex", RACE: "p.race",
                       ETHNICITY: "p.ethnicity"}
    if "death" in people.columns:
        inpatient = ", ".join(map(literal, INPATIENT))
        attributes[DIED] = (f"CASE WHEN v.kind IN ({inpatient}) AND v.stop IS NOT NULL THEN CASE WHEN p.death // 86400"
                            " BETWEEN v.start // 86400 AND v.stop // 86400 THEN 'yes' ELSE 'no' END END")
    return attributes


class Omop:
    """The OMOP format."""

    name = "omop"
    requires: tuple[str, ...] = ("diagnosis", "medication")
    published: Mapping[str, Mapping[str, int]] = {}
    options = ("vocabulary",)

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the export records; ``vocabulary=none`` reads one without concept tables."""
        if options.get("vocabulary", "none") != "none":
            raise UsageError(f"option vocabulary cannot be {options['vocabulary']!r}",
                             hint="vocabulary=none, or leave it out")
        with open_export(root, limits, Ledger()) as export:
            for kind in ("diagnosis", "medication"):
                export.need(EVENTS[kind].table)
            if not export.has("concept") and "vocabulary" not in options:
                raise NotFound(
                    f"{root} has no table 'concept'",
                    hint="put Athena's CONCEPT.csv beside the other tables; --option vocabulary=none keeps concepts as"
                         " numbers and takes NDCs of source values alone")
            people = _people(export)
            inpatient = ", ".join(map(literal, INPATIENT))
            counts = f"coalesce(v.kind IN ({inpatient}), false)"
            attributes = _visit_attributes(people)
            before = export.ledger.copy()
            try:
                rows = VisitRows(export, people, attributes, counts)
                if export.has(VISITS):
                    rows.take(LISTED)
                keys = rows.keys()
                events = _read_events(export, keys)
                spans = [rows.table()] if events.others else []
                more, notes = _more_visits(export, events.others, spans[0] if spans else "")
                rows.take(Listing(more))
                visits = rows.arranged(VISITS)
                place = ranks_among(visits.keys if visits.keys is not None else keys, keys)
            except TextIdentifiers:
                export.ledger.restore(before)
                keys = np.empty(0, np.int64)
                tables = {kind: event for kind, event in EVENTS.items() if export.has(event.table)}
                events = _Events({kind: _collected(export, event) for kind, event in tables.items()},
                                 {kind: _stage(export, event) for kind, event in tables.items()})
                spans = [export.stage(VISITS, LISTED.wanted, LISTED.select) if export.has(VISITS) else
                         _more_visits(export, {}, "")[0]]
                more, notes = _more_visits(export, events.others, spans[0])
                every = export.fresh("every")
                export.run(f"CREATE TEMP TABLE {every} AS SELECT * FROM {spans[0]} UNION ALL BY NAME SELECT * FROM"
                           f" {more}")
                visits = read_visits(export, VISITS, every, people, attributes, readmission=counts)
                place = np.empty(0, np.int32)
            export.ledger.read(VISITS, sum(notes.values()))
            for kind, collected in events.collected.items():
                collected.renumber(place)
                if kind in events.others:
                    self._add(export, EVENTS[kind], collected, visits,
                              _place(export, EVENTS[kind].table, events.others[kind], [*spans, more]))
            vocabulary = _vocabulary(export, events.collected)
            coders = {"medication": vocabulary.medication}
            pairs = {kind: collected.pairs(coders.get(kind, vocabulary.code))
                     for kind, collected in events.collected.items()}
            return recorded(export, visits, pairs, notes)

    def _add(self, export: Export, event: Event, collected: Collected, visits: Visits, placed: str) -> None:
        """Add events that were placed in visits, or nowhere."""
        number, join = numbered("e.visit"), ""
        if visits.keys is None:
            join = f"LEFT JOIN {visits.sql} v ON v.id = e.visit"
            number = f"CASE WHEN e.visit = '' THEN {NO_VISIT} ELSE coalesce(v.number, {STRANGE_VISIT}) END"
        for batch in export.batches(f"SELECT {number}, {collected.select('e')} FROM {placed} e {join}"):
            found = batch.column(0).to_numpy()
            collected.add(found if visits.keys is None else places(visits.keys, found), batch.column(1).to_numpy(),
                          batch.columns[2:])
        export.drop(placed)


FORMAT = Omop()
