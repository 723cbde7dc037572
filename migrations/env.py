"""Alembic's entry: which tables are ours, on which connection, under which lock.

Called by ``kb.db.migrate`` with a connection, or by the ``alembic`` program, which then opens mkmed's own database.
"""

from __future__ import annotations

import re

from alembic import context
from sqlalchemy import Connection, text

from migrations.declared import SCHEMA, declared

PARTITION = re.compile(r"embedding_[0-9a-f]{32}(_\w+)?")
"""The partitions that hold one run's vectors come and go with the runs."""
MADE_LATER = ("ix_fingerprint_morgan",)
"""Indexes that are built when a table has grown (``kb/identity/fingerprints.py``)."""


def ours(name: str | None, kind: str, _parents: object) -> bool:
    """Whether Alembic compares this schema, table or other thing of the database."""
    if kind == "schema":
        return name == SCHEMA
    return not (kind == "table" and PARTITION.fullmatch(name or "")) and not (kind == "index" and name in MADE_LATER)


def prepare(connection: Connection) -> None:
    """Wait for other migrators, then make the schemas and the extension that the first revision stands on."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('mkmed migrate'))"))
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS ext"))
    if not connection.scalar(text("SELECT true FROM pg_extension WHERE extname = 'vector'")):
        connection.execute(text("CREATE EXTENSION vector SCHEMA ext"))
    # Alembic compares by full names only when the schema is not the default one of the session.
    connection.execute(text("SET LOCAL search_path TO ext, public"))


def migrate(connection: Connection) -> None:
    """Run the revisions that the command asks for, all in the transaction of ``connection``."""
    prepare(connection)
    default = connection.dialect.default_schema_name
    connection.dialect.default_schema_name = "public"
    try:
        context.configure(
            connection=connection, target_metadata=declared(), include_schemas=True, include_name=ours,
            version_table_schema=SCHEMA, compare_type=True, compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.dialect.default_schema_name = default


def main() -> None:
    """Migrate the given connection, or mkmed's own database."""
    given = context.config.attributes.get("connection")
    if given is not None:
        migrate(given)
        return
    from kb.db.engine import open_engine

    with open_engine(migrated=False).begin() as connection:
        migrate(connection)


main()
