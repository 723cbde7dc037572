"""FHIR R4 (and R5's spelling of the same): bundles as ``*.json``, bulk exports as ``*.ndjson``, gzipped or not.

A visit is an Encounter that took place. Conditions and Procedures give codes of the first coding whose system is known.
Orders are MedicationRequests and MedicationAdministrations; their Medication may be a concept, contained, in the same
bundle or in another file, by relative, absolute or ``urn:uuid:`` reference. What was entered in error, refuted, not
done, cancelled, proposed only or is not to be given is left out and counted by that reason. A fact without an encounter
goes to the one that spans its day, and is counted as a fact of the patient where none does. Spec: hl7.org/fhir/R4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kb.errors import DataError, NotFound
from recsys.formats.contract import (
    ADMISSION,
    AGE,
    DIED,
    DISCHARGE,
    ETHNICITY,
    RACE,
    SEX,
    VISIT_TYPE,
    CodePairs,
    Ledger,
    Limits,
    Recorded,
)
from recsys.formats.rows import People, Visits, distinct_pairs, read_people, read_visits, recorded
from recsys.formats.scan import Bounds, open_bytes
from recsys.formats.tables import MALFORMED, Export, open_export
from recsys.formats.written import NO_DRUG, order_key
from recsys.orders.codes import DIAGNOSIS, MEDICATION, PROCEDURE, prefixed, system_of

ENDINGS = (".json", ".json.gz", ".ndjson", ".ndjson.gz")
NO_ENCOUNTER = "a fact of the patient: no encounter, and none spans its day"
UNKNOWN_ENCOUNTER = "encounter not among those that took place"
NOT_CODED = "no code of a known system"

_DRUG_SYSTEMS = ("RXCUI", "NDC", "ATC", "GSN", "CVX")
_MIMIC_DRUGS = "http://mimic.mit.edu/fhir/mimic/codesystem/mimic-medication-"
_INPATIENT = ("IMP", "ACUTE", "NONAC")
_DATE = re.compile(r"(\d{4})(-\d\d)?(-\d\d)?(T.+)?")
_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"

Resource = Mapping[str, Any]


def _mapping(value: Any) -> Resource:
    """The value where it is an object, else an empty one; of a list its first object."""
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict)), {})
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Resource]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def seconds(value: Any, *, last: bool = False) -> int | None:
    """A FHIR date or dateTime in seconds since 1970; a part of one means its first second, or its last."""
    text = _text(value)
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, time = found.groups()
    try:
        moment = datetime.fromisoformat(f"{year}{month or '-01'}{day or '-01'}{time or ''}")
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not last or time:
        return int(moment.timestamp())
    if day:
        return int(moment.timestamp()) + 86_399
    later = moment.replace(year=moment.year + 1, month=1) if not month or moment.month == 12 else moment.replace(
        month=moment.month + 1)
    return int(later.timestamp()) - 1


def _day(value: Any) -> str | None:
    """The second of a date that names its day; None for a year or a month alone."""
    text = _text(value)
    moment = seconds(text) if len(text) >= 10 else None
    return None if moment is None else str(moment)


def _stated(value: Any) -> str:
    """The words of a concept: its text, or its first display."""
    concept = _mapping(value)
    display = next((_text(coding.get("display")) for coding in _items(concept.get("coding"))
                    if _text(coding.get("display"))), "")
    return _text(concept.get("text")) or display


def _codings(value: Any, kind: str) -> Iterator[tuple[str, str]]:
    """The (system, code) pairs of a concept whose system is known, the user's own choice first."""
    codings = _items(_mapping(value).get("coding"))
    for coding in sorted(codings, key=lambda coding: coding.get("userSelected") is not True):
        address, code = _text(coding.get("system")), _text(coding.get("code"))
        system = system_of(address, kind) if address else None
        if address.lower().startswith(_MIMIC_DRUGS):
            system = {"ndc": "NDC", "gsn": "GSN"}.get(address.lower().removeprefix(_MIMIC_DRUGS))
        if system and code:
            yield system, code


def _status(value: Any) -> str:
    """A status: a plain code, or a concept of one."""
    return _text(value).lower() or next(
        (_text(coding.get("code")).lower() for coding in _items(_mapping(value).get("coding"))), "")


