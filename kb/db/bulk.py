"""Many rows at once between Python and PostgreSQL: binary COPY both ways, paged INSERTs, and look-ups by arrays."""

from __future__ import annotations

import json
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql
from psycopg2.errors import QueryCanceled
from psycopg2.extras import execute_values
from sqlalchemy import ARRAY, ColumnElement, Connection, any_, cast, func, select, tuple_
from sqlalchemy.dialects.postgresql import Insert

from kb.db.failures import mapped_errors
from kb.errors import DataError

# Bulk transfer between numpy and Postgres by binary COPY, the only way that keeps up with the disk.
#
# The format is the one of PostgreSQL's manual, COPY, "Binary Format": a signature, then per row a field count and per
# field a length and a big-endian value, then a trailer.

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
CHUNK_ROWS = 65_536
READ_BYTES = 1 << 20
EPOCH, MICROSECOND = datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
NULL = struct.pack(">i", -1)

FIXED = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8", "bool": "?"}
"""PostgreSQL's types of one width, and numpy's name for their bytes on the wire."""
PACKED = {"int2": "h", "int4": "i", "int8": "q", "float4": "f", "float8": "d", "bool": "?"}
"""The same for ``struct``."""
VECTORS = {"vector": ">f4", "halfvec": ">f2"}
"""pgvector's types: a dimension (int16), an unused int16, then the elements."""


def copy_arrays(connection: Connection, table: str, columns: Sequence[str],
                arrays: Sequence[NDArray[Any] | Sequence[Any]], *, freeze: bool = False) -> int:
    """How many rows were written to ``table`` from one array per column, in the order of ``columns``.

    Numbers go in numeric arrays; ``vector`` and ``halfvec`` in an array [N, D]; text, bytea, jsonb, uuid and whatever
    has missing values (None) in a list or an object array. Values are cast to the column's own type, and a value that
    does not fit it raises DataError. ``freeze`` is for a table that this transaction made or truncated: its rows are
    all-visible at once, so that index-only scans need no heap.
    """
    lengths = {len(array) for array in arrays}
    if len(arrays) != len(columns) or len(lengths) != 1:
        raise DataError(f"{table}: {len(columns)} columns, {len(arrays)} arrays of lengths {sorted(lengths)}")
    cursor: Any = connection.connection.cursor()
    with mapped_errors(), cursor:
        kinds = _kinds(cursor, table, columns)
        target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE {})").format(
            sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL("true" if freeze else "false"),
        )
        rows = lengths.pop()
        stream = _Stream(_rows(kinds, columns, arrays, rows))
        try:
            cursor.copy_expert(target, stream, size=READ_BYTES)
        except QueryCanceled:
            # psycopg2 cancels the COPY when reading fails, and hides why.
            if stream.failure is not None:
                raise stream.failure from None
            raise
    return rows


