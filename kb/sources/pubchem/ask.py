"""What PubChem is asked, a method a question; what its answers mean; and the threads that keep questions under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

from kb.errors import Blocked, SourceError, Transient, TransportError, Unusable
from kb.http.client import HttpAnswer, Request, Transport
from kb.licences import NCBI
from kb.modalities import State
from kb.sources.contract import Document
from kb.sources.pubchem import parse, targets
from kb.sources.pubchem.parse import DESCRIPTION, Structure, load_json, read_png
from kb.sources.pubchem.proof import BodyError, ContentError

# What an answer of PUG REST or PUG View means: present, absent, retry or rejected. Total: any bytes, any status.
#
# The rules, which keep an overloaded service from looking like an empty one:
#
# * ``absent`` needs positive proof: a parsed ``NotFound`` fault of the very service that was asked. Neither a status,
#   nor an empty list, nor a page of HTML, nor the other service's fault is one.
# * ``rejected`` means that the service understood us and refused (``BadRequest`` and the like).
# * ``present`` needs a 200 and a body that its kind's reader accepts.
# * Everything else is ``retry``; it is ``unusable`` when the body came whole and well formed, but says what cannot be
#   true. Such an answer is asked for once more, and then the item is rejected with the reason.
#
# Faults and statuses: https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest#section=Status-Codes

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
    quoted = "quoted"
    targets = "targets"


CAPS = {
    Kind.properties: 4 << 20, Kind.information: 32 << 20, Kind.identifiers: 4 << 20, Kind.records: 4 << 20,
    Kind.sdf: 16 << 20, Kind.png: 2 << 20, Kind.view: 16 << 20,
    Kind.quoted: 16 << 20, Kind.targets: 16 << 20,
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
        return _judge_fault(status, fault, "PUGVIEW" if expected.kind in (Kind.view, Kind.quoted) else "PUGREST")
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
        said = parse.validated(parse.FaultBody, document.get("Fault") if len(document) == 1 else None, "a fault")
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
    Kind.quoted: lambda body, expected: targets.parse_quoted(body, expected.cids),
    Kind.targets: lambda body, expected: targets.parse_targets(body, expected.cids),
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


# The questions: each gives the judged answers as documents with provenance.

PARSER = "kb.sources.pubchem.parse/1"
COMPOUND = "/pug/compound"
IMAGE_SIZE = "large"
"""300 x 300 pixels."""
SPOILT = 24
"""Useless answers to one list and its parts, after which it is given up."""
BATCH = 100
"""CIDs a POST; PubChem sets no limit but 30 s of running time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A present or absent answer; ``evidence`` is the fault that proves absence."""

    present: bool
    document: Document
    evidence: str
    value: Any = None
    """What a present answer says, as ``parse`` read it."""

    @property
    def body(self) -> bytes:
        """The answer's bytes."""
        return self.document.payload or b""


@dataclass(slots=True)
class Replies:
    """The replies to a question about many compounds, and why some have none."""

    replies: list[Reply] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)

    def found(self) -> dict[int, tuple[Any, Document]]:
        """What the replies say, by CID, each with its document; what they say wrongly is added to ``refused``."""
        told: dict[int, tuple[Any, Document]] = {}
        for reply in self.replies:
            if reply.present:
                self.refused |= reply.value.refused
                told |= {cid: (value, reply.document) for cid, value in reply.value.values.items()}
        return told


class _TooSlow(SourceError):
    """A list took longer than the service permits: ask in halves."""


