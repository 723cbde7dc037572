"""From drugs to their pictures, texts and conformers: one part a cell, or a batch of conformers.

A cell is claimed in a short transaction, asked for without one, and handed over to be written.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from kb.errors import TransportError, Unusable
from kb.ingest.records import ConformerRecord, Document, ImageRecord, Outcome, RecordBatch, TextRecord
from kb.ledger.cells import claim_cells, due_cells
from kb.ledger.leases import release_dead
from kb.modalities import Modality, State
from kb.schema.identity import drug_record
from kb.schema.payloads import property_set
from kb.sources.contract import Part
from kb.sources.pubchem.answers import RejectedError
from kb.sources.pubchem.ask import BATCH, Asker, Reply
from kb.sources.pubchem.keys import CID, slices
from kb.sources.pubchem.parse import Conformer, Structure
from kb.sources.pubchem.proof import is_unit
from kb.sources.pubchem.rules import NO_PARENT, licence_of, three_d_rule
from kb.sources.pubchem.workers import Miss, Workers

if TYPE_CHECKING:
    from kb.ingest.engine import Job

METHOD = "PubChem3D (OMEGA, MMFF94s)"
POLL = 0.25
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
        try:
            reply = self.asker.view(facts.cid)
        except RejectedError as refusal:
            # Some records without the heading are said to be refused instead of not found. That is no proof of
            # absence, and no reason to stop: if every record is refused, the crew stops.
            raise TransportError(refusal.message) from refusal
        if not reply.present:
            return _absent(drug, Modality.text, reply)
        document = replace(reply.document, licence=reply.value.licence.id)
        return RecordBatch(payloads=[
            TextRecord(drug, document, p.provider, p.content,
                       licence_of(p.provider, p.licence_note, p.licence_url).id, p.heading, p.url,
                       is_note=p.content.startswith("See also:"))
            for p in reply.value.passages
        ])

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
