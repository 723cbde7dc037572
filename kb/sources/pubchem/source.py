"""PubChem by PUG REST and PUG View: identities, properties, pictures, descriptions and 3D conformers of compounds.

Every request goes through ``kb.http.client``; every answer is judged in ``ask``. Three stages: what
the user asked for becomes CIDs, CIDs become drugs with properties (``Lookup``), drugs get pictures, texts and
conformers (``Cells``). What has been committed is never asked for again, so the same command goes on where the last one
stopped, in any number of processes.
Documentation: https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest and https://pubchem.ncbi.nlm.nih.gov/docs/pug-view
"""

from __future__ import annotations

import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, ClassVar, TypeVar

from sqlalchemy import Connection, bindparam, func, select, union_all, update
from sqlalchemy.dialects.postgresql import insert

from kb import output
from kb.errors import DataError, TransportError, Unusable, UsageError
from kb.http.client import Transport, policy_for
from kb.ledger.entries import claim_cells, due_cells, lease_values, open_cells, release_dead, unleased, write_lookup
from kb.licences import LICENCES, NCBI, Licence
from kb.modalities import Modality, State
from kb.normalise import Identifier, recognise_identifier, tidy
from kb.schema.identity import drug_record
from kb.schema.ledger import cell, lookup
from kb.schema.payloads import property_set
from kb.sources.contract import (
    AtcRecord,
    ConformerRecord,
    Document,
    ImageRecord,
    IngestOptions,
    Outcome,
    Part,
    Plan,
    PropertyRecord,
    RecordBatch,
    Source,
    TextRecord,
)
from kb.sources.pubchem.ask import BATCH, Asker, Miss, RejectedError, Reply, Workers
from kb.sources.pubchem.parse import DESCRIPTION, HEADINGS, TAGS, Conformer, Structure
from kb.sources.pubchem.proof import (
    CID,
    MAX_NAME,
    NO_PARENT,
    Compound,
    contradicts,
    is_titled,
    is_unit,
    licence_of,
    record_of,
    three_d_rule,
)
from kb.sources.pubchem.targets import told

if TYPE_CHECKING:
    from kb.http.pace import Policy
    from kb.ingest.engine import Job


# What the user asks PubChem for, read from free text, and the ledger of those questions.

T = TypeVar("T")

SLICE = 5000
MAX_SMILES = 10_000
_AS_NAME = {"cas": "{}", "chembl": "{}", "chebi": "CHEBI:{}", "unii": "{}"}
"""Namespaces that PubChem finds among a compound's synonyms."""


@dataclass(frozen=True, slots=True, order=True)
class KeyQuestion:
    """One thing asked for: ``namespace`` is name, smiles, inchikey, drugbank or pubchem.compound."""

    namespace: str
    value: str

    @property
    def key(self) -> str:
        """Its key in the ledger."""
        return f"{self.namespace}:{self.value}"

    @classmethod
    def parse_key(cls, key: str) -> KeyQuestion:
        """The question behind a key of the ledger."""
        namespace, _, value = key.partition(":")
        return cls(namespace, value)


_OTHER_NUMBER = re.compile(r"[+\-\u2212]?\d+(\.\d*)?([eE][+-]?\d+)?")
"""Digits with a sign, a point or an exponent, as a spreadsheet writes a CID."""


