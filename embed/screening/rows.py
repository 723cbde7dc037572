"""What a folder of SDF, SMILES, CSV, TSV and Parquet files holds: ids and structures, in runs of so many rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from kb.errors import DataError, NotFound, UsageError
from kb.inputs import open_plain, read_lines
from kb.sources.tables.read import MOLBLOCK, UserTable

SUFFIXES = (".sdf", ".sd", ".smi", ".smiles", ".csv", ".tsv", ".parquet")
LONGEST = 20_000
"""Bytes of one line of a SMILES file."""

RawCompound = tuple[int, str, str, bool]
"""(row number, id, SMILES or connection table, whether it is a connection table)."""


@dataclass(frozen=True)
class CompoundColumns:
    """The columns of ids and SMILES in CSV, TSV and Parquet files, and the data item of ids in SDF files."""

    id: str | None = None
    smiles: str | None = None


@dataclass(frozen=True)
class RowRun:
    """Consecutive rows of one file: what one part of the data set is made from. ``digest`` is the sha256 of them."""

    file: str
    number: int
    rows: list[RawCompound]
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """Rows that were no rows: (number, reason)."""

    @property
    def digest(self) -> str:
        """The sha256 of the rows."""
        sha = hashlib.sha256()
        for number, name, structure, block in self.rows:
            sha.update(f"{number}\0{name}\0{structure}\0{block}\1".encode())
        for number, reason in self.unreadable:
            sha.update(f"{number}\0{reason}\2".encode())
        return sha.hexdigest()


def input_files(folder: Path) -> list[Path]:
    """The files of a folder that hold compounds, by name; raises NotFound when there are none."""
    if not folder.is_dir():
        raise NotFound(f"no such folder: {folder}")
    found = sorted(path for path in folder.iterdir()
                   if path.is_file() and path.name.lower().removesuffix(".gz").endswith(SUFFIXES))
    if not found:
        raise NotFound(f"{folder} holds no file of compounds", hint=f"such as NAME{', NAME'.join(SUFFIXES)}, or .gz")
    return found


def row_runs(files: list[Path], columns: CompoundColumns, size: int) -> Iterator[RowRun]:
    """All rows of the files, ``size`` at a time; a run never goes across files.

    Raises UsageError for a missing column and DataError for a file that is not what its name says.
    """
    for path in files:
        unreadable: list[tuple[int, str]] = []
        rows = _rows(path, columns, unreadable)
        number = 0
        while batch := list(islice(rows, size)):
            yield RowRun(path.name, number, batch, unreadable[:])
            unreadable.clear()
            number += 1
        if unreadable:
            yield RowRun(path.name, number, [], unreadable[:])


def _rows(path: Path, columns: CompoundColumns, unreadable: list[tuple[int, str]]) -> Iterator[RawCompound]:
    kind = path.name.lower().removesuffix(".gz")
    if kind.endswith((".smi", ".smiles")):
        yield from _smiles_lines(path, unreadable)
        return
    if not kind.endswith((".sdf", ".sd")) and columns.smiles is None:
        raise UsageError(f"{path.name}: no column of SMILES is named", hint="--smiles COLUMN, and --id COLUMN")
    if kind.endswith(".parquet"):
        yield from _parquet_rows(path, columns)
        return
    table = UserTable(path)
    table.require({name: value for name, value in vars(columns).items() if value})
    for number, cells in table.rows():
        name = cells.get(columns.id or "title", "") or str(number)
        block = cells.get(MOLBLOCK, "")
        yield number, name, block or cells.get(columns.smiles or "", ""), bool(block)
        if table.problems:
            unreadable += [(problem.row, problem.reason) for problem in table.problems]
            table.problems.clear()
    unreadable += [(problem.row, problem.reason) for problem in table.problems]


def _smiles_lines(path: Path, unreadable: list[tuple[int, str]]) -> Iterator[RawCompound]:
    """A SMILES a line, and behind a blank or a tab its id."""
    with open_plain(path) as stream:
        for number, line in enumerate(read_lines(stream, LONGEST), 1):
            if line is None:
                unreadable.append((number, f"a line of more than {LONGEST:,} bytes"))
                continue
            smiles, _, name = line.decode("utf-8", "replace").strip().replace("\t", " ").partition(" ")
            if smiles:
                yield number, name.strip() or str(number), smiles, False


def _parquet_rows(path: Path, columns: CompoundColumns) -> Iterator[RawCompound]:
    try:
        file = pa.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name} is not a Parquet file: {error}") from None
    wanted = [name for name in (columns.id, columns.smiles) if name]
    missing = [name for name in wanted if name not in file.schema_arrow.names]
    if missing:
        raise UsageError(f"{path.name} has no column {missing[0]!r}",
                         hint=f"it has: {', '.join(file.schema_arrow.names)}")
    number = 0
    for batch in file.iter_batches(batch_size=10_000, columns=wanted):
        for cells in batch.to_pylist():
            number += 1
            name = cells[columns.id] if columns.id else None
            yield number, str(name if name is not None else number), str(cells[columns.smiles] or ""), False
