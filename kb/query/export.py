"""Takes the knowledge base elsewhere: SQLite, CSV, JSONL, Parquet or SDF, each fact with source, licence and retrieval.

All tables come from the public views in one snapshot, so ``open_only`` is what a reader without ``mkmed_nc`` sees.
Cells that a spreadsheet would run as a formula are made inert in CSV (CWE-1236) unless ``raw`` is asked for.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from kb.errors import DataError, DiskFull, UsageError
from kb.output import csv_safe, plain

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """One exported table: ``columns`` of ``view`` in ``order``; ``licences`` is the query for the licences in it."""

    view: str
    order: str
    columns: str = "*"
    key: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    licences: str | None = None
    batch: int = 5000

    @property
    def sql(self) -> str:
        """The query for its rows."""
        return f"SELECT {self.columns} FROM mkmed.{self.view}" + (f" ORDER BY {self.order}" if self.order else "")  # noqa: S608


PICTURE = "picture"
"""The column of ``images`` that has the bytes; it is left out unless asked for."""
_IMAGES = "drug_id, name, source, origin, width, height, media_type, licence_id, share, url, retrieved_at, sha256"

TABLES: dict[str, ExportedTable] = {
    "drugs": ExportedTable("drugs", "drug_id", key=("drug_id",), indexes=("name", "inchikey"),
                   licences="SELECT DISTINCT unnest(licences) FROM mkmed.drugs"),
    "bucket": ExportedTable("bucket", "drug_id", key=("drug_id",)),
    "records": ExportedTable("records", "drug_id, source, key", indexes=("drug_id",)),
    "names": ExportedTable("names", "drug_id, name, source", indexes=("drug_id", "name_key")),
    "identifiers": ExportedTable("identifiers", "drug_id, namespace, value, source", indexes=("drug_id", "value")),
    "texts": ExportedTable("texts", "drug_id, provider, content", indexes=("drug_id",)),
    "properties": ExportedTable("properties", "drug_id, property, source", indexes=("drug_id", "property")),
    "conformers": ExportedTable("conformers", "drug_id, source", indexes=("drug_id",), batch=500),
    "images": ExportedTable("images", "drug_id, source", _IMAGES, indexes=("drug_id",), batch=200),
    "interactions": ExportedTable("interactions", "drug_a, drug_b, provider", indexes=("drug_a", "drug_b")),
    "indications": ExportedTable("indications", "drug_id, kind, disease, provider, source",
                                 indexes=("drug_id", "disease")),
    "products": ExportedTable("products", "drug_id, product, source, key", indexes=("drug_id", "brand")),
    "atc": ExportedTable("atc", "drug_id, code, source", indexes=("drug_id", "code")),
    "atc_classes": ExportedTable("atc_classes", "code", key=("code",)),
    "ddd": ExportedTable("ddd", "code, route, unit, note, source", indexes=("code",)),
    "relations": ExportedTable("relations", "relation, source, provider, licence_id, sha256", indexes=("relation",)),
    # Address and time of an edge stand in relations, once for every file, provider and licence.
    "triples": ExportedTable("triples", "", "head, relation, tail, provider, licence_id, source, sha256",
                     indexes=("head", "tail"), licences="SELECT DISTINCT licence_id FROM mkmed.relations"),
    "edge_notes": ExportedTable("edge_notes", "head, relation, tail, source, provider, licence_id, sha256",
                        "head, relation, tail, score, evidence, reference, properties::text AS properties, provider,"
                        " licence_id, source, sha256", indexes=("head", "tail")),
    "drug_entities": ExportedTable("drug_entities", "drug_id, entity_id", indexes=("drug_id",)),
    "availability": ExportedTable("availability", "drug_id, modality, source", indexes=("drug_id",)),
    "provenance": ExportedTable("provenance", "drug_id, modality, source", indexes=("drug_id",)),
    "sources": ExportedTable("sources", "name", key=("name",)),
    "vectors": ExportedTable("drug_vector", "drug_id", "drug_id, run_id, rests_on, embedding::real[] AS embedding",
                     key=("drug_id",)),
    "licences": ExportedTable("licences", "id", key=("id",), licences="SELECT id FROM mkmed.licences"),
}
ON_REQUEST = ("vectors",)
"""Tables that an export has only when it is asked for them: vectors are made of whatever the run was trained on."""
REFERENCES = {"drug_id": ("drugs", "drug_id"), "drug_a": ("drugs", "drug_id"), "drug_b": ("drugs", "drug_id"),
              "licence_id": ("licences", "id")}
"""Columns that point to a row of another table, in whichever table they stand."""


class ExportFormat(StrEnum):
    """What an export is written as."""

    sqlite = "sqlite"
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    sdf = "sdf"


SINGLE_FILE = (ExportFormat.sqlite, ExportFormat.sdf)


def export(
    engine: Engine,
    target: Path,
    form: ExportFormat,
    *,
    tables: Sequence[str] | None = None,
    open_only: bool = False,
    pictures: bool = False,
    raw: bool = False,
) -> dict[str, int]:
    """Rows written by table. SQLite and SDF are one file; the other formats are a folder with a file a table.

    ``open_only`` leaves out whatever is not known to be under an open licence. ``licences`` is always included, but for
    SDF, which has the conformers. ``pictures`` adds the bytes of images: a column of SQLite and Parquet, files beside
    CSV and JSONL.

    Everything is written under a name of its own and renamed when it is complete; a stopped export is removed.
    Raises UsageError for an unknown table or a target that exists, DiskFull when there is no space.
    """
    wanted = _wanted(tables, form)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists", hint="choose another --out, or remove it")
    write = {ExportFormat.sqlite: _sqlite, ExportFormat.csv: _csv, ExportFormat.jsonl: _jsonl,
             ExportFormat.parquet: _parquet, ExportFormat.sdf: _sdf}[form]
    folder = form not in SINGLE_FILE
    with _complete_or_nothing(target, folder=folder) as place, _snapshot(engine, open_only) as connection:
        chosen = {name: _Rows(connection, name, pictures) for name in wanted}
        with _told_of_full_disk(target):
            return write(place, chosen, ExportContext(connection, open_only, raw))


def _wanted(tables: Sequence[str] | None, form: ExportFormat) -> list[str]:
    unknown = [name for name in tables or () if name not in TABLES]
    if unknown:
        raise UsageError(f"unknown table {unknown[0]!r}", hint=f"known: {', '.join(TABLES)}")
    if form is ExportFormat.sdf:
        if tables is not None and list(tables) != ["conformers"]:
            raise UsageError("an SDF has the conformers alone", hint="leave --table out, or choose another --as")
        return ["conformers"]
    usual = [name for name in TABLES if name not in ON_REQUEST]
    return list(dict.fromkeys([*(usual if tables is None else tables), "licences"]))


@dataclass(frozen=True, slots=True)
class ExportContext:
    """What the writers share."""

    connection: Connection
    open_only: bool
    raw: bool

    def licences(self, table: ExportedTable) -> list[dict[str, Any]]:
        """The licences of the rows of a table."""
        columns = self.connection.execute(text(f"SELECT * FROM mkmed.{table.view} LIMIT 0")).keys()  # noqa: S608
        found = table.licences or (
            f"SELECT DISTINCT licence_id FROM mkmed.{table.view}" if "licence_id" in columns else  # noqa: S608
            "SELECT id FROM mkmed.licences")
        rows = self.connection.execute(text(
            f"SELECT id, title, share, url, attribution FROM mkmed.licences WHERE id IN ({found}) ORDER BY id"))  # noqa: S608
        return [dict(row) for row in rows.mappings()]


@contextmanager
def _snapshot(engine: Engine, open_only: bool) -> Iterator[Connection]:
    """A connection that sees one state of the database, and of that what is open if so asked."""
    with engine.connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            # A reader's login has limits for questions, not for reading everything; it may lift them itself.
            connection.execute(text("SELECT set_config(name, '0', true) FROM pg_settings"
                                    " WHERE name IN ('statement_timeout', 'transaction_timeout')"))
            if open_only:
                connection.execute(text("SET LOCAL mkmed.open_only = 'on'"))
            yield connection


@contextmanager
def _complete_or_nothing(target: Path, *, folder: bool) -> Iterator[Path]:
    """A place beside the target that becomes the target at the end of the block, and is removed when it fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    around = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent))
    try:
        place = around / "whole"
        if folder:
            place.mkdir()
        yield place
        with _told_of_full_disk(target):
            for file in place.rglob("*") if folder else (place,):
                if file.is_file():
                    _to_disk(file)
        if target.exists() or target.is_symlink():
            raise UsageError(f"{target} exists now", hint="choose another --out")
        place.rename(target)
    finally:
        shutil.rmtree(around, ignore_errors=True)


