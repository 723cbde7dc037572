"""Tables of text, row by row, within bounds: one bad row, an open quote included, costs no other row.

Python's ``csv`` reads on to the next quote wherever one was opened, so that one which nobody closes swallows what
follows. Here a row that does not come out well gives back the lines after its first, which are then rows of their own.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kb.errors import DataError
from kb.inputs import open_plain, require_text

MAX_CELL = 1 << 20
"""Characters in one cell."""
MAX_LINE = 4 << 20
"""Characters in one line."""
MAX_LINES = 500
"""Lines that one row may span; more mean that a quote was left open."""
MAX_AGAIN = 200 << 20
"""Characters that may be read a second time; a table with so many open quotes is read line by line from there on."""
TOO_LONG = f"a line of more than {MAX_LINE:,} characters"
OPEN_QUOTE = "a quote is opened and not closed"
NOT_UTF8 = "not UTF-8 (saved as Windows-1252 or Latin-1?)"


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row by the line that it begins in, from 1: its cells, or the reason why it has none."""

    line: int
    cells: tuple[str, ...] = ()
    reason: str | None = None


class CsvFile:
    """A table whose first row names its columns, open for reading; raises DataError when it cannot be one."""

    def __init__(self, stream: TextIO, name: str, delimiter: str) -> None:
        self._stream, self._delimiter = stream, delimiter
        self._ahead: deque[str | None] = deque()
        self._line, self._again = 1, 0
        self._open = False
        csv.field_size_limit(MAX_LINE)
        first = next(self._rows(0), None)
        self.header = _header(first, name, delimiter)

    def rows(self) -> Iterator[CsvRow]:
        """The rows below the header; empty lines are passed over."""
        return self._rows(len(self.header))

    def is_cut(self) -> bool:
        """Whether the last line was read and has no end: where it is no row, the file was cut off within it."""
        return self._open and not self._ahead

    def _rows(self, width: int) -> Iterator[CsvRow]:
        while True:
            number = self._line
            taken: list[str | None] = []
            try:
                cells = next(csv.reader(self._feed(taken), delimiter=self._delimiter, strict=True), None)
                reason = None if cells is None else _wrong(cells, width)
            except csv.Error as error:
                is_open = len(taken) > 1 or "end of data" in str(error)
                cells, reason = [], OPEN_QUOTE if is_open else f"malformed: {error}"
            if not taken:
                return
            if None in taken:
                reason = TOO_LONG
            following = taken[1:]
            if reason and following and (reason in (OPEN_QUOTE, TOO_LONG) or self._swallowed(following, width)):
                self._give_back(following)
                reason = OPEN_QUOTE
            if reason:
                yield CsvRow(number, reason=reason)
            elif cells:
                yield CsvRow(number, tuple(cells))

    def _feed(self, taken: list[str | None]) -> Iterator[str]:
        """The next lines, as many as one row asks for; each is noted in ``taken``, a too long one as None."""
        size, most = 0, MAX_LINES if self._again < MAX_AGAIN else 1
        while len(taken) < most and size < MAX_LINE:
            line = self._ahead.popleft() if self._ahead else self._read()
            if line == "":
                return
            taken.append(line)
            self._line += 1
            if line is None:
                return
            size += len(line)
            yield line

    def _give_back(self, lines: Sequence[str | None]) -> None:
        self._ahead.extendleft(reversed(lines))
        self._line -= len(lines)
        self._again += sum(len(line or "") for line in lines)

    def _read(self) -> str | None:
        line = self._stream.readline(MAX_LINE + 1)
        if len(line) <= MAX_LINE:
            self._open = bool(line) and not line.endswith(("\n", "\r"))
            return line
        while line and not line.endswith(("\n", "\r")):
            line = self._stream.readline(MAX_LINE)
        return None

    def _swallowed(self, lines: Sequence[str | None], width: int) -> bool:
        """Whether one of the lines is a row of the right width by itself."""
        for line in lines:
            try:
                if line and len(next(csv.reader([line], delimiter=self._delimiter, strict=True), [])) == width > 1:
                    return True
            except csv.Error:
                continue
        return False


def _header(first: CsvRow | None, name: str, delimiter: str) -> list[str]:
    """The names of the columns; raises DataError when there are none, or they are separated by something else."""
    names = [cell.strip() for cell in first.cells] if first else []
    if first is None or first.reason or not any(names):
        reason = (first.reason if first else None) or "its first line is empty"
        raise DataError(f"{name} has no header: {reason}", hint="the first line names the columns")
    if any(is_broken(cell) for cell in names):
        raise DataError(f"the header of {name} is {NOT_UTF8}", hint="save the file as UTF-8")
    other = next((mark for mark in ";\t,|" if mark != delimiter and mark in names[0]), None)
    if len(names) == 1 and other:
        shown = {"\t": "a tab", ";": "';'", ",": "','", "|": "'|'"}
        raise DataError(
            f"the columns of {name} are separated by {shown[other]}, not by {shown[delimiter]}",
            hint="save it with commas (decimals with a point) as .csv, or with tabs as .tsv",
        )
    if len(set(names)) != len(names):
        raise DataError(f"{name} has two columns of one name", hint="give every column its own name")
    return names


def _wrong(cells: Sequence[str], width: int) -> str | None:
    """Why the cells are no row, or None."""
    if cells and width and len(cells) != width:
        return f"{len(cells)} cells, but the header has {width}"
    if any(map(is_broken, cells)):
        return NOT_UTF8
    if max(map(len, cells), default=0) > MAX_CELL:
        return f"a cell of more than {MAX_CELL:,} characters"
    return None


def is_broken(text: str) -> bool:
    """Whether a text holds bytes that were not UTF-8."""
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


@contextmanager
def open_csv(path: Path, delimiter: str = ",", what: str = "--path") -> Iterator[CsvFile]:
    """A regular file as a table: gzipped or not, in UTF-8, or in UTF-16 with a byte order mark.

    Raises UsageError for what is no regular file, SourceError for a damaged one or one that unpacks to too much, and
    DataError for one without a header.
    """
    with open_plain(path, what=what) as stream:
        codec = require_text(stream.peek(4096)[:4096], path.name)
        errors = "replace" if codec == "utf-16" else "surrogateescape"
        text = io.TextIOWrapper(stream, encoding=codec, errors=errors, newline="")
        try:
            yield CsvFile(text, path.name, delimiter)
        finally:
            text.detach()
