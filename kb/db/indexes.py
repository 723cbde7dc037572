"""Indexes that PostgreSQL left unfinished: ``CREATE INDEX CONCURRENTLY`` that was killed leaves an invalid one behind.

No query uses such an index, every write pays for it, and a unique one forbids nothing. Migrations build their indexes
inside transactions and cannot leave one; an administrator's own command can.
"""

from __future__ import annotations

import re

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

UNFINISHED = """
SELECT n.nspname AS schema, c.relname AS name, i.indrelid::regclass::text AS "table"
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'mkmed' AND c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready)
  AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
ORDER BY c.relname
"""
"""Those of tables on which nobody builds an index at this moment."""
_LEFT_BY_REINDEX = re.compile(r"_cc(new|old)\d*$")
"""``REINDEX CONCURRENTLY`` names its copies so; the index itself is whole."""


def mend_indexes(connection: Connection) -> list[str]:
    """What was done to each unfinished index of the schema: rebuilt, or dropped where that is all it is good for."""
    found = connection.execute(text(UNFINISHED)).mappings().all()
    return [f"index {row['name']} of {row['table']} was unfinished: {_mend(connection, row['name'])}" for row in found]


def _mend(connection: Connection, name: str) -> str:
    quoted = "mkmed." + connection.dialect.identifier_preparer.quote_identifier(name)
    if not _LEFT_BY_REINDEX.search(name):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"REINDEX INDEX {quoted}")
            return "rebuilt"
        except IntegrityError:  # the rows are not unique, so it can never be finished
            pass
    connection.exec_driver_sql(f"DROP INDEX {quoted}")
    return "dropped"
