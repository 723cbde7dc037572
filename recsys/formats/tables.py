"""The tables of an EHR export in one DuckDB connection: CSV, TSV, gzipped, Parquet, shards, or a DuckDB file.

Columns go by their names in any case, cells are texts. Every row of a file is read, or counted as malformed. No cell's
content ever enters a message: a malformed row is counted, a missing column is named by what was wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.duck import BaseTable, base_tables, identifier, literal, open_duck, spill_folder
from kb.errors import DataError, NotFound
from recsys.formats.contract import Ledger, Limits
from recsys.formats.scan import Careful, Layout, check_file, header_of, survey

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FOLDERS = ("", "hosp", "icu")
_TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_ENDINGS = (*_TEXT, ".parquet")
_SHARD = re.compile(r"([._-]?(part|shard|chunk)?[._-]?\d++([._-]of[._-]\d++)?)+")
MALFORMED = "malformed row"
_BATCH = 100_000
_DEPTH, _FILES = 6, 20_000
_LINE_ENDS = {False: r"'\n'", True: r"'\r\n'"}

MISSING = ("", "nan", "null", "none", "na", "n/a", "unk", "?", r"\N", r"\n")
MACROS = (
    # A text; NULL where it is a word for a missing value.
    f"CREATE TEMP MACRO said(x) AS CASE WHEN lower(trim(x)) IN ({', '.join(map(literal, MISSING))}) THEN NULL"
    " ELSE trim(x) END",
    # Ten years of age; what sources write for the very old (300, 91, '> 89') is one band.
    "CREATE TEMP MACRO age_band(years) AS CASE WHEN years < 0 THEN NULL WHEN years >= 90 THEN '90+'"
    f" ELSE list_extract({[f'{n}0-{n}9' for n in range(9)]}, CAST(floor(years / 10) AS INT) + 1) END",
    "CREATE TEMP MACRO sex_of(x) AS CASE WHEN lower(trim(x)) IN ('m', 'male') THEN 'male'"
    " WHEN lower(trim(x)) IN ('f', 'female') THEN 'female' ELSE lower(said(x)) END",
    "CREATE TEMP MACRO year_of(x) AS TRY_CAST(left(trim(x), 4) AS INT)",
    # An identifier without the ``.0`` that a numeric export gives it.
    "CREATE TEMP MACRO whole(x) AS CASE WHEN suffix(trim(x), '.0') THEN trim(x)[:-3] ELSE trim(x) END",
    # The number that a text is the usual form of; NULL for 007, 1e3 and whatever else is written otherwise.
    "CREATE TEMP MACRO plain_number(x) AS CASE WHEN CAST(TRY_CAST(x AS BIGINT) AS VARCHAR) = x THEN TRY_CAST(x AS"
    " BIGINT) END",
    # A CASE, not coalesce: the engine then looks at the other form only where the first does not hold.
    "CREATE TEMP MACRO number_of(x) AS CASE WHEN CAST(TRY_CAST(x AS BIGINT) AS VARCHAR) = x THEN TRY_CAST(x AS BIGINT)"
    " ELSE plain_number(whole(x)) END",
    # Seconds since 1970 of a date or time (ISO 8601); NULL where it is none. Without an offset it is taken as UTC.
    "CREATE TEMP MACRO moment(x) AS CASE WHEN strlen(x) = 10 THEN CAST(TRY_CAST(x AS DATE) - DATE '1970-01-01' AS"
    " BIGINT) * 86400 WHEN strlen(x) <= 19 THEN CAST(floor(epoch(TRY_CAST(x AS TIMESTAMP))) AS"
    " BIGINT) ELSE CAST(floor(epoch(TRY_CAST(x AS TIMESTAMPTZ))) AS BIGINT) END",
)


def find_files(root: Path, stem: str, folders: Sequence[str] = FOLDERS) -> list[Path]:
    """The files of a table under ``root`` or one of its usual folders, in any case: one file, or all of its shards.

    A table ``x`` is ``x.csv``, ``x.parquet`` and the like, ``x_0001.csv``, ``x-00000-of-00010.parquet``, or whatever a
    folder ``x/`` or ``x.parquet/`` holds. Raises DataError where a table is there in two forms.
    """
    for folder in folders:
        directory = root / folder
        if not directory.is_dir():
            continue
        whole: list[Path] = []
        shards: list[Path] = []
        for path in sorted(directory.iterdir()):
            name = path.name.lower()
            if path.is_dir():
                if name in (stem, *(stem + ending for ending in _ENDINGS)):
                    shards += [p for p in sorted(path.rglob("*")) if p.name.lower().endswith(_ENDINGS)
                               and not p.is_dir() and not p.name.startswith((".", "_"))]
                continue
            ending = next((e for e in sorted(_ENDINGS, key=len, reverse=True) if name.endswith(e)), None)
            if ending is None or not name.startswith(stem):
                continue
            middle = name[len(stem) : len(name) - len(ending)]
            if not middle:
                whole.append(path)
            elif _SHARD.fullmatch(middle):
                shards.append(path)
        if len(whole) > 1 or (whole and shards):
            names = ", ".join(path.name for path in (whole + shards)[:3])
            raise DataError(f"table {stem!r} is there more than once: {names}", hint="leave one of them in the folder")
        if whole or shards:
            for path in whole + shards:
                check_file(path)
            return whole + shards
    return []


@dataclass(frozen=True)
class Shard:
    """One file, or one base table of a DuckDB file, that holds rows of a table."""

    path: Path
    columns: tuple[str, ...]
    base: BaseTable | None = None
    layout: Layout | None = None

    def positions(self, table: str, wanted: Mapping[str, bool]) -> dict[str, int]:
        """The column number of each wanted name; raises DataError where a needed one is missing."""
        there = {name.strip().lower(): i for i, name in reversed(list(enumerate(self.columns)))}
        missing = [name for name, needed in wanted.items() if needed and name not in there]
        if missing:
            raise DataError(f"table {table!r} ({self.path.name}) has no column {', '.join(missing)}",
                            hint="the first line must hold the column names; upper and lower case are the same")
        return {name: there[name] for name in wanted if name in there}


@dataclass(frozen=True)
class Scan:
    """A part of a table about to be read; ``expected`` is the number of its records where it is known."""

    ledger: Ledger
    table: str
    file: str
    sql: str
    expected: int | None
    careful: Careful | None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While the SQL runs: what the engine cannot parse is a DataError that names the file."""
        import duckdb

        try:
            yield
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            raise DataError(f"{self.file} cannot be read", hint="is it complete, and of the form that its name says?"
                                                                " compare its checksum with the publisher's") from None

    def settle(self, kept: int) -> None:
        """Count the part's rows, of which ``kept`` were parsed; raises DataError where that is more than there are."""
        expected = self.expected
        if self.careful is not None:
            expected = kept + self.careful.malformed
            self.ledger.note(self.table, "line of its first malformed row", self.careful.first)
        lost = expected - kept if expected is not None else 0
        if lost < 0:
            raise DataError(f"{self.file}: {kept} rows were parsed out of {expected} lines",
                            hint="its quotes or line breaks are irregular: export it as CSV by RFC 4180")
        self.ledger.read(self.table, kept + lost)
        self.ledger.lose(self.table, MALFORMED, lost)


