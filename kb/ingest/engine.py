"""The ingest engine: one run of one source, committed batch by batch, resumable at every point."""

from __future__ import annotations

import inspect
import uuid
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, func, select, text, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from kb import output
from kb.db.failures import with_retry
from kb.db.space import require_space
from kb.errors import Incomplete, Interrupted, MkmedError
from kb.graph.link import relink
from kb.identity.fingerprints import due, renew
from kb.identity.relations import relate
from kb.ingest.crash import crash_at
from kb.ingest.write import write_batch
from kb.ledger.entries import finish_run, read_lookups, release_dead, stale, start_run, write_lookup
from kb.ledger.licences import write_licences
from kb.modalities import State
from kb.properties import PROPERTIES
from kb.schema import METADATA
from kb.schema.ledger import cell, lookup, run, source
from kb.schema.payloads import property_kind
from kb.settings import Settings
from kb.sources import SOURCES
from kb.sources.contract import IngestOptions, Origin, Part, Plan, Source

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

RENEWED = 5_000
"""Structures whose bits an ingest computes at its end, a second of work; of more it leaves all to the first search."""
LEAST_SPACE = 64 << 20
"""Bytes that an ingest needs at least, before it is known how much will come."""
ANALYSED = (
    "artifact",
    "cell",
    "conformer",
    "drug",
    "drug_name",
    "drug_record",
    "identifier",
    "image",
    "property_set",
    "text",
)
"""Tables that an ingest fills; the graph's are analysed where it is loaded."""


@dataclass
class Job:
    """One running ingest, as a source sees it. Its methods may be called from several threads."""

    engine: Engine
    settings: Settings
    source: Source
    options: IngestOptions
    run_id: uuid.UUID
    started_at: datetime
    counts: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    _bar: Progress | None = None
    _task: Any = None

    @property
    def refresh(self) -> bool:
        """Whether what is fetched anew replaces what is there."""
        return self.options.refresh_days is not None

    def is_done(self, mark: str) -> bool:
        """Whether a part of the input was committed by an earlier run (or this one)."""
        return mark in self.done

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, in one short transaction that is replayed when the server dies under it.

        For what a source reads of the database, and for claims; ``work`` must be idempotent.
        """
        return with_retry(work, self.engine)

    def write(self, part: Part) -> dict[str, int]:
        """The drug ids by record key, after the part, its mark and what else belongs to it were committed together."""

        def work(connection: Connection) -> dict[str, int]:
            crash_at("after_fetch")
            name = part.source or self.source.name
            ids = write_batch(connection, self.run_id, name, part.batch, replace=self.refresh)
            if part.mark is not None:
                write_lookup(connection, self.run_id, self.source.name, part.mark, State.present)
            if part.also is not None:
                part.also(connection, ids)
            return ids

        ids = self.transact(work)
        crash_at("after_commit")
        self._count(part)
        if part.then is not None:
            part.then()
        return ids

    def _count(self, part: Part) -> None:
        batch = part.batch
        if part.mark is not None:
            self.done.add(part.mark)
        self.counts["drugs"] += len(batch.drugs)
        self.counts["rows"] += len(batch)
        self.counts["requests"] += batch.requests
        for outcome in batch.outcomes:
            self.counts[outcome.state.value] += 1
        self.counts[State.present.value] += len(batch.payloads) + len(batch.drugs)

    def expect(self, total: int | None) -> None:
        """Tell the progress display how much there is to do."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, amount: int = 1, *, note: str = "") -> None:
        """Tell the progress display that ``amount`` of it is done without a part, e.g. by an earlier run."""
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, note=note)


@dataclass(frozen=True, slots=True)
class Summary:
    """How an ingest ended; ``counts`` has requests, rows, drugs and the states written."""

    run_id: uuid.UUID
    source: str
    seconds: float
    counts: dict[str, int]


def register_source(connection: Connection, described: Source | type[Source] | Origin) -> None:
    """Make the source known to the database, and bring its licences up to date."""
    write_licences(connection, described.licences)
    connection.execute(
        insert(property_kind).on_conflict_do_nothing(), [{"name": n, **asdict(kind)} for n, kind in PROPERTIES.items()]
    )
    statement = insert(source).values(
        name=described.name,
        title=described.title,
        url=described.url,
        origin=described.origin,
        licence_id=described.licences[0].id,
    )
    changed = source.c.licence_id.is_distinct_from(statement.excluded.licence_id)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"licence_id": statement.excluded.licence_id}, where=changed
        )
    )


def make_job(engine: Engine, settings: Settings, source: Source, options: IngestOptions) -> Job:
    """A job that has not started: what ``plan`` needs. Raises UsageError for an option that the source has not."""
    source.refuse_other_options(options)

    def begin(connection: Connection) -> set[str]:
        for described in (source, *source.brings):
            register_source(connection, described)
        known = read_lookups(connection, source.name)
        return {key for key, found in known.items() if found["state"] == State.present}

    done = with_retry(begin, engine)
    if options.refresh_days is not None:
        done = set()
    return Job(engine, settings, source, options, uuid.uuid4(), datetime.now(UTC), done=done)


def plan(engine: Engine, settings: Settings, source: str | Source, options: IngestOptions) -> Plan:
    """What an ingest would do, without doing it."""
    job = make_job(engine, settings, _source(source), options)
    return job.source.plan(job)