def reference(value: Any) -> str:
    """A reference as ``Type/id`` or ``urn:…``; empty where it is neither (a contained one is ``#id``)."""
    text = _text(_mapping(value).get("reference"))[-1000:].partition("/_history/")[0].partition("|")[0]
    if text.startswith(("#", "urn:")):
        return text if text.startswith("#") else text.lower()
    found = re.fullmatch(r"(?:.*/)?([A-Z][A-Za-z]{1,40})/([A-Za-z0-9.\-]{1,64})", text)
    return f"{found.group(1)}/{found.group(2)}" if found else ""


def code_of(concept: Any, kind: str) -> str:
    """The prefixed code of a diagnosis or procedure; empty where no coding has a known system and its form."""
    for system, code in _codings(concept, kind):
        if system not in _DRUG_SYSTEMS and (found := prefixed(system, code)):
            return found
    return ""


def medication_key(concept: Any, *, form: str = "", route: str = "") -> str:
    """The key of a medication's concept; empty where nothing identifies a drug."""
    found: dict[str, list[str]] = {}
    for system, code in _codings(concept, MEDICATION):
        found.setdefault(system, []).append(code)
    other = next((f"{system}:{codes[0]}" for system, codes in found.items() if system not in _DRUG_SYSTEMS), "")
    stated = [_stated(concept), *(_text(coding.get("display")) for coding in _items(_mapping(concept).get("coding")))]
    return order_key(rxcuis=found.get("RXCUI", ()), ndc=next(iter(found.get("NDC", ())), ""), atc=found.get("ATC", ()),
                     gsn=next(iter(found.get("GSN", ())), ""), code=other, names=stated, form=form, route=route)


def _medication(resource: Resource) -> tuple[Any, str]:
    """The concept of a Medication and its form; of a mixture without a code, its ingredients' words."""
    concept = resource.get("code")
    if not _mapping(concept):
        parts = [_stated(item.get("itemCodeableConcept") or _mapping(item.get("item")).get("concept"))
                 for item in _items(resource.get("ingredient"))]
        concept = {"text": " / ".join(part for part in parts if part)}
    return concept, _stated(resource.get("form") or resource.get("doseForm"))


_NOT_DONE = {
    "Condition": {"entered-in-error", "refuted"},
    "Procedure": {"entered-in-error", "not-done", "preparation"},
    "MedicationRequest": {"entered-in-error", "cancelled", "draft"},
    "MedicationAdministration": {"entered-in-error", "not-done"},
    "Encounter": {"entered-in-error", "cancelled", "planned"},
}


def why_left_out(kind: str, resource: Resource) -> str:
    """Why a resource says nothing that happened, or nothing."""
    if resource.get("doNotPerform") is True:
        return "not to be given (doNotPerform)"
    if kind == "MedicationRequest" and _text(resource.get("intent")) in ("proposal", "plan", "option"):
        return f"intent {_text(resource.get('intent'))}: not an order"
    said = {_status(resource.get(name)) for name in ("status", "verificationStatus")}
    return next((f"status {word}" for word in sorted(said & _NOT_DONE[kind])), "")


def _documents(path: Path, bounds: Bounds, ledger: Ledger) -> Iterator[Any]:
    """The JSON documents of a file: one, or one a line."""
    lines = path.name.lower().removesuffix(".gz").endswith(".ndjson")
    with open_bytes(path, bounds) as file:
        if not lines:
            data = file.read(bounds.document + 1)
            if len(data) > bounds.document:
                raise DataError(f"{path.name} is longer than {bounds.document} bytes",
                                hint="a bundle is read whole; a large export comes as ndjson")
            try:
                yield json.loads(data)
            except (ValueError, RecursionError):
                raise DataError(f"{path.name} is no JSON", hint="is it complete?") from None
            return
        for number, line in enumerate(iter(lambda: file.readline(16 * bounds.line + 1), b""), start=1):
            if len(line) > 16 * bounds.line:
                raise DataError(f"{path.name}: line {number} is longer than {16 * bounds.line} bytes",
                                hint="ndjson has one resource a line")
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    ledger.read("lines", 1)
                    ledger.lose("lines", MALFORMED, 1)


