"""What an answer of PUG REST or PUG View means: present, absent, retry or rejected. Total: any bytes, any status.

The rules, which keep an overloaded service from looking like an empty one:

* ``absent`` needs positive proof: a parsed ``NotFound`` fault of the very service that was asked. Neither a status, nor
  an empty list, nor a page of HTML, nor the other service's fault is one.
* ``rejected`` means that the service understood us and refused (``BadRequest`` and the like).
* ``present`` needs a 200 and a body that its kind's reader accepts.
* Everything else is ``retry``; it is ``unusable`` when the body came whole and well formed, but says what cannot be
  true. Such an answer is asked for once more, and then the item is rejected with the reason.

Faults and statuses: https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest#section=Status-Codes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kb.errors import SourceError, Transient, Unusable
from kb.sources.pubchem import parse, schema
from kb.sources.pubchem.bodies import BodyError, ContentError, load_json, read_png


class Verdict(StrEnum):
    """The four things that an answer can mean."""

    present = "present"
    absent = "absent"
    retry = "retry"
    rejected = "rejected"


class Kind(StrEnum):
    """The kinds of body that are asked for; each has a reader and a cap."""

    properties = "properties"
    information = "information"
    identifiers = "identifiers"
    records = "records"
    sdf = "sdf"
    png = "png"
    view = "view"


CAPS = {
    Kind.properties: 4 << 20, Kind.information: 32 << 20, Kind.identifiers: 4 << 20, Kind.records: 4 << 20,
    Kind.sdf: 16 << 20, Kind.png: 2 << 20, Kind.view: 16 << 20,
}
"""The most decoded bytes that an answer of a kind may have."""

_TYPES = {Kind.sdf: ("chemical/x-mdl-sdfile",), Kind.png: ("image/png",)}
_JSON_TYPES = ("application/json",)


@dataclass(frozen=True)
class Expected:
    """What a request should bring: its kind, the CIDs asked for, and the tags that were asked for."""

    kind: Kind
    cids: frozenset[int] = frozenset()
    """Empty where the answer's CIDs are not known beforehand."""
    tags: tuple[str, ...] = ()
    """For information, the tag of the lists; for a view, the headings whose texts are wanted (all if none)."""
    partial: bool = False
    """Whether CIDs may be missing from the answer or refused (they are asked again singly)."""
    structures: Mapping[int, parse.Structure] = field(default_factory=dict)
    """For conformers, what they must be conformers of, by CID."""


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
    unusable: bool = False
    """Whether a retry is for what the answer says, not for how it came."""
    value: Any = None
    """What a present answer was read as."""


_REFUSED = frozenset({"BadRequest", "NotAllowed", "Unimplemented"})
_PROOF_STATUSES = frozenset({200, 404})
_LONGEST_FAULT = 1 << 16
BUSY_PAUSE = 0.0
"""What a busy judgement asks the transport to pause for at least, in seconds; how long is its policy's matter."""


def classify(status: int, headers: Mapping[str, str], body: bytes, expected: Expected) -> Judgement:
    """The meaning of an answer; never raises, whatever the bytes."""
    if fault := parse_fault(body):
        return _judge_fault(status, fault, "PUGVIEW" if expected.kind is Kind.view else "PUGREST")
    if status in (429, 503):
        return Judgement(Verdict.retry, f"HTTP {status}", busy=True)
    if status != 200:
        return Judgement(Verdict.retry, f"HTTP {status} without a fault that explains it")
    if not _type_fits(headers, expected.kind):
        return Judgement(Verdict.retry, f"the answer is not of the type that {expected.kind} has")
    try:
        value = _READERS[expected.kind](body, expected)
    except BodyError as error:
        return Judgement(Verdict.retry, str(error), unusable=isinstance(error, ContentError))
    return Judgement(Verdict.present, "valid", value=value)


