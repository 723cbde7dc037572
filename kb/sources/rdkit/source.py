"""What can be computed when no source has it: properties, depictions and conformers, marked as computed.

Works through the ledger's cells of source ``rdkit``, so that any number of processes may share the work, a killed run
goes on where it was, and what failed can be tried again.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from itertools import islice, takewhile, zip_longest
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Connection, exists, select, text

from kb.compute.ahead import ahead
from kb.compute.places import LOCAL, open_pool
from kb.compute.pool import Failure, Pool, PoolTask
from kb.errors import UsageError
from kb.identity.relations import due_relations, write_substance_relations
from kb.ledger.entries import claim_cells, due_cells
from kb.licences import CC0, Licence
from kb.modalities import Modality, State
from kb.query.drug import find_drug
from kb.schema.identity import drug
from kb.schema.ledger import cell
from kb.schema.payloads import conformer
from kb.sources.contract import (
    ConformerRecord,
    Document,
    ImageRecord,
    Outcome,
    Part,
    Plan,
    PropertyRecord,
    RecordBatch,
    Source,
)
from kb.sources.rdkit.compute import EMBED_SECONDS, IMAGE_SIZE

if TYPE_CHECKING:
    from kb.ingest.engine import Job

NO_STRUCTURE = "rule:no-structure"
_COMPUTE = "kb.sources.rdkit.compute"


@dataclass(frozen=True, slots=True)
class Computation:
    """How one modality is computed: the function, drugs a transaction and a share, and seconds a drug (one core)."""

    function: str
    batch: int
    share: int
    wall: float
    seconds: float
    bytes: int


TASKS: dict[Modality, Computation] = {
    Modality.property: Computation(f"{_COMPUTE}:property_payload", 1000, 32, 10.0, 0.002, 600),
    Modality.image: Computation(f"{_COMPUTE}:depict", 1000, 16, 10.0, 0.005, 7_000),
    Modality.structure: Computation(f"{_COMPUTE}:embed", 200, 2, 1.5 * EMBED_SECONDS, 0.3, 5_000),
}

TOGETHER = ((Modality.property, Modality.image), (Modality.structure,))
"""Modalities whose batches are computed in turns: while the database takes many small rows, processes draw."""
RELATED = 2000
"""Drugs whose relations one transaction writes."""


class RdkitSource(Source):
    """Computes with RDKit whatever drugs with a SMILES lack."""

    name = "rdkit"
    title = "computed with RDKit"
    url = "https://www.rdkit.org"
    origin = "computed"
    licences: ClassVar[tuple[Licence, ...]] = (CC0,)
    modalities = tuple(TASKS)
    options = frozenset({"ids", "limit", "workers", "modalities", "retry_failed", "refresh_days", "on"})

    def plan(self, job: Job) -> Plan:
        """Cells to fill, and the time on the given number of processes."""
        due = {m: len(job.transact(partial(computable, job=job, modality=m))) for m in _wanted(job)}
        seconds = sum(TASKS[m].seconds * n for m, n in due.items()) / _processes(job)
        size = sum(TASKS[m].bytes * n for m, n in due.items())
        notes = tuple(f"{m}: {n} drugs" for m, n in due.items())
        return Plan(sum(due.values()), seconds=seconds, bytes=size, notes=notes)

    def read(self, job: Job) -> Iterator[Part]:
        """Open the cells that can be computed, then fill them, cheapest modality first."""
        wanted = _wanted(job)
        job.transact(lambda c: open_computable(c, job))
        due = {m: job.transact(partial(computable, job=job, modality=m)) for m in wanted}
        job.expect(sum(map(len, due.values())))
        for together in TOGETHER:
            if some := {m: ids for m, ids in due.items() if m in together and ids}:
                yield from self._fill(job, some)
        if job.options.modalities is None and job.options.ids is None:
            yield from self._relate(job)

    def _relate(self, job: Job) -> Iterator[Part]:
        """The relations of the drugs that have none from the SMILES that they have now."""
        due = job.transact(due_relations)
        if not due:
            return
        with _pool(job, PoolTask("kb.chemistry:relations_of")) as pool:
            for start in range(0, len(due), RELATED):
                pairs = due[start : start + RELATED]
                results = dict(pool.map((smiles for _, smiles in pairs), 32))
                found = [
                    (drug_id, smiles, [] if isinstance(results[n], Failure) else results[n])
                    for n, (drug_id, smiles) in enumerate(pairs)
                ]
                yield Part(RecordBatch(), also=partial(_write_relations, found=found), size=0, note="relations")

    def _fill(self, job: Job, due: Mapping[Modality, Sequence[int]]) -> Iterator[Part]:
        """What is computed of the drugs that no other process has claimed, while the parts before it are written."""
        left, seconds = Event(), max(TASKS[modality].wall for modality in due)
        with (
            _pool(job, PoolTask(f"{_COMPUTE}:computed", seconds=seconds)) as pool,
            closing(ahead(self._computed(job, pool, due, left), left)) as batches,
        ):
            for modality, batch in batches:
                yield Part(batch, size=len(batch.payloads) + len(batch.outcomes), note=modality)

    def _computed(
        self, job: Job, pool: Pool, due: Mapping[Modality, Sequence[int]], left: Event
    ) -> Iterator[tuple[Modality, RecordBatch]]:
        """The batches of the modalities in turns, until ``left``; the pool never waits for one to be full."""
        claimed: deque[tuple[Modality, list[tuple[int, str]]]] = deque()

        def asked() -> Iterator[tuple[str, str]]:
            for modality, part in _in_turns(due):
                pairs = job.transact(partial(self._claim, job=job, modality=modality, ids=part))
                job.advance(len(part) - len(pairs))
                if pairs:
                    claimed.append((modality, pairs))
                yield from ((TASKS[modality].function, smiles) for _, smiles in pairs)

        share = min(TASKS[modality].share for modality in due)
        results = takewhile(lambda _: not left.is_set(), pool.ordered(asked(), share))
        for first in results:
            modality, pairs = claimed.popleft()
            found = [first, *islice(results, len(pairs) - 1)]
            yield modality, make_batch(modality, [(*pair, one) for pair, one in zip(pairs, found, strict=False)])

    def _claim(self, connection: Connection, job: Job, modality: Modality, ids: Sequence[int]) -> list[tuple[int, str]]:
        """Those of the drugs that no other process has claimed, with their SMILES."""
        claimed = claim_cells(
            connection,
            job.run_id,
            self.name,
            modality,
            len(ids),
            retry_failed=job.options.retry_failed,
            refresh_days=job.options.refresh_days,
            since=job.started_at,
            drug_ids=ids,
        )
        query = select(drug.c.id, drug.c.smiles).where(drug.c.id.in_(claimed)).order_by(drug.c.id)
        return [(drug_id, smiles) for drug_id, smiles in connection.execute(query) if smiles]


def _write_relations(
    connection: Connection, _: Mapping[str, int], *, found: Sequence[tuple[int, str, Sequence[tuple[str, str]]]]
) -> None:
    write_substance_relations(connection, found)


def _in_turns(due: Mapping[Modality, Sequence[int]]) -> Iterator[tuple[Modality, Sequence[int]]]:
    """The drugs in batches, one of each modality after the other."""
    parts = [[(m, ids[n : n + TASKS[m].batch]) for n in range(0, len(ids), TASKS[m].batch)] for m, ids in due.items()]
    for turn in zip_longest(*parts):
        yield from (part for part in turn if part is not None)


def make_batch(modality: Modality, computed: Iterable[tuple[int, str, Any]]) -> RecordBatch:
    """The records and outcomes for (drug id, SMILES, result or Failure), in their order."""
    batch = RecordBatch()
    for drug_id, smiles, result in computed:
        if isinstance(result, Failure):
            state = State.rejected if result.refused else State.failed
            batch.outcomes.append(Outcome(drug_id, modality, state, error=result.reason, computed_from=smiles))
        else:
            batch.payloads.append(_RECORDS[modality](drug_id, smiles, result))
    return batch


@cache
def _rdkit_version() -> str:
    return version("rdkit")


def _document(payload: bytes, media_type: str, smiles: str) -> Document:
    return Document(
        source=RdkitSource.name,
        url=f"computed:{smiles[:500]}",
        media_type=media_type,
        licence=CC0.id,
        attribution="computed with RDKit from the drug's SMILES",
        retrieved_at=datetime.now(UTC),
        parser="rdkit/1",
        payload=payload,
        upstream_version=_rdkit_version(),
    )


def _property(drug_id: int, smiles: str, result: bytes) -> PropertyRecord:
    document = _document(result, "application/json", smiles)
    return PropertyRecord(drug_id, document, json.loads(result), computed_from=smiles)


def _image(drug_id: int, smiles: str, result: bytes) -> ImageRecord:
    document = _document(result, "image/png", smiles)
    return ImageRecord(drug_id, document, IMAGE_SIZE, IMAGE_SIZE, computed_from=smiles)


def _conformer(drug_id: int, smiles: str, result: Any) -> ConformerRecord:
    document = _document(result.molblock.encode(), "chemical/x-mdl-molfile", smiles)
    return ConformerRecord(
        drug_id, document, result.molblock, result.heavy_atoms, result.method, result.energy, computed_from=smiles
    )


_RECORDS: dict[Modality, Callable[[int, str, Any], PropertyRecord | ImageRecord | ConformerRecord]] = {
    Modality.property: _property,
    Modality.image: _image,
    Modality.structure: _conformer,
}


_OPEN = """
INSERT INTO mkmed.cell AS c (drug_id, modality, source, state, evidence, run_id)
SELECT d.id, m.modality, 'rdkit', CASE WHEN d.smiles IS NULL THEN 'absent' ELSE 'unknown' END,
       CASE WHEN d.smiles IS NULL THEN :rule END, :run
