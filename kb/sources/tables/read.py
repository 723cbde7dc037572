"""Reads the user's own tables row by row: CSV, TSV and SDF, gzipped or not; nothing is lost without a word.

Every row comes with its number in the file (line of a table, record of an SDF). What is wrong with a row is collected
as a ``Problem`` and stored as a rejected look-up, so that it can be counted and found again.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from sqlalchemy import ARRAY, Connection, Text, cast, delete, func, select

from kb.bundle import split_sdf
from kb.errors import DataError, SourceError, UsageError
from kb.ingest.records import Document
from kb.inputs import DAMAGED
from kb.ledger.cells import write_lookup
from kb.licences import USER
from kb.modalities import State
from kb.schema.identity import drug_name, identifier
from kb.schema.ledger import lookup

MAX_CELL = 1 << 20
"""Characters in one cell; a longer one makes its row malformed."""
MOLBLOCK = "molblock"
"""The column of an SDF record's connection table; its first line is the column ``title``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in one row; ``value_only`` says that the rest of the row was taken."""

    row: int
    reason: str
    value_only: bool = False


@dataclass(slots=True)
class Table:
    """A file with named columns; ``problems`` fills while it is read."""

    path: Path
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_sdf(self) -> bool:
        """Whether the name says that it is an SDF."""
        return self.path.name.lower().removesuffix(".gz").endswith((".sdf", ".sd"))

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(row number, cells by column); malformed rows are put to ``problems`` instead.

        Raises SourceError when a packed file is cut off or altered.
        """
        try:
            with self._open() as lines:
                yield from self._read(lines)
        except DAMAGED as error:
            raise SourceError(f"{self.path.name} is damaged: {error}", hint="download it again") from None

    def _read(self, lines: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
        if self.is_sdf:
            yield from self._records(lines)
            return
        reader = csv.reader(lines, delimiter=self._delimiter(), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not header or len(set(header)) != len(header):
            raise DataError(f"{self.path.name} has no header of distinct column names")
        yield from self._cells(reader, header)

    def _open(self) -> TextIO:
        if self.path.suffix.lower() == ".gz":
            return gzip.open(self.path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _delimiter(self) -> str:
        return "," if self.path.name.lower().removesuffix(".gz").endswith(".csv") else "\t"

    def _cells(self, reader: Iterator[list[str]], header: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        while True:
            number = getattr(reader, "line_num", 0) + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.problems.append(Problem(number, f"malformed: {error}"))
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                self.problems.append(Problem(number, f"{len(cells)} cells, but the header has {len(header)}"))
            elif _broken(cells):
                self.problems.append(Problem(number, "not UTF-8"))
            elif max(map(len, cells)) > MAX_CELL:
                self.problems.append(Problem(number, f"a cell of more than {MAX_CELL} characters"))
            else:
                yield number, dict(zip(header, cells, strict=True))

    def _records(self, lines: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
        for number, (title, block, items) in enumerate(split_sdf(lines), 1):
            if _broken([block, *items.values()]):
                self.problems.append(Problem(number, "not UTF-8"))
            else:
                yield number, {**items, "title": title, MOLBLOCK: block}

    def require(self, columns: Mapping[str, str]) -> None:
        """Raise UsageError, with the nearest names, when the file lacks a mapped column (SDF records may)."""
        if self.is_sdf:
            return
        try:
            with self._open() as lines:
                header = [name.strip() for name in next(csv.reader(lines, delimiter=self._delimiter()), [])]
        except DAMAGED as error:
            raise SourceError(f"{self.path.name} is damaged: {error}", hint="download it again") from None
        missing = [column for column in columns.values() if column not in header]
        if missing:
            raise UsageError(f"{self.path.name} has no column {missing[0]!r}", hint=f"it has: {', '.join(header)}")


def _broken(cells: Sequence[str]) -> bool:
    return any("\udc80" <= c <= "\udcff" for cell in cells if not cell.isascii() for c in cell)


def file_document(path: Path, source: str, parser: str) -> Document:
    """The user's file as a document, by its name and sha256; the bytes stay where they are."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    return Document(
        source=source,
        url=path.name,
        media_type="application/octet-stream",
        licence=USER.id,
        attribution="the user's own file",
        retrieved_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        parser=parser,
        uri=path.name,
        sha256=digest,
        size=path.stat().st_size,
    )


def write_problems(
    connection: Connection, run_id: uuid.UUID, source: str, document: Document, problems: Sequence[Problem]
) -> None:
    """Store what was wrong, one rejected look-up a row and reason."""
    for problem in problems:
        reason = hashlib.sha256(problem.reason.encode()).hexdigest()[:8]
        key = f"{_rows_of(document)}{problem.row}:{reason}"
        write_lookup(connection, run_id, source, key, State.rejected, error=problem.reason[:500])


def replace_problems(
    connection: Connection, run_id: uuid.UUID, source: str, document: Document, problems: Sequence[Problem]
) -> None:
    """Store what is wrong in the whole file, in place of what was when it was read before."""
    old = lookup.c.key.startswith(_rows_of(document), autoescape=True) & (lookup.c.state == State.rejected)
    connection.execute(delete(lookup).where(lookup.c.source == source, old))
    write_problems(connection, run_id, source, document, problems)


def _rows_of(document: Document) -> str:
    return f"row:{document.sha256.hex()[:16]}:"


def find_drugs(connection: Connection, handles: Sequence[str]) -> dict[str, int]:
    """The drug of every handle (``namespace:value`` or a name, whatever its case) that means exactly one drug."""
    wanted = {handle.strip().lower() for handle in handles if handle.strip()}
    if not wanted:
        return {}
    asked = func.unnest(cast(sorted(wanted), ARRAY(Text))).table_valued("handle").render_derived()
    full = func.lower(identifier.c.namespace + ":" + identifier.c.value)
    own = func.lower("user:" + identifier.c.value)
    found: dict[str, set[int]] = {}
    for query in (
        select(asked.c.handle, identifier.c.drug_id).join(identifier, full == asked.c.handle),
        select(asked.c.handle, identifier.c.drug_id).join(
            identifier, (own == asked.c.handle) & identifier.c.namespace.like("user.%")
        ),
        select(asked.c.handle, drug_name.c.drug_id).join(drug_name, drug_name.c.name_key == asked.c.handle),
    ):
        for handle, drug_id in connection.execute(query):
            found.setdefault(handle, set()).add(drug_id)
    return {handle: next(iter(ids)) for handle, ids in found.items() if len(ids) == 1}
