"""The one reader of SD files: records split at ``$$$$``, bounded, and told when the last one was cut off.

Format: CTfile Formats, BIOVIA, chapter 6 (a record is a connection table up to ``M  END``, then data items, each a
header ``> <NAME>``, its lines and a blank line, then ``$$$$``). No chemistry is read here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from kb.errors import DataError
from kb.normalise import clean

LONGEST = 1 << 20
"""Bytes of one record."""
_END = b"$$$$"
_COUNTS = re.compile(r"([ \d]{3})([ \d]{3}).*V([23]000)")
_HEADER = re.compile(r">[^<]*<([^>]+)>")


@dataclass(frozen=True, slots=True)
class Raw:
    """One record without its ``$$$$`` line: its number from 1; ``data`` is None for one that is longer than allowed."""

    number: int
    data: bytes | None
    closed: bool = True
    """Whether ``$$$$`` followed; only the last record of a file can lack it."""


@dataclass(frozen=True, slots=True)
class Molfile:
    """A record: its first line, its connection table to ``M  END``, and its data items (of equal names the first)."""

    title: str
    block: str
    items: dict[str, str]
    unfinished: str | None = None
    """The name of a last data item that may have been cut off; it is not among ``items``."""


def split(stream: BinaryIO, longest: int = LONGEST) -> Iterator[Raw]:
    """The records of a file, one in memory at a time."""
    kept: list[bytes] = []
    size, number, at_start = 0, 1, True
    while line := stream.readline(longest + 1):
        if at_start and line.startswith(_END):
            yield Raw(number, b"".join(kept) if size <= longest else None)
            kept, size, number = [], 0, number + 1
        elif (size := size + len(line)) <= longest:
            kept.append(line)
        else:
            kept.clear()
        at_start = line.endswith(b"\n")
    if size > longest:
        yield Raw(number, None, closed=False)
        return
    if kept and kept[-1] in (b"$", b"$$", b"$$$"):  # the delimiter itself was cut: the record before it is whole
        yield Raw(number, b"".join(kept[:-1]))
    elif any(line.strip() for line in kept):
        yield Raw(number, b"".join(kept), closed=False)


def split_bytes(data: bytes) -> Iterator[Raw]:
    """The records of an SD file in memory."""
    return split(io.BytesIO(data))


def parse_sd_record(raw: Raw) -> Molfile:
    """The parts of a record; raises DataError with the reason when it is none, or is cut off before ``M  END``.

    A record without ``$$$$`` is whole when its connection table is, by its own counts, and its last data item has the
    blank line that ends it; an item without it is left out and named in ``unfinished``.
    """
    if raw.data is None:
        raise DataError(f"a record of more than {LONGEST:,} bytes")
    try:
        text = raw.data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise DataError("a record that is not UTF-8") from None
    if "\0" in text:
        raise DataError("a record with a NUL")
    lines = text.split("\n")
    if not any(line.strip() for line in lines):
        raise DataError("an empty record")
    end = _end_of_table(lines, raw.closed)
    block = "\n".join(lines[: end + 1]) + "\n"
    items, unfinished = _items(lines[end + 1 :], raw.closed)
    return Molfile(clean(lines[0]).strip(), block, items, unfinished)


def _end_of_table(lines: list[str], closed: bool) -> int:
    """The line of ``M  END``, after as many lines as the counts say."""
    counts = _COUNTS.match(lines[3]) if len(lines) > 3 else None
    if counts is None:
        raise DataError("no counts line" if closed else "the file ends within its last record: no counts line")
    size = 0 if counts.group(3) == "3000" else int(counts.group(1).strip() or 0) + int(counts.group(2).strip() or 0)
    end = next((n for n, line in enumerate(lines[4:], 4) if line.rstrip() == "M  END"), None)
    if end is None:
        raise DataError("no M  END" if closed else "the file ends within its last record: no M  END")
    if end < 4 + size:
        raise DataError("fewer atoms and bonds than its counts line says")
    return end


def _items(lines: list[str], closed: bool) -> tuple[dict[str, str], str | None]:
    found: dict[str, str] = {}
    name: str | None = None
    values: list[str] = []
    for line in lines[:-1] if lines and not lines[-1] else lines:
        if name is None:
            header = _HEADER.match(line) if line.startswith(">") else None
            name, values = (header.group(1) if header else None), []
        elif line.strip():
            values.append(line)
        else:
            found.setdefault(name, clean("\n".join(values)).strip())
            name = None
    if name is not None and closed:
        found.setdefault(name, clean("\n".join(values)).strip())
        name = None
    return found, name
