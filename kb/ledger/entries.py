"""The ledger: runs (who wrote what, and when), cells and look-ups (what became of each thing), and leases on them."""

from __future__ import annotations

import json
import logging
import os
import platform
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
from sqlalchemy import ColumnElement, Connection, Select, Table, case, func, literal_column, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from kb import log
from kb.db.bulk import copy_rows, insert_many
from kb.errors import NotFound
from kb.identity.claims import leading_records
from kb.modalities import State
from kb.normalise import clean, public_values, redact
from kb.output import plain
from kb.schema.ledger import cell, lookup, run

LOGGER = logging.getLogger(__name__)


# Who is working on what: a row of the ledger is leased to a run for a while, without a lock or an open transaction.
#
# A lease ends when its run does: by the run's own row, when its process is gone on this machine, or else after
# ``LEASE_SECONDS``, for a process on another machine that was killed.

LEASE_SECONDS = 600
"""Longer than an item takes with all its attempts (``kb.http.pace``)."""


def unleased(table: Table, run_id: uuid.UUID) -> ColumnElement[bool]:
    """Whether a row is free for the run: leased to nobody, to itself, or to a run that is over."""
    over = select(run.c.id).where(run.c.id == table.c.leased_by, run.c.finished_at.is_not(None)).exists()
    return or_(
        table.c.leased_by.is_(None), table.c.leased_by == run_id, table.c.leased_until < func.clock_timestamp(), over
    )


def lease_values(run_id: uuid.UUID) -> dict[str, object]:
    """The columns that make a row the run's own from now on."""
    until = func.clock_timestamp() + text(f"interval '{LEASE_SECONDS} s'")
    return {"leased_by": run_id, "leased_until": until}


def release_dead(connection: Connection, source: str) -> int:
    """How many rows of the source were free again whose runs' processes are gone from this machine."""
    query = select(run.c.id, run.c.pid, run.c.started_at).where(
        run.c.stage == "ingest", run.c.name == source, run.c.status == "running", run.c.host == platform.node()
    )
    dead = [row.id for row in connection.execute(query) if not _lives(row.pid, row.started_at.timestamp())]
    return sum(_release(connection, table, source, dead) for table in (cell, lookup)) if dead else 0


def _release(connection: Connection, table: Table, source: str, runs: Iterable[uuid.UUID]) -> int:
    freed = update(table).where(table.c.source == source, table.c.leased_by.in_(list(runs)))
    return connection.execute(freed.values(leased_by=None, leased_until=None)).rowcount


def _lives(pid: int, began: float) -> bool:
    """Whether the process that began a run then is still there, and not another one that was given its number."""
    if pid == os.getpid():
        return True
    try:
        return psutil.Process(pid).create_time() <= began + 1.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


# A run: a row that says who wrote what, when, with which configuration, and how it ended.

def program_version() -> str:
    """The installed version of mkmed, or ``0+source`` when it runs from a bare checkout."""
    try:
        return version("mkmed")
    except PackageNotFoundError:
        return "0+source"


def start_run(
    connection: Connection,
    stage: str,
    *,
    name: str = "",
    config: Mapping[str, Any] | None = None,
    run_id: uuid.UUID | None = None,
) -> uuid.UUID:
    """The id of a new row of status ``running``; ``stage`` is ingest, pretrain or recsys.

    A given ``run_id`` that has its row already is left alone, so that a transaction may be replayed.
    """
    run_id = run_id or uuid.uuid4()
    connection.execute(
        insert(run).values(
            id=run_id,
            stage=stage,
            name=name,
            status="running",
            config=public_values(json.loads(json.dumps(config or {}, default=plain))),
            version=program_version(),
            host=platform.node(),
            pid=os.getpid(),
        )
        .on_conflict_do_nothing()
    )
    log.in_run(run_id)
    LOGGER.info("run begun", extra={"fields": {"stage": stage, "name": name}})
    return run_id


