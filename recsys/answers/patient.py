"""A patient to recommend for: visits read from JSON, put in the order of their times, codes written as readers write.

A visit's fields are lists of codes; a code is a text ``SYSTEM:CODE``, ``<FHIR address>|CODE``, or a FHIR Coding
``{"system": …, "code": …}``. Medications may also be names as ordered.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from kb.errors import DataError
from kb.inputs import read_regular
from recsys.cohorts.cohort import DOOR, KINDS, KNOWN_AT_THE_DOOR

FIELDS = {"diagnosis": "diagnoses", "procedure": "procedures", "medication": "medications",
          "home": "home_medications"}
"""Kind of code -> the field of a visit that lists it."""
LARGEST = 16 * 1024 * 1024
"""Bytes that a patient's file may have."""
LONGEST = 500
"""Letters that a code may have."""
EXAMPLE = "give the patient's visits as a JSON file; mkmed/demo/patient.json of the program is an example"
TIME_FORMS = ("a number, 2024-01-09, 2024-01-09T10:30 or 2024-01-09T10:30:00Z (or +02:00), of the same form in every"
              " visit; or no visit has one, and they stand in their order")


@dataclass(frozen=True)
class Visit:
    """The codes of one visit, e.g. ``ICD9CM:4280``, ``ATC:C03C``."""

    diagnosis: tuple[str, ...] = ()
    procedure: tuple[str, ...] = ()
    medication: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    """Medications taken at home before the visit: no input, but alerts look at them."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What is known at the door by the names of KNOWN_AT_THE_DOOR: an age in years or its band, a sex, …"""

    def by_kind(self) -> dict[str, tuple[str, ...]]:
        """What a recommender may read, by kind; attributes as ``name: value``."""
        door = tuple(f"{name}: {value}" for name, value in self.attributes.items())
        return {**{kind: getattr(self, kind) for kind in KINDS}, DOOR: door}

    def without(self, kind: str, text: str) -> Visit:
        """The visit without one of ``by_kind``'s texts."""
        if kind == DOOR:
            name = text.split(": ", 1)[0]
            return replace(self, attributes={other: value for other, value in self.attributes.items() if other != name})
        left = tuple(other for other in getattr(self, kind) if other != text)
        return replace(self, **{kind: left})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Patient:
    """Visits in time order; medications are asked for the last one."""

    visits: tuple[Visit, ...]
    about: str = ""
    """The patient in words, for a page; no input."""


