"""A delimited file looked over before it is read: its header, how many records it has, and whether they are regular.

A *regular* file is UTF-8, ends every line alike, and quotes as RFC 4180 does without a line break inside quotes; each
of
its lines is one record, so the engine's parser can be checked to the row. Any other file is parsed here, line by line:
a quote that is opened and not closed costs its own line and no other.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kb.errors import DataError

_CHUNK = 1 << 19  # half a MiB stays in a core's cache
_JOINED, _SPAN = 100, 1 << 16  # lines and characters that one quoted cell may span
_UNCLOSED = 1000  # quotes of a file that may be opened and never closed
DELIMITERS = (",", "\t", ";", "|")


@dataclass(frozen=True)
class Bounds:
    """What a file may demand: bytes of its header, of a line, of a JSON document, decoded bytes per compressed byte."""

    header: int = 1 << 16
    line: int = 1 << 20
    document: int = 512 << 20
    ratio: int = 200
    free: int = 64 << 20
    """Decoded bytes below which the ratio is not looked at."""


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written. ``records`` leaves out the header and blank lines, of a regular file."""

    header: tuple[str, ...]
    delimiter: str
    quoted: bool
    crlf: bool
    regular: bool
    records: int
    encoding: str


def check_file(path: Path) -> None:
    """Raise DataError unless the path is a regular file: a pipe or a device never ends."""
    try:
        mode = path.stat().st_mode
    except OSError:
        raise DataError(f"{path.name} cannot be read", hint="does it exist, and may you read it?") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{path.name} is no regular file", hint="pipes and devices are not read: save it to a file")


class _Bounded(io.RawIOBase):
    """The decoded bytes of a gzipped file, refused once they outgrow what was compressed."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self.path, self.bounds, self.count = path, bounds, 0
        self.raw = path.open("rb")
        self.file = gzip.GzipFile(fileobj=self.raw)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        got = self.file.readinto(buffer)
        self.count += got
        if self.count > max(self.bounds.free, self.bounds.ratio * self.raw.tell()):
            raise DataError(f"{self.path.name} grows to more than {self.bounds.ratio} times its size when unpacked",
                            hint="no export compresses so well; unpack it yourself if you trust it")
        return got

    def close(self) -> None:
        self.file.close()
        self.raw.close()
        super().close()


def open_bytes(path: Path, bounds: Bounds) -> BinaryIO:
    """The file's bytes, unpacked where its name ends in ``.gz``."""
    check_file(path)
    if path.name.lower().endswith(".gz"):
        return io.BufferedReader(_Bounded(path, bounds), _CHUNK)
    return path.open("rb")


def _header(path: Path, line: bytes, bounds: Bounds) -> str:
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path.name} is UTF-16", hint="save it as UTF-8")
    if len(line) > bounds.header:
        raise DataError(f"{path.name}: its first line is longer than {bounds.header} bytes",
                        hint="the first line must hold the column names")
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        return line.decode("latin-1").rstrip("\r\n")


def _fields(text: str, delimiter: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in next(csv.reader([text], delimiter=delimiter), []))


def header_of(path: Path, bounds: Bounds) -> tuple[tuple[str, ...], str]:
    """The column names and the delimiter, the one that splits the first line most."""
    try:
        with open_bytes(path, bounds) as file:
            text = _header(path, file.readline(bounds.header + 1), bounds)
    except (OSError, EOFError, zlib.error):
        raise _unreadable(path) from None
    try:
        delimiter = max(DELIMITERS, key=lambda mark: (len(_fields(text, mark)), -DELIMITERS.index(mark)))
        return _fields(text, delimiter), delimiter
    except csv.Error:
        raise DataError(f"{path.name}: its first line does not hold column names",
                        hint="lines end in a line feed, alone or after a carriage return") from None


def _unreadable(path: Path) -> DataError:
    return DataError(f"{path.name} cannot be read to its end", hint="is it complete, and gzipped if it ends in .gz?")


