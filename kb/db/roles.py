"""Least privilege on an external PostgreSQL: the scripts ``roles.sql`` and ``grants.sql``, and running them."""

from __future__ import annotations

from importlib.resources import files

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from kb.db.failures import mapped_errors, refused


def script() -> str:
    """The SQL that makes the roles and their grants."""
    return f"{_read('roles.sql')}\n{_read('grants.sql')}"


def _read(name: str) -> str:
    return (files("kb.db") / name).read_text()


def create_roles(engine: Engine) -> None:
    """Run the script in one transaction; running it again changes nothing."""
    try:
        with mapped_errors(), engine.begin() as connection:
            _execute(connection, script())
    except DBAPIError as error:
        raise refused(error, "making the roles") from error


def renew_grants(connection: Connection) -> None:
    """Grant what is new and take away what is not granted any more; does nothing where the roles are not there."""
    _execute(connection, _read("grants.sql"))


def _execute(connection: Connection, sql: str) -> None:
    cursor = connection.connection.cursor()
    cursor.execute(sql)
    cursor.close()