def _resources(document: Any) -> Iterator[tuple[str, Resource]]:
    """The (full URL, resource) pairs of a document: a bundle's entries, or the resource itself."""
    whole = _mapping(document)
    if whole.get("resourceType") != "Bundle":
        yield "", whole
        return
    for entry in _items(whole.get("entry")):
        resource = _mapping(entry.get("resource"))
        if resource.get("resourceType") == "Bundle":
            yield from _resources(resource)
        elif resource:
            yield _text(entry.get("fullUrl")), resource


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    files = sorted(path for path in root.rglob("*") if path.name.lower().endswith(ENDINGS) and not path.is_dir())
    if not files:
        raise NotFound(f"{root} has no FHIR files", hint="looked for *.json and *.ndjson, gzipped or not")
    return files


COLUMNS: Mapping[str, Sequence[str]] = {
    "alias": ("name", "id"),
    "patients": ("id", "sex", "birth", "race", "ethnicity", "death"),
    "encounters": ("id", "person", "start", "stop", "kind", "discharged", "admitted", "why"),
    "conditions": ("id", "encounter", "person", "day", "why", "key"),
    "procedures": ("id", "encounter", "person", "day", "why", "key"),
    "orders": ("id", "encounter", "person", "day", "why", "key", "drug", "route"),
    "drugs": ("id", "key"),
}


def _extension(resource: Resource, name: str) -> str:
    found = next((item for item in _items(resource.get("extension")) if item.get("url") == _US_CORE + name), {})
    for inner in _items(found.get("extension")):
        if inner.get("url") == "text":
            return _text(inner.get("valueString"))
    return ""


