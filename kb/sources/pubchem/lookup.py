"""From what was asked for to drugs: names and structures to CIDs, CIDs to identities and properties."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from kb.ingest.records import Document, PropertyRecord, RecordBatch
from kb.ledger.cells import open_cells, write_lookup
from kb.ledger.leases import release_dead
from kb.modalities import Modality, State
from kb.sources.contract import Part
from kb.sources.pubchem.ask import BATCH, Asker, Reply
from kb.sources.pubchem.identity import contradicts, drug_record, is_titled
from kb.sources.pubchem.keys import (
    CID,
    KeyQuestion,
    KnownAnswer,
    claim_questions,
    is_due,
    known_questions,
    link_questions,
    open_questions,
    slices,
)
from kb.sources.pubchem.parse import TAGS
from kb.sources.pubchem.proof import Compound
from kb.sources.pubchem.workers import Miss, Workers

if TYPE_CHECKING:
    from kb.ingest.engine import Job

FETCHED = (Modality.image, Modality.text, Modality.structure)
"""The modalities that are asked for compound by compound, after identity and properties."""
NEVER_SEEN = "CID 0: PubChem has never seen this structure"
POLL = 0.25
"""Seconds between looks at what another process is doing."""

Rows = dict[int, tuple[Compound, Document]]
Lists = tuple[dict[int, tuple[str, ...]], dict[int, tuple[str, ...]], list[Document], dict[int, str]]


@dataclass(frozen=True, slots=True)
class Note:
    """What became of one question; the drug that has its key as the key of its record is linked to it."""

    key: str
    state: State
    evidence: str | None = None
    error: str | None = None


Also = Callable[[Connection, Mapping[str, int]], None]


@dataclass
class Lookup:
    """The first two stages of an ingest."""

    job: Job
    asker: Asker
    crew: Workers
    by_cid: dict[int, list[KeyQuestion]] = field(default_factory=lambda: defaultdict(list))
    """The questions that led to each CID."""
    _asked: set[str] = field(default_factory=set)
    _single: set[int] = field(default_factory=set)
    _unlinked: dict[KeyQuestion, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def _source(self) -> str:
        return self.job.source.name

    def resolve(self, questions: Sequence[KeyQuestion]) -> Generator[Part, None, list[int]]:
        """The CIDs of the questions, after every one that was due has been asked."""
        self._open([q.key for q in questions])
        asked = [q for q in questions if q.namespace != CID]
        yield from self._until_done([q.key for q in asked], lambda keys: self.crew.each(self._resolve_one, keys))
        known = self._known([q.key for q in asked])
        for question in questions:
            found = known.get(question.key)
            cid = int(question.value) if question.namespace == CID else found.cid if found else None
            if cid is not None:
                self.by_cid[cid].append(question)
            if found is not None and found.drug_id is None and cid is not None:
                self._unlinked[question] = cid
        return sorted(self.by_cid)

    def _recall(self, cids: set[int]) -> None:
        """Remember the DrugBank ids that led to the CIDs in earlier runs: a record is written as a whole."""
        known = self.job.transact(lambda c: known_questions(c, self._source))
        for key, found in known.items():
            if key.startswith("drugbank:") and found.state == State.present and found.cid in cids:
                question = KeyQuestion.parse_key(key)
                if question not in self.by_cid[int(found.cid or 0)]:
                    self.by_cid[int(found.cid or 0)].append(question)

    def identify(self, cids: Sequence[int]) -> Iterator[Part]:
        """Identity and properties of every CID that is due, a hundred at a time, and what is missing singly."""
        self._recall(set(cids))
        keys = [f"{CID}:{cid}" for cid in cids]
        self._open(keys)
        # A DrugBank id that was never linked to a drug is news for a compound that may be known already.
        again = {f"{CID}:{cid}" for question, cid in self._unlinked.items() if question.namespace == "drugbank"}

        def work(due: Sequence[str]) -> Iterator[Part]:
            batched = [key for key in due if int(key.partition(":")[2]) not in self._single]
            yield from self.crew.each(lambda part: self._identify(part, again), list(slices(batched, BATCH)))
            alone = [f"{CID}:{cid}" for cid in sorted(self._single)]
            yield from self.crew.each(lambda key: self._identify([key], again),
                                      [k for k in alone if k not in self._asked])

        yield from self._until_done(keys, work, again)
        known = self._known(keys)
        drugs = {q.key: known[f"{CID}:{cid}"].drug_id for q, cid in self._unlinked.items()}
        linked = {key: drug for key, drug in drugs.items() if drug is not None}
        self.job.transact(lambda c: link_questions(c, self._source, linked))

    def _open(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        self.job.transact(lambda c: open_questions(c, self.job.run_id, self._source, listed))

    def _known(self, keys: Sequence[str]) -> dict[str, KnownAnswer]:
        return self.job.transact(lambda c: known_questions(c, self._source, keys))

    def _until_done(self, keys: Sequence[str], work: Callable[[Sequence[str]], Iterator[Part]],
                    again: Iterable[str] = ()) -> Iterator[Part]:
        """Work on what is due until nothing is, other processes' share included."""
        forced = set(again)
        while True:
            known = self._known(keys)
            due = [k for k in keys if k not in self._asked
                   and (k in forced or is_due(known[k], self.job.options, self.job.started_at))]
            if not due:
                return
            before = len(self._asked)
            yield from work(due)
            if len(self._asked) == before:
                self.job.transact(lambda c: release_dead(c, self._source))
                self.asker.transport.pace.sleep(POLL)

    def _claim(self, keys: Sequence[str], again: Iterable[str] = ()) -> list[str]:
        """Those of the keys that are due and that no other process works on; they are this run's now."""
        job, forced = self.job, set(again)
        return job.transact(
            lambda c: claim_questions(c, job.run_id, self._source, keys, job.options, job.started_at, forced)
        )

    def _part(self, batch: RecordBatch, notes: Sequence[Note], also: Also | None = None) -> Part:
        """The batch with what became of the questions; they count as asked once that is committed."""
        run_id, source = self.job.run_id, self._source

        def write(connection: Connection, ids: Mapping[str, int]) -> None:
            for note in notes:
                write_lookup(connection, run_id, source, note.key, note.state, drug_id=ids.get(note.key),
                             evidence=note.evidence, error=note.error[:500] if note.error else None)
            if also is not None:
                also(connection, ids)

        def then() -> None:
            self._asked.update(note.key for note in notes)
            self.job.counts["failed_lookups"] += sum(note.state is State.failed for note in notes)

        return Part(batch, also=write, then=then, size=len(notes), note=notes[0].key[:40] if notes else "")

    def _resolve_one(self, key: str) -> Part | None:
        question = KeyQuestion.parse_key(key)
        if not self._claim([key]):
            return None
        reply = self.crew.attempt(lambda: self.asker.find(question.namespace, question.value))
        if isinstance(reply, Miss):
            return self._part(RecordBatch(), [Note(key, reply.state, error=reply.error)])
        cids: tuple[int, ...] = reply.value if reply.present else ()
        if cids:
            more = f" (first of {len(cids)})" if len(cids) > 1 else ""
            note = Note(key, State.present, evidence=f"{CID}:{cids[0]}{more}")
        else:
            note = Note(key, State.absent, evidence=NEVER_SEEN if reply.present else reply.evidence)
        return self._part(RecordBatch(documents=[reply.document]), [note])

    def _identify(self, keys: Sequence[str], again: Iterable[str]) -> Part | None:
        claimed = self._claim(keys, again)
        cids = [int(key.partition(":")[2]) for key in claimed]
        if not cids:
            return None
        single = len(cids) == 1 and cids[0] in self._single
        rows = self.crew.attempt(lambda: self._rows(cids, single))
        if isinstance(rows, Miss):
            return self._part(RecordBatch(), self._missed(cids, rows))
        found, absent = rows
        lists = self.crew.attempt(lambda: self._lists(sorted(found)))
        if isinstance(lists, Miss):
            return self._part(RecordBatch(), self._missed(cids, lists))
        unsaid = dict(lists[3])
        for cid, (compound, _) in found.items():
            if not is_titled(compound, lists[0].get(cid, ())):
                unsaid[cid] = f"the title {compound.title[:60]!r} is none of its synonyms"
        told = {cid: row for cid, row in found.items() if cid not in unsaid}
        notes = self._missing([cid for cid in cids if cid not in found], absent)
        for cid in sorted(unsaid):
            notes += self._missed([cid], Miss(State.rejected, unsaid[cid]))
        return self._compounds(told, lists, notes, [absent.document] if absent else [])

    def _missed(self, cids: Sequence[int], miss: Miss) -> list[Note]:
        """Notes of what has no answer; of a list that cannot be used, each compound is asked for alone, once."""
        with self._lock:
            alone = {cid for cid in cids if miss.state is State.rejected and cid not in self._single}
            self._single.update(alone)
        return [Note(f"{CID}:{cid}", miss.state, error=miss.error) for cid in cids if cid not in alone]

    def _rows(self, cids: Sequence[int], single: bool) -> tuple[Rows, Reply | None]:
        """The compounds found, and the proof when the one that was asked for is not there."""
        if single:
            reply = self.asker.record(cids[0])
            if not reply.present:
                return {}, reply
            return {cid: (compound, reply.document) for cid, compound in reply.value.values.items()}, None
        asked = self.asker.properties(cids, TAGS)
        absent = asked.replies[0] if len(cids) == 1 and not asked.replies[0].present else None
        return asked.found(), absent

    def _lists(self, cids: Sequence[int]) -> Lists:
        """Synonyms and registry numbers by CID, with their documents, and why some compounds' are not believed."""
        gathered: list[dict[int, tuple[str, ...]]] = []
        documents: list[Document] = []
        unsaid: dict[int, str] = {}
        for operation, tag in (("synonyms", "Synonym"), ("xrefs/RN", "RN")):
            values: dict[int, tuple[str, ...]] = {}
            if cids:
                asked = self.asker.lists(cids, operation, tag)
                values = {cid: texts for cid, (texts, _) in asked.found().items()}
                documents += [reply.document for reply in asked.replies]
                unsaid |= asked.refused
            gathered.append(values)
        return gathered[0], gathered[1], documents, unsaid

    def _compounds(self, found: Rows, lists: Lists, notes: Sequence[Note], proofs: Sequence[Document]) -> Part:
        """The compounds found, with cells for what is to be fetched next and the questions that led to them."""
        synonyms, numbers, documents, _ = lists
        batch = RecordBatch(documents=[*documents, *proofs])
        notes = list(notes)
        for cid, (compound, document) in sorted(found.items()):
            questions, others = self._meant(compound, synonyms.get(cid, ()), numbers.get(cid, ()))
            record = drug_record(compound, document, synonyms.get(cid, ()), numbers.get(cid, ()), questions)
            batch.drugs.append(record)
            batch.payloads.append(PropertyRecord(record.key, document, compound.values))
            notes += [Note(record.key, State.present), *others]

        def also(connection: Connection, ids: Mapping[str, int]) -> None:
            open_cells(connection, self.job.run_id, self._source, sorted(set(ids.values())), FETCHED)
            link_questions(connection, self._source, {
                question.key: ids[f"{CID}:{cid}"] for cid in found for question in self.by_cid.get(cid, [])
                if question.namespace != CID
            })

        return self._part(batch, notes, also)

    def _meant(self, compound: Compound, synonyms: Sequence[str], numbers: Sequence[str]
               ) -> tuple[list[KeyQuestion], list[Note]]:
        """The questions that led to a compound and mean it; others are noted as rejected, and forgotten."""
        meant: list[KeyQuestion] = []
        others: list[Note] = []
        with self._lock:
            for question in self.by_cid.get(compound.cid, []):
                reason = contradicts(question, compound, synonyms, numbers)
                if reason is None:
                    meant.append(question)
                else:
                    others.append(Note(question.key, State.rejected, error=reason))
                    self._unlinked.pop(question, None)
            if compound.cid in self.by_cid:
                self.by_cid[compound.cid] = meant
        return meant, others

    def _missing(self, cids: Sequence[int], proof: Reply | None) -> list[Note]:
        """Notes of compounds that are proven unknown; what a list left out is asked for again alone, once."""
        if proof is not None:
            return [Note(f"{CID}:{cid}", State.absent, evidence=proof.evidence) for cid in cids]
        with self._lock:
            twice = [cid for cid in cids if cid in self._single]
            self._single.update(cids)
        return [Note(f"{CID}:{cid}", State.failed, error="neither a record nor a proof of absence") for cid in twice]
