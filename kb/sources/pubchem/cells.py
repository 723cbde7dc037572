"""From drugs to their pictures, texts and conformers: one part a cell, or a batch of conformers.

A cell is claimed in a short transaction, asked for without one, and handed over to be written.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from kb.errors import TransportError
from kb.ingest.records import Batch, ConformerRecord, Document, ImageRecord, Outcome, TextRecord
from kb.ledger.cells import claim_cells, due_cells
from kb.ledger.claims import release_dead
from kb.modalities import Modality, State
from kb.schema.identity import drug_record
from kb.schema.payloads import property_set
from kb.sources.contract import Part
from kb.sources.pubchem.answers import RejectedError
from kb.sources.pubchem.ask import BATCH, VIEW_HEADING, Asker, Reply
from kb.sources.pubchem.bodies import BodyError, split_sdf
from kb.sources.pubchem.keys import CID, slices
from kb.sources.pubchem.parse import (
    check_composition,
    parse_cids,
    parse_conformer,
    parse_view,
    parse_view_licence,
    png_size,
)
from kb.sources.pubchem.rules import NO_PARENT, licence_of, three_d_rule
from kb.sources.pubchem.workers import Workers

if TYPE_CHECKING:
    from kb.ingest.engine import Job

METHOD = "PubChem3D (OMEGA, MMFF94s)"
POLL = 0.25
Cell = tuple[Modality, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides how a drug's conformer is asked for."""

    cid: int
    salt: bool
    rule: str | None
    formula: str


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
                                  refresh_days=options.refresh_days, since=self.job.started_at)
                found += [(modality, row.drug_id) for row in connection.execute(query)]
            return found

        wanted = None if drugs is None else set(drugs)
        found = self.job.transact(read)
        return sorted((c for c in found if wanted is None or c[1] in wanted), key=lambda c: (c[1], c[0]))

    def _claim(self, modality: Modality, drugs: Sequence[int]) -> dict[int, Facts]:
        """What is known of those of the drugs whose cell no other process works on; they are this run's now."""
        options = self.job.options

        def claim(connection: Connection) -> dict[int, Facts]:
            claimed = claim_cells(connection, self.job.run_id, self._source, modality, len(drugs),
                                  retry_failed=options.retry_failed, refresh_days=options.refresh_days,
                                  since=self.job.started_at, drug_ids=drugs)
            return self._facts(connection, claimed)

        return self.job.transact(claim)

    def _part(self, modality: Modality, batch: Batch) -> Part:
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
        batch, error = self.crew.attempt(lambda: ask[modality](drug, facts))
        if batch is None:
            batch = Batch(outcomes=[Outcome(drug, modality, State.failed, error=error)])
        return self._part(modality, batch)

    def _image(self, drug: int, facts: Facts) -> Batch:
        reply = self.asker.image(facts.cid)
        if not reply.present:
            return _absent(drug, Modality.image, reply)
        width, height = png_size(reply.body)
        return Batch(payloads=[ImageRecord(drug, reply.document, width, height)])

    def _text(self, drug: int, facts: Facts) -> Batch:
        try:
            reply = self.asker.view(facts.cid)
        except RejectedError as refusal:
            # Some records without the heading are said to be refused instead of not found. That is no proof of
            # absence, and no reason to stop: if every record is refused, the crew stops.
            raise TransportError(refusal.message) from refusal
        if not reply.present:
            return _absent(drug, Modality.text, reply)
        passages = parse_view(reply.body, (VIEW_HEADING,))
        if not passages:
            raise BodyError(f"a record without a text under {VIEW_HEADING}")
        document = replace(reply.document, licence=parse_view_licence(reply.body).id)
        return Batch(payloads=[
            TextRecord(drug, document, p.provider, p.content,
                       licence_of(p.provider, p.licence_note, p.licence_url).id, p.heading, p.url,
                       is_note=p.content.startswith("See also:"))
            for p in passages
        ])

    def _structure(self, drug: int, facts: Facts) -> Batch:
        """The conformer of one drug; a salt's is its parent's."""
        cid, note = facts.cid, None
        if facts.salt:
            reply = self.asker.parent(facts.cid)
            parents = parse_cids(reply.body) if reply.present else ()
            if not parents or parents[0] == facts.cid:
                return Batch(outcomes=[Outcome(drug, Modality.structure, State.absent, evidence=NO_PARENT,
                                               document=reply.document)])
            cid, note = parents[0], f"of the parent compound, {CID}:{parents[0]}"
        reply = self.asker.conformers([cid])[0]
        if not reply.present:
            return _absent(drug, Modality.structure, reply)
        record, document = _split(reply, {cid: "" if facts.salt else facts.formula})[cid]
        return Batch(payloads=[_conformer(drug, document, record, note)])

    def _conformers(self, drugs: Sequence[int]) -> Iterator[Part]:
        """Conformers, asked for a hundred at a time; salts, and what a list leaves out, are left to be asked alone."""
        batched = [drug for drug in drugs if drug not in self._alone]
        return self.crew.each(self._conformer_batch, list(slices(batched, BATCH)))

    def _conformer_batch(self, drugs: Sequence[int]) -> Part | None:
        facts = self._claim(Modality.structure, drugs)
        batch = Batch(outcomes=[
            Outcome(drug, Modality.structure, State.absent, evidence=f.rule) for drug, f in facts.items() if f.rule
        ])
        asked = {f.cid: drug for drug, f in facts.items() if not (f.rule or f.salt)}
        formulas = {f.cid: f.formula for f in facts.values()}
        records, _ = self.crew.attempt(lambda: self._records(sorted(asked), formulas))
        for cid, (record, document) in (records or {}).items():
            batch.payloads.append(_conformer(asked[cid], document, record, None))
        settled = {int(r.drug) for r in (*batch.payloads, *batch.outcomes)}
        with self._lock:
            self._alone.update(drug for drug in facts if drug not in settled)
        return self._part(Modality.structure, batch) if settled else None

    def _records(self, cids: Sequence[int], formulas: Mapping[int, str]) -> dict[int, tuple[str, Document]]:
        replies = self.asker.conformers(cids) if cids else ()
        return {cid: found for reply in replies if reply.present for cid, found in _split(reply, formulas).items()}

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
                salt = "." in (smiles or "")
                rule = None if salt else three_d_rule(values or {}, formula or "")
                found[drug] = Facts(cid, salt, rule, formula or "")
        return found


def _split(reply: Reply, formulas: Mapping[int, str]) -> dict[int, tuple[str, Document]]:
    """The records of an SD file, each with a document of its own: the bytes of its part of the answer."""
    whole, found = reply.document, {}
    for cid, record in split_sdf(reply.body).items():
        check_composition(record, formulas[cid])
        parse_conformer(record)
        url = f"{whole.url.partition('#')[0]}#cid={cid}"
        found[cid] = record, replace(whole, payload=record.encode(), url=url)
    return found


def _absent(drug: int, modality: Modality, reply: Reply) -> Batch:
    return Batch(outcomes=[Outcome(drug, modality, State.absent, evidence=reply.evidence, document=reply.document)])


def _conformer(drug: int, document: Document, record: str, note: str | None) -> ConformerRecord:
    parsed = parse_conformer(record)
    return ConformerRecord(drug, document, parsed.molblock, parsed.heavy_atoms, METHOD, parsed.energy, note)
