"""What an answer of PUG REST or PUG View means: present, absent, retry or rejected. Total: any bytes, any status.

The rules, which keep an overloaded service from looking like an empty one:

* ``absent`` needs positive proof: a parsed ``NotFound`` fault. Neither a status, nor an empty list, nor a page of HTML
  is one.
* ``rejected`` means that the service understood us and refused (``BadRequest`` and the like): our mistake, raised.
* ``present`` needs a 200 and a body that its kind's validator accepts.
* Everything else is ``retry``.

Faults and statuses: https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest#section=Status-Codes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kb.errors import SourceError, Transient
from kb.sources.pubchem import bodies as answers_body
from kb.sources.pubchem.bodies import BodyError


class Verdict(StrEnum):
    """The four things that an answer can mean."""

    present = "present"
    absent = "absent"
    retry = "retry"
    rejected = "rejected"


class Kind(StrEnum):
    """The kinds of body that are asked for; each has a validator and a cap."""

    properties = "properties"
    information = "information"
    identifiers = "identifiers"
    records = "records"
    sdf = "sdf"
    png = "png"
    view = "view"


CAPS = dict.fromkeys(Kind, 32 * 2**20) | {Kind.sdf: 64 * 2**20, Kind.png: 2 * 2**20}
"""The most decoded bytes that an answer of a kind may have."""

_TYPES = {Kind.sdf: ("chemical/x-mdl-sdfile",), Kind.png: ("image/png",)}
_JSON_TYPES = ("application/json",)


@dataclass(frozen=True)
class Expected:
    """What a request should bring: its kind, the CIDs asked for, and the keys that every row must or may have."""

    kind: Kind
    cids: frozenset[int] = frozenset()
    """Empty where the answer's CIDs are not known beforehand."""
    tags: tuple[str, ...] = ()
    """For properties, the tags asked for; for information, the lists that rows have; for SDF, ``3D`` if it must be."""
    partial: bool = False
    """Whether CIDs may be missing from the answer (they are asked again singly)."""


@dataclass(frozen=True)
class Fault:
    """A parsed error answer: ``family`` is PUGREST or PUGVIEW, ``code`` what follows the dot."""

    family: str
    code: str
    message: str


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reason; ``busy`` when the service wants everybody to wait; ``fault`` if there was one."""

    verdict: Verdict
    reason: str
    fault: Fault | None = None
    busy: bool = False


_REFUSED = frozenset({"BadRequest", "NotAllowed", "Unimplemented"})
_PROOF_STATUSES = frozenset({200, 404})
BUSY_PAUSE = 0.0
"""What a busy judgement asks the transport to pause for at least, in seconds; how long is its policy's matter."""


def classify(status: int, headers: Mapping[str, str], body: bytes, expected: Expected) -> Judgement:
    """The meaning of an answer; never raises, whatever the bytes."""
    if fault := parse_fault(body):
        return _judge_fault(status, fault)
    if status in (429, 503):
        return Judgement(Verdict.retry, f"HTTP {status}", busy=True)
    if status != 200:
        return Judgement(Verdict.retry, f"HTTP {status} without a fault that explains it")
    if not _type_fits(headers, expected.kind):
        return Judgement(Verdict.retry, f"the answer is not of the type that {expected.kind} has")
    try:
        _VALIDATORS[expected.kind](body, expected)
    except BodyError as error:
        return Judgement(Verdict.retry, str(error))
    return Judgement(Verdict.present, "valid")


def _judge_fault(status: int, fault: Fault) -> Judgement:
    said = f"HTTP {status}, {fault.family}.{fault.code}: {fault.message}"[:300]
    if fault.code == "NotFound" and status in _PROOF_STATUSES:
        return Judgement(Verdict.absent, said, fault)
    if fault.code in _REFUSED and status < 500 and status != 429:
        return Judgement(Verdict.rejected, said, fault)
    return Judgement(Verdict.retry, said, fault, busy=fault.code == "ServerBusy" or status in (429, 503))


def parse_fault(body: bytes) -> Fault | None:
    """The fault in a JSON or text body, or None if there is none."""
    if body[:7] == b"Status:":
        return _text_fault(body[:4000].decode("utf-8", "replace"))
    if b'"Fault"' not in body[:4096]:
        return None
    try:
        document = answers_body.load_json(body)
    except BodyError:
        return None
    fault = document.get("Fault") if len(document) == 1 else None
    code = fault.get("Code") if isinstance(fault, dict) else None
    if not isinstance(code, str):
        return None
    message = fault.get("Message") if isinstance(fault, dict) else ""
    return _fault(code, message if isinstance(message, str) else "")


def _text_fault(text: str) -> Fault | None:
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return _fault(lines["Code"], lines.get("Message", "")) if "Code" in lines else None


def _fault(code: str, message: str) -> Fault | None:
    family, dot, name = code.strip().partition(".")
    return Fault(family, name, message) if dot and family in ("PUGREST", "PUGVIEW") else None


def _type_fits(headers: Mapping[str, str], kind: Kind) -> bool:
    named = {key.lower(): value for key, value in headers.items()}.get("content-type", "")
    return named.split(";")[0].strip().lower() in _TYPES.get(kind, _JSON_TYPES)


def _properties(body: bytes, expected: Expected) -> None:
    answers_body.check_properties(answers_body.load_json(body), expected.cids, expected.tags, expected.partial)


def _information(body: bytes, expected: Expected) -> None:
    answers_body.check_information(answers_body.load_json(body), expected.cids, expected.tags, expected.partial)


def _identifiers(body: bytes, expected: Expected) -> None:
    answers_body.check_identifiers(answers_body.load_json(body))


def _records(body: bytes, expected: Expected) -> None:
    answers_body.check_records(answers_body.load_json(body), expected.cids, expected.partial)


def _sdf(body: bytes, expected: Expected) -> None:
    answers_body.check_sdf(body, expected.cids, expected.partial, three_d="3D" in expected.tags)


def _png(body: bytes, expected: Expected) -> None:
    answers_body.check_png(body)


def _view(body: bytes, expected: Expected) -> None:
    answers_body.check_view(answers_body.load_json(body), expected.cids)


_VALIDATORS: dict[Kind, Callable[[bytes, Expected], None]] = {
    Kind.properties: _properties,
    Kind.information: _information,
    Kind.identifiers: _identifiers,
    Kind.records: _records,
    Kind.sdf: _sdf,
    Kind.png: _png,
    Kind.view: _view,
}


class RejectedError(SourceError):
    """The service understood the request and refused it."""


def judged(answer: Any, expected: Expected) -> Judgement:
    """The judgement of a transport's answer when it is present or absent.

    Raises Transient when it is to be asked again, RejectedError when the service refuses the request itself.
    """
    judgement = classify(answer.status, answer.headers, answer.body, expected)
    if judgement.verdict is Verdict.retry:
        raise Transient(judgement.reason, retry_after=BUSY_PAUSE if judgement.busy else None)
    if judgement.verdict is Verdict.rejected:
        raise RejectedError(
            f"the service rejects the request: {judgement.reason}",
            hint="this is a mistake in mkmed or a change of PubChem's interface: please report it",
        )
    return judgement