def finish_run(
    connection: Connection,
    run_id: uuid.UUID,
    status: str,
    *,
    counts: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> None:
    """Record how a run ended: complete, interrupted or failed."""
    values: dict[str, Any] = {"status": status, "finished_at": func.now(), "error": redact(error) if error else error}
    if counts is not None:
        values["counts"] = json.loads(json.dumps(counts, default=plain))
    if connection.execute(update(run).where(run.c.id == run_id).values(**values)).rowcount != 1:
        raise NotFound(f"run {run_id} is not in the database", hint="mkmed kb jobs lists the runs")
    log.in_run(run_id)
    LOGGER.info("run ended", extra={"fields": {"status": status, "error": error, "counts": counts}})


def list_runs(connection: Connection, stage: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """The latest runs, newest first; a ``running`` row whose process is gone on this host is shown as ``dead``."""
    query = select(run).order_by(run.c.started_at.desc()).limit(limit)
    if stage:
        query = query.where(run.c.stage == stage)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    for row in rows:
        if row["status"] == "running" and row["host"] == platform.node() and not _alive(row["pid"]):
            row["status"] = "dead"
    return rows


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def reopen_run(connection: Connection, run_id: uuid.UUID) -> bool:
    """Whether the run was there; it is then ``running`` again, under this process."""
    values = {"status": "running", "finished_at": None, "error": None, "pid": os.getpid(), "host": platform.node()}
    found = connection.execute(update(run).where(run.c.id == run_id).values(**values)).rowcount == 1
    if found:
        log.in_run(run_id)
        LOGGER.info("run goes on")
    return found


# The ledger: which modality of which drug each source has, written in the transaction of the data it describes.

@dataclass(frozen=True, slots=True)
class CellWrite:
    """One cell's new state; ``artifact`` is the retrieval that proves it.

    ``record`` (source and key) is what the cell hangs on; a cell of the drug itself has none, and one that was computed
    has the sha256 of its ``input``.
    """

    drug_id: int
    modality: str
    state: State
    artifact: bytes | None = None
    evidence: str | None = None
    error: str | None = None
    record: tuple[str, str] | None = None
    input: bytes | None = None

    @property
    def place(self) -> tuple[int, str, str, str]:
        """Drug, modality and record: what the ledger has one cell of a source for."""
        return (self.drug_id, str(self.modality), *(self.record or ("", "")))


_STRENGTH = {State.present: 4, State.absent: 3, State.withheld: 3, State.rejected: 2, State.failed: 1, State.unknown: 0}


_OPEN = """
INSERT INTO mkmed.cell (drug_id, modality, source, record_source, record_key, state, run_id)
SELECT w.drug_id, m.modality, :source, w.of, w.key, 'unknown', :run
FROM unnest(CAST(:drugs AS bigint[]), CAST(:of AS text[]), CAST(:keys AS text[])) AS w (drug_id, of, key)
CROSS JOIN unnest(CAST(:modalities AS text[])) AS m (modality)
WHERE NOT EXISTS (
    SELECT FROM mkmed.cell c WHERE c.drug_id = w.drug_id AND c.modality = m.modality AND c.source = :source)
ORDER BY 1, 2 ON CONFLICT DO NOTHING
"""


def open_cells(
    connection: Connection, run_id: uuid.UUID, source: str, drug_ids: Iterable[int], modalities: Sequence[str]
) -> None:
    """Make a cell in state ``unknown`` for every drug and modality that has none yet, on the drug's first record."""
    drugs = sorted(set(drug_ids))
    if drugs:
        records = leading_records(connection, source, drugs)
        places = [records.get(drug_id, (None, None)) for drug_id in drugs]
        columns = {"drugs": drugs, "of": [p[0] for p in places], "keys": [p[1] for p in places]}
        fixed = {"source": source, "run": run_id, "modalities": [str(m) for m in modalities]}
        connection.execute(text(_OPEN), columns | fixed)


def write_cells(
    connection: Connection, run_id: uuid.UUID, source: str, writes: Iterable[CellWrite], *, fresh: bool = False
) -> int:
    """The number of cells written or left as they were.

    Knowledge only grows: present beats absent and withheld, which beat rejected, which beats failed, which beats
    unknown. Of two artifacts for one cell the smaller id is kept, as ``kb.ingest.write`` does with the data. ``fresh``
    says that all hang on records that this transaction made, so that none is there yet.
    """
    best: dict[tuple[int, str, str, str], CellWrite] = {}
    for write in writes:
        here = write.place
        if here not in best or _STRENGTH[write.state] > _STRENGTH[best[here].state]:
            best[here] = write
    rows = [
        {
            "drug_id": w.drug_id,
            "modality": str(w.modality),
            "source": source,
            "record_source": w.record[0] if w.record else None,
            "record_key": w.record[1] if w.record else None,
            "input": w.input,
            "state": w.state,
            "attempts": 1,
            "last_error": redact(w.error) if w.error else w.error,
            "evidence": w.evidence,
            "artifact": w.artifact,
            "run_id": run_id,
        }
        for _, w in sorted(best.items())
    ]
    if rows and fresh:
        copy_rows(connection, cell.fullname, rows)
    elif rows:
        _upsert_cells(connection, rows)
    return len(rows)


def _upsert_cells(connection: Connection, rows: list[dict[str, Any]]) -> None:
    statement = insert(cell)
    new = statement.excluded
    old_strength, new_strength = _strength(cell.c.state), _strength(new.state)
    # What is known stays beside the error of a refresh that failed, and is due again (``stale``).
    unrefreshed = (new.state == State.failed) & ((cell.c.state == State.present) | (cell.c.state == State.absent))
    wins = (
        (new_strength > old_strength)
        | unrefreshed
        | ((new.state == State.failed) & (cell.c.state == State.failed))
        | ((new.state == State.rejected) & (cell.c.state == State.rejected))
        | ((new.state == State.present) & (cell.c.state == State.present) & (new.artifact < cell.c.artifact))
    )
    insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["record_source", "record_key", "modality", "source", "drug_id"],
            set_={
                "state": case((unrefreshed, cell.c.state), else_=new.state),
                "input": case((unrefreshed, cell.c.input), else_=new.input),
                "attempts": cell.c.attempts + 1,
                "last_error": new.last_error,
                "evidence": case((unrefreshed, cell.c.evidence), else_=new.evidence),
                "artifact": case((unrefreshed, cell.c.artifact), else_=new.artifact),
                "run_id": new.run_id,
                "updated_at": func.now(),
            },
            where=wins,
        ),
        rows,
    )


