"""The migrations: they agree with the declared schema, go down and up again, and may be run by many at once."""

from __future__ import annotations

from sqlalchemy import Engine

from kb.db import migrate


def test_database_agrees_with_the_declared_schema(database: Engine) -> None:
    assert migrate.current(database) == migrate.head()
    assert migrate.check(database) == []
