"""Takes the knowledge base elsewhere: SQLite, CSV, JSONL or Parquet, each table with the licences of its rows.

Cells that a spreadsheet would run as a formula are made inert in CSV (CWE-1236) unless ``raw`` is asked for.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from kb.errors import UsageError
from kb.output import csv_safe, plain

TABLES: dict[str, str] = {
    "drugs": "SELECT * FROM mkmed.drugs ORDER BY drug_id",
    "bucket": "SELECT * FROM mkmed.bucket ORDER BY drug_id",
    "names": "SELECT drug_id, name, kind, source FROM mkmed.drug_name ORDER BY drug_id, name, source",
    "identifiers": "SELECT drug_id, namespace, value, source FROM mkmed.identifier ORDER BY 1, 2, 3, 4",
    "texts": "SELECT * FROM mkmed.texts ORDER BY drug_id, provider, content",
    "properties": "SELECT * FROM mkmed.properties ORDER BY drug_id, property, source",
    "conformers": "SELECT * FROM mkmed.conformers ORDER BY drug_id, source",
    "interactions": "SELECT * FROM mkmed.interactions ORDER BY drug_a, drug_b, provider",
    "atc": "SELECT drug_id, code, source FROM mkmed.drug_atc ORDER BY 1, 2, 3",
    "triples": "SELECT head, relation, tail, provider, licence_id FROM mkmed.triples",
    "availability": "SELECT * FROM mkmed.availability ORDER BY drug_id, modality, source",
    "provenance": "SELECT * FROM mkmed.provenance ORDER BY drug_id, modality, source",
    "licences": "SELECT * FROM mkmed.licence ORDER BY id",
}
_BATCH = 5000


class ExportFormat(StrEnum):
    """What an export is written as."""

    sqlite = "sqlite"
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


def export(
    connection: Connection,
    target: Path,
    form: ExportFormat,
    *,
    tables: Sequence[str] = tuple(TABLES),
    open_only: bool = False,
    raw: bool = False,
) -> dict[str, int]:
    """Rows written by table. SQLite is one file; the other formats are a folder with a file a table.

    ``open_only`` leaves out rows whose licence forbids commercial use or passing on. ``licences`` is always included.
    Everything is written to a temporary name first, so that a stopped export leaves nothing half done.
    """
    unknown = [name for name in tables if name not in TABLES]
    if unknown:
        raise UsageError(f"unknown table {unknown[0]!r}", hint=f"known: {', '.join(TABLES)}")
    if target.exists():
        raise UsageError(f"{target} exists", hint="choose another --out, or remove it")
    wanted = list(dict.fromkeys([*tables, "licences"]))
    temporary = target.with_name(target.name + ".part")
    write = {
        ExportFormat.sqlite: _sqlite,
        ExportFormat.csv: _csv,
        ExportFormat.jsonl: _jsonl,
        ExportFormat.parquet: _parquet,
    }[form]
    if form is not ExportFormat.sqlite:
        temporary.mkdir(parents=True, exist_ok=True)
    else:
        temporary.unlink(missing_ok=True)
    counts = write(temporary, {name: lambda name=name: _rows(connection, name, open_only) for name in wanted}, raw)  # type: ignore[misc]
    temporary.rename(target)
    return counts


def _rows(connection: Connection, table: str, open_only: bool) -> Iterator[dict[str, Any]]:
    sql = TABLES[table]
    result = connection.execution_options(stream_results=True, yield_per=_BATCH).execute(text(sql)).mappings()
    shut = set()
    if open_only:
        shut = set(
            connection.scalars(text("SELECT id FROM mkmed.licence WHERE share IN ('non-commercial', 'restricted')"))
        )
    for row in result:
        if not (shut and row.get("licence_id") in shut):
            yield dict(row)


Tables = dict[str, Callable[[], Iterable[dict[str, Any]]]]


def _flat(value: Any) -> Any:
    value = plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _csv(folder: Path, tables: Tables, raw: bool) -> dict[str, int]:
    counts = {}
    for name, rows in tables.items():
        counts[name] = 0
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer: Any = None
            for row in rows():
                if writer is None:
                    writer = csv.writer(file)
                    writer.writerow(row)
                writer.writerow([_flat(v) if raw else csv_safe(_flat(v)) for v in row.values()])
                counts[name] += 1
    return counts


def _jsonl(folder: Path, tables: Tables, raw: bool) -> dict[str, int]:
    counts = {}
    for name, rows in tables.items():
        counts[name] = 0
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows():
                file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")
                counts[name] += 1
    return counts


def _parquet(folder: Path, tables: Tables, raw: bool) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = {}
    for name, rows in tables.items():
        flat = [{key: _flat(value) for key, value in row.items()} for row in rows()]
        pq.write_table(pa.Table.from_pylist(flat), folder / f"{name}.parquet")
        counts[name] = len(flat)
    return counts


def _sqlite(path: Path, tables: Tables, raw: bool) -> dict[str, int]:
    counts = {}
    with closing(sqlite3.connect(path)) as database, database:
        for name, rows in tables.items():
            counts[name] = 0
            for row in rows():
                if not counts[name]:
                    columns = ", ".join(f'"{column}"' for column in row)
                    database.execute(f'CREATE TABLE "{name}" ({columns})')
                    statement = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(row))})'  # noqa: S608
                database.execute(statement, [_flat(value) for value in row.values()])
                counts[name] += 1
    return counts