def _strength(state: ColumnElement[str]) -> ColumnElement[int]:
    return case(*((state == s, strength) for s, strength in _STRENGTH.items()), else_=0)


def claim_cells(
    connection: Connection,
    run_id: uuid.UUID,
    source: str,
    modality: str,
    limit: int,
    *,
    retry_failed: bool = False,
    retry_rejected: bool = False,
    refresh_days: float | None = None,
    since: datetime | None = None,
    drug_ids: Sequence[int] | None = None,
) -> list[int]:
    """Up to ``limit`` drug ids whose cell is to be filled, claimed by the run beyond the end of the transaction.

    What another process has claimed is passed over, so any number of processes may work on one source. Failed cells
    come again only with ``retry_failed`` and once a run (``since`` is its start); rejected ones, whose source may
    answer otherwise another time, with ``retry_rejected``.
    """
    query = due_cells(source, modality, retry_failed=retry_failed, retry_rejected=retry_rejected,
                      refresh_days=refresh_days, since=since)
    if drug_ids is not None:
        query = query.where(cell.c.drug_id.in_(list(drug_ids)))
    query = query.where(unleased(cell, run_id)).order_by(cell.c.drug_id).limit(limit)
    # Rows are joined by their place: joined by id alone, each would be compared with each.
    row: ColumnElement[Any] = literal_column("mkmed.cell.ctid")
    free = query.add_columns(row.label("row")).with_for_update(skip_locked=True, of=cell).cte("free")
    claim = (
        update(cell)
        .where(row == free.c.row, cell.c.drug_id == free.c.drug_id)
        .values(**lease_values(run_id))
        .returning(cell.c.drug_id)
    )
    return sorted(set(connection.scalars(claim)))  # records that became one drug have a cell each