def parse_patient(document: Any) -> Patient:
    """The patient of a JSON document ``{"visits": [{"diagnoses": […], "procedures": […], "medications": […]}, …]}``.

    The last visit is the one to recommend for; visits that carry ``time`` are put in its order, equal times in that of
    the document. Medications of the last visit are refused: they are what is asked for. Raises DataError that says
    what is wrong.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("visits"), list) or not document["visits"]:
        raise DataError("a patient is an object with a non-empty list of visits",
                        hint='{"visits": [{"diagnoses": ["ICD9CM:4280"], "procedures": [], "medications": []}]}')
    about = document.get("about", "")
    if not isinstance(about, str):
        raise DataError("'about' of a patient must be a text")
    always = _attributes(document.get("attributes", {}), "the patient")
    visits: list[Any] = document["visits"]
    for number, visit in enumerate(visits, 1):
        if not isinstance(visit, Mapping) or (strange := sorted(set(visit) - {*FIELDS.values(), "time", "attributes"})):
            named = f": {', '.join(repr(name)[:60] for name in strange[:3])}" if isinstance(visit, Mapping) else ""
            raise DataError(f"visit {number} has unknown fields or is no object{named}",
                            hint=f"its fields are {', '.join(FIELDS.values())}, attributes and time")
    parsed = [_visit(visit, number, always) for number, visit in enumerate(visits, 1)]
    order = visit_order([visit.get("time") for visit in visits])
    parsed = [parsed[place] for place in order]
    if parsed[-1].medication:
        raise DataError("the last visit already has medications",
                        hint="add a visit without them to ask for its own"
                             + ("" if order == sorted(order) else "; the visits were put in the order of their times"))
    return Patient(tuple(parsed), about)


def _visit(visit: Mapping[str, Any], number: int, always: Mapping[str, str]) -> Visit:
    listed = {kind: _codes(visit.get(name, []), name, number) for kind, name in FIELDS.items()}
    return Visit(**listed, attributes={**always, **_attributes(visit.get("attributes", {}), f"visit {number}")})


def _attributes(given: Any, whose: str) -> dict[str, str]:
    if not isinstance(given, Mapping) or any(not isinstance(value, str | int | float) or isinstance(value, bool)
                                             for value in given.values()):
        raise DataError(f"attributes of {whose} must be an object of texts and numbers", hint='{"age": 67, "sex": "F"}')
    if strange := sorted(set(given) - set(KNOWN_AT_THE_DOOR)):
        raise DataError(f"{whose} has an unknown attribute {strange[0]!r}",
                        hint=f"known when a patient arrives: {', '.join(KNOWN_AT_THE_DOOR)}")
    return {name: _text(str(value), f"attribute {name} of {whose}") for name, value in given.items()}


def _codes(values: Any, name: str, number: int) -> tuple[str, ...]:
    if isinstance(values, list):
        values = [f"{value['system']}|{value['code']}" if _is_coding(value) else value for value in values]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"{name} of visit {number} must be a list of texts",
                        hint='a code is "ICD10CM:I509", or {"system": "http://snomed.info/sct", "code": "38341003"}')
    return tuple(dict.fromkeys(_text(value, f"{name} of visit {number}") for value in values))


def _is_coding(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("system"), str) and isinstance(value.get("code"), str)


def _text(value: str, what: str) -> str:
    """The text without blanks at its ends; raises DataError where no file could have held it."""
    if len(value) > LONGEST or re.search("[\ud800-\udfff\0]", value):
        raise DataError(f"{what} has a text of more than {LONGEST} letters, or with half a letter")
    return value.strip()


_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?", re.ASCII)
_CLOCK = r"(\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)"
_DATE = re.compile(rf"(\d{{4}})-(\d{{1,2}})-(\d{{1,2}})(?:[T ]{_CLOCK} ?(Z|[+-]\d{{2}}:?\d{{2}})?)?",
                   re.ASCII | re.IGNORECASE)


def visit_order(times: Sequence[Any]) -> list[int]:
    """The places of the visits in the order of their times, equal times as they stand; as they stand without any time.

    Raises DataError for a time of an unknown form, for several forms, and where only some visits have one.
    """
    given = [time is not None for time in times]
    if not any(given):
        return list(range(len(times)))
    if not all(given):
        raise DataError(f"visit {given.index(False) + 1} has no time, and others have one",
                        hint=f"a time is {TIME_FORMS}")
    read = [_moment(time, number) for number, time in enumerate(times, 1)]
    forms = list(dict.fromkeys(form for form, _ in read))
    if len(forms) > 1:
        raise DataError(f"the visits' times have several forms: {' and '.join(forms)}", hint=f"a time is {TIME_FORMS}")
    return sorted(range(len(read)), key=lambda place: read[place][1])


def _moment(time: Any, number: int) -> tuple[str, Any]:
    """(form, what to sort by) of one visit's time."""
    if isinstance(time, int | float) and not isinstance(time, bool) and (isinstance(time, int) or math.isfinite(time)):
        return "a number", time
    if isinstance(time, str):
        text = time.strip()
        if _NUMBER.fullmatch(text):
            return "a number", Decimal(text)
        if found := _DATE.fullmatch(text):
            year, month, day, clock, zone = found.groups()
            form = "a date" if clock is None else "a date and time" + (" with its zone" if zone else "")
            hour, _, rest = (clock or "0:00").partition(":")
            try:
                return form, datetime.fromisoformat(
                    f"{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{rest}{(zone or '').upper()}")
            except ValueError:
                pass  # a month 13, an hour 25
    shown = repr(time) if len(repr(time)) <= 60 else f"{repr(time)[:57]}…"
    raise DataError(f"visit {number} has a time that cannot be read: {shown}", hint=f"a time is {TIME_FORMS}")


def read_patient(path: Path, what: str = "--visit") -> Patient:
    """The patient of a JSON file in UTF-8, -16 or -32, with or without a byte order mark.

    Raises UsageError for what is no regular file or larger than LARGEST, DataError for what is no patient in JSON;
    ``what`` names the option.
    """
    data = read_regular(path, what, LARGEST)
    try:
        document = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise DataError(f"{path} is not JSON: {str(error).splitlines()[0]}", hint=EXAMPLE) from None
    return parse_patient(document)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; raises ValueError where a name comes twice, of which JSON readers keep any one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice in one object")
    return found
