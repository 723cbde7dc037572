"""Writes many rows with one statement a thousand rows, ``ON CONFLICT`` included.

SQLAlchemy sends ``INSERT … ON CONFLICT`` one row a statement; several rows in one VALUES list are
several times faster, since the server parses and plans once a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from psycopg2.extras import execute_values
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import Insert

from kb.db.failures import mapped_errors

PAGE = 1000
_PLACE = re.compile(r"%\((\w+)\)s")


def insert_many(connection: Connection, statement: Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute an INSERT without RETURNING for all rows, which must have the same columns.

    With ``ON CONFLICT DO UPDATE`` no two rows of one call may have the same key (SQLSTATE 21000).
    """
    if not rows:
        return
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    head, _, rest = str(compiled).partition(" VALUES ")
    template, conflict, rest = rest.partition(" ON CONFLICT")
    columns = _PLACE.findall(template)
    rendered = _renderers(connection, statement, columns)
    prepared = [tuple(row[name] if f is None else f(row[name]) for name, f in rendered.items()) for row in rows]
    template = _PLACE.sub("%s", template)
    cursor: Any = connection.connection.cursor()
    with mapped_errors(), cursor:
        tail = cursor.mogrify(rest, compiled.construct_params(dict(rows[0]))).decode() if "%" in rest else rest
        query = f"{head} VALUES %s{conflict}{tail.replace('%', '%%')}"
        execute_values(cursor, query, prepared, template=template, page_size=PAGE)


def _renderers(
    connection: Connection, statement: Insert, columns: Sequence[str]
) -> dict[str, Callable[[Any], Any] | None]:
    """For every column in order, what turns a Python value into the driver's, or None where the driver knows it."""
    kinds = {name: statement.table.c[name].type.dialect_impl(connection.dialect) for name in columns}
    return {name: kind.bind_processor(connection.dialect) for name, kind in kinds.items()}