def _judge_fault(status: int, fault: Fault, asked: str) -> Judgement:
    said = f"HTTP {status}, {fault.family}.{fault.code}: {fault.message}"[:300]
    own = fault.family == asked
    if own and fault.code == "NotFound" and status in _PROOF_STATUSES:
        return Judgement(Verdict.absent, said, fault)
    if own and fault.code in _REFUSED and status < 500 and status != 429:
        return Judgement(Verdict.rejected, said, fault)
    return Judgement(Verdict.retry, said, fault, busy=fault.code == "ServerBusy" or status in (429, 503))


def parse_fault(body: bytes) -> Fault | None:
    """The fault in a JSON or text body, or None if there is none."""
    if len(body) > _LONGEST_FAULT:
        return None
    if body[:7] == b"Status:":
        return _text_fault(body[:4000].decode("utf-8", "replace"))
    if b'"Fault"' not in body[:4096]:
        return None
    try:
        document = load_json(body)
        said = schema.validated(schema.FaultBody, document.get("Fault") if len(document) == 1 else None, "a fault")
    except BodyError:
        return None
    return _fault(said.Code, said.Message)


def _text_fault(text: str) -> Fault | None:
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return _fault(lines["Code"], lines.get("Message", "")) if "Code" in lines else None


def _fault(code: str, message: str) -> Fault | None:
    family, dot, name = code.strip().partition(".")
    return Fault(family, name, message) if dot and family in ("PUGREST", "PUGVIEW") else None


def _type_fits(headers: Mapping[str, str], kind: Kind) -> bool:
    named = {key.lower(): value for key, value in headers.items()}.get("content-type", "")
    return named.split(";")[0].strip().lower() in _TYPES.get(kind, _JSON_TYPES)


def _properties(body: bytes, expected: Expected) -> Any:
    return _complete(parse.parse_properties(body, expected.cids), expected)


def _information(body: bytes, expected: Expected) -> Any:
    return _complete(parse.parse_lists(body, expected.tags[0], expected.cids), expected)


def _records(body: bytes, expected: Expected) -> Any:
    return _complete(parse.parse_record(body, expected.cids), expected)


def _sdf(body: bytes, expected: Expected) -> Any:
    structures = {cid: expected.structures.get(cid, parse.Structure()) for cid in expected.cids}
    return _complete(parse.parse_conformers(body, structures), expected)


def _complete(found: parse.ParsedCompounds[Any], expected: Expected) -> parse.ParsedCompounds[Any]:
    """What was found, if it is all that was asked for or may be a part of it; raises ContentError otherwise."""
    if not expected.partial:
        if found.refused:
            raise ContentError(next(iter(found.refused.values())))
        if found.values.keys() != expected.cids:
            raise ContentError("compounds are missing from the answer")
    return found


_READERS: dict[Kind, Callable[[bytes, Expected], Any]] = {
    Kind.properties: _properties,
    Kind.information: _information,
    Kind.identifiers: lambda body, _: parse.parse_cids(body),
    Kind.records: _records,
    Kind.sdf: _sdf,
    Kind.png: lambda body, _: read_png(body),
    Kind.view: lambda body, expected: parse.parse_view(body, expected.cids, expected.tags or None),
}


class RejectedError(SourceError):
    """The service understood the request and refused it."""


def judge_answer(answer: Any, expected: Expected) -> Judgement:
    """The judgement of a transport's answer when it is present or absent.

    Raises Transient when it is to be asked again, Unusable when what it says cannot be true, RejectedError when the
    service refuses the request itself.
    """
    judgement = classify(answer.status, answer.headers, answer.body, expected)
    if judgement.unusable:
        raise Unusable(f"the answer cannot be used: {judgement.reason}", answered=True)
    if judgement.verdict is Verdict.retry:
        raise Transient(judgement.reason, retry_after=BUSY_PAUSE if judgement.busy else None,
                        answered=not judgement.busy)
    if judgement.verdict is Verdict.rejected:
        raise RejectedError(
            f"the service rejects the request: {judgement.reason}",
            hint="this is a mistake in mkmed or a change of PubChem's interface: please report it",
        )
    return judgement
