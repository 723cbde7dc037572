"""Reads and writes the tables of the bundled corpus; the same input gives the same bytes."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

csv.field_size_limit(1 << 30)


def read_tsv(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a TSV file with a header, gzipped or not; quotes are ordinary characters."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    yield from csv.DictReader(text.split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)


def flat(value: object) -> str:
    """The value as one cell: no tabs, no line breaks, no runs of blanks."""
    return " ".join(str(value).split()) if value is not None else ""


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> int:
    """The number of rows written; gzipped without a time, so that the checksum depends on the rows alone."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(flat(row.get(name)) for name in columns) for row in rows]
    write_gz(path, "\n".join(lines) + "\n")
    return len(lines) - 1


def write_gz(path: Path, text: str) -> None:
    """Write text gzipped, without name and time in the header."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode())


def sha256_hex(path: Path) -> str:
    """The file's sha256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sdf_blocks(path: Path) -> Iterator[str]:
    """The records of a gzipped SDF, each without its ``$$$$``."""
    block: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("$$$$"):
                yield "".join(block)
                block = []
            else:
                block.append(line)


def sdf_tags(block: str) -> dict[str, str]:
    """The data items of one SDF record, first line of each."""
    lines = block.splitlines()
    return {
        line.split("<", 1)[1].split(">", 1)[0]: lines[i + 1].strip()
        for i, line in enumerate(lines[:-1])
        if line.startswith(">") and "<" in line
    }