class Export:
    """An export opened for reading: its tables by name, and a connection to work on them."""

    def __init__(
        self, root: Path, connection: DuckDBPyConnection, spill: Path, limits: Limits, ledger: Ledger,
        folders: Sequence[str], database: Path | None,
    ) -> None:
        self.root, self.connection, self.limits, self.ledger = root, connection, limits, ledger
        self._spill, self._folders, self._database = spill, folders, database
        self._links: dict[Path, Path] = {}
        self._layouts: dict[Path, Layout] = {}
        self._tables: dict[str, list[Shard]] = {}
        self._made = 0

    @cached_property
    def _base(self) -> list[BaseTable]:
        return base_tables(self.connection) if self._database is not None else []

    def has(self, table: str) -> bool:
        """Whether the export has the table."""
        return bool(self.parts(table))

    def parts(self, table: str) -> list[Shard]:
        """The files of a table, or its base table; none where the export lacks it."""
        if table not in self._tables:
            self._tables[table] = self._found(table)
        return self._tables[table]

    def _found(self, table: str) -> list[Shard]:
        base = [one for one in self._base if one.name.lower() == table]
        if len(base) > 1:
            raise DataError(f"table {table!r} is in {len(base)} schemas of {self.root.name}", hint="keep one of them")
        if base and self._database is not None:
            return [Shard(self._database, base[0].columns, base=base[0])]
        return [self._part(path) for path in find_files(self.root, table, self._folders)] if self.root.is_dir() else []

    def link(self, path: Path) -> str:
        """An SQL literal by which the engine reaches a file: a link with a neutral name, so that no name of a file's is
        ever part of a pattern.
        """
        if path not in self._links:
            self._links[path] = self._spill / f"file{len(self._links)}"
            self._links[path].symlink_to(path.resolve())
        return literal(str(self._links[path]))

    def adopt(self, table: str, files: Sequence[Path]) -> None:
        """Take these files as the parts of a table."""
        self._tables[table] = [self._part(path) for path in files]

    def _part(self, path: Path) -> Shard:
        if path.name.lower().endswith(".parquet"):
            return Shard(path, self._parquet_columns(path))
        return Shard(path, header_of(path, self.limits.bounds)[0])

    def _parquet_columns(self, path: Path) -> tuple[str, ...]:
        import duckdb

        try:
            rows = self.connection.execute(f"DESCRIBE SELECT * FROM read_parquet({self.link(path)})").fetchall()
        except duckdb.Error:
            raise DataError(f"{path.name} cannot be read as Parquet", hint="is it complete?") from None
        return tuple(str(row[0]) for row in rows)

    def columns(self, table: str) -> set[str]:
        """The columns that every part of a table has, in lower case."""
        names = [{name.strip().lower() for name in part.columns} for part in self.parts(table)]
        return set.intersection(*names) if names else set()

    def somewhere(self, table: str) -> set[str]:
        """The columns that some part of a table has, in lower case."""
        return {name.strip().lower() for part in self.parts(table) for name in part.columns}

    def need(self, table: str) -> None:
        """Raise NotFound unless the export has the table."""
        if not self.has(table):
            wanted = ", ".join(table + ending for ending in (".csv", ".csv.gz", ".parquet"))
            raise NotFound(f"{self.root} has no table {table!r}", hint=f"looked for {wanted} there and in hosp/, for"
                                                                       f" shards "
                           f"in {table}/, and for a table of that name in *.duckdb")

    def fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.connection.execute(query, list(values)).fetchall()

    def run(self, query: str, *values: Any) -> None:
        """Execute a statement."""
        self.connection.execute(query, list(values))

    def count(self, query: str, *values: Any) -> int:
        """The one number that a query gives."""
        return int(self.fetch(query, *values)[0][0] or 0)

    def fresh(self, stem: str) -> str:
        """A table name that is not taken."""
        self._made += 1
        return f"{stem}_{self._made}"

    def scans(self, table: str, wanted: Mapping[str, bool]) -> Iterator[Scan]:
        """The parts of a table, each as SQL of the wanted columns, which are texts and never NULL.

        ``wanted[column]`` tells whether the column must be there; one that is not comes as an empty text. A part that
        was read is settled (``Scan.settle``) before the next is asked for. Raises DataError where a column is missing.
        """
        for part in self.parts(table):
            source, expected, careful = self._source(part, table, wanted)
            yield Scan(self.ledger, table, part.path.name, source, expected, careful)

    def stage(
        self, table: str, wanted: Mapping[str, bool], select: str | None = None, *, name: str | None = None,
        where: str = "",
    ) -> str:
        """Read a table's wanted columns into a temporary table, every row of it, and count them in the ledger.

        ``wanted`` is that of ``scans``; ``select`` is SQL over the columns of ``s``. With ``where`` only some rows are
        taken, and nothing is counted. Raises DataError where a column is missing or a file cannot be parsed.
        """
        name = name or self.fresh("staged")
        select = select or ", ".join(f"s.{column}" for column in wanted)
        for i, scan in enumerate(self.scans(table, wanted)):
            head = f"CREATE TEMP TABLE {name} AS" if i == 0 else f"INSERT INTO {name}"
            before = self.count(f"SELECT count(*) FROM {name}") if i else 0
            with scan.reading():
                self.run(f"{head} SELECT {select} FROM ({scan.sql}) s {where and f'WHERE {where}'}")
            if not where:
                scan.settle(self.count(f"SELECT count(*) FROM {name}") - before)
        return name

    def rows(self, table: str, wanted: Mapping[str, bool], query: Callable[[str], str]) -> Generator[Any, None, None]:
        """What a query makes of a table's rows, as Arrow record batches; every row is counted in the ledger.

        ``query`` is given SQL of the wanted columns (``scans``) and must keep every row once. Raises DataError where a
        column is missing or a file cannot be parsed.
        """
        for scan in self.scans(table, wanted):
            kept = 0
            with scan.reading(), closing(self.batches(query(scan.sql))) as batches:
                for batch in batches:
                    kept += batch.num_rows
                    yield batch
            scan.settle(kept)

    def _source(
        self, part: Shard, table: str, wanted: Mapping[str, bool]
    ) -> tuple[str, int | None, Careful | None]:
        """SQL that gives the wanted columns of a part as texts; the number of its records where it is known."""
        at = part.positions(table, wanted)
        if part.base is not None:
            return _cast({n: identifier(part.columns[i]) for n, i in at.items()}, wanted, part.base.sql), None, None
        if part.path.name.lower().endswith(".parquet"):
            cells = {n: identifier(part.columns[i]) for n, i in at.items()}
            return _cast(cells, wanted, f"read_parquet({self.link(part.path)})"), None, None
        if part.path not in self._layouts:
            self._layouts[part.path] = survey(part.path, self.limits.bounds)
        layout = self._layouts[part.path]
        if layout.encoding != "utf-8":
            self.ledger.note(table, "rows of a file that is not UTF-8, taken as Latin-1", layout.records)
        if layout.regular:
            numbered = {n: f"c{i}" for n, i in at.items()}
            return _plain(numbered, wanted, self._csv(part.path, layout)), layout.records, None
        careful = Careful(part.path, layout, self.limits.bounds)
        loaded = self.load(list(at), ([row[i] for i in at.values()] for row in careful.rows()))
        return _plain({n: identifier(n) for n in at}, wanted, loaded), None, careful

    def _csv(self, path: Path, layout: Layout) -> str:
        columns = ", ".join(f"c{i}: 'VARCHAR'" for i in range(len(layout.header)))
        quote = "'\"'" if layout.quoted else "''"
        return (f"read_csv({self.link(path)}, auto_detect = false, header = false, skip = 1,"
                f" delim = {literal(layout.delimiter)}, quote = {quote}, escape = {quote},"
                f" compression = '{'gzip' if path.name.lower().endswith('.gz') else 'none'}',"
                f" new_line = {_LINE_ENDS[layout.crlf]},"
                f" columns = {{{columns}}}, ignore_errors = true, null_padding = false,"
                f" max_line_size = {2 * self.limits.bounds.line})")

    def load(self, columns: Sequence[str], rows: Iterable[Sequence[str | None]], name: str | None = None) -> str:
        """A temporary table of texts from rows of Python, and its name."""
        sink = self.sink(columns, name)
        for row in rows:
            sink.add(row)
        sink.flush()
        return sink.name

    def take(self, columns: Mapping[str, Any]) -> str:
        """A temporary table of numpy arrays of one length, by name."""
        import pyarrow as pa

        name = self.fresh("taken")
        self.connection.register("arrow_arrays", pa.table(dict(columns)))
        self.run(f"CREATE TEMP TABLE {name} AS SELECT * FROM arrow_arrays")
        self.connection.unregister("arrow_arrays")
        return name

    def sink(self, columns: Sequence[str], name: str | None = None) -> Sink:
        """A new temporary table of texts that takes rows of Python one by one."""
        name = name or self.fresh("loaded")
        self.run(f"CREATE TEMP TABLE {name} ({', '.join(f'{identifier(column)} VARCHAR' for column in columns)})")
        return Sink(self, name, tuple(columns))

    def drop(self, *names: str) -> None:
        """Forget temporary tables."""
        for name in names:
            self.run(f"DROP TABLE IF EXISTS {name}")

    def batches(self, query: str, size: int = 200_000) -> Generator[Any, None, None]:
        """The rows of a query as Arrow record batches."""
        reader = self.connection.sql(query).to_arrow_reader(size)
        try:
            yield from reader
        finally:
            reader.close()  # the connection answers one query at a time


