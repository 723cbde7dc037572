"""From what was asked for to drugs: names and structures to CIDs, CIDs to identities and properties."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from kb.ingest.records import Batch, Document, PropertyRecord
from kb.ledger.cells import open_cells, write_lookup
from kb.modalities import Modality, State
from kb.sources.pubchem.ask import BATCH, Asker, Reply
from kb.sources.pubchem.identity import contradicts, drug_record, is_titled
from kb.sources.pubchem.keys import (
    CID,
    Question,
    claim_questions,
    is_due,
    known_questions,
    link_questions,
    open_questions,
    slices,
)
from kb.sources.pubchem.parse import TAGS
from kb.sources.pubchem.proof import Compound
from kb.sources.pubchem.workers import Crew, Miss

if TYPE_CHECKING:
    from kb.ingest.engine import Job

FETCHED = (Modality.image, Modality.text, Modality.structure)
"""The modalities that are asked for compound by compound, after identity and properties."""
NEVER_SEEN = "CID 0: PubChem has never seen this structure"
POLL = 0.25
"""Seconds between looks at what another process is doing."""

Rows = dict[int, tuple[Compound, Document]]
Lists = tuple[dict[int, tuple[str, ...]], dict[int, tuple[str, ...]], list[Document], dict[int, str]]


@dataclass
class Lookup:
    """The first two stages of an ingest."""

    job: Job
    asker: Asker
    crew: Crew
    by_cid: dict[int, list[Question]] = field(default_factory=lambda: defaultdict(list))
    """The questions that led to each CID."""
    _asked: set[str] = field(default_factory=set)
    _single: set[int] = field(default_factory=set)
    _unlinked: dict[Question, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def _source(self) -> str:
        return self.job.source.name

    def resolve(self, questions: Sequence[Question]) -> list[int]:
        """The CIDs of the questions, after every one that was due has been asked."""
        self._open([q.key for q in questions])
        asked = [q for q in questions if q.namespace != CID]
        self._until_done([q.key for q in asked], lambda keys: self.crew.each(self._resolve_one, keys))
        with self.job.transaction() as connection:
            known = known_questions(connection, self._source, [q.key for q in asked])
        for question in questions:
            found = known.get(question.key)
            cid = int(question.value) if question.namespace == CID else found.cid if found else None
            if cid is not None:
                self.by_cid[cid].append(question)
            if found is not None and found.drug_id is None and cid is not None:
                self._unlinked[question] = cid
        return sorted(self.by_cid)

    def identify(self, cids: Sequence[int]) -> None:
        """Fetch identity and properties of every CID that is due, a hundred at a time, and what is missing singly."""
        keys = [f"{CID}:{cid}" for cid in cids]
        self._open(keys)
        # A DrugBank id that was never linked to a drug is news for a compound that may be known already.
        again = {f"{CID}:{cid}" for question, cid in self._unlinked.items() if question.namespace == "drugbank"}

        def work(due: Sequence[str]) -> None:
            batched = [key for key in due if int(key.partition(":")[2]) not in self._single]
            self.crew.each(lambda part: self._identify(part, again), list(slices(batched, BATCH)))
            alone = [f"{CID}:{cid}" for cid in sorted(self._single)]
            self.crew.each(lambda key: self._identify([key], again), [k for k in alone if k not in self._asked])

        self._until_done(keys, work, again)
        with self.job.transaction() as connection:
            known = known_questions(connection, self._source, keys)
            drugs = {q.key: known[f"{CID}:{cid}"].drug_id for q, cid in self._unlinked.items()}
            link_questions(connection, self._source, {key: drug for key, drug in drugs.items() if drug is not None})

    def _open(self, keys: Iterable[str]) -> None:
        with self.job.transaction() as connection:
            open_questions(connection, self.job.run_id, self._source, keys)

    def _until_done(self, keys: Sequence[str], work: Callable[[Sequence[str]], None], again: Iterable[str] = ()
                    ) -> None:
        """Work on what is due until nothing is, other processes' share included."""
        forced = set(again)
        while True:
            with self.job.transaction() as connection:
                known = known_questions(connection, self._source, keys)
            due = [k for k in keys if k not in self._asked
                   and (k in forced or is_due(known[k], self.job.options, self.job.started_at))]
            if not due:
                return
            before = len(self._asked)
            work(due)
            if len(self._asked) == before:
                self.asker.transport.pace.sleep(POLL)

    def _claim(self, connection: Connection, keys: Sequence[str], again: Iterable[str] = ()) -> list[str]:
        return claim_questions(connection, self._source, keys, self.job.options, self.job.started_at, set(again))

    def _note(self, connection: Connection, key: str, state: State, *, drug_id: int | None = None,
              evidence: str | None = None, error: str | None = None) -> None:
        write_lookup(connection, self.job.run_id, self._source, key, state, drug_id=drug_id, evidence=evidence,
                     error=error[:500] if error else None)
        with self._lock:
            self._asked.add(key)
            if state is State.failed:
                self.job.counts["failed_lookups"] += 1
        self.job.advance(note=key[:40])

    def _resolve_one(self, key: str) -> None:
        question = Question.parse_key(key)
        with self.job.transaction() as connection:
            if not self._claim(connection, [key]):
                return
            reply = self.crew.attempt(lambda: self.asker.find(question.namespace, question.value))
            if isinstance(reply, Miss):
                self._note(connection, key, reply.state, error=reply.error)
                return
            self.job.write_in(connection, Batch(documents=[reply.document]))
            cids: tuple[int, ...] = reply.value if reply.present else ()
            if not cids:
                self._note(connection, key, State.absent, evidence=NEVER_SEEN if reply.present else reply.evidence)
                return
            more = f" (first of {len(cids)})" if len(cids) > 1 else ""
            self._note(connection, key, State.present, evidence=f"{CID}:{cids[0]}{more}")

    def _identify(self, keys: Sequence[str], again: Iterable[str]) -> None:
        with self.job.transaction() as connection:
            claimed = self._claim(connection, keys, again)
            cids = [int(key.partition(":")[2]) for key in claimed]
            if not cids:
                return
            single = len(cids) == 1 and cids[0] in self._single
            rows = self.crew.attempt(lambda: self._rows(cids, single))
            lists = rows if isinstance(rows, Miss) else self.crew.attempt(lambda: self._lists(sorted(rows[0])))
            if isinstance(rows, Miss) or isinstance(lists, Miss):
                self._missed(connection, cids, rows if isinstance(rows, Miss) else lists)  # type: ignore[arg-type]
                return
            found, absent = rows
            synonyms, numbers, documents, unsaid = lists
            for cid, (compound, _) in found.items():
                if not is_titled(compound, synonyms.get(cid, ())):
                    unsaid[cid] = f"the title {compound.title[:60]!r} is none of its synonyms"
            told = {cid: row for cid, row in found.items() if cid not in unsaid}
            self._write(connection, told, synonyms, numbers, documents)
            self._missing(connection, [cid for cid in cids if cid not in found], absent)
            for cid in sorted(unsaid):
                self._missed(connection, [cid], Miss(State.rejected, unsaid[cid]))

    def _missed(self, connection: Connection, cids: Sequence[int], miss: Miss) -> None:
        """Note what has no answer; of a list that cannot be used, each compound is asked for alone, once."""
        alone = {cid for cid in cids if miss.state is State.rejected and cid not in self._single}
        for cid in cids:
            if cid not in alone:
                self._note(connection, f"{CID}:{cid}", miss.state, error=miss.error)
        with self._lock:
            self._single.update(alone)

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

    def _write(self, connection: Connection, found: Rows, synonyms: dict[int, tuple[str, ...]],
               numbers: dict[int, tuple[str, ...]], documents: list[Document]) -> None:
        batch = Batch(documents=documents)
        for cid, (compound, document) in sorted(found.items()):
            questions = self._meant(connection, compound, synonyms.get(cid, ()), numbers.get(cid, ()))
            record = drug_record(compound, document, synonyms.get(cid, ()), numbers.get(cid, ()), questions)
            batch.drugs.append(record)
            batch.payloads.append(PropertyRecord(record.key, document, compound.values))
        ids = self.job.write_in(connection, batch)
        for key, drug_id in ids.items():
            self._note(connection, key, State.present, drug_id=drug_id)
        open_cells(connection, self.job.run_id, self._source, sorted(set(ids.values())), FETCHED)
        link_questions(connection, self._source, {
            question.key: ids[f"{CID}:{cid}"] for cid in found for question in self.by_cid.get(cid, [])
            if question.namespace != CID
        })

    def _meant(self, connection: Connection, compound: Compound, synonyms: Sequence[str], numbers: Sequence[str]
               ) -> list[Question]:
        """The questions that led to a compound and mean it; others are rejected with the reason, and forgotten."""
        meant: list[Question] = []
        for question in self.by_cid.get(compound.cid, []):
            reason = contradicts(question, compound, synonyms, numbers)
            if reason is None:
                meant.append(question)
            else:
                self._note(connection, question.key, State.rejected, error=reason)
                self._unlinked.pop(question, None)
        if compound.cid in self.by_cid:
            self.by_cid[compound.cid] = meant
        return meant

    def _missing(self, connection: Connection, cids: Sequence[int], proof: Reply | None) -> None:
        """Note a compound that is proven unknown; what a list left out is asked for again alone, once."""
        if proof is not None:
            self.job.write_in(connection, Batch(documents=[proof.document]))
            for cid in cids:
                self._note(connection, f"{CID}:{cid}", State.absent, evidence=proof.evidence)
            return
        for cid in cids:
            if cid in self._single:
                self._note(connection, f"{CID}:{cid}", State.failed, error="neither a record nor a proof of absence")
        with self._lock:
            self._single.update(cids)
