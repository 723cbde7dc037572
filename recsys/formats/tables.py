"""Tables of an EHR export, streamed: CSV, gzipped CSV, Parquet or a DuckDB file, columns by name in any case.

No cell's content ever enters a message: a malformed row is counted, a missing column is named by what was wanted.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError, NotFound
from recsys.formats.contract import Ledger

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".csv.gz", ".parquet")
DUCKDB = ".duckdb"
_BLOCK = 4 << 20  # bytes of CSV in memory at a time


@dataclass(frozen=True)
class Column:
    """A column of a batch: the distinct texts and, for each row, which of them it has."""

    texts: list[str]
    which: NDArray[np.int64]

    def map(self, function: Callable[[str], int]) -> NDArray[np.int64]:
        """``function`` of every row, called once for each distinct text."""
        return np.fromiter((function(text) for text in self.texts), np.int64, len(self.texts))[self.which]


Batch = dict[str, Column]


def together(columns: Sequence[Column]) -> tuple[list[tuple[str, ...]], NDArray[np.int64]]:
    """The distinct combinations of several columns, and which of them each row has."""
    key = columns[0].which
    for column in columns[1:]:
        key = key * len(column.texts) + column.which
    distinct, which = np.unique(key, return_inverse=True)
    parts: list[list[str]] = []
    for column in reversed(columns[1:]):
        parts.append([column.texts[i] for i in distinct % len(column.texts)])
        distinct = distinct // len(column.texts)
    parts.append([columns[0].texts[i] for i in distinct])
    return list(zip(*reversed(parts), strict=True)), which


def find_table(root: Path, stem: str, folders: Sequence[str] = ("", "hosp", "icu")) -> Path | None:
    """The file of a table under ``root`` or one of its usual folders, in any case; None where there is none.

    ``root`` may be a DuckDB file, or a folder with one, that holds the table.
    """
    for path in [root] if root.is_file() else sorted(root.glob("*" + DUCKDB)):
        if path.suffix == DUCKDB and _duckdb_columns(path, stem):
            return path
    for folder in folders:
        directory = root / folder
        if directory.is_dir():
            for path in sorted(directory.iterdir()):
                if path.name.lower() in [stem + suffix for suffix in SUFFIXES]:
                    return path
    return None


def need_table(root: Path, stem: str, folders: Sequence[str] = ("", "hosp", "icu")) -> Path:
    """The file of a table that must be there; raises NotFound."""
    if not root.exists():
        raise NotFound(f"there is no folder {root}", hint="give the folder of the export with --root")
    path = find_table(root, stem, folders)
    if path is None:
        wanted = ", ".join(stem + suffix for suffix in SUFFIXES)
        raise NotFound(f"{root} has no table {stem!r}", hint=f"looked for {wanted} there and in hosp/, and for a table "
                       f"of that name in *{DUCKDB}")
    return path


def stream(
    path: Path, table: str, wanted: Mapping[str, bool], ledger: Ledger
) -> Iterator[tuple[int, Batch]]:
    """Batches of (rows, columns) of the wanted columns; ``wanted[name]`` tells whether the column must be there.

    Rows with too many or too few fields are counted in the ledger and left out; an optional column that is not there
    comes as empty texts. Raises DataError where a needed column is missing or the file cannot be parsed.
    """
    import pyarrow as pa

    readers = {".parquet": _parquet, DUCKDB: _duckdb}
    reader = readers.get(path.suffix)
    batches = reader(path, table, wanted) if reader else _csv(path, table, wanted, ledger)
    try:
        for rows, arrays in batches:
            ledger.read(table, rows)
            empty = Column([""], np.zeros(rows, np.int64))
            yield rows, {name: _column(arrays[name]) if name in arrays else empty for name in wanted}
    except (pa.ArrowException, EOFError, OSError) as error:
        # The library's message quotes the row: it must not be passed on.
        kind = "is cut off" if isinstance(error, EOFError) else "cannot be parsed"
        raise DataError(f"{path.name} {kind} after {ledger.rows[table]} rows",
                        hint="compare its checksum with the publisher's") from None


def _column(array: pa.Array) -> Column:
    import pyarrow as pa

    encoded = array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()
    texts = [_text(value) for value in encoded.dictionary.to_pylist()]
    which = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False).astype(np.int64)
    return Column([*texts, ""], which)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    return "" if value is None else str(value).strip()


def _positions(path: Path, table: str, header: Sequence[str], wanted: Mapping[str, bool]) -> dict[str, str]:
    there = {name.strip().lower(): name for name in reversed(header)}
    missing = [name for name, needed in wanted.items() if needed and name not in there]
    if missing:
        raise DataError(f"table {table!r} ({path.name}) has no column {', '.join(missing)}",
                        hint="the first line must hold the column names; upper and lower case are the same")
    return {name: there[name] for name in wanted if name in there}


def header_of(path: Path) -> list[str]:
    """The first line's fields; empty for an empty file."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:  # type: ignore[operator]
            return next(csv.reader(file), [])
    except (OSError, EOFError):
        raise DataError(f"{path.name} cannot be read", hint="is it complete, and gzipped if it ends in .gz?") from None