class Asker:
    """PubChem by its questions, over one transport."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def _ask(self, request: Request, expected: Expected, *, of: str = "", splittable: bool = False) -> Reply:
        def judge(answer: HttpAnswer) -> Reply:
            if splittable and _timed_out(answer):
                raise _TooSlow("the list is too long for one request")
            judgement = judge_answer(answer, expected)
            return Reply(judgement.verdict is Verdict.present, _document(answer, of), judgement.reason, judgement.value)

        return self.transport.fetch(request, judge)

    def _ask_list(self, cids: Sequence[int], expected: Expected, build: Callable[[str], Request]) -> Replies:
        """The replies to one question about many CIDs, in as many requests as the service has time for.

        A list whose answer is of no use is asked for in halves, so that what spoils it costs itself only; more than
        ``SPOILT`` useless answers mean that it is the service. Raises TransportError or RejectedError then.
        """
        found = Replies()
        waiting = [tuple(cids)]
        useless: list[TransportError | RejectedError] = []
        while waiting:
            part = waiting.pop()
            listed = ",".join(map(str, part))
            wanted = replace(expected, cids=frozenset(part), partial=len(part) > 1)
            try:
                found.replies.append(self._ask(build(listed), wanted, of=f"cid={listed}", splittable=len(part) > 1))
            except _TooSlow:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
            except (TransportError, RejectedError) as error:
                useless.append(error)
                unanswered = isinstance(error, Blocked) or (isinstance(error, Transient) and not error.answered)
                if len(cids) == 1 or len(useless) > SPOILT or unanswered:
                    raise
                if len(part) == 1:
                    found.refused[part[0]] = error.message
                else:
                    waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
        if useless and not found.replies:
            raise useless[-1]
        return found

    def properties(self, cids: Sequence[int], tags: Sequence[str]) -> Replies:
        """Property tables of the CIDs; those that PubChem does not know are missing from them."""
        path = f"{COMPOUND}/cid/property/{','.join(tags)}/JSON"
        return self._ask_list(cids, Expected(Kind.properties), lambda c: _post(path, c, Kind.properties))

    def record(self, cid: int) -> Reply:
        """The full record of one CID."""
        request = Request(f"{COMPOUND}/cid/{cid}/JSON", cap=CAPS[Kind.records])
        return self._ask(request, Expected(Kind.records, frozenset({cid})))

    def lists(self, cids: Sequence[int], operation: str, tag: str) -> Replies:
        """``synonyms`` (tag Synonym) or ``xrefs/RN`` (tag RN) of the CIDs."""
        path = f"{COMPOUND}/cid/{operation}/JSON"
        expected = Expected(Kind.information, tags=(tag,))
        return self._ask_list(cids, expected, lambda c: _post(path, c, Kind.information))

    def conformers(self, structures: Mapping[int, Structure]) -> Replies:
        """SD files with the 3D conformers of those CIDs that have one, checked against their structures."""
        def build(listed: str) -> Request:
            return Request(f"{COMPOUND}/cid/SDF", {"record_type": "3d"}, {"cid": listed}, CAPS[Kind.sdf])

        return self._ask_list(sorted(structures), Expected(Kind.sdf, structures=structures), build)

    def image(self, cid: int) -> Reply:
        """The 2D depiction of one CID."""
        request = Request(f"{COMPOUND}/cid/{cid}/PNG", {"record_type": "2d", "image_size": IMAGE_SIZE},
                          cap=CAPS[Kind.png])
        return self._ask(request, Expected(Kind.png))

    def view(self, cid: int, heading: str = DESCRIPTION) -> Reply:
        """The PUG View record of one CID below one heading."""
        request = Request(f"/pug_view/data/compound/{cid}/JSON", {"heading": heading}, cap=CAPS[Kind.view])
        return self._ask(request, Expected(Kind.view, frozenset({cid}), (heading,)))

    def quoted(self, cid: int) -> Reply:
        """Whom PUG View quotes for the targets of one CID; absent where it knows of no targets."""
        request = Request(f"/pug_view/data/compound/{cid}/JSON", {"heading": targets.HEADING}, cap=CAPS[Kind.quoted])
        return self._ask(request, Expected(Kind.quoted, frozenset({cid})))

    def targets(self, cid: int) -> Reply:
        """The rows of PubChem's table of targets that are about one CID."""
        request = Request("/sdq/sdqagent.cgi", targets.question(cid), cap=CAPS[Kind.targets], beside=True)
        return self._ask(request, Expected(Kind.targets, frozenset({cid})))

    def parent(self, cid: int) -> Reply:
        """The parent compound of a salt or mixture, as a list of CIDs."""
        request = Request(f"{COMPOUND}/cid/cids/JSON", {"cids_type": "parent"}, {"cid": str(cid)})
        return self._ask(request, Expected(Kind.identifiers))

    def find(self, namespace: str, value: str) -> Reply:
        """CIDs by ``name``, ``smiles``, ``inchikey`` or ``drugbank``; free text goes by POST, never in the path."""
        if namespace == "drugbank":
            request = Request(f"/pug/substance/sourceid/DrugBank/{quote(value, safe='')}/cids/JSON")
        elif namespace == "inchikey":
            request = Request(f"{COMPOUND}/inchikey/{quote(value, safe='')}/cids/JSON")
        else:
            request = Request(f"{COMPOUND}/{namespace}/cids/JSON", form={namespace: value})
        return self._ask(request, Expected(Kind.identifiers))