def _to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told_of_full_disk(target: Path) -> Iterator[None]:
    """Whichever way a library says that there is no space, it is DiskFull."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" not in str(error) and "disk I/O" not in str(error):
            raise
        full: Exception = error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = error
    else:
        return
    raise DiskFull(f"no space left for {target}; nothing of it is kept",
                   hint="free space, or choose another --out") from full


INTEGERS = {"int2", "int4", "int8"}
FLOATS = {"float4", "float8", "numeric"}


class _Rows:
    """The rows of one table, read as they are asked for, with the types of their columns."""

    def __init__(self, connection: Connection, name: str, pictures: bool) -> None:
        self.connection, self.name, self.table = connection, name, TABLES[name]
        self.pictures = pictures and name == "images"
        self.sql = self.table.sql.replace(_IMAGES, f"{_IMAGES}, {PICTURE}") if self.pictures else self.table.sql
        described = connection.execute(text(f"SELECT * FROM ({self.sql}) answer LIMIT 0"))  # noqa: S608
        oids = [(column[0], column[1]) for column in described.cursor.description]  # type: ignore[union-attr]
        described.close()
        types = text("SELECT oid::int8, typname::text FROM pg_type WHERE oid = ANY(:oids)")
        known = {row[0]: row[1] for row in connection.execute(types, {"oids": [oid for _, oid in oids]})}
        self.kinds: dict[str, str] = {column: known[oid] for column, oid in oids}

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for part in self.batches():
            yield from part

    def batches(self) -> Iterator[Sequence[tuple[Any, ...]]]:
        """The rows, some thousand at a time."""
        streamed = self.connection.execution_options(stream_results=True, yield_per=self.table.batch)
        with streamed.execute(text(self.sql)) as result:
            for part in result.partitions():
                yield [tuple(map(_value, row)) for row in part]


def _value(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


Rows = Mapping[str, _Rows]


def _flat(value: Any) -> Any:
    value = plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _beside(folder: Path, rows: _Rows, row: Sequence[Any]) -> Sequence[Any]:
    """The row with the name of a file in place of the picture's bytes, after the file was written."""
    if not rows.pictures:
        return row
    columns = list(rows.kinds)
    at, sha256 = columns.index(PICTURE), row[columns.index("sha256")]
    if row[at] is None:
        return row
    (folder / "pictures").mkdir(exist_ok=True)
    name = f"pictures/{sha256}.png"
    (folder / name).write_bytes(row[at])
    return [*row[:at], name, *row[at + 1:]]


