"""Indexes that a killed or failed command left unfinished are told by ``kb verify`` and mended by ``db upgrade``."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from kb.db import migrate
from kb.errors import DatabaseUnavailable
from kb.ledger.verify import verify

LICENCES = "INSERT INTO mkmed.licence (id, title, share) VALUES ('a', 'same', 'open'), ('b', 'same', 'open')"


def alone(engine: Engine, statement: str) -> None:
    """Run a statement that must not stand in a transaction."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))


def valid(engine: Engine) -> dict[str, bool]:
    """Whether each index on the table of licences is."""
    query = "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 'mkmed.licence'::regclass"
    with engine.connect() as connection:
        return {name.removeprefix("mkmed."): bool(whole) for name, whole in connection.execute(text(query))}


def broken(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [row["index"] for check in verify(connection) if check.number == "I7c" for row in check.broken]


def build_and_be_killed(engine: Engine, statement: str) -> None:
    """Start to build an index, which waits for an older transaction, and end its session meanwhile."""
    failed: list[Exception] = []

    def build() -> None:
        try:
            alone(engine, statement)
        except (DBAPIError, DatabaseUnavailable) as error:
            failed.append(error)

    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")  # a transaction would see one state for ever
    with engine.connect() as older, autocommit.connect() as killer:
        older.execute(text("INSERT INTO mkmed.licence (id, title, share) VALUES ('c', 'held', 'open')"))
        builder = threading.Thread(target=build)
        builder.start()
        waiting = text("SELECT pid FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%' LIMIT 1")
        deadline = time.monotonic() + 20
        while (pid := killer.scalar(waiting)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert pid is not None, "the command did not wait"
        assert broken(engine) == [], "one that is being built is not left over"
        killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        builder.join(20)
        older.rollback()
    assert failed, "the command was not killed"


def test_an_index_whose_building_was_killed_is_finished(fresh_database: Engine) -> None:
    before = valid(fresh_database)
    build_and_be_killed(fresh_database, 'CREATE INDEX CONCURRENTLY "by 100% title" ON mkmed.licence (title)')
    assert valid(fresh_database) == {**before, '"by 100% title"': False}
    assert broken(fresh_database) == ["by 100% title"]
    assert migrate.upgrade(fresh_database) == ["index by 100% title of licence was unfinished: rebuilt"]
    assert valid(fresh_database) == {**before, '"by 100% title"': True}
    assert broken(fresh_database) == migrate.upgrade(fresh_database) == []


def test_what_a_killed_reindex_left_is_dropped(fresh_database: Engine) -> None:
    before = valid(fresh_database)
    name = next(iter(before))
    build_and_be_killed(fresh_database, f"REINDEX INDEX CONCURRENTLY mkmed.{name}")
    assert broken(fresh_database) == [f"{name}_ccnew"]
    assert "dropped" in migrate.upgrade(fresh_database)[0]
    assert valid(fresh_database) == before


def test_one_that_can_never_be_unique_is_dropped(fresh_database: Engine) -> None:
    before = valid(fresh_database)
    with fresh_database.begin() as connection:
        connection.execute(text(LICENCES))
    with pytest.raises(IntegrityError):
        alone(fresh_database, "CREATE UNIQUE INDEX CONCURRENTLY one_title ON mkmed.licence (title)")
    assert broken(fresh_database) == ["one_title"]
    assert "dropped" in migrate.upgrade(fresh_database)[0]
    assert valid(fresh_database) == before