class _Survey:
    """What has been seen of a file so far, chunk by chunk; every chunk ends with a line break, but for the last."""

    def __init__(self, path: Path, delimiter: str, bounds: Bounds) -> None:
        self.path, self.bounds, self.mark = path, bounds, ord(delimiter)
        self.lines = self.blank = self.breaks = self.returns = self.ends = 0
        self.quotes = False
        self.regular = self.utf8 = True

    def chunk(self, data: bytearray, size: int) -> None:
        """Look at the first ``size`` bytes of ``data``."""
        array = np.frombuffer(data, np.uint8, size)
        is_break = array == 10
        breaks = int(np.count_nonzero(is_break))
        self._check_lengths(data, size)
        returns = data.count(b"\r", 0, size) if data.find(b"\r", 0, size) >= 0 else 0
        self.returns += returns
        self.ends += data.count(b"\r\n", 0, size) if returns else 0
        self.lines += breaks + (not is_break[-1])
        self.breaks += breaks
        self.blank += int(is_break[0]) + int(np.count_nonzero(is_break[1:] & is_break[:-1]))
        if returns:
            pairs = np.flatnonzero((array[:-1] == 13) & is_break[1:])
            self.blank += int(np.count_nonzero((pairs == 0) | is_break[pairs - 1]))
        if data.find(b"\0", 0, size) >= 0:
            self.regular = False
        if self.utf8 and int(array.max()) > 127:
            try:
                codecs.decode(memoryview(data)[:size], "utf-8")
            except UnicodeDecodeError:
                self.utf8 = self.regular = False
        if data.find(b'"', 0, size) >= 0:
            self.quotes = True
            self.regular = self.regular and self._quotes_are_regular(array, is_break)

    def _check_lengths(self, data: bytearray, size: int) -> None:
        """Raise DataError where a line is longer than its bound: a stretch of that many bytes has no line break."""
        start = 0
        while size - start > self.bounds.line:
            end = data.rfind(b"\n", start, start + self.bounds.line)
            if end < 0:
                number = self.lines + data.count(b"\n", 0, start) + 1
                raise DataError(f"{self.path.name}: line {number} is longer than {self.bounds.line} bytes",
                                hint="is it the file that its name says?")
            start = end + 1

    def _quotes_are_regular(self, array: np.ndarray, is_break: np.ndarray) -> bool:
        marks = np.flatnonzero((array == 34) | is_break)
        among = np.flatnonzero(array[marks] == 34)
        if len(among) % 2 or (among[1::2] - among[0::2] != 1).any():  # a line break between two quotes of a pair
            return False
        at = marks[among]
        opening, closing = at[0::2], at[1::2]
        before = array[np.maximum(opening - 1, 0)]
        after = array[np.minimum(closing + 1, len(array) - 1)]
        touching = closing[:-1] + 1 == opening[1:]  # two quotes for one
        fine = (before == self.mark) | (before == 10)
        fine[1:] |= touching
        fine[:1] |= opening[:1] == 0
        if not fine.all():
            return False
        fine = (after == self.mark) | (after == 10) | (after == 13)
        fine[:-1] |= touching
        fine[-1:] |= closing[-1:] == len(array) - 1
        return bool(fine.all())


def survey(path: Path, bounds: Bounds) -> Layout:
    """The file looked over once. Raises DataError for what cannot be read or outgrows the bounds."""
    header, delimiter = header_of(path, bounds)
    seen = _Survey(path, delimiter, bounds)
    try:
        with open_bytes(path, bounds) as file:
            crlf = file.readline(bounds.header + 1).endswith(b"\r\n")
            # One buffer for the whole file: what is left of a line is moved to its beginning.
            data = bytearray(_CHUNK + bounds.line)
            view, held = memoryview(data), 0
            while got := file.readinto(view[held : held + _CHUNK]):  # type: ignore[attr-defined]
                size = held + got
                cut = data.rfind(b"\n", 0, size) + 1
                if cut == 0 and size > bounds.line:
                    seen.chunk(data, size)
                if cut:
                    seen.chunk(data, cut)
                    view[: size - cut] = bytes(view[cut:size])
                held = size - cut
            if held:
                seen.chunk(data, held)
    except (OSError, EOFError, zlib.error):
        raise _unreadable(path) from None
    alike = seen.returns == seen.ends and seen.ends == (seen.breaks if crlf else 0)
    regular = seen.regular and alike and not (len(header) == 1 and seen.blank)
    quoted = seen.quotes
    if delimiter == "\t" and quoted and not regular:
        # A tab-separated vocabulary has lone quotes as plain characters: nothing in it is quoted.
        quoted, regular = False, seen.utf8 and alike
    return Layout(header, delimiter, quoted, crlf, regular, seen.lines - seen.blank,
                  "utf-8" if seen.utf8 else "latin-1")


