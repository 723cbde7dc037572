"""OMOP CDM 5.x: visit_occurrence, condition_occurrence, procedure_occurrence, drug_exposure, concept, and where there
person and concept_ancestor, each as CSV or Parquet, or all in one DuckDB file.

A visit is a ``visit_occurrence_id``. One that events name but ``visit_occurrence`` does not have becomes a visit at its
earliest event, and is counted (extracts such as Eunomia's hold few visit rows). Conditions and procedures are the
standard concept's own code (``SNOMED:…``). A drug is identified by the ATC classes above its concept where the
vocabulary holds them, by RxNorm (the drug and its ingredients), then by name. Concept 0 means that the source did not
map it. Spec: OHDSI CommonDataModel v5.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys.formats.contract import CodePairs, Interner, Ledger, Recorded
from recsys.formats.rows import Coded, VisitReader, Visits, read_codes, read_patients
from recsys.formats.tables import find_table, need_table, seconds, stream, together
from recsys.formats.written import order_key
from recsys.orders.codes import prefixed

EVENTS = {
    "condition_occurrence": ("condition_concept_id", "condition_start_date"),
    "procedure_occurrence": ("procedure_concept_id", "procedure_date"),
    "drug_exposure": ("drug_concept_id", "drug_exposure_start_date"),
}


def _whole(text: str) -> str:
    """A number's text without the ``.0`` that a numeric export gives it."""
    return text.removesuffix(".0")


def _concept(row: tuple[str, ...]) -> Coded:
    number = _whole(row[0])
    if number in ("", "0"):
        return "concept 0: not mapped in the source"
    return (number,)


@dataclass
class _Vocabulary:
    """What the concept tables say of the concepts that occur."""

    codes: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # id -> vocabulary, code, name
    targets: dict[str, tuple[str, str]] = field(default_factory=dict)  # ATC classes and ingredients: id -> system, code
    above: dict[str, set[str]] = field(default_factory=dict)  # drug concept -> ATC classes and ingredients

    def code(self, concept: str) -> str:
        """The prefixed code of a condition or procedure; ``OMOP:<id>`` where the concept table lacks it."""
        vocabulary, code, _ = self.codes.get(concept, ("", "", ""))
        return (prefixed(vocabulary.upper(), code) if vocabulary else None) or f"OMOP:{concept}"

    def medication(self, concept: str) -> str:
        """The medication key of a drug concept."""
        vocabulary, code, name = self.codes.get(concept, ("", "", ""))
        above = sorted(self.targets[target] for target in self.above.get(concept, ()))
        rxcuis = [code] if vocabulary.startswith("RxNorm") else []
        rxcuis += [value for system, value in above if system == "RXCUI"]
        atc = [value for system, value in above if system == "ATC"]
        return order_key(atc=atc, rxcuis=rxcuis, names=(name,), code="" if name else f"OMOP:{concept}")


def _read_vocabulary(root: Path, needed: set[str], ledger: Ledger) -> _Vocabulary:
    """The concepts that occur, and the ATC classes and ingredients above them."""
    found, aside = _Vocabulary(), Ledger()  # vocabulary rows are no patient data: they are not accounted for
    columns = ("concept_id", "concept_name", "vocabulary_id", "concept_class_id", "concept_code")
    for _, batch in stream(need_table(root, "concept"), "concept", dict.fromkeys(columns, True), aside):
        rows, _ = together([batch[name] for name in columns])
        for number, name, vocabulary, kind, code in rows:
            concept = _whole(number)
            if concept in needed:
                found.codes[concept] = (vocabulary, code, name)
            if vocabulary == "ATC" and kind == "ATC 5th":
                found.targets[concept] = ("ATC", code)
            elif kind == "Ingredient" and vocabulary == "RxNorm":
                found.targets[concept] = ("RXCUI", code)
    path = find_table(root, "concept_ancestor")
    if path is not None:
        wanted = {"ancestor_concept_id": True, "descendant_concept_id": True}
        for _, batch in stream(path, "concept_ancestor", wanted, aside):
            ancestor, descendant = batch["ancestor_concept_id"], batch["descendant_concept_id"]
            useful = ancestor.map(lambda t: _whole(t) in found.targets) & descendant.map(lambda t: _whole(t) in needed)
            for i in np.flatnonzero(useful):
                drug = _whole(descendant.texts[descendant.which[i]])
                found.above.setdefault(drug, set()).add(_whole(ancestor.texts[ancestor.which[i]]))
    ledger.note("concept", "concepts of events that the concept table lacks", len(needed - set(found.codes)))
    return found