def copy_rows(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns by COPY, which knows no conflicts."""
    if rows:
        columns = list(rows[0])
        copy_arrays(connection, table, columns, [[row[column] for row in rows] for column in columns])


def copy_out(connection: Connection, query: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer of a query, one array per column: numbers as numpy types, vectors [N, D] float32, the rest objects.

    A missing float is NaN and a missing object None; a missing integer, boolean or vector raises DataError.
    """
    cursor: Any = connection.connection.cursor()
    with mapped_errors(), cursor:
        text = cursor.mogrify(query, parameters).decode() if parameters else query
        cursor.execute(f"SELECT * FROM ({text}) AS answer LIMIT 0")  # noqa: S608 - the query is the caller's, its values are quoted
        names = [column.name for column in cursor.description]
        kinds = _names_of_types(cursor, [column.type_code for column in cursor.description])
        buffer = BytesIO()
        cursor.copy_expert(f"COPY ({text}) TO STDOUT (FORMAT binary)", buffer, size=READ_BYTES)
    body = memoryview(buffer.getbuffer())[len(SIGNATURE):-len(TRAILER)]
    return _read_fixed(names, kinds, body) or _read_any(names, kinds, body)


class _Stream:
    """The ``read`` of a file over an iterator of byte strings, as psycopg2 wants it."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")
        self.failure: DataError | None = None

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; empty at the end."""
        if not self._rest:
            try:
                self._rest = memoryview(next(self._parts, b""))
            except DataError as error:
                self.failure = error
                raise
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


def _kinds(cursor: Any, table: str, columns: Sequence[str]) -> list[str]:
    cursor.execute(
        "SELECT attname, typname FROM pg_attribute JOIN pg_type t ON t.oid = atttypid"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped", (table,)
    )
    known = dict(cursor.fetchall())
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise DataError(f"{table} has no column {unknown[0]!r}")
    return [known[name] for name in columns]


def _names_of_types(cursor: Any, oids: Sequence[int]) -> list[str]:
    cursor.execute("SELECT oid, typname FROM pg_type WHERE oid = ANY(%s)", (list(oids),))
    known = dict(cursor.fetchall())
    return [known[oid] for oid in oids]


def _rows(kinds: Sequence[str], columns: Sequence[str], arrays: Sequence[Any], rows: int) -> Iterator[bytes]:
    """The bytes of the whole COPY, chunk by chunk."""
    fixed = all(_is_plain(kind, array) for kind, array in zip(kinds, arrays, strict=True))
    yield SIGNATURE
    for start in range(0, rows, CHUNK_ROWS):
        part = [array[start:start + CHUNK_ROWS] for array in arrays]
        try:
            yield _plain_chunk(kinds, columns, part) if fixed else _any_chunk(kinds, part)
        except (TypeError, ValueError, struct.error, AttributeError, UnicodeEncodeError) as error:
            raise DataError(f"a value does not fit its column, in rows {start} to {start + len(part[0])}: "
                            f"{type(error).__name__}") from None
    yield TRAILER


def _is_plain(kind: str, array: Any) -> bool:
    """Whether the column goes the fast way: one width, no missing values."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "iufb" and (kind in FIXED or kind in VECTORS)


def _plain_chunk(kinds: Sequence[str], columns: Sequence[str], arrays: Sequence[NDArray[Any]]) -> bytes:
    """Rows of one width, laid out by numpy."""
    row = np.zeros(len(arrays[0]), dtype=_layout(kinds, [_width(a) for a in arrays]))
    row["fields"] = len(kinds)
    for i, (kind, array) in enumerate(zip(kinds, arrays, strict=True)):
        if kind in VECTORS:
            if not np.isfinite(array).all():
                raise ValueError(f"{columns[i]} is not finite")
            row[f"l{i}"], row[f"d{i}"] = row.dtype[f"v{i}"].itemsize + 4, array.shape[1]
        else:
            row[f"l{i}"] = row.dtype[f"v{i}"].itemsize
            _require_range(kind, array)
        row[f"v{i}"] = array
    return row.tobytes()


def _require_range(kind: str, array: NDArray[Any]) -> None:
    """Raise ValueError when an integer column would wrap around silently, or a fraction be cut off."""
    if kind.startswith("int"):
        if array.dtype.kind not in "iub":
            raise ValueError("a fraction for an integer column")
        bounds = np.iinfo(np.dtype(FIXED[kind]))
        if array.size and (array.max() > bounds.max or array.min() < bounds.min):
            raise ValueError("out of range")


def _layout(kinds: Sequence[str], widths: Sequence[int]) -> np.dtype[Any]:
    """The numpy dtype of one row on the wire: ``fields``, then per column a length ``l`` and a value ``v``."""
    parts: list[Any] = [("fields", ">i2")]
    for i, (kind, width) in enumerate(zip(kinds, widths, strict=True)):
        parts.append((f"l{i}", ">i4"))
        if kind in VECTORS:
            parts += [(f"d{i}", ">i2"), (f"u{i}", ">i2"), (f"v{i}", VECTORS[kind], (width,))]
        else:
            parts.append((f"v{i}", FIXED[kind]))
    return np.dtype(parts)


def _width(array: NDArray[Any]) -> int:
    return int(array.shape[1]) if array.ndim == 2 else 1


def _any_chunk(kinds: Sequence[str], arrays: Sequence[Any]) -> bytes:
    """Rows of any width, laid out column by column."""
    columns = [_fields(kind, a.tolist() if isinstance(a, np.ndarray) and a.ndim == 1 else a)
               for kind, a in zip(kinds, arrays, strict=True)]
    head = repeat(struct.pack(">h", len(arrays)), len(arrays[0]))
    return b"".join(chain.from_iterable(zip(head, *columns, strict=True)))


def _fields(kind: str, values: Sequence[Any]) -> Iterator[bytes]:
    """Every value with its length before it; of text and bytes each distinct one is encoded once."""
    encode, length = _encoder(kind), struct.Struct(">i").pack

    def field(value: Any) -> bytes:
        if value is None:
            return NULL
        encoded = encode(value)
        return length(len(encoded)) + encoded

    types = set(map(type, values))
    if kind in PACKED and types == {int}:
        pack, width = struct.Struct(f">i{PACKED[kind]}").pack, struct.calcsize(f">{PACKED[kind]}")
        return (pack(width, value) for value in values)
    if types == {str} and kind in ("text", "varchar"):
        written = {value: length(len(raw)) + raw for value in set(values) for raw in (value.encode(),)}
        return map(written.__getitem__, values)
    if types <= {str, bytes, uuid.UUID, type(None)}:
        known = {value: field(value) for value in set(values)}
        return map(known.__getitem__, values)
    return map(field, values)


def _encoder(kind: str) -> Callable[[Any], bytes]:
    """A function from a Python value to the bytes of PostgreSQL's type ``kind``; raises DataError for other types."""
    if kind in FIXED:
        return struct.Struct(f">{PACKED[kind]}").pack
    if kind in VECTORS:
        return lambda value: _vector_bytes(np.asarray(value, dtype=VECTORS[kind]))
    simple: dict[str, Callable[[Any], bytes]] = {
        "text": str.encode, "varchar": str.encode, "bytea": bytes, "uuid": lambda value: uuid.UUID(str(value)).bytes,
        "timestamptz": lambda value: struct.pack(">q", (value - EPOCH) // MICROSECOND),
        "jsonb": lambda value: b"\x01" + json.dumps(value, ensure_ascii=False, allow_nan=False).encode(),
    }
    if kind not in simple:
        raise DataError(f"a column of type {kind} cannot be written by binary COPY", hint="use an INSERT")
    return simple[kind]


def _vector_bytes(array: NDArray[Any]) -> bytes:
    if not np.isfinite(array).all():
        raise ValueError("not finite")
    return struct.pack(">hh", len(array), 0) + array.tobytes()


def _read_fixed(names: Sequence[str], kinds: Sequence[str], body: memoryview) -> dict[str, Any] | None:
    """The columns read by numpy; None when a column varies in width or a value is missing."""
    if not len(body) or any(kind not in FIXED and kind not in VECTORS for kind in kinds):
        return None
    widths, at = [], 2
    for kind in kinds:
        (size,) = struct.unpack_from(">i", body, at)
        if size < 0:
            return None
        widths.append((size - 4) // np.dtype(VECTORS[kind]).itemsize if kind in VECTORS else 1)
        at += 4 + size
    layout = _layout(kinds, widths)
    if len(body) % layout.itemsize:
        return None
    rows = np.frombuffer(body, dtype=layout)
    if any((rows[f"l{i}"] != rows[f"l{i}"][0]).any() for i in range(len(kinds))):
        return None
    return {name: _native(kind, rows[f"v{i}"]) for i, (name, kind) in enumerate(zip(names, kinds, strict=True))}


def _native(kind: str, values: NDArray[Any]) -> NDArray[Any]:
    wanted = np.float32 if kind in VECTORS else values.dtype.newbyteorder("=")
    return values.astype(wanted)


def _read_any(names: Sequence[str], kinds: Sequence[str], body: memoryview) -> dict[str, Any]:
    """The columns read value by value."""
    columns: list[list[Any]] = [[] for _ in names]
    decoders = [_decoder(kind) for kind in kinds]
    at = 0
    while at < len(body):
        at += 2
        for column, decode in zip(columns, decoders, strict=True):
            (size,) = struct.unpack_from(">i", body, at)
            at += 4
            column.append(None if size < 0 else decode(body[at:at + size]))
            at += max(size, 0)
    return {name: _column(name, kind, column) for name, kind, column in zip(names, kinds, columns, strict=True)}


def _decoder(kind: str) -> Callable[[memoryview], Any]:
    if kind in FIXED:
        dtype = np.dtype(FIXED[kind])
        return lambda raw: np.frombuffer(raw, dtype)[0]
    if kind in VECTORS:
        return lambda raw: np.frombuffer(raw[4:], VECTORS[kind]).astype(np.float32)
    simple: dict[str, Callable[[memoryview], Any]] = {
        "text": lambda raw: str(raw, "utf-8"), "varchar": lambda raw: str(raw, "utf-8"), "bytea": bytes,
        "timestamptz": lambda raw: EPOCH + struct.unpack(">q", raw)[0] * MICROSECOND,
        "uuid": lambda raw: uuid.UUID(bytes=bytes(raw)), "jsonb": lambda raw: json.loads(bytes(raw[1:])),
    }
    if kind not in simple:
        raise DataError(f"a column of type {kind} cannot be read by binary COPY", hint="cast it to text")
    return simple[kind]


def _column(name: str, kind: str, values: list[Any]) -> NDArray[Any]:
    missing = any(value is None for value in values)
    if kind in ("float4", "float8"):
        return np.array([np.nan if v is None else v for v in values], dtype=FIXED[kind].replace(">", "="))
    if kind in FIXED or kind in VECTORS:
        if missing:
            raise DataError(f"column {name} has missing values", hint="filter them out, or cast the column to text")
        dtype = np.float32 if kind in VECTORS else np.dtype(FIXED[kind]).newbyteorder("=")
        return np.array(values, dtype=dtype) if values else np.empty((0, 0) if kind in VECTORS else 0, dtype=dtype)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


# Many rows at once: written with one statement a thousand rows, ``ON CONFLICT`` included, and looked for by arrays.
#
# SQLAlchemy sends ``INSERT … ON CONFLICT`` one row a statement; several rows in one VALUES list are
# several times faster, since the server parses and plans once a page.

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