def read_question(text: str) -> KeyQuestion:
    """The question that a line of input is: a CID, an identifier, SMILES or a name; raises DataError for nonsense.

    ``cid:``, ``name:`` and ``smiles:`` say which it is. Without them digits are a CID, and whatever RDKit reads as a
    molecule is SMILES.
    """
    text = tidy(text)
    prefix, colon, rest = text.partition(":")
    prefix, rest = prefix.lower().strip(), rest.strip()
    if colon and prefix in ("name", "smiles"):
        return _checked(prefix, rest)
    if colon and prefix == "cid":
        return KeyQuestion(CID, Identifier.make(CID, rest).value)
    if text.isascii() and text.isdigit():
        return KeyQuestion(CID, Identifier.make(CID, text).value)
    if _OTHER_NUMBER.fullmatch(text):
        raise DataError(f"{text!r} is a number, but no CID", hint=f"name:{text} asks for it as a name")
    found = recognise_identifier(text)
    if found is None:
        return _checked("smiles" if _is_smiles(text) else "name", text)
    if found.namespace in (CID, "inchikey", "drugbank"):
        return KeyQuestion(found.namespace, found.value)
    if found.namespace in _AS_NAME:
        return KeyQuestion("name", _AS_NAME[found.namespace].format(found.value).lower())
    raise DataError(f"PubChem cannot be asked by {found.namespace}",
                    hint="give a name, SMILES, InChIKey, DrugBank id or CID")


def _checked(namespace: str, value: str) -> KeyQuestion:
    limit = MAX_NAME if namespace == "name" else MAX_SMILES
    if not value or len(value) > limit:
        raise DataError(f"a {namespace} has between 1 and {limit} characters, not {len(value)}")
    return KeyQuestion(namespace, value.lower() if namespace == "name" else value)


def _is_smiles(text: str) -> bool:
    if " " in text or len(text) > MAX_SMILES:
        return False
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    return molecule is not None and molecule.GetNumAtoms() > 0


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What the ledger knows of a question."""

    key: str
    state: str
    evidence: str | None
    drug_id: int | None
    updated_at: datetime
    error: str | None = None

    @property
    def cid(self) -> int | None:
        """The CID that a name or structure led to, or that the question is."""
        text = self.key if self.key.startswith(CID + ":") else (self.evidence or "")
        value = text.partition(":")[2].partition(" ")[0]
        return int(value) if text.startswith(CID + ":") and value.isdigit() else None


FOUND = (lookup.c.key, lookup.c.state, lookup.c.evidence, lookup.c.drug_id, lookup.c.updated_at, lookup.c.last_error)
"""The columns of ``Found``."""


def open_questions(connection: Connection, run_id: uuid.UUID, source: str, keys: Iterable[str]) -> None:
    """Enter the questions that are new, in state ``unknown``."""
    for part in slices(sorted(set(keys)), SLICE):
        rows = [{"source": source, "key": k, "state": State.unknown, "run_id": run_id} for k in part]
        connection.execute(insert(lookup).on_conflict_do_nothing(), rows)


def known_questions(connection: Connection, source: str, keys: Sequence[str] | None = None) -> dict[str, KnownAnswer]:
    """What the ledger knows of the questions (of all if None), by key."""
    query = select(*FOUND).where(lookup.c.source == source)
    if keys is None:
        return {row.key: KnownAnswer(*row) for row in connection.execute(query)}
    found: dict[str, KnownAnswer] = {}
    for part in slices(keys, SLICE):
        found |= {row.key: KnownAnswer(*row) for row in connection.execute(query.where(lookup.c.key.in_(part)))}
    return found


def is_due(found: KnownAnswer, options: IngestOptions, since: datetime) -> bool:
    """Whether a question is to be asked (again) by a run that began at ``since``."""
    if found.state == State.unknown:
        return True
    if found.state in (State.present, State.absent) and found.error is not None and found.updated_at < since:
        return True  # it was to be refreshed, and could not be
    if found.state in (State.failed, State.rejected) and options.retry_failed and found.updated_at < since:
        return True
    if options.refresh_days is None or found.updated_at >= since:
        return False
    lasting = found.state == State.present and not found.key.startswith(CID + ":")  # a name keeps its CID
    return not lasting and found.updated_at < datetime.now(UTC) - timedelta(days=options.refresh_days)


def claim_questions(
    connection: Connection, run_id: uuid.UUID, source: str, keys: Sequence[str], options: IngestOptions,
    since: datetime, again: Collection[str] = (),
) -> list[str]:
    """Those of the keys that are due (or to be asked ``again``), claimed by the run beyond the end of the transaction.

    What another process is asking now is passed over.
    """
    query = select(*FOUND).where(lookup.c.source == source, lookup.c.key.in_(list(keys)), unleased(lookup, run_id))
    rows = connection.execute(query.order_by(lookup.c.key).with_for_update(skip_locked=True, of=lookup))
    claimed = [row.key for row in rows if row.key in again or is_due(KnownAnswer(*row), options, since)]
    if claimed:
        mine = update(lookup).where(lookup.c.source == source, lookup.c.key.in_(claimed))
        connection.execute(mine.values(**lease_values(run_id)))
    return claimed


def link_questions(connection: Connection, source: str, drugs: Mapping[str, int]) -> None:
    """Point questions, by key, at the drugs that they led to."""
    rows = [{"of": source, "asked": key, "drug": drug_id} for key, drug_id in sorted(drugs.items())]
    if rows:
        connection.execute(
            update(lookup)
            .where(lookup.c.source == bindparam("of"), lookup.c.key == bindparam("asked"))
            .values(drug_id=bindparam("drug")),
            rows,
        )


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in consecutive parts of at most ``size``."""
    return (items[at:at + size] for at in range(0, len(items), size))