def _post(path: str, listed: str, kind: Kind) -> Request:
    return Request(path, form={"cid": listed}, cap=CAPS[kind])


def _timed_out(answer: HttpAnswer) -> bool:
    fault = parse_fault(answer.body)
    return answer.status == 504 or (fault is not None and fault.code == "Timeout")


def _document(answer: HttpAnswer, of: str) -> Document:
    headers = {key.lower(): value for key, value in answer.headers.items()}
    return Document(
        source="pubchem",
        url=answer.url + (f"#{of}" if of else ""),
        media_type=headers.get("content-type", "application/octet-stream").split(";")[0].strip(),
        licence=NCBI.id,
        attribution=NCBI.attribution,
        retrieved_at=answer.retrieved_at,
        parser=PARSER,
        payload=answer.body,
        http_status=answer.status,
    )


# Threads that keep enough requests under way, and stop together.

T = TypeVar("T")
R = TypeVar("R")

FAILURES_IN_A_ROW = 25
"""So many items that failed one after the other mean that the service is down: go on later."""


@dataclass(frozen=True, slots=True)
class Miss:
    """An item without an answer: failed for now, or rejected for what the answer said."""

    state: State
    error: str


class Workers:
    """Works through items with ``size`` threads; the first error stops everybody, after what is under way is done."""

    def __init__(self, size: int, stop: Callable[[], None]) -> None:
        self.size = size
        self._stop = stop
        self._failures = 0
        self._answered = False
        self._refusal: RejectedError | None = None
        self._lock = threading.Lock()

    def each(self, work: Callable[[T], R | None], items: Iterable[T]) -> Iterator[R]:
        """What ``work`` makes of every item, as it is ready.

        After the first error, or Ctrl-C, what is under way is still handed over, and then the error is raised.
        """
        failure: BaseException | None = None
        waiting = iter(items)
        with ThreadPoolExecutor(self.size, thread_name_prefix="pubchem") as pool:
            under_way: set[Future[R | None]] = set()
            try:
                while True:
                    try:
                        if failure is None:
                            room = 2 * self.size - len(under_way)
                            under_way.update(pool.submit(work, item) for item in islice(waiting, room))
                        if not under_way:
                            break
                        wait(under_way, return_when=FIRST_COMPLETED)
                        for future in [future for future in under_way if future.done()]:
                            under_way.discard(future)
                            error = None if future.cancelled() else future.exception()
                            if error is not None:
                                raise error
                            if not future.cancelled() and (result := future.result()) is not None:
                                yield result
                    except Exception as error:  # noqa: BLE001 - raised below, once nothing is under way
                        failure = self._leave(under_way, failure or error)
                    except KeyboardInterrupt as stopped:
                        failure = self._leave(under_way, failure or stopped)
            except GeneratorExit as closed:
                self._leave(under_way, closed)
                raise
        if failure is not None:
            raise failure

    def _leave(self, under_way: Iterable[Future[R | None]], reason: BaseException) -> BaseException:
        self._stop()
        for future in under_way:
            future.cancel()
        return reason

    def attempt(self, question: Callable[[], T]) -> T | Miss:
        """The answer, or why an item has none.

        Raises Blocked, Transient when everything fails, and RejectedError when everything is rejected.
        """
        try:
            answer = question()
        except Blocked:
            raise
        except Unusable as error:  # the item's own matter: the service answers
            self._answered = True
            return Miss(State.rejected, error.message)
        except (TransportError, RejectedError) as error:
            self._failed(error)
            return Miss(State.rejected if isinstance(error, RejectedError) else State.failed, error.message)
        with self._lock:
            self._failures, self._answered = 0, True
        return answer

    def finish(self) -> None:
        """Raise what the service rejected if it answered nothing at all: then the mistake is in how it is asked."""
        if self._refusal is not None and not self._answered:
            raise self._refusal

    def _failed(self, error: SourceError) -> None:
        with self._lock:
            self._failures += 1
            if isinstance(error, RejectedError):
                self._refusal = error
                if self._failures >= FAILURES_IN_A_ROW:
                    raise error
            elif self._failures >= FAILURES_IN_A_ROW:
                raise Transient(
                    f"{self._failures} requests failed one after the other, the last with: {error}",
                    hint="everything so far is committed: run the same command again later",
                ) from error
