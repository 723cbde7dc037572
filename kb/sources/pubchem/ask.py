"""What PubChem is asked, one method a question: each gives the judged answers as documents with provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from kb.errors import Blocked, SourceError, Transient, TransportError
from kb.http.client import HttpAnswer, Request, Transport
from kb.ingest.records import Document
from kb.licences import NCBI
from kb.sources.pubchem.answers import CAPS, Expected, Kind, RejectedError, Verdict, judge_answer, parse_fault
from kb.sources.pubchem.parse import DESCRIPTION, Structure

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