FROM mkmed.drug d CROSS JOIN unnest(CAST(:modalities AS text[])) AS m (modality)
WHERE NOT (m.modality = 'structure' AND d.smiles IS NOT NULL AND EXISTS (
    SELECT FROM mkmed.conformer f WHERE f.drug_id = d.id AND f.source <> 'rdkit'))
ORDER BY 1, 2
ON CONFLICT (record_source, record_key, modality, source, drug_id) DO UPDATE SET
    state = excluded.state, evidence = excluded.evidence, updated_at = now(), run_id = excluded.run_id
WHERE c.state = 'absent' AND c.evidence = :rule AND excluded.state = 'unknown'
    OR c.state = 'unknown' AND excluded.state = 'absent'
"""


def open_computable(connection: Connection, job: Job) -> None:
    """Make a cell for every drug and wanted modality: unknown with a SMILES, absent by rule without one.

    A drug that got its SMILES since is opened again. A conformer is computed only where no source has one.
    """
    connection.execute(
        text(_OPEN), {"rule": NO_STRUCTURE, "run": job.run_id, "modalities": [m.value for m in _wanted(job)]}
    )


def _wanted(job: Job) -> list[Modality]:
    """The modalities asked for, cheapest first; all three when none is named."""
    asked = job.options.modalities
    unknown = [m for m in asked or () if m not in TASKS]
    if unknown:
        raise UsageError(f"rdkit does not compute {unknown[0]!r}", hint=f"it computes {', '.join(TASKS)}")
    return [m for m in TASKS if asked is None or m in asked]


def _chosen(connection: Connection, job: Job) -> list[int] | None:
    """The drug ids that ``--ids`` names, or None for all."""
    if job.options.ids is None:
        return None
    return sorted({find_drug(connection, given) for given in job.options.ids})


def computable(connection: Connection, job: Job, modality: Modality) -> list[int]:
    """The drugs that an ingest would compute the modality of, in order; writes nothing."""
    due = due_cells(
        RdkitSource.name,
        modality,
        retry_failed=job.options.retry_failed,
        refresh_days=job.options.refresh_days,
        since=job.started_at,
    )
    here = (cell.c.drug_id == drug.c.id) & (cell.c.modality == modality.value) & (cell.c.source == RdkitSource.name)
    closed = exists().where(here, cell.c.evidence.is_distinct_from(NO_STRUCTURE))
    query = select(drug.c.id).where(drug.c.smiles.is_not(None), drug.c.id.in_(due) | ~closed).order_by(drug.c.id)
    if modality is Modality.structure:
        fetched = exists().where(conformer.c.drug_id == drug.c.id, conformer.c.source != RdkitSource.name)
        query = query.where(drug.c.id.in_(due) | ~fetched)
    chosen = _chosen(connection, job)
    if chosen is not None:
        query = query.where(drug.c.id.in_(chosen))
    return list(connection.scalars(query.limit(job.options.limit)))


def _processes(job: Job) -> int:
    return job.options.workers or job.settings.workers


def _pool(job: Job, task: PoolTask) -> Pool:
    """Where the job computes; a cluster's size is its own unless the user says how many."""
    return open_pool(job.options.on, task, _processes(job) if job.options.on == LOCAL else job.options.workers)