def _visits(root: Path, ledger: Ledger, patients: Interner) -> tuple[Visits, int]:
    """The recorded visits, then those that only events name, at their earliest event."""
    reader = VisitReader("visit_occurrence", ledger, patients)
    columns = ("visit_occurrence_id", "person_id", "visit_start_datetime", "visit_start_date")
    wanted = {columns[0]: True, columns[1]: True, columns[2]: False, columns[3]: True}
    for _, batch in stream(need_table(root, "visit_occurrence"), "visit_occurrence", wanted, ledger):
        rows, which = together([batch[name] for name in columns])
        for (visit, person, moment, day), count in zip(rows, np.bincount(which), strict=True):
            time = seconds(moment)
            reader.add(_whole(visit), _whole(person), seconds(day) if time is None else time, int(count))
    named: dict[str, tuple[int, str]] = {}
    for table, (_, day_column) in EVENTS.items():
        path = find_table(root, table)
        if path is None:
            continue
        three = ("visit_occurrence_id", "person_id", day_column)
        for _, batch in stream(path, table, dict.fromkeys(three, True), Ledger()):
            for visit, person, day in together([batch[name] for name in three])[0]:
                number, time = _whole(visit), seconds(day)
                if number and person and time is not None and number not in reader.visits.numbers:
                    named[number] = min(named.get(number, (time, _whole(person))), (time, _whole(person)))
    ledger.read(reader.table, len(named))
    for number, (time, person) in named.items():
        reader.add(number, person, time, 1)
    return reader.finish(), len(named)


class _ByWhole(Interner):
    """Visit numbers by identifier, written with or without ``.0``."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self.numbers = numbers | {f"{text}.0": number for text, number in numbers.items()}


class Omop:
    """The OMOP format."""

    name = "omop"
    requires: tuple[str, ...] = ("diagnosis", "medication")
    published: Mapping[str, Mapping[str, int]] = {}

    def read(self, root: Path, options: Mapping[str, Any]) -> Recorded:
        """Everything that the export records."""
        ledger = Ledger()
        patients = read_patients(find_table(root, "person"), "person_id", ledger, "person")
        visits, inferred = _visits(root, ledger, patients)
        lookup = Visits(visits.table, _ByWhole(visits.numbers.numbers), visits.patients, visits.times, 0)
        raw: dict[str, CodePairs] = {}
        for kind, table in zip(("diagnosis", "procedure", "medication"), EVENTS, strict=True):
            path = find_table(root, table) if kind == "procedure" else need_table(root, table)
            column = [(EVENTS[table][0], True)]
            raw[kind] = read_codes(path, table, "visit_occurrence_id", column, _concept, lookup, ledger)
        vocabulary = _read_vocabulary(root, {name for pairs in raw.values() for name in pairs.names}, ledger)
        named = {
            kind: [vocabulary.medication(n) if kind == "medication" else vocabulary.code(n) for n in pairs.names]
            for kind, pairs in raw.items()
        }
        pairs = {kind: CodePairs(p.table, p.visits, p.codes, p.rows, named[kind]) for kind, p in raw.items()}
        notes = {"visits that only events name": inferred}
        return Recorded(visits.patients, visits.times, pairs, ledger, visits.table, visits.patients_in_source, notes)


FORMAT = Omop()
