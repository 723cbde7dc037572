"""A run: a row that says who wrote what, when, with which configuration, and how it ended."""

from __future__ import annotations

import json
import logging
import os
import platform
import uuid
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from kb import log
from kb.db.redact import public_values, redact
from kb.errors import NotFound
from kb.output import plain
from kb.schema.ledger import run

LOGGER = logging.getLogger(__name__)


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
            config=public_values(json.loads(json.dumps(plain(config or {})))),
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
        values["counts"] = json.loads(json.dumps(plain(counts)))
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
