"""Files that are not as published: each is refused with a clear error, or its bad items are named and the rest is taken."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kb.errors import MkmedError
from kb.sources import SOURCES
from kb.sources.contract import Document
from kb.sources.graphs import GraphSource
from kb.sources.stream import Edges, Left
from kb.sources.tables.read import UserTable
from tests.kb.published import SAMPLES

NAMES = [name for name, sample in SAMPLES.items() if name not in ("chembl", "atc", "interactions", "graph", "unichem")]
JOB: Any = SimpleNamespace(options=SimpleNamespace(also={}))
PAPER = Document("x", "f", "text/plain", "CC0-1.0", "", datetime.now(UTC), "x", uri="f", sha256=bytes(32))
HARM: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "latin-1": lambda data: data.replace(b"a", "\u00e4".encode("latin-1")),
    "twice": lambda data: data + data,
    "NUL": lambda data: data.replace(b"i", b"\0"),
    "no columns": lambda data: b"a|b|c\n1|2|3\n",
    "HTML": lambda data: b"<!doctype html><html><body>503</body></html>",
    "UTF-16": lambda data: data.decode("utf-8", "replace").encode("utf-16"),
}


def read(name: str, path: Path) -> tuple[int, int]:
    """(items, items that were not taken) of everything in the file."""
    source = SOURCES[SAMPLES[name].source or name]()
    if isinstance(source, GraphSource):
        table, edges, rows, left = UserTable(path), Edges(), 0, 0
        source.prepare(JOB, edges, table)
        for row in source.rows(table):
            rows += 1
            left += source.take(row, edges, PAPER) is not None
        edges.encoded()
        return rows + len(table.problems), left + len(table.problems)
    found = list(source.entries(path, PAPER))  # type: ignore[attr-defined]
    return sum(item.items for item in found), sum(item.items for item in found if isinstance(item, Left))


def damaged(name: str, folder: Path, harm: Callable[[bytes], bytes]) -> Path:
    path = SAMPLES[name].write(folder)["path"]
    assert isinstance(path, Path)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        file.write_bytes(harm(file.read_bytes()))
    return path


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", NAMES)
def test_a_harmed_file_is_refused_or_its_items_are_accounted_for(name: str, harm: str, tmp_path: Path) -> None:
    try:
        items, left = read(name, damaged(name, tmp_path, HARM[harm]))
    except MkmedError as error:
        assert error.message
    else:
        assert items >= left and items > 0, (items, left)


@pytest.mark.parametrize("name", NAMES)
def test_no_flipped_byte_breaks_a_reader(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)

    def flip(data: bytes) -> bytes:
        harmed = bytearray(data)
        for _ in range(3):
            harmed[chance.randrange(len(harmed))] = chance.randrange(256)
        return bytes(harmed)

    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            read(name, damaged(name, folder, flip))
        except MkmedError as error:
            assert error.message
