"""What Postgres' failures mean for mkmed: which are worth repeating, which are a full disk, and how to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import psycopg2
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError

from kb.errors import ConnectionLost, DatabaseError, DatabaseUnavailable, DiskFull, MkmedError
from kb.normalise import redact

if TYPE_CHECKING:
    import tenacity

P = ParamSpec("P")
T = TypeVar("T")

RETRY_SECONDS = 60.0
CONFLICTS = {"40001", "40P01", "55P03", "57014"}
"""Serialisation failure, deadlock, lock timeout, statement cancelled: the same transaction may succeed next time."""
LOST = {"57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08006", "25P03", "25P04"}
"""The session or the server went away."""
DISK_FULL = {"53100"}
FORBIDDEN = {"42501", "25006"}
"""No right to it, or a session that only reads."""


def sqlstate(error: BaseException) -> str | None:
    """The five-character SQLSTATE of an error of psycopg2 or of SQLAlchemy around it."""
    original = getattr(error, "orig", None) or error
    return getattr(original, "pgcode", None)


def is_lost(error: BaseException) -> bool:
    """Whether the error means that the connection or the server went away."""
    original = getattr(error, "orig", None) or error
    if getattr(error, "connection_invalidated", False) or sqlstate(error) in LOST:
        return True
    # libpq reports a broken socket without a SQLSTATE; psycopg2 raises the base class where it came amid an answer.
    if isinstance(original, psycopg2.InterfaceError):
        return "connection already closed" in str(original)
    broken = isinstance(original, psycopg2.OperationalError) or type(original) is psycopg2.DatabaseError
    return broken and sqlstate(error) is None


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction was in the way."""
    return sqlstate(error) in CONFLICTS - {"57014"}


def translate(error: BaseException) -> MkmedError | None:
    """The mkmed error for a full disk, a missing right or a lost connection; None for everything else."""
    if sqlstate(error) in DISK_FULL or "No space left on device" in str(error):
        return DiskFull("the disk of the database is full; everything committed is kept",
                        hint="free space, then run the same command again")
    if sqlstate(error) in FORBIDDEN:
        return DatabaseError(f"this login may not do that: {first_line(error)}",
                         hint="connect as the owner of the database or as a member of mkmed_ingest")
    if is_lost(error):
        return ConnectionLost(f"the connection to PostgreSQL was lost: {first_line(error)}",
                              hint="run the same command again; mkmed doctor shows what is wrong")
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without secrets and without the statement or its values."""
    original = getattr(error, "orig", None) or error
    text = str(original).strip().splitlines()
    return redact(text[0]) if text else type(original).__name__


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Raise DiskFull and DatabaseUnavailable for what psycopg2 or SQLAlchemy raise inside.

    Other errors of a bare psycopg2 cursor become those of SQLAlchemy, so that callers know one family only.
    """
    try:
        yield
    except (psycopg2.Error, DBAPIError) as error:
        mapped = translate(error)
        if mapped is not None:
            raise mapped from None
        if isinstance(error, DBAPIError):
            raise
        raise DBAPIError.instance("bulk statement", None, error, psycopg2.Error, hide_parameters=True) from error


def with_retry(work: Callable[[Connection], T], engine: Engine, *, seconds: float = RETRY_SECONDS) -> T:
    """What ``work`` returns, run in one transaction that is replayed after a lost connection or a conflict.

    The work must be idempotent: when the connection is lost during the commit, nobody knows whether it took place, and
    it is run again. Raises DatabaseUnavailable after ``seconds``.
    """
    try:
        return _waiting(seconds)(_once, work, engine)
    except DBAPIError as error:
        if is_conflict(error):
            raise DatabaseUnavailable(
                f"other transactions were in the way for {seconds:.0f} s: {first_line(error)}", hint="run it again"
            ) from None
        raise


def patiently(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """What ``work`` returns, called again when it had a connection and lost it; a server that was never reached is not
    waited for."""
    try:
        return work(*arguments, **options)
    except ConnectionLost:
        return _waiting(RETRY_SECONDS)(work, *arguments, **options)


def _waiting(seconds: float) -> tenacity.Retrying:
    import tenacity  # brings asyncio's servers and tornado along, which a prompt must not wait for

    return tenacity.Retrying(
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=3.0),
        retry=tenacity.retry_if_exception(_worth_repeating),
        reraise=True,
    )


def _once(work: Callable[[Connection], T], engine: Engine) -> T:
    with mapped_errors(), engine.begin() as connection:
        return work(connection)


def _worth_repeating(error: BaseException) -> bool:
    if isinstance(error, DatabaseUnavailable | PendingRollbackError):
        return True
    return isinstance(error, DBAPIError | psycopg2.Error) and (is_lost(error) or is_conflict(error))


def refused(error: DBAPIError | InvalidRequestError, doing: str) -> DatabaseError:
    """The error for a statement that Postgres refused, without its values."""
    return DatabaseError(f"{doing}: {first_line(error)}")