# From what was asked for to drugs: names and structures to CIDs, CIDs to identities and properties.

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

        note = str(Modality.property) if batch.drugs else "look-ups"
        return Part(batch, also=write, then=then, size=len(notes), note=note)

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
            record = record_of(compound, document, synonyms.get(cid, ()), numbers.get(cid, ()), questions)
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


# From drugs to their pictures, texts and conformers: one part a cell, or a batch of conformers.
#
# A cell is claimed in a short transaction, asked for without one, and handed over to be written.

METHOD = "PubChem3D (OMEGA, MMFF94s)"
Cell = tuple[Modality, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides how a drug's conformer is asked for."""

    cid: int
    rule: str | None
    structure: Structure

    @property
    def salt(self) -> bool:
        """Whether it has several covalent units."""
        return "." in (self.structure.smiles or "")


@dataclass
class Cells:
    """The last stage of an ingest: every cell that is due."""

    job: Job
    asker: Asker
    crew: Workers
    _asked: set[Cell] = field(default_factory=set)
    _alone: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def _source(self) -> str:
        return self.job.source.name

    def fill(self, modalities: Sequence[Modality], drugs: Sequence[int] | None) -> Iterator[Part]:
        """Every due cell of the drugs (of all, if None) until none is left, other processes' share included."""
        while True:
            due = [c for c in self.due(modalities, drugs) if c not in self._asked]
            if not due:
                return
            before = len(self._asked)
            yield from self._conformers([drug for modality, drug in due if modality is Modality.structure])
            single = [c for c in due if c[0] is not Modality.structure or c[1] in self._alone]
            yield from self.crew.each(self._one, [c for c in single if c not in self._asked])
            if len(self._asked) == before:
                self.job.transact(lambda c: release_dead(c, self._source))
                self.asker.transport.pace.sleep(POLL)

    def due(self, modalities: Sequence[Modality], drugs: Sequence[int] | None) -> list[Cell]:
        """The cells that are due, drug by drug."""
        options = self.job.options

        def read(connection: Connection) -> list[Cell]:
            found: list[Cell] = []
            for modality in modalities:
                query = due_cells(self._source, modality, retry_failed=options.retry_failed,
                                  retry_rejected=options.retry_failed, refresh_days=options.refresh_days,
                                  since=self.job.started_at)
                found += [(modality, row.drug_id) for row in connection.execute(query)]
            return found

        wanted = None if drugs is None else set(drugs)
        found = self.job.transact(read)
        return sorted((c for c in found if wanted is None or c[1] in wanted), key=lambda c: (c[1], c[0]))

    def _claim(self, modality: Modality, drugs: Sequence[int]) -> dict[int, Facts]:
        """What is known of those of the drugs whose cell no other process works on; they are this run's now."""
        options = self.job.options

        def claim(connection: Connection) -> dict[int, Facts]:
            claimed = claim_cells(
                connection, self.job.run_id, self._source, modality, len(drugs), retry_failed=options.retry_failed,
                retry_rejected=options.retry_failed, refresh_days=options.refresh_days, since=self.job.started_at,
                drug_ids=drugs,
            )
            return self._facts(connection, claimed)

        return self.job.transact(claim)

    def _settled(self, modality: Modality, batch: RecordBatch) -> Part:
        """The batch; its cells count as asked for once they are committed."""
        drugs = {int(p.drug) for p in batch.payloads} | {int(o.drug) for o in batch.outcomes}
        asked = {(modality, drug) for drug in drugs}
        return Part(batch, then=lambda: self._asked.update(asked), size=len(drugs), note=str(modality))

    def _one(self, wanted: Cell) -> Part | None:
        modality, drug = wanted
        facts = self._claim(modality, [drug]).get(drug)
        if facts is None:
            return None
        ask = {Modality.image: self._image, Modality.text: self._text, Modality.structure: self._structure}
        batch = self.crew.attempt(lambda: ask[modality](drug, facts))
        if isinstance(batch, Miss):
            batch = RecordBatch(outcomes=[Outcome(drug, modality, batch.state, error=batch.error)])
        return self._settled(modality, batch)

    def _image(self, drug: int, facts: Facts) -> RecordBatch:
        reply = self.asker.image(facts.cid)
        if not reply.present:
            return _absent(drug, Modality.image, reply)
        width, height = reply.value
        return RecordBatch(payloads=[ImageRecord(drug, reply.document, width, height)])

    def _text(self, drug: int, facts: Facts) -> RecordBatch:
        """The description, and what stands under the further headings that were asked for."""
        wanted = [HEADINGS[name] for name in self.job.options.headings or () if name != "targets"]
        replies = [(heading, self._view(facts.cid, heading)) for heading in (DESCRIPTION, *wanted)]
        batch = RecordBatch()
        for heading, reply in replies:
            if not reply.present:
                continue
            document = replace(reply.document, licence=reply.value.licence.id)
            if heading == HEADINGS["atc"]:
                codes = {code for p in reply.value.passages for code in _ATC.findall(p.content)}
                batch.atc += [AtcRecord(drug, document, code) for code in sorted(codes)]
                continue
            batch.payloads += [
                TextRecord(drug, document, p.provider, p.content,
                           licence_of(p.provider, p.licence_note, p.licence_url).id, p.heading, p.url,
                           is_note=p.content.startswith("See also:"))
                for p in reply.value.passages
            ]
        if "targets" in (self.job.options.headings or ()):
            batch.payloads += self._targets(drug, facts.cid)
        if not batch.payloads:
            batch.outcomes += _absent(drug, Modality.text, replies[0][1]).outcomes
        return batch

    def _targets(self, drug: int, cid: int) -> list[TextRecord]:
        """A text of its targets for each source that PubChem quotes, under that source's licence."""
        try:
            quoted = self.asker.quoted(cid)
            table = self.asker.targets(cid) if quoted.present else quoted
        except RejectedError as refusal:  # as of views
            raise TransportError(refusal.message) from refusal
        if not table.present:
            return []
        document = replace(table.document, licence=quoted.value.licence.id)
        return [TextRecord(drug, document, provider, content, licence.id, HEADINGS["targets"], page)
                for provider, content, licence, page in told(table.value, quoted.value)]

    def _view(self, cid: int, heading: str) -> Reply:
        try:
            return self.asker.view(cid, heading)
        except RejectedError as refusal:
            # Some records without the heading are said to be refused instead of not found. That is no proof of
            # absence, and no reason to stop: if every record is refused, the crew stops.
            raise TransportError(refusal.message) from refusal

    def _structure(self, drug: int, facts: Facts) -> RecordBatch:
        """The conformer of one drug; a salt's is its parent's."""
        cid = facts.cid
        if facts.salt:
            reply = self.asker.parent(facts.cid)
            if not reply.present:
                return RecordBatch(outcomes=[Outcome(drug, Modality.structure, State.absent, evidence=NO_PARENT,
                                               document=reply.document)])
            if not reply.value:
                raise Unusable(f"CID {cid} is known, but its parent's CID is said to be 0")
            cid = reply.value[0]
        reply = self.asker.conformers({cid: facts.structure}).replies[0]
        if not reply.present:
            if cid != facts.cid:
                self._require_parent(cid, facts)
            return _absent(drug, Modality.structure, reply)
        note = None if cid == facts.cid else f"of the parent compound, {CID}:{cid}"
        return RecordBatch(payloads=[_conformer(drug, _part(reply.document, found), found, note)
                               for found in reply.value.values.values()])

    def _require_parent(self, cid: int, facts: Facts) -> None:
        """Raise Unusable when a compound is no unit of the salt whose parent it is said to be."""
        reply = self.asker.record(cid)
        parent = reply.value.values[cid].smiles if reply.present else None
        if not parent or not is_unit(parent, facts.structure.smiles or ""):
            raise Unusable(f"CID {cid} is no unit of the salt whose parent it is said to be")

    def _conformers(self, drugs: Sequence[int]) -> Iterator[Part]:
        """Conformers, asked for a hundred at a time; salts, and what a list leaves out, are left to be asked alone."""
        batched = [drug for drug in drugs if drug not in self._alone]
        return self.crew.each(self._conformer_batch, list(slices(batched, BATCH)))

    def _conformer_batch(self, drugs: Sequence[int]) -> Part | None:
        facts = self._claim(Modality.structure, drugs)
        batch = RecordBatch(outcomes=[
            Outcome(drug, Modality.structure, State.absent, evidence=f.rule) for drug, f in facts.items() if f.rule
        ])
        asked = {f.cid: drug for drug, f in facts.items() if not (f.rule or f.salt)}
        records = self.crew.attempt(lambda: self._records({facts[drug].cid: facts[drug].structure
                                                           for drug in asked.values()}))
        if not isinstance(records, Miss):
            batch.payloads += [_conformer(asked[found.cid], document, found, None) for found, document in records]
        settled = {int(r.drug) for r in (*batch.payloads, *batch.outcomes)}
        with self._lock:
            self._alone.update(drug for drug in facts if drug not in settled)
        return self._settled(Modality.structure, batch) if settled else None

    def _records(self, structures: Mapping[int, Structure]) -> list[tuple[Conformer, Document]]:
        """The conformers that a list brought, each with a document of its own; those it did not are asked for alone."""
        told = self.asker.conformers(structures).found() if structures else {}
        return [(found, _part(document, found)) for found, document in told.values()]

    def _facts(self, connection: Connection, drugs: Iterable[int]) -> dict[int, Facts]:
        """By drug: its CID at PubChem (the smallest, if two became one drug), and what keeps it from 3D."""
        query = (
            select(drug_record.c.drug_id, drug_record.c.key, drug_record.c.smiles, drug_record.c.formula,
                   property_set.c["values"])
            .outerjoin(property_set, (property_set.c.drug_id == drug_record.c.drug_id)
                       & (property_set.c.source == drug_record.c.source))
            .where(drug_record.c.source == self._source, drug_record.c.drug_id.in_(list(drugs)))
        )
        found: dict[int, Facts] = {}
        for drug, key, smiles, formula, values in connection.execute(query):
            cid = int(key.partition(":")[2])
            if drug not in found or cid < found[drug].cid:
                rotatable = (values or {}).get("rotatable_bonds", 0)
                rule = None if "." in (smiles or "") else three_d_rule(smiles, formula or "", rotatable)
                found[drug] = Facts(cid, rule, Structure(smiles, formula or ""))
        return found


def _part(whole: Document, found: Conformer) -> Document:
    """The bytes of one record of an SD file as a document of its own."""
    return replace(whole, payload=found.record, url=f"{whole.url.partition('#')[0]}#cid={found.cid}")


def _absent(drug: int, modality: Modality, reply: Reply) -> RecordBatch:
    absent = Outcome(drug, modality, State.absent, evidence=reply.evidence, document=reply.document)
    return RecordBatch(outcomes=[absent])


def _conformer(drug: int, document: Document, found: Conformer, note: str | None) -> ConformerRecord:
    return ConformerRecord(drug, document, found.molblock, found.heavy_atoms, METHOD, found.energy, note)


THREADS = 8
"""Requests under way at once: enough to keep 4 a second while answers take up to 2 s."""
MAX_THREADS = 12
"""Each holds a database connection while it waits."""
BYTES = {Modality.image: 12_000, Modality.text: 8_000, Modality.structure: 5_000}
IDENTITY_BYTES = 2_500
REQUESTS_A_BATCH = 3
TOLD = 10
"""Of what is unknown to PubChem, as many are named."""
_ATC = re.compile(r"\b[A-Z]\d\d[A-Z]{2}\d\d\b")
ALONE = 0.1
"""The part of conformers that are asked for alone: salts, and what a list leaves out."""


class PubChem(Source):
    """The source ``pubchem``: ``--ids`` takes names, CIDs, SMILES, InChIKeys and DrugBank ids, one a line."""

    name: ClassVar[str] = "pubchem"
    title: ClassVar[str] = "PubChem"
    url: ClassVar[str] = "https://pubchem.ncbi.nlm.nih.gov"
    origin: ClassVar[str] = "fetched"
    licences: ClassVar[tuple[Licence, ...]] = (NCBI, *(known for known in LICENCES.values() if known is not NCBI))
    modalities: ClassVar[tuple[str, ...]] = (*FETCHED, Modality.property)

    options: ClassVar[frozenset[str]] = frozenset(
        {"ids", "limit", "workers", "modalities", "headings", "retry_failed", "refresh_days"}
    )

    policy: ClassVar[Policy | None] = None
    """Set by tests, which have no time for PubChem's."""

    def plan(self, job: Job) -> Plan:
        """The keys, requests, seconds and bytes of what is still due, as far as the ledger tells."""
        questions, refused = _questions(job)
        known = job.transact(lambda c: known_questions(c, self.name, [q.key for q in questions]))
        due = [q for q in questions if q.key not in known or is_due(known[q.key], job.options, job.started_at)]
        fresh = [q for q in due if q.key not in known or known[q.key].drug_id is None]
        names = sum(1 for q in due if q.namespace != CID)
        wanted = _modalities(job)
        cells = self._cells(job, [f.drug_id for f in known.values() if f.drug_id]) if known else {}
        counts = {m: cells.get(m, 0) + len(fresh) for m in wanted}
        requests = names + REQUESTS_A_BATCH * ceil(len(due) / BATCH)
        for modality, count in counts.items():
            alone = ceil(count * ALONE * 2)
            requests += ceil(count / BATCH) + alone if modality is Modality.structure else count
            headings = job.options.headings or ()
            requests += count * (len(headings) + headings.count("targets")) if modality is Modality.text else 0
        volume = len(due) * IDENTITY_BYTES + sum(BYTES[m] * count for m, count in counts.items())
        rate = (self.policy or policy_for(job.settings.pubchem_url, job.settings)).per_second
        notes = tuple(f"line {number}: {reason}" for number, reason in refused[:10])
        return Plan(len(questions), requests, requests / rate, volume, notes)

    def _cells(self, job: Job, drugs: Sequence[int]) -> dict[Modality, int]:
        counts = dict.fromkeys(_modalities(job), 0)
        # Nothing is asked here: an estimate needs no transport.
        cells = Cells(job, None, None)  # type: ignore[arg-type]
        for modality, _ in cells.due(list(counts), drugs):
            counts[modality] += 1
        return counts

    def read(self, job: Job) -> Iterator[Part]:
        """Everything that is due of what the user asked for; without ``ids``, of all that was ever asked for."""
        questions, refused = _questions(job)
        for number, reason in refused:
            output.say(f"line {number} was passed over: {reason}")
        if not job.settings.contact:
            output.say("PubChem asks for a contact address: set MKMED_CONTACT to your e-mail")
        threads = min(job.options.workers or THREADS, MAX_THREADS)
        with Transport(job.settings.pubchem_url, job.settings, policy=self.policy, connections=threads) as transport:
            asker, workers = Asker(transport), Workers(threads, transport.pace.stop)
            try:
                yield from self._parts(job, asker, workers, questions)
            finally:
                job.counts["requests"] = transport.sent

    def _parts(self, job: Job, asker: Asker, workers: Workers, questions: Sequence[KeyQuestion]) -> Iterator[Part]:
        wanted = _modalities(job)
        job.expect(len(questions) * (1 + len(wanted)))
        stage = Lookup(job, asker, workers)
        cids = yield from stage.resolve(questions)
        yield from stage.identify(cids)
        known = job.transact(lambda c: known_questions(c, self.name, [f"{CID}:{cid}" for cid in cids]))
        drugs = sorted({found.drug_id for found in known.values() if found.drug_id is not None})
        yield from Cells(job, asker, workers).fill(wanted, drugs)
        workers.finish()
        _tell_unknown(job, questions)
        _tell_rejected(job)


def _tell_unknown(job: Job, questions: Sequence[KeyQuestion]) -> None:
    """Say what of the user's led to no compound, and count it."""
    known = job.transact(lambda c: known_questions(c, job.source.name, [q.key for q in questions]))
    unknown = sorted(key for key, found in known.items() if found.state == State.absent)
    job.counts["not_found"] = len(unknown)
    if unknown:
        more = f" and {len(unknown) - TOLD} more" if len(unknown) > TOLD else ""
        named = ", ".join(unknown[:TOLD])
        output.say(f"PubChem knows no compound for {len(unknown)} of {len(questions)}: {named}{more}")


def _tell_rejected(job: Job) -> None:
    """Say what was rejected in this run, and why, one line a kind of reason."""
    errors = union_all(*(
        select(table.c.last_error.label("said"))
        .where(table.c.source == job.source.name, table.c.state == State.rejected, table.c.run_id == job.run_id)
        for table in (cell, lookup)
    )).subquery()
    query = select(func.count(), func.mode().within_group(errors.c.said))
    count, said = job.transact(lambda c: c.execute(query).one())
    if count:
        output.say(f"{count} cells or look-ups were rejected, most often: {said}; --retry-failed asks for them again")


def _modalities(job: Job) -> list[Modality]:
    chosen = job.options.modalities
    unknown = set(chosen or ()) - set(PubChem.modalities)
    if unknown:
        raise UsageError(f"pubchem has no {', '.join(sorted(unknown))}", hint=f"it has {', '.join(PubChem.modalities)}")
    other = set(job.options.headings or ()) - set(HEADINGS)
    if other:
        raise UsageError(f"pubchem has no heading {', '.join(sorted(other))}", hint=f"it has {', '.join(HEADINGS)}")
    return [m for m in FETCHED if chosen is None or m in chosen]


def _questions(job: Job) -> tuple[list[KeyQuestion], list[tuple[int, str]]]:
    """What is asked, and the lines that nothing can be made of with the reasons."""
    refused: list[tuple[int, str]] = []
    questions: dict[KeyQuestion, None] = {}
    if job.options.ids is None:
        known = job.transact(lambda c: known_questions(c, "pubchem"))
        questions = {KeyQuestion.parse_key(key): None for key, found in known.items() if found.state != State.rejected}
    for number, text in enumerate(job.options.ids or (), 1):
        try:
            questions[read_question(text)] = None
        except DataError as error:
            refused.append((number, error.message))
    if job.options.ids is not None and not questions:
        first = f": line {refused[0][0]}: {refused[0][1]}" if refused else ""
        raise UsageError(f"there is nothing to ask for{first}", hint="--ids takes a file with one name or id a line")
    return list(questions)[:job.options.limit], refused