def _csv(path: Path, table: str, wanted: Mapping[str, bool], ledger: Ledger) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = _positions(path, table, header_of(path), wanted)
    malformed = 0

    def count(_row: Any) -> str:
        nonlocal malformed
        malformed += 1
        return "skip"

    with pa.input_stream(str(path), compression="detect") as file:
        reader = arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(block_size=_BLOCK, use_threads=False),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=count),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(names.values()),
                column_types=dict.fromkeys(names.values(), pa.binary()),
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        for batch in reader:
            yield batch.num_rows, {name: batch.column(original) for name, original in names.items()}
    ledger.read(table, malformed)
    ledger.lose(table, "malformed row", malformed)


def _parquet(path: Path, table: str, wanted: Mapping[str, bool]) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = _positions(path, table, file.schema_arrow.names, wanted)
        for batch in file.iter_batches(batch_size=200_000, columns=list(names.values())):
            yield batch.num_rows, {name: batch.column(original) for name, original in names.items()}


def _connected(path: Path) -> Any:
    """A connection to a DuckDB file that can only read."""
    try:
        import duckdb
    except ImportError:
        raise DataError(f"{path.name} is a DuckDB file, and duckdb is not installed",
                        hint="pip install 'mkmed[omop]'") from None
    try:
        return duckdb.connect(str(path), read_only=True)
    except duckdb.Error:
        raise DataError(f"{path.name} cannot be opened as a DuckDB file",
                        hint="is it whole, and not open for writing elsewhere?") from None


def _duckdb_columns(path: Path, table: str) -> list[tuple[str, ...]]:
    """(catalogue, schema, table, column) of a table's columns, by its name in any case; empty where it is not there."""
    query = ("SELECT table_catalog, table_schema, table_name, column_name FROM information_schema.columns"
             " WHERE lower(table_name) = ? AND table_catalog = current_database()"
             " ORDER BY table_schema, ordinal_position")
    with _connected(path) as database:
        found: list[tuple[str, ...]] = database.execute(query, [table.lower()]).fetchall()
    return [row for row in found if row[:3] == found[0][:3]]


def _duckdb(path: Path, table: str, wanted: Mapping[str, bool]) -> Iterator[tuple[int, dict[str, Any]]]:
    columns = _duckdb_columns(path, table)
    names = _positions(path, table, [column for *_, column in columns], wanted)
    chosen, where = ([f'"{text}"' for text in part] for part in (names.values(), columns[0][:3]))
    query = f"SELECT {', '.join(chosen)} FROM {'.'.join(where)}"  # noqa: S608 - names from its catalogue
    with _connected(path) as database:
        relation = database.sql(query)
        reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader  # as older versions call it
        for batch in reader(200_000):
            yield batch.num_rows, {name: batch.column(original) for name, original in names.items()}


def seconds(text: str) -> int | None:
    """A date or time (ISO 8601, blank or T between, Z or none) in seconds since 1970; None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
