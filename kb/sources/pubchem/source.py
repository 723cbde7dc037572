"""PubChem by PUG REST and PUG View: identities, properties, pictures, descriptions and 3D conformers of compounds.

Every request goes through ``kb.http.client``; every answer through ``answers``. What has been committed
is never asked for again, so the same command goes on where the last one stopped, in any number of processes.
Documentation: https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest and https://pubchem.ncbi.nlm.nih.gov/docs/pug-view
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import func, select, union_all

from kb import output
from kb.errors import DataError, UsageError
from kb.http.client import Transport, policy_for
from kb.licences import LICENCES, NCBI, Licence
from kb.modalities import Modality, State
from kb.schema.ledger import cell, lookup
from kb.sources.contract import Part, Plan, Source
from kb.sources.pubchem.ask import BATCH, Asker
from kb.sources.pubchem.cells import Cells
from kb.sources.pubchem.keys import CID, KeyQuestion, is_due, known_questions, read_question
from kb.sources.pubchem.lookup import FETCHED, Lookup
from kb.sources.pubchem.workers import Workers

if TYPE_CHECKING:
    from kb.http.pace import Policy
    from kb.ingest.engine import Job

THREADS = 8
"""Requests under way at once: enough to keep 4 a second while answers take up to 2 s."""
MAX_THREADS = 12
"""Each holds a database connection while it waits."""
BYTES = {Modality.image: 12_000, Modality.text: 8_000, Modality.structure: 5_000}
IDENTITY_BYTES = 2_500
REQUESTS_A_BATCH = 3
TOLD = 10
"""Of what is unknown to PubChem, as many are named."""
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
        {"ids", "limit", "workers", "modalities", "retry_failed", "refresh_days"}
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
        raise UsageError("there is nothing to ask for", hint="--ids takes a file with one name or id a line")
    return list(questions)[:job.options.limit], refused