class Sink:
    """Collects rows for a temporary table and hands them over in batches; ``flush`` hands over the last."""

    def __init__(self, export: Export, name: str, columns: tuple[str, ...]) -> None:
        self.export, self.name, self.columns = export, name, columns
        self._rows: list[Sequence[str | None]] = []

    def add(self, row: Sequence[str | None]) -> None:
        """Take a row."""
        self._rows.append(row)
        if len(self._rows) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand over what was collected."""
        import pyarrow as pa

        if not self._rows:
            return
        arrays = [pa.array(list(column), pa.string()) for column in zip(*self._rows, strict=True)]
        self.export.connection.register("arrow_batch", pa.Table.from_arrays(arrays, names=list(self.columns)))
        self.export.run(f"INSERT INTO {self.name} SELECT * FROM arrow_batch")
        self.export.connection.unregister("arrow_batch")
        self._rows = []


def _cast(cells: Mapping[str, str], wanted: Mapping[str, bool], source: str) -> str:
    """SQL for typed columns: their texts, empty for NULL; bytes are UTF-8."""
    chosen = [f"coalesce(CASE typeof({cells[name]}) WHEN 'BLOB' THEN decode(TRY_CAST({cells[name]} AS BLOB))"
              f" ELSE CAST({cells[name]} AS VARCHAR) END, '') AS {identifier(name)}" if name in cells
              else f"'' AS {identifier(name)}" for name in wanted]
    return f"SELECT {', '.join(chosen)} FROM {source}"


def _plain(cells: Mapping[str, str], wanted: Mapping[str, bool], source: str) -> str:
    """SQL for columns that are texts already."""
    chosen = [f"coalesce({cells[name]}, '') AS {identifier(name)}" if name in cells else f"'' AS {identifier(name)}"
              for name in wanted]
    return f"SELECT {', '.join(chosen)} FROM {source}"


@contextmanager
def open_export(
    root: Path, limits: Limits, ledger: Ledger, folders: Sequence[str] = FOLDERS
) -> Iterator[Export]:
    """The export under ``root``: a folder, or one file. Raises NotFound where there is none."""
    if not root.exists():
        raise NotFound(f"there is no folder {root}", hint="give the folder of the export with --root")
    if not root.is_dir():
        check_file(root)
    here = [root] if root.is_file() else sorted(root.iterdir())
    databases = [path for path in here if path.name.lower().endswith(".duckdb")]
    if len(databases) > 1:
        raise DataError(f"{root.name} has {len(databases)} DuckDB files", hint="name the one to read with --root")
    database = databases[0] if databases else None
    if database is not None:
        check_file(database)
    readable = [root] if root.is_file() else _candidates(root)
    with (spill_folder(limits.spill) as spill,
          open_duck(spill, readable=readable, database=database, memory=limits.memory) as connection):
        for macro in MACROS:
            connection.execute(macro)
        yield Export(root, connection, spill, limits, ledger, folders, database)


def _candidates(root: Path) -> list[Path]:
    """Every file under ``root`` that may hold a table, some folders deep. Raises DataError where there are too many."""
    found: list[Path] = []
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        for path in sorted(folder.iterdir()):
            if path.is_dir() and depth < _DEPTH:
                waiting.append((path, depth + 1))
            elif path.name.lower().endswith(_ENDINGS) and path.is_file():
                found.append(path)
        if len(found) > _FILES:
            raise DataError(f"{root} holds more than {_FILES} files", hint="give the folder of the export with --root")
    return found
