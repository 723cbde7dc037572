"""The ingest engine: one run of one source, committed batch by batch, resumable at every point."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, func, select, text, union_all
from sqlalchemy.dialects.postgresql import insert

from kb import output
from kb.db.space import require_space
from kb.errors import Incomplete, Interrupted, MkmedError
from kb.graph.link import relink
from kb.identity.relations import relate
from kb.ingest.crash import crash_at
from kb.ingest.records import Batch
from kb.ingest.runs import finish_run, start_run
from kb.ingest.write import write_batch
from kb.ledger.cells import read_lookups, write_lookup
from kb.ledger.licences import write_licences
from kb.modalities import State
from kb.properties import PROPERTIES
from kb.schema import METADATA
from kb.schema.ledger import cell, lookup, source
from kb.schema.payloads import property_kind
from kb.settings import Settings
from kb.sources import SOURCES
from kb.sources.contract import IngestOptions, Origin, Plan, Source

if TYPE_CHECKING:
    from rich.progress import Progress

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
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def refresh(self) -> bool:
        """Whether what is fetched anew replaces what is there."""
        return self.options.refresh_days is not None

    def is_done(self, key: str) -> bool:
        """Whether a part of the input was committed by an earlier run (or this one)."""
        return key in self.done

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction that commits at the end of the block."""
        with self.engine.begin() as connection:
            yield connection
        crash_at("after_commit")

    def write(
        self,
        batch: Batch,
        *,
        done: str | None = None,
        also: Callable[[Connection, Mapping[str, int]], None] | None = None,
        source: str | None = None,
    ) -> dict[str, int]:
        """The drug ids by record key, after ``batch``, its mark and ``also`` were committed in one transaction.

        ``source`` files the rows under another registered source than the one that runs; the mark stays with it.
        """
        with self.transaction() as connection:
            ids = self.write_in(connection, batch, done=done, source=source)
            if also is not None:
                also(connection, ids)
        return ids

    def write_in(
        self, connection: Connection, batch: Batch, *, done: str | None = None, source: str | None = None
    ) -> dict[str, int]:
        """Like ``write``, within the caller's transaction (which may hold claimed cells)."""
        crash_at("after_fetch")
        ids = write_batch(connection, self.run_id, source or self.source.name, batch, replace=self.refresh)
        if done is not None:
            write_lookup(connection, self.run_id, self.source.name, done, State.present)
        with self._lock:
            if done is not None:
                self.done.add(done)
            self.counts["drugs"] += len(batch.drugs)
            self.counts["rows"] += len(batch)
            self.counts["requests"] += batch.requests
            for outcome in batch.outcomes:
                self.counts[outcome.state.value] += 1
            self.counts[State.present.value] += len(batch.payloads) + len(batch.drugs)
        return ids

    def expect(self, total: int | None) -> None:
        """Tell the progress display how much there is to do."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, amount: int = 1, *, note: str = "") -> None:
        """Tell the progress display that ``amount`` of it is done."""
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, note=note)


@dataclass(frozen=True, slots=True)
class Summary:
    """How an ingest ended; ``counts`` has requests, rows, drugs and the states written."""

    run_id: uuid.UUID
    source: str
    seconds: float
    counts: dict[str, int]


def register_source(connection: Connection, described: Source | Origin) -> None:
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


def make_job(engine: Engine, settings: Settings, name: str, options: IngestOptions) -> Job:
    """A job that has not started: what ``plan`` needs."""
    plugin = SOURCES[name]()
    with engine.begin() as connection:
        register_source(connection, plugin)
        known = read_lookups(connection, plugin.name)
        done = (
            set() if options.refresh_days is not None else {k for k, v in known.items() if v["state"] == State.present}
        )
    return Job(engine, settings, plugin, options, uuid.uuid4(), datetime.now(UTC), done=done)


def plan(engine: Engine, settings: Settings, name: str, options: IngestOptions) -> Plan:
    """What an ingest would do, without doing it."""
    job = make_job(engine, settings, name, options)
    return job.source.plan(job)


def ingest(engine: Engine, settings: Settings, name: str, options: IngestOptions) -> Summary:
    """Run a source to its end.

    Raises Incomplete (exit 3) when some cells failed, Interrupted (130) on Ctrl-C; both after everything that was
    fetched has been committed.
    """
    job = make_job(engine, settings, name, options)
    if settings.database_url is None:
        require_space(settings.home, max(LEAST_SPACE, job.source.plan(job).bytes))
    with engine.begin() as connection:
        start_run(connection, "ingest", name=name, config=asdict(options), run_id=job.run_id)
    status, error = "failed", "stopped before its end"
    try:
        with output.progress() as bar:
            job._bar, job._task = bar, bar.add_task(name, total=None, note="")
            job.source.ingest(job)
        if job.counts["drugs"]:
            with job.transaction() as connection:
                relate(connection)
                relink(connection, job.run_id)
        if job.counts["rows"]:
            _analyse(engine)
        status, error = "complete", ""
    except KeyboardInterrupt:
        status, error = "interrupted", "stopped by the user"
        raise Interrupted("stopped; everything fetched so far is committed", hint=_again(name)) from None
    except MkmedError as failure:
        error = failure.message
        raise
    finally:
        with engine.begin() as connection:
            failed = _failed_since(connection, job)
            why = _usual_failure(connection, job) if failed else ""
            job.counts["failed_cells"] = failed
            finish_run(connection, job.run_id, status, counts=dict(job.counts), error=error or None)
    seconds = (datetime.now(UTC) - job.started_at).total_seconds()
    if failed:
        raise Incomplete(
            f"{failed} cells or look-ups failed{why}; everything else is committed",
            hint=f"mkmed kb ingest --source {name} --retry-failed",
        )
    return Summary(job.run_id, name, seconds, dict(job.counts))


def _analyse(engine: Engine) -> None:
    """Let the planner know what has come: autovacuum would only notice a minute later."""
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            if table.name in ANALYSED:
                connection.execute(text(f"ANALYZE {table.fullname}"))


def _again(name: str) -> str:
    return f"run the same command again to go on: mkmed kb ingest --source {name} …"


def _usual_failure(connection: Connection, job: Job) -> str:
    """What was most often the matter, to be put behind the number."""
    errors = union_all(*(
        select(table.c.last_error.label("said"))
        .where(table.c.state == State.failed, table.c.run_id == job.run_id)
        for table in (cell, lookup)
    )).subquery()
    said = connection.scalar(select(func.mode().within_group(errors.c.said)))
    return f", most often: {said}" if said else ""


def _failed_since(connection: Connection, job: Job) -> int:
    """How many cells and look-ups failed in this run."""
    return sum(
        connection.scalar(
            select(func.count())
            .select_from(table)
            .where(table.c.state == State.failed, table.c.run_id == job.run_id)
        )
        or 0
        for table in (cell, lookup)
    )