def due_cells(
    source: str,
    modality: str,
    *,
    retry_failed: bool = False,
    retry_rejected: bool = False,
    refresh_days: float | None = None,
    since: datetime | None = None,
) -> Select[tuple[int]]:
    """The query for the drug ids whose cell is to be filled.

    It is unknown, or could not be refreshed by an earlier run, or is to be tried again, or is older than
    ``refresh_days``.
    """
    due = (cell.c.state == State.unknown) | stale(cell, since)
    tried = [state for state, wanted in ((State.failed, retry_failed), (State.rejected, retry_rejected)) if wanted]
    if tried:
        again = cell.c.state.in_(tried)
        due = due | (again & (cell.c.updated_at < since) if since is not None else again)
    if refresh_days is not None:
        due = due | (cell.c.updated_at < datetime.now(UTC) - timedelta(days=refresh_days))
    return select(cell.c.drug_id).where(cell.c.source == source, cell.c.modality == str(modality), due)


def stale(table: Table, since: datetime | None = None) -> ColumnElement[bool]:
    """Whether what is known was to be refreshed, and could not be, by a run before ``since``."""
    pending = table.c.state.in_([State.present, State.absent]) & table.c.last_error.is_not(None)
    return pending & (table.c.updated_at < since) if since is not None else pending


def write_lookup(
    connection: Connection,
    run_id: uuid.UUID,
    source: str,
    key: str,
    state: State,
    *,
    drug_id: int | None = None,
    evidence: str | None = None,
    error: str | None = None,
) -> None:
    """Record what became of something that was asked for, or that a part of a file was read.

    A failure hides nothing that is known: only its error is kept beside it, and the key is due again (``stale``).
    """
    key, evidence, error = clean(key), clean(evidence) if evidence else None, clean(error) if error else None
    statement = insert(lookup).values(
        source=source,
        key=key,
        state=state,
        drug_id=drug_id,
        attempts=1,
        evidence=evidence,
        last_error=redact(error) if error else error,
        run_id=run_id,
    )
    new = statement.excluded
    kept = (new.state == State.failed) & lookup.c.state.in_([State.present, State.absent])
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source", "key"],
            set_={
                "state": case((kept, lookup.c.state), else_=new.state),
                "drug_id": case((kept, lookup.c.drug_id), else_=new.drug_id),
                "attempts": lookup.c.attempts + 1,
                "evidence": case((kept, lookup.c.evidence), else_=new.evidence),
                "last_error": new.last_error,
                "run_id": new.run_id,
                "updated_at": func.now(),
            },
        )
    )


def read_lookups(connection: Connection, source: str, keys: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """What is known of earlier look-ups of a source, by key: ``state``, ``drug_id``, ``updated_at``."""
    query = select(lookup.c.key, lookup.c.state, lookup.c.drug_id, lookup.c.updated_at).where(lookup.c.source == source)
    if keys is not None:
        query = query.where(lookup.c.key.in_(list(keys)))
    return {row["key"]: dict(row) for row in connection.execute(query).mappings()}


def count_states(connection: Connection, source: str | None = None) -> list[dict[str, Any]]:
    """Cells by source, modality and state; one row a (source, modality) with one column a state."""
    columns = [func.sum(case((cell.c.state == s, 1), else_=0)).label(s.value) for s in State]
    query = (
        select(cell.c.source, cell.c.modality, *columns, func.count().label("cells"))
        .group_by(cell.c.source, cell.c.modality)
        .order_by(literal_column("1"), literal_column("2"))
    )
    if source:
        query = query.where(cell.c.source == source)
    return [dict(row) for row in connection.execute(query).mappings()]