def ingest(engine: Engine, settings: Settings, source: str | Source, options: IngestOptions) -> Summary:
    """Run a source, given by name or as an object, to its end.

    Raises Incomplete (exit 3) when some cells failed, Interrupted (130) on Ctrl-C; both after everything that was
    fetched has been committed.
    """
    job = make_job(engine, settings, _source(source), options)
    name = job.source.name
    if settings.database_url is None:
        require_space(settings.home, max(LEAST_SPACE, job.source.plan(job).bytes))
    job.transact(lambda c: start_run(c, "ingest", name=name, config=asdict(options), run_id=job.run_id))
    try:
        _run(job)
    except KeyboardInterrupt:
        _finish(job, "interrupted", "stopped by the user")
        raise Interrupted("stopped; everything fetched so far is committed", hint=_again(name)) from None
    except BaseException as error:
        with suppress(MkmedError, DBAPIError):  # the first failure is the one to tell
            _finish(job, "failed", error.message if isinstance(error, MkmedError) else "stopped before its end")
        raise
    failed, why = _finish(job, "complete")
    seconds = (datetime.now(UTC) - job.started_at).total_seconds()
    if failed:
        raise Incomplete(
            f"{failed} cells or look-ups failed{why}; everything else is committed",
            hint=f"mkmed kb ingest --source {name} --retry-failed" if "retry_failed" in job.source.options
            else "mend the file, and run the same command again",
        )
    return Summary(job.run_id, name, seconds, dict(job.counts))


def _source(given: str | Source) -> Source:
    return given if isinstance(given, Source) else SOURCES[given]()


def _run(job: Job) -> None:
    """Write every part of the source, then link new drugs to the graph and let the planner know."""
    job.transact(lambda c: release_dead(c, job.source.name))
    with output.progress() as bar:
        job._bar, job._task = bar, bar.add_task(job.source.name, total=None, note="")
        with closing(_read(job)) as parts:
            _write_all(job, parts)
    if job.counts["drugs"] or job.transact(lambda c: _was_cut_short(c, job)):
        job.transact(lambda c: _relate(c, job))
    if job.counts["rows"]:
        job.transact(_analyse)


def _relate(connection: Connection, job: Job) -> None:
    """Bring relations between substances, bits of structures and links to the graph in line with what is known."""
    relate(connection)
    if len(due(connection, RENEWED + 1)) <= RENEWED:
        renew(connection, RENEWED)
    relink(connection, job.run_id)


def _read(job: Job) -> Generator[Part, None, None]:
    """The parts of the source, whatever kind of iterator it gives."""
    yield from job.source.read(job)


def _write_all(job: Job, parts: Generator[Part, None, None]) -> None:
    """Write every part; on Ctrl-C the one at hand, and those that the source has under way, before it ends."""
    following: Callable[[], Part] = partial(next, parts)
    at_hand: Part | None = None
    while True:
        try:
            at_hand = following()
            following = partial(next, parts)
            job.write(at_hand)
            job.advance(at_hand.size, note=at_hand.note)
            at_hand = None
        except StopIteration:
            return
        except KeyboardInterrupt as stopped:
            if inspect.getgeneratorstate(parts) != inspect.GEN_SUSPENDED:  # it came out of the source, which is over
                raise
            if at_hand is not None and (len(at_hand.batch) or at_hand.batch.documents):
                job.write(at_hand)
            at_hand, following = None, partial(parts.throw, stopped)


def _was_cut_short(connection: Connection, job: Job) -> bool:
    """Whether the source's run before this one did not come to its end, where new drugs are linked to the graph."""
    before = (
        select(run.c.status)
        .where(run.c.stage == "ingest", run.c.name == job.source.name, run.c.id != job.run_id)
        .order_by(run.c.started_at.desc())
        .limit(1)
    )
    return connection.scalar(before) not in (None, "complete")


def _finish(job: Job, status: str, error: str | None = None) -> tuple[int, str]:
    """How many cells and look-ups failed and what was usually the matter, after the end of the run was recorded."""

    def work(connection: Connection) -> tuple[int, str]:
        failed = _failed_since(connection, job)
        job.counts["failed_cells"] = failed
        finish_run(connection, job.run_id, status, counts=dict(job.counts), error=error)
        return failed, _usual_failure(connection, job) if failed else ""

    return job.transact(work)


def _analyse(connection: Connection) -> None:
    """Let the planner know what has come: autovacuum would only notice a minute later."""
    for table in METADATA.sorted_tables:
        if table.name in ANALYSED:
            connection.execute(text(f"ANALYZE {table.fullname}"))


def _again(name: str) -> str:
    return f"run the same command again to go on: mkmed kb ingest --source {name} …"


def _failures(table: Table, job: Job) -> ColumnElement[bool]:
    """The rows that this run has failed at: without a result, or unable to refresh what is known."""
    return (table.c.run_id == job.run_id) & ((table.c.state == State.failed) | stale(table))


def _usual_failure(connection: Connection, job: Job) -> str:
    """What was most often the matter, to be put behind the number."""
    errors = union_all(*(select(t.c.last_error.label("said")).where(_failures(t, job)) for t in (cell, lookup)))
    said = connection.scalar(select(func.mode().within_group(errors.subquery().c.said)))
    return f", most often: {said}" if said else ""


def _failed_since(connection: Connection, job: Job) -> int:
    """How many cells and look-ups failed in this run."""
    return sum(
        connection.scalar(select(func.count()).select_from(table).where(_failures(table, job))) or 0
        for table in (cell, lookup)
    )