class _Flat:
    """Takes resources and writes their rows to the tables of ``COLUMNS``."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self.sinks = {name: export.sink(columns, f"fhir_{name}") for name, columns in COLUMNS.items()}
        self.others = 0

    def take(self, url: str, resource: Resource) -> None:
        kind, number = _text(resource.get("resourceType")), _text(resource.get("id"))
        identity = f"{kind}/{number}" if number else url.lower()
        writer: Callable[[str, str, Resource], None] | None = {
            "Patient": self._patient, "Encounter": self._encounter, "Condition": self._fact, "Procedure": self._fact,
            "MedicationRequest": self._order, "MedicationAdministration": self._order, "Medication": self._drug,
        }.get(kind)
        if writer is None:
            self.others += 1
            return
        if kind in ("Patient", "Encounter", "Medication"):
            for name in {identity, url.lower() if url.startswith("urn:") else ""} - {""}:
                self.sinks["alias"].add((name, identity))
        writer(kind, identity, resource)

    def _patient(self, kind: str, identity: str, resource: Resource) -> None:
        del kind
        self.sinks["patients"].add((
            identity, _text(resource.get("gender")), _number(seconds(resource.get("birthDate"))),
            _extension(resource, "race"), _extension(resource, "ethnicity"), _day(resource.get("deceasedDateTime"))))

    def _encounter(self, kind: str, identity: str, resource: Resource) -> None:
        period = _mapping(resource.get("period") or resource.get("actualPeriod"))
        stay = _mapping(resource.get("hospitalization") or resource.get("admission"))
        sort = _mapping(resource.get("class"))
        code = _text(sort.get("code")) or next((_text(c.get("code")) for c in _items(sort.get("coding"))), "")
        self.sinks["encounters"].add((
            identity, reference(resource.get("subject")), _number(seconds(period.get("start"))),
            _number(seconds(period.get("end"), last=True)), code, _stated(stay.get("dischargeDisposition")),
            _stated(stay.get("admitSource")), why_left_out(kind, resource)))

    def _fact(self, kind: str, identity: str, resource: Resource) -> None:
        day = next((found for name in ("recordedDate", "onsetDateTime", "performedDateTime", "occurrenceDateTime")
                    if (found := _day(resource.get(name)))), None)
        periods = ("performedPeriod", "occurrencePeriod", "onsetPeriod")
        day = day or next((_day(_mapping(resource.get(name)).get("start")) for name in periods
                           if resource.get(name)), None)
        table, sort = ("conditions", DIAGNOSIS) if kind == "Condition" else ("procedures", PROCEDURE)
        why, key = why_left_out(kind, resource), code_of(resource.get("code"), sort)
        self.sinks[table].add((identity, *_whose(resource), day, why or ("" if key else NOT_CODED), key))

    def _order(self, kind: str, identity: str, resource: Resource) -> None:
        dosage = _mapping(resource.get("dosageInstruction") or resource.get("dosage"))
        route = _stated(dosage.get("route"))
        either = _mapping(resource.get("medication"))  # R5
        concept = resource.get("medicationCodeableConcept") or either.get("concept")
        drug = reference(resource.get("medicationReference") or either.get("reference"))
        form = ""
        if drug.startswith("#"):
            inside = next((item for item in _items(resource.get("contained")) if _text(item.get("id")) == drug[1:]), {})
            (concept, form), drug = _medication(inside), ""
        key = medication_key(concept, form=form, route=route) if not drug else ""
        day = next((found for name in ("authoredOn", "effectiveDateTime", "occurenceDateTime")
                    if (found := _day(resource.get(name)))), None)
        day = day or _day(_mapping(resource.get("effectivePeriod")).get("start"))
        why = why_left_out(kind, resource) or ("" if key or drug else NO_DRUG)
        self.sinks["orders"].add((identity, *_whose(resource), day, why, key, drug, route))

    def _drug(self, kind: str, identity: str, resource: Resource) -> None:
        del kind
        concept, form = _medication(resource)
        self.sinks["drugs"].add((identity, medication_key(concept, form=form)))


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _whose(resource: Resource) -> tuple[str, str]:
    """The references to the encounter and the patient of a resource."""
    return (reference(resource.get("encounter") or resource.get("context")),
            reference(resource.get("subject") or resource.get("patient")))


class Fhir:
    """The FHIR format."""

    name = "fhir"
    requires: tuple[str, ...] = ("diagnosis", "medication")
    published: Mapping[str, Mapping[str, int]] = {}

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the resources record."""
        with open_export(root, limits, Ledger()) as export:
            flat = _Flat(export)
            for path in _files(root):
                for document in _documents(path, limits.bounds, export.ledger):
                    for url, resource in _resources(document):
                        flat.take(url, resource)
            for sink in flat.sinks.values():
                sink.flush()
            export.run("CREATE TEMP TABLE alias AS SELECT name, min(id) AS id FROM fhir_alias GROUP BY name")
            visits = self._visits(export)
            pairs = {kind: _pairs(export, table, visits) for kind, table in
                     (("diagnosis", "conditions"), ("procedure", "procedures"), ("medication", "orders"))}
            return recorded(export, visits, pairs, {"resources of other kinds": flat.others})

    def _visits(self, export: Export) -> Visits:
        if not export.count("SELECT count(*) FROM fhir_encounters"):
            raise DataError(f"{export.root.name} has no Encounter", hint="a visit is an Encounter; are these bundles"
                                                                         " whole?")
        people = self._people(export)
        export.ledger.read("encounters", export.count("SELECT count(*) FROM fhir_encounters"))
        for why, rows in export.fetch("SELECT why, count(*) FROM fhir_encounters WHERE why <> '' GROUP BY why"):
            export.ledger.lose("encounters", why, rows)
        export.run("CREATE TEMP TABLE fhir_visits AS SELECT e.id, coalesce(a.id, '') AS patient, CAST(e.start AS"
                   " BIGINT) AS start, CAST(e.stop AS BIGINT) AS stop, said(e.kind) AS kind, said(e.discharged) AS"
                   " discharged, said(e.admitted) AS admitted FROM fhir_encounters e LEFT JOIN alias a ON a.name ="
                   " e.person WHERE e.why = ''")
        inpatient = ", ".join(f"'{one}'" for one in _INPATIENT)
        attributes = {
            VISIT_TYPE: "v.kind", DISCHARGE: "v.discharged", ADMISSION: "v.admitted", SEX: "p.sex", RACE: "p.race",
            ETHNICITY: "p.ethnicity", AGE: "age_band((v.start - CAST(p.birth AS BIGINT)) / 31556952)",
            DIED: f"CASE WHEN v.kind IN ({inpatient}) AND v.stop IS NOT NULL THEN CASE WHEN CAST(p.death AS BIGINT) //"
                  " 86400 BETWEEN v.start // 86400 AND v.stop // 86400 THEN 'yes' ELSE 'no' END END"}
        export.run("CREATE TEMP TABLE spans AS SELECT * FROM fhir_visits WHERE start IS NOT NULL AND patient <> ''")
        return read_visits(export, "encounters", "fhir_visits", people, attributes,
                           readmission=f"coalesce(v.kind IN ({inpatient}), false)")

    def _people(self, export: Export) -> People:
        staged = export.fresh("staged")
        export.run(f"CREATE TEMP TABLE {staged} AS SELECT id, sex_of(sex) AS sex, birth, said(race) AS race,"
                   " said(ethnicity) AS ethnicity, death FROM fhir_patients")
        export.ledger.read("patients", export.count(f"SELECT count(*) FROM {staged}"))
        return read_people(export, "patients", staged)


