"""Least privilege on an external PostgreSQL: the script ``roles.sql``, and running it."""

from __future__ import annotations

from importlib.resources import files

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from kb.db.failures import mapped_errors, refused


def script() -> str:
    """The SQL that makes the roles, their grants and the licence policies."""
    return (files("kb.db") / "roles.sql").read_text()


def create_roles(engine: Engine) -> None:
    """Run the script in one transaction; running it again changes nothing."""
    try:
        with mapped_errors(), engine.begin() as connection:
            cursor = connection.connection.cursor()
            cursor.execute(script())
            cursor.close()
    except DBAPIError as error:
        raise refused(error, "making the roles") from error
