"""The log of a command: a file of lines for whoever operates mkmed, apart from what is said on stderr.

Each line has the time (UTC), level, logger, process, command and the run that is under way. Nothing of a patient is in
it: of commands that read patients only what names no code is written, and of an error that nobody expected its type and
place, without its message. Secrets are masked. The file is its owner's alone, is appended to, and is opened again when
it was moved away (logrotate); how long it grows is the user's business.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb import output
from kb.files import open_own
from kb.normalise import redact

if TYPE_CHECKING:
    import uuid

ROOMS = ("cli", "kb", "embed", "recsys", "mkmed", "uvicorn")
"""Whose loggers are written; everybody else's would say things that nobody has looked through."""
HOLD_PATIENTS = frozenset({"recsys", "report", "serve"})
"""Groups of commands whose talk and errors may name what a patient has: they are told on stderr, and not logged."""
PULSE_SECONDS = 10.0
"""How often progress is written at most."""


class LogFormat(StrEnum):
    """How a line of the log is written."""

    text = "text"
    json = "json"


class _Open:
    """The log of this process."""

    handler: logging.Handler | None = None
    command = ""
    run: str | None = None
    since = 0.0


class _OwnFile(WatchedFileHandler):
    """A file of mode 0600, no link followed; a line that cannot be written is told once and holds nothing up."""

    told = False

    def _open(self) -> io.TextIOWrapper:
        descriptor = open_own(Path(self.baseFilename), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # of opening it again, which logging leaves to the caller
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        if not self.told:
            self.told = True
            output.complain(f"the log {self.baseFilename} cannot be written: {sys.exc_info()[1]}")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"time": moment, "level": record.levelname, "logger": record.name, "pid": record.process,
              "command": _Open.command, "run": _Open.run, "message": redact(record.getMessage())}
    if record.exc_info and record.exc_info[0] is not None:
        where = traceback.extract_tb(record.exc_info[2])[-1:]
        fields["error"] = record.exc_info[0].__name__
        fields["at"] = f"{Path(where[0].filename).name}:{where[0].lineno}" if where else None
    return {**fields, **_masked(getattr(record, "fields", {}))}


def _masked(value: Any) -> Any:
    value = output.plain(value)
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _masked(inner) for key, inner in value.items()}
    return value


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record), ensure_ascii=True, default=str)


class _Text(logging.Formatter):
    """Time, level, logger, what happened, and the rest as key=value; no line break and no control character in it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        head = " ".join(str(fields.pop(name)) for name in ("time", "level", "logger"))
        message = fields.pop("message")
        rest = " ".join(f"{key}={_word(value)}" for key, value in fields.items())
        return output.for_people(f"{head} {rest} | {message}".replace("\n", "\\n").replace("\t", " "))


def _word(value: Any) -> str:
    if isinstance(value, str) and value and not set(value) & set(' "='):
        return value
    return "-" if value is None else json.dumps(value, ensure_ascii=True, default=str)


def open_log(path: Path, form: LogFormat, group: str, command: str, version: str) -> None:
    """Begin the log of ``command``, of a group; raises ConfigError for a link or a device, OSError as open does."""
    close()
    handler = _OwnFile(path, encoding="utf-8", delay=False)
    handler.setFormatter(_Json() if form is LogFormat.json else _Text())
    _Open.handler, _Open.command, _Open.run, _Open.since = handler, command, None, time.monotonic()
    for name in ROOMS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING if name == "uvicorn" else logging.INFO)
    said = logging.getLogger("cli.said")
    output.listen(None if group in HOLD_PATIENTS else said.info, _pulse)
    logging.getLogger("cli").info("begun", extra={"fields": {"version": version}})


def close(exit_code: int | None = None) -> None:
    """End the log, where there is one."""
    handler = _Open.handler
    if handler is None:
        return
    fields = {"exit_code": exit_code, "seconds": round(time.monotonic() - _Open.since, 3)}
    logging.getLogger("cli").info("ended", extra={"fields": fields})
    output.listen(None, None)
    for name in ROOMS:
        logger = logging.getLogger(name)
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    with suppress(OSError):  # told already
        handler.close()
    _Open.handler, _Open.run = None, None


def log_failure(error: BaseException, message: str, exit_code: int, group: str) -> None:
    """Write how a command failed, where there is a log; the message only of groups that read no patients."""
    if _Open.handler is None:
        return
    fields = {"error": type(error).__name__, "exit_code": exit_code}
    logging.getLogger("cli").error("failed" if group in HOLD_PATIENTS else message, extra={"fields": fields})


def in_run(run: uuid.UUID | str | None) -> None:
    """Name the run that every line from here belongs to."""
    _Open.run = None if run is None else str(run)


def _pulse() -> Callable[[str, float, float | None, str], None]:
    """A function that writes where a task stands, now and then."""
    logger, last = logging.getLogger("cli.progress"), {}  # type: logging.Logger, dict[str, float]

    def beat(task: str, done: float, total: float | None, note: str) -> None:
        now = time.monotonic()
        if now - last.setdefault(task, now) >= PULSE_SECONDS:
            last[task] = now
            fields = {"task": task, "done": int(done), "total": None if total is None else int(total), "note": note}
            logger.info("progress", extra={"fields": fields})

    return beat