def _pairs(export: Export, table: str, visits: Visits) -> CodePairs:
    """The codes of a kind of facts: named, placed, and counted by reason where they are left out."""
    ledger = export.ledger
    raw = f"fhir_{table}"
    listed = export.count(f"SELECT count(*) FROM {raw}")
    ledger.read(table, listed)
    once = export.fresh("once")
    export.run(f"CREATE TEMP TABLE {once} AS SELECT DISTINCT ON (CASE WHEN id = '' THEN CAST(rowid AS VARCHAR) ELSE"
               f" id END) * FROM {raw} ORDER BY ALL")
    ledger.lose(table, "resource listed again", listed - export.count(f"SELECT count(*) FROM {once}"))
    key = "f.key"
    named = ""
    if table == "orders":
        # A reference that leads to no Medication of these files names no drug.
        key = ("CASE WHEN f.drug = '' THEN f.key ELSE coalesce(d.key, '') || CASE WHEN f.route <> '' AND d.key <> ''"
               " THEN chr(9) || 'ROUTE:' || upper(f.route) ELSE '' END END")
        named = ("LEFT JOIN alias m ON m.name = f.drug LEFT JOIN (SELECT id, min(key) AS key FROM fhir_drugs GROUP"
                 " BY id) d ON d.id = m.id")
    facts = export.fresh("facts")
    export.run(
        f"CREATE TEMP TABLE {facts} AS SELECT f.why, {key} AS key, f.encounter <> '' AS stated, e.id AS encounter,"
        f" coalesce(p.id, '') AS person, CAST(f.day AS BIGINT) AS day FROM {once} f LEFT JOIN alias e ON e.name ="
        f" f.encounter LEFT JOIN alias p ON p.name = f.person {named}")
    for why, rows in export.fetch(f"SELECT why, count(*) FROM {facts} WHERE why <> '' GROUP BY why"):
        ledger.lose(table, why, rows)
    export.run(f"DELETE FROM {facts} WHERE why <> ''")
    found, staged = export.fresh("found"), export.fresh("staged")
    export.run(f"CREATE TEMP TABLE {found} AS SELECT f.rowid AS row, arg_max(s.id, (s.start, s.id)) AS id FROM"
               f" {facts} f JOIN spans s ON s.patient = f.person AND f.day // 86400 >= s.start // 86400 AND f.day //"
               " 86400 <= greatest(coalesce(s.stop, s.start), s.start) // 86400 WHERE NOT f.stated GROUP BY f.rowid")
    export.run(f"CREATE TEMP TABLE {staged} AS SELECT coalesce(v.number, CASE WHEN f.stated THEN -1 ELSE -2 END) AS"
               f" visit, f.key FROM {facts} f LEFT JOIN {found} g ON g.row = f.rowid"
               f" LEFT JOIN {visits.sql} v ON v.id = coalesce(g.id, f.encounter)")
    ledger.note(table, "facts without an encounter, placed by day", export.count(f"SELECT count(*) FROM {found}"))
    export.drop(once, facts, found)
    return distinct_pairs(export, table, staged, lambda row: row if row[0] else NO_DRUG,
                 lost={-1: UNKNOWN_ENCOUNTER, -2: NO_ENCOUNTER})


FORMAT = Fhir()