def _csv(folder: Path, tables: Rows, context: ExportContext) -> dict[str, int]:
    counts = dict.fromkeys(tables, 0)
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(rows.kinds)
            for row in rows:
                flat = map(_flat, _beside(folder, rows, row))
                writer.writerow(flat if context.raw else map(csv_safe, flat))
                counts[name] += 1
    return counts


def _jsonl(folder: Path, tables: Rows, context: ExportContext) -> dict[str, int]:
    counts = dict.fromkeys(tables, 0)
    for name, rows in tables.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                named = plain(dict(zip(rows.kinds, _beside(folder, rows, row), strict=True)))
                file.write(json.dumps(named, ensure_ascii=False) + "\n")
                counts[name] += 1
    return counts


def _parquet(folder: Path, tables: Rows, context: ExportContext) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = dict.fromkeys(tables, 0)
    for name, rows in tables.items():
        about = {
            "mkmed.licences": json.dumps(context.licences(rows.table), ensure_ascii=False),
            "mkmed.open_only": json.dumps(context.open_only),
            "mkmed.exported_at": datetime.now(UTC).isoformat(),
        }
        schema = pa.schema([(column, _arrow(kind)) for column, kind in rows.kinds.items()], about)
        texts = [column for column, kind in rows.kinds.items() if kind in ("json", "jsonb", "uuid")]
        with pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd") as writer:
            for part in rows.batches():
                columns = dict(zip(rows.kinds, zip(*part, strict=True), strict=True))
                columns |= {column: tuple(_flat(value) for value in columns[column]) for column in texts}
                writer.write_table(pa.table(
                    [pa.array(values, schema.field(column).type) for column, values in columns.items()], schema=schema))
                counts[name] += len(part)
    return counts


