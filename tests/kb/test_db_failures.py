"""What goes wrong with Postgres: repeated when that helps, told plainly when it does not, and never lost."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import psycopg2
import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from kb.db import failures
from kb.db.engine import engine_for, open_engine
from kb.db.failures import mapped_errors, translate, with_retry
from kb.db.pgvector import require_pgvector
from kb.errors import DatabaseUnavailable, DiskFull, SchemaMismatch
from kb.settings import load_settings


@pytest.fixture
def counter(database: Engine):
    """A table with two rows to count up in."""
    with database.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS mkmed.counter"))
        connection.execute(text("CREATE TABLE mkmed.counter (id int PRIMARY KEY, n int)"))
        connection.execute(text("INSERT INTO mkmed.counter VALUES (1, 0), (2, 0)"))
    yield database
    with database.begin() as connection:
        connection.execute(text("DROP TABLE mkmed.counter"))


def add(connection: Connection, key: int) -> None:
    connection.execute(text("UPDATE mkmed.counter SET n = n + 1 WHERE id = :key"), {"key": key})


def total(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT sum(n) FROM mkmed.counter")))


def test_terminated_session_is_replayed(counter: Engine) -> None:
    calls = []

    def work(connection: Connection) -> str:
        calls.append(1)
        add(connection, 1)
        if len(calls) < 3:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return "done"

    assert with_retry(work, counter) == "done"
    assert len(calls) == 3 and total(counter) == 1


def test_idle_connection_that_died_is_replaced_unseen(counter: Engine) -> None:
    with counter.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    other = engine_for(counter.url)
    with other.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    other.dispose()
    time.sleep(0.1)
    assert total(counter) == 0


def test_deadlock_is_replayed(counter: Engine) -> None:
    barrier = threading.Barrier(2)
    first = [True, True]

    def worker(index: int, keys: tuple[int, int]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            add(connection, keys[0])
            if first[index]:
                first[index] = False
                barrier.wait(10)
            add(connection, keys[1])
        with_retry(work, counter)

    threads = [threading.Thread(target=worker, args=(i, keys)) for i, keys in enumerate([(1, 2), (2, 1)])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert total(counter) == 4


def test_serialization_failure_is_replayed(counter: Engine) -> None:
    disturbed = []

    def work(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        connection.execute(text("SELECT sum(n) FROM mkmed.counter"))
        if not disturbed:
            disturbed.append(1)
            with counter.begin() as other:
                add(other, 1)
        add(connection, 1)

    with_retry(work, counter)
    assert total(counter) == 2


def test_lock_that_is_never_released_ends_in_a_clear_error(counter: Engine) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("SET LOCAL lock_timeout = '20ms'"))
        add(connection, 1)

    with counter.begin() as holder:
        add(holder, 1)
        with pytest.raises(DatabaseUnavailable, match="in the way"):
            with_retry(work, counter, seconds=0.5)


def test_mistakes_are_not_repeated(counter: Engine) -> None:
    for statement, kind in (("INSERT INTO mkmed.counter VALUES (1, 0)", IntegrityError),
                            ("SELECT nonsense", ProgrammingError)):
        calls = []

        def work(connection: Connection, statement: str = statement, calls: list[int] = calls) -> None:
            calls.append(1)
            connection.execute(text(statement))

        with pytest.raises(kind):
            with_retry(work, counter)
        assert len(calls) == 1


def test_sessions_terminated_five_times_a_second_lose_nothing(counter: Engine) -> None:
    """Row 4 of the fault table, for three seconds."""
    stop = threading.Event()
    killer = engine_for(counter.url)

    def kill() -> None:
        while not stop.wait(0.2):
            with killer.begin() as connection:
                connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
                                        " current_database() AND pid <> pg_backend_pid()"))

    thread = threading.Thread(target=kill)
    thread.start()
    deadline, acknowledged = time.monotonic() + 3, 0
    try:
        with counter.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS mkmed.acknowledged (n int PRIMARY KEY)"))
        while time.monotonic() < deadline:
            with_retry(lambda c, n=acknowledged: c.execute(
                text("INSERT INTO mkmed.acknowledged VALUES (:n) ON CONFLICT DO NOTHING"), {"n": n}), counter)
            acknowledged += 1
            time.sleep(0.002)
    finally:
        stop.set()
        thread.join()
        killer.dispose()
    with counter.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM mkmed.acknowledged")) == acknowledged > 100
        connection.execute(text("DROP TABLE mkmed.acknowledged"))


def _error(kind: type[psycopg2.Error], code: str | None, message: str) -> psycopg2.Error:
    class Coded(kind):  # type: ignore[valid-type, misc]
        pgcode = code

    return Coded(message)


@pytest.mark.parametrize(("error", "expected"), [
    (_error(psycopg2.OperationalError, "53100", "could not extend file: No space left on device"), DiskFull),
    (_error(psycopg2.OperationalError, "57P01", "terminating connection"), DatabaseUnavailable),
    (_error(psycopg2.OperationalError, None, "server closed the connection unexpectedly"), DatabaseUnavailable),
    (psycopg2.DatabaseError("server closed the connection unexpectedly"), DatabaseUnavailable),
    (_error(psycopg2.InterfaceError, None, "connection already closed"), DatabaseUnavailable),
    (_error(psycopg2.InterfaceError, None, "cursor already closed"), type(None)),
    (_error(psycopg2.ProgrammingError, "42P01", "no such table"), type(None)),
    (_error(psycopg2.OperationalError, "55P03", "lock timeout"), type(None)),
])
def test_failures_are_told_apart(error: psycopg2.Error, expected: type) -> None:
    assert isinstance(translate(error), expected)
    wrapped = OperationalError("INSERT …", {}, error)
    assert isinstance(translate(wrapped), expected)


def test_errors_of_a_bare_cursor_are_sqlalchemys_and_repeatable(connection: Connection) -> None:
    with pytest.raises(IntegrityError), connection.begin_nested(), mapped_errors():
        connection.connection.cursor().execute("INSERT INTO mkmed.licence (id) VALUES ('x')")
    with pytest.raises(OperationalError) as caught, mapped_errors():
        raise _error(psycopg2.OperationalError, "40P01", "deadlock detected")
    assert failures.is_conflict(caught.value)


def test_other_errors_pass_through_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), mapped_errors():
        raise ZeroDivisionError


def test_retry_gives_up_after_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    dead = engine_for(failures_url(tmp_path))
    start = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        with_retry(lambda connection: None, dead, seconds=0.5)
    assert 0.4 < time.monotonic() - start < 10


def failures_url(folder: object):
    from sqlalchemy import URL

    return URL.create("postgresql+psycopg2", username="x", database="x", query={"host": str(folder)})


def test_external_database_without_migrations_says_what_to_run(server_url: str, monkeypatch) -> None:
    monkeypatch.setenv("MKMED_DATABASE_URL", server_url)
    with pytest.raises(SchemaMismatch) as caught:
        open_engine(load_settings())
    assert caught.value.hint == "mkmed db upgrade"


@pytest.mark.parametrize(("version", "good"), [("0.8.3", False), ("0.8.4", True), ("0.8.5", True), ("0.10.0", True),
                                               ("0.7.9", False)])
def test_old_pgvector_is_refused(connection: Connection, monkeypatch, version: str, good: bool) -> None:
    monkeypatch.setattr("kb.db.pgvector.pgvector_version", lambda _: tuple(map(int, version.split("."))))
    if good:
        require_pgvector(connection)
    else:
        with pytest.raises(SchemaMismatch, match=version):
            require_pgvector(connection)


def test_engine_sees_our_schemas_in_utc(connection: Connection) -> None:
    assert connection.scalar(text("SHOW search_path")) == "mkmed, ext, public"
    assert connection.scalar(text("SHOW timezone")) == "UTC"
    assert connection.scalar(text("SHOW application_name")) == "mkmed"
    assert connection.scalar(text("SELECT '[1,2]'::vector <-> '[1,2]'")) == 0
    assert failures.RETRY_SECONDS <= 60


def test_a_signal_that_psycopg2_drops_still_stops(counter: Engine) -> None:
    """psycopg2 drops what a signal handler raises while it reads a notice: the statement succeeds, and Ctrl-C is lost."""
    engine = engine_for(counter.url)

    def run_and_drop(cursor: psycopg2.extensions.cursor, statement: str, parameters: object, _context: object) -> bool:
        cursor.execute(statement, parameters)
        if "counter" in statement:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        return True

    event.listen(engine, "do_execute", run_and_drop)
    with pytest.raises(KeyboardInterrupt), engine.begin() as connection:
        add(connection, 1)
    assert total(counter) == 0, "what was not finished was rolled back"
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))  # and it is told once only
