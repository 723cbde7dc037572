"""Many rows at once: written with one statement a thousand rows, ``ON CONFLICT`` included, and looked for by arrays.

SQLAlchemy sends ``INSERT … ON CONFLICT`` one row a statement; several rows in one VALUES list are
several times faster, since the server parses and plans once a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from psycopg2.extras import execute_values
from sqlalchemy import ARRAY, ColumnElement, Connection, any_, cast, func, select, tuple_
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


def among(columns: Sequence[ColumnElement[Any]], rows: Iterable[Sequence[Any]]) -> ColumnElement[bool]:
    """Whether the columns are one of the rows, however many there are.

    The rows go over as one array a column: of a list of rows PostgreSQL makes an expression as deep as it is long, and
    its stack holds some thousands.
    """
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [cast(list(part), ARRAY(column.type)) for column, part in zip(columns, values, strict=True)]
    names = [f"value_{number}" for number in range(len(columns))]
    table = func.unnest(*arrays).table_valued(*names).render_derived()
    return tuple_(*columns).in_(select(*(table.c[name] for name in names)))


def any_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether the column is one of the values, which go over as one array."""
    return column == any_(cast(list(values), ARRAY(column.type)))


def _renderers(
    connection: Connection, statement: Insert, columns: Sequence[str]
) -> dict[str, Callable[[Any], Any] | None]:
    """For every column in order, what turns a Python value into the driver's, or None where the driver knows it."""
    kinds = {name: statement.table.c[name].type.dialect_impl(connection.dialect) for name in columns}
    return {name: kind.bind_processor(connection.dialect) for name, kind in kinds.items()}