def _arrow(kind: str) -> pa.DataType:
    """Arrow's type for one of PostgreSQL's."""
    import pyarrow as pa

    if kind.startswith("_"):
        return pa.list_(_arrow(kind[1:]))
    known = {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "float4": pa.float32(), "float8": pa.float64(),
             "bool": pa.bool_(), "bytea": pa.binary(), "timestamptz": pa.timestamp("us", "UTC")}
    return known.get(kind, pa.string())


def _sqlite(path: Path, tables: Rows, context: ExportContext) -> dict[str, int]:
    counts = dict.fromkeys(tables, 0)
    with closing(sqlite3.connect(path)) as database, database:
        # It is renamed when it is complete, so a journal of its own would be of no use.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        for name, rows in tables.items():
            database.execute(_declaration(rows, tables))
            insert = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(rows.kinds))})'  # noqa: S608
            for part in rows.batches():
                database.executemany(insert, ([_stored(value) for value in row] for row in part))
                counts[name] += len(part)
            for column in rows.table.indexes:
                database.execute(f'CREATE INDEX "ix_{name}_{column}" ON "{name}" ("{column}")')
        database.execute("ANALYZE")
    return counts


def _declaration(rows: _Rows, tables: Iterable[str]) -> str:
    """The CREATE TABLE of one table, with keys to the tables that are exported with it."""
    parts = [f'"{column}" {_affinity(kind)}' for column, kind in rows.kinds.items()]
    if rows.table.key:
        parts.append(f"PRIMARY KEY ({', '.join(rows.table.key)})")
    known = set(tables)
    for column, (target, key) in REFERENCES.items():
        if column in rows.kinds and target in known and target != rows.name:
            parts.append(f'FOREIGN KEY ("{column}") REFERENCES "{target}" ("{key}")')
    return f'CREATE TABLE "{rows.name}" ({", ".join(parts)})'


def _affinity(kind: str) -> str:
    if kind in INTEGERS or kind == "bool":
        return "INTEGER"
    if kind in FLOATS:
        return "REAL"
    return "BLOB" if kind == "bytea" else "TEXT"


def _stored(value: Any) -> Any:
    return value if isinstance(value, bytes) else _flat(value)


SDF_ITEMS = ("drug_id", "name", "source", "origin", "method", "energy", "note", "licence_id", "url", "retrieved_at",
             "sha256")


def _sdf(path: Path, tables: Rows, context: ExportContext) -> dict[str, int]:
    """MDL V2000 records with the facts of each as data items, no line of which can end the record before its time."""
    counts = dict.fromkeys(tables, 0)
    for name, rows in tables.items():
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                named = dict(zip(rows.kinds, row, strict=True))
                lines = str(named["molblock"]).rstrip("\n").split("\n")
                if any(line.startswith("$$$$") for line in lines) or lines[-1].rstrip() != "M  END":
                    whose = f"drug {named['drug_id']} by {named['source']}"
                    raise DataError(f"the conformer of {whose} is not an MDL block", hint="mkmed kb verify")
                file.write("\n".join(lines) + "\n")
                for item in SDF_ITEMS:
                    if named[item] is not None:
                        file.write(f"> <{item}>\n{' '.join(str(plain(named[item])).split())}\n\n")
                file.write("$$$$\n")
                counts[name] += 1
    return counts
