"""Who is working on what: a row of the ledger is leased to a run for a while, without a lock or an open transaction.

A lease ends when its run does: by the run's own row, when its process is gone on this machine, or else after
``LEASE_SECONDS``, for a process on another machine that was killed.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterable

import psutil
from sqlalchemy import ColumnElement, Connection, Table, func, or_, select, text, update

from kb.schema.ledger import cell, lookup, run

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