@dataclass
class Careful:
    """The records of an irregular file; ``malformed`` and ``first`` (its line) are right once it is read."""

    path: Path
    layout: Layout
    bounds: Bounds
    malformed: int = 0
    first: int = 0
    _unclosed: int = 0

    def rows(self) -> Iterator[list[str]]:
        """The well-formed records, one by one."""
        mark = re.escape(self.layout.delimiter)
        self._cell = re.compile(rf'"((?:[^"]|"")*)"(?={mark}|$)', re.DOTALL)
        self._open = re.compile(r'"(?:[^"]|"")*$', re.DOTALL)
        try:
            with open_bytes(self.path, self.bounds) as file:
                file.readline()
                lines = self._lines(file)
                waiting: list[tuple[int, str]] = []
                while True:
                    if waiting:
                        number, line = waiting.pop(0)
                    else:
                        following = next(lines, None)
                        if following is None:
                            return
                        number, line = following
                    if not line:
                        continue
                    row = self._parsed(line)
                    if row is None and self.layout.quoted and self._is_open(line):
                        row = self._joined(line, lines, waiting)
                    if row is None:
                        self.malformed += 1
                        self.first = self.first or number
                    else:
                        yield row
        except (OSError, EOFError, zlib.error):
            raise _unreadable(self.path) from None

    def _lines(self, file: BinaryIO) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(iter(lambda: file.readline(self.bounds.line + 1), b""), start=2):
            yield number, line.rstrip(b"\r\n").replace(b"\0", b"").decode(self.layout.encoding, errors="replace")

    def _parsed(self, line: str) -> list[str] | None:
        """The cells of a line; None where their number is wrong or a quote is misplaced."""
        width = len(self.layout.header)
        if not self.layout.quoted or '"' not in line:
            cells = line.split(self.layout.delimiter)
            return cells if len(cells) == width else None
        cells, at = [], 0
        while True:
            if line.startswith('"', at):
                found = self._cell.match(line, at)
                if found is None:
                    return None
                cells.append(found.group(1).replace('""', '"'))
                at = found.end()
            else:
                end = line.find(self.layout.delimiter, at)
                end = len(line) if end < 0 else end
                cells.append(line[at:end])
                at = end
            if at >= len(line):
                return cells if len(cells) == width else None
            at += 1

    def _is_open(self, line: str) -> bool:
        """Whether the line ends inside a quoted cell."""
        at = 0
        while at <= len(line):
            if line.startswith('"', at):
                found = self._cell.match(line, at)
                if found is None:
                    return self._open.match(line, at) is not None
                at = found.end() + 1
            else:
                end = line.find(self.layout.delimiter, at)
                if end < 0:
                    return False
                at = end + 1
        return False

    def _joined(
        self, line: str, lines: Iterator[tuple[int, str]], waiting: list[tuple[int, str]]
    ) -> list[str] | None:
        """The record that the line begins, with the lines that its quotes span; else those lines wait their turn."""
        taken: list[tuple[int, str]] = []
        while len(taken) < _JOINED and len(line) <= _SPAN:
            following = waiting.pop(0) if waiting else next(lines, None)
            if following is None:
                break
            taken.append(following)
            line += "\n" + following[1]
            if '"' in following[1]:
                if (row := self._parsed(line)) is not None:
                    return row
                if not self._is_open(line):
                    break
        waiting[:0] = taken
        self._unclosed += 1
        if self._unclosed > _UNCLOSED:
            raise DataError(f"{self.path.name}: more than {_UNCLOSED} quotes are opened and never closed, the first"
                            f" in line "
                            f"{self.first}", hint="export it as CSV by RFC 4180, or tab-separated without quotes")
        return None
