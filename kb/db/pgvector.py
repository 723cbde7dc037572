"""Which pgvector a database has, and whether it is one without known index bugs."""

from __future__ import annotations

from sqlalchemy import Connection, text

from kb.errors import SchemaMismatch

MINIMAL_PGVECTOR = (0, 8, 4)
"""Before it, parallel HNSW builds overflowed (0.8.2), vacuum could break an index (0.8.3) or its repair (0.8.4)."""


def pgvector_version(connection: Connection) -> tuple[int, ...] | None:
    """The installed version of pgvector in this database, None when it is not installed."""
    found = connection.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    return tuple(int(part) for part in str(found).split(".")) if found else None


def require_pgvector(connection: Connection) -> None:
    """Return when pgvector is installed and new enough; raise SchemaMismatch otherwise."""
    version = pgvector_version(connection)
    least = ".".join(map(str, MINIMAL_PGVECTOR))
    if version is None:
        raise SchemaMismatch("the database has no pgvector", hint="mkmed db upgrade (as a role that may create it)")
    if version < MINIMAL_PGVECTOR:
        shown = ".".join(map(str, version))
        raise SchemaMismatch(f"pgvector {shown} has index bugs that were fixed in {least}",
                             hint=f"install pgvector {least} or later, then ALTER EXTENSION vector UPDATE")
