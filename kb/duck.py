"""DuckDB as the whole program opens it: no network, no extension, no file but the named ones, a bound on memory.

A connection is in memory and spills to a private folder that is removed with it. A user's database file is attached
read-only and only its base tables are listed, so no view, macro or trigger of its author is ever bound. Once open, the
configuration is locked: not even a query that slipped through could open a file, load an extension or undo this.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kb.errors import DataError, UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ATTACHED = "export"
"""The name of the user's database inside a connection."""
SPILL_PREFIX = ".spill-"
"""How the folders begin that a connection spills to; the number of the process follows."""


def identifier(name: str) -> str:
    """A name as an SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal, quoted."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def spill_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder of mode 0700 that is removed at the end, in ``parent`` or where temporary files go."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=f"{SPILL_PREFIX}{os.getpid()}-", dir=parent) as name:
        yield Path(name)


@contextmanager
def open_duck(
    spill: Path, *, readable: Iterable[Path] = (), database: Path | None = None, memory: str = "4GB"
) -> Iterator[DuckDBPyConnection]:
    """A locked connection that can read the files ``readable`` and the tables of ``database``, and nothing else.

    ``spill`` is a private folder (``private_folder``). Raises UsageError for an amount of memory that DuckDB does not
    know, DataError for a database that cannot be opened or a query that outgrows the memory or the disk.
    """
    import duckdb

    allowed = [str(path.resolve()) for path in readable]
    if database is not None:
        allowed += [str(database), f"{database}.wal"]
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(spill / "tmp"), "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false", "allow_community_extensions": "false",
        "allow_unsigned_extensions": "false",
        "preserve_insertion_order": "false",
    }
    with duckdb.connect(":memory:", config=config) as connection:
        try:
            connection.execute(f"SET memory_limit = {literal(memory)}")
        except duckdb.Error:
            raise UsageError(f"{memory!r} is no amount of memory", hint="e.g. --memory 4GB") from None
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET allowed_paths = [{', '.join(map(literal, allowed))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        if database is not None:
            try:
                connection.execute(f"ATTACH {literal(str(database))} AS {ATTACHED} (READ_ONLY)")
            except duckdb.Error:
                raise DataError(f"{database.name} cannot be opened as a DuckDB file",
                                hint="is it whole, and not open for writing elsewhere?") from None
        try:
            yield connection
        except duckdb.OutOfMemoryException:
            raise DataError(f"this needs more than {memory} of memory, or more disk than {spill.parent} has",
                            hint="give more with --memory, or room for temporary files") from None
        except duckdb.Error as error:  # its message may hold cells
            raise DataError(f"the tables hold what cannot be worked on ({type(error).__name__})",
                            hint="are numbers and dates of this export what its format says?") from None


@dataclass(frozen=True)
class BaseTable:
    """A table of the attached database: its quoted name and its columns."""

    name: str
    schema: str
    sql: str
    columns: tuple[str, ...]


def base_tables(connection: DuckDBPyConnection) -> list[BaseTable]:
    """The base tables of the attached database; views are left out."""
    rows = connection.execute(
        "SELECT t.schema_name, t.table_name, list(c.column_name ORDER BY c.column_index)"
        " FROM duckdb_tables() t JOIN duckdb_columns() c USING (database_oid, schema_oid, table_oid)"
        " WHERE t.database_name = ? AND NOT t.internal GROUP BY ALL ORDER BY ALL", [ATTACHED]).fetchall()
    return [BaseTable(name, schema, ".".join(map(identifier, (ATTACHED, schema, name))), tuple(columns))
            for schema, name, columns in rows]
