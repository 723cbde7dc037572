"""Reads the user's own tables row by row: CSV, TSV, SDF and rows of XML, gzipped or not; nothing is lost silently.

Every row comes with its number in the file (line of a table, record of an SDF). What is wrong with a row is collected
as a ``Problem`` and stored as a rejected look-up, so that it can be counted and found again.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import ARRAY, Connection, Text, cast, delete, func, select

from kb import sdf
from kb.csvfile import open_csv
from kb.errors import DataError, SourceError, UsageError
from kb.inputs import open_plain, open_regular
from kb.ledger.entries import write_lookup
from kb.licences import USER, Licence
from kb.modalities import State
from kb.normalise import tidy
from kb.schema.identity import drug_name, identifier
from kb.schema.ledger import lookup
from kb.sources.contract import Document

MOLBLOCK = "molblock"
"""The column of an SDF record's connection table; its first line is the column ``title``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in one row; ``value_only`` says that the rest of the row was taken.

    ``cut`` says that the file ends within it: then the file is not whole, and the ingest is incomplete.
    """

    row: int
    reason: str
    value_only: bool = False
    cut: bool = False


@dataclass(slots=True)
class UserTable:
    """A file with named columns; ``problems`` fills while it is read."""

    path: Path
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_sdf(self) -> bool:
        """Whether the name says that it is an SDF."""
        return self.path.name.lower().removesuffix(".gz").endswith((".sdf", ".sd"))

    @property
    def is_xml(self) -> bool:
        """Whether the name says that it is XML: elements ``row`` whose attributes are the cells, as ADO writes them."""
        return self.path.name.lower().removesuffix(".gz").endswith(".xml")

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(row number, cells by column); malformed rows are put to ``problems`` instead.

        Raises SourceError when a packed file is cut off or altered, DataError for a table without a header.
        """
        if self.is_sdf:
            yield from self._records()
            return
        if self.is_xml:
            yield from enumerate(self._elements(), 1)
            return
        with open_csv(self.path, self._delimiter()) as table:
            for row in table.rows():
                if row.reason:
                    self.problems.append(Problem(row.line, row.reason, cut=table.is_cut()))
                else:
                    yield row.line, dict(zip(table.header, row.cells, strict=True))

    def _elements(self) -> Iterator[dict[str, str]]:
        """The attributes of every element ``row``; raises SourceError for what is no whole XML."""
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, iterparse

        with open_plain(self.path) as stream:
            try:
                for _, element in iterparse(stream, forbid_dtd=True):
                    if element.tag.rpartition("}")[2] == "row" and element.attrib:
                        yield {name: tidy(cell) for name, cell in element.attrib.items()}
                    element.clear()
            except DefusedXmlException as error:
                raise SourceError(f"{self.path.name} declares a document type or entities: {error}",
                                  hint="save it without") from None
            except (ParseError, LookupError) as error:
                raise SourceError(f"{self.path.name} is not whole XML: {error}", hint="download it again") from None

    def _delimiter(self) -> str:
        return "," if self.path.name.lower().removesuffix(".gz").endswith(".csv") else "\t"

    def _records(self) -> Iterator[tuple[int, dict[str, str]]]:
        with open_plain(self.path) as stream:
            for raw in sdf.split(stream):
                try:
                    record = sdf.parse_sd_record(raw)
                except DataError as error:
                    name = tidy((raw.data or b"").split(b"\n", 1)[0].decode("utf-8", "replace"))[:60]
                    self.problems.append(Problem(raw.number, f"record {name!r}: {error.message}", cut=not raw.closed))
                    continue
                if record.unfinished is not None:
                    reason = f"the file ends within {record.unfinished}, which was left out"
                    self.problems.append(Problem(raw.number, reason, value_only=True, cut=True))
                yield raw.number, {**record.items, "title": record.title, MOLBLOCK: record.block}

    def header(self) -> list[str]:
        """The names of a delimited table's columns, or of the attributes of XML's rows."""
        if self.is_xml:
            found = list(dict.fromkeys(name for row in self._elements() for name in row))
            if not found:
                raise DataError(f"{self.path.name} has no rows", hint="elements row with their cells as attributes")
            return found
        with open_csv(self.path, self._delimiter()) as table:
            return table.header

    def require(self, columns: Mapping[str, str]) -> None:
        """Raise UsageError, with the nearest names, when the file lacks a mapped column (SDF records may)."""
        if self.is_sdf:
            return
        header = self.header()
        missing = [column for column in columns.values() if column not in header]
        if missing:
            raise UsageError(f"{self.path.name} has no column {missing[0]!r}", hint=f"it has: {', '.join(header)}")


def file_document(path: Path, source: str, parser: str, licence: Licence = USER) -> Document:
    """The user's file as a document, by its name and sha256; the bytes stay where they are."""
    with open_regular(path, "--path") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    return Document(
        source=source,
        url=path.name,
        media_type="application/octet-stream",
        licence=licence.id,
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
        state = State.failed if problem.cut else State.rejected
        write_lookup(connection, run_id, source, key, state, error=problem.reason[:500])


def replace_problems(
    connection: Connection, run_id: uuid.UUID, source: str, document: Document, problems: Sequence[Problem]
) -> None:
    """Store what is wrong in the whole file, in place of what was when it was read before."""
    old = lookup.c.key.startswith(_rows_of(document), autoescape=True)
    old &= lookup.c.state.in_((State.rejected, State.failed))
    connection.execute(delete(lookup).where(lookup.c.source == source, old))
    write_problems(connection, run_id, source, document, problems)


def _rows_of(document: Document) -> str:
    return f"row:{document.sha256.hex()[:16]}:"


def drugs_by_handle(connection: Connection, handles: Sequence[str]) -> dict[str, int]:
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
