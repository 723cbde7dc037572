"""How far one must look: the files in which a frame handles a record, from the command to the view.

``python -m pytest tests/kb/test_way.py`` counts them, and names them where they are more than before. A frame handles a record when one of its arguments, locals or
its result is the record or holds it: for a compound its CID, name, key or an answer about it; for a triple its table,
codes or batch. Frames of the database's driver room that pass on rows whatever they are of count as well.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Engine

from kb.graph.encode import CodedTriples
from kb.ingest.engine import ingest
from kb.query.drug import describe
from kb.query.read import Triples
from kb.query.read import triples as read_triples
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from kb.sources.pubchem.source import PubChem
from tests.kb.test_pubchem import POLICY
from tests.standin.quick import NO_LIMITS, settings_in
from tests.standin.server import StandIn

KB = str(Path(__file__).resolve().parents[2] / "kb")
DEPTH, WIDTH = 3, 40
MOST = {"compound": 15, "triple": 8}
"""Files at most; docs/architecture.md tells the figures."""


def holds(value: Any, is_it: Callable[[Any], bool], depth: int = DEPTH) -> bool:
    """Whether a value is the record, or has it among its first elements or fields."""
    if is_it(value):
        return True
    if depth == 0 or isinstance(value, str | bytes | int | float | type(None)):
        return False
    inner: Iterator[Any]
    if isinstance(value, dict):
        inner = (part for pair in list(value.items())[:WIDTH] for part in pair)
    elif isinstance(value, list | tuple | set | frozenset):
        inner = iter(list(value)[:WIDTH])
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = (getattr(value, field.name, None) for field in dataclasses.fields(value))
    else:
        return False
    return any(holds(part, is_it, depth - 1) for part in inner)


@contextmanager
def watching(is_it: Callable[[Any], bool]) -> Iterator[dict[str, set[str]]]:
    """By file of ``kb`` the functions that handled the record while this lasts, in every thread."""
    seen: dict[str, set[str]] = {}

    def look(frame: FrameType, event: str, result: Any) -> None:
        name = frame.f_code.co_filename
        if event != "return" or not name.startswith(KB) or frame.f_code.co_name in seen.get(name, ()):
            return
        if any(holds(value, is_it) for value in (result, *frame.f_locals.values())):
            seen.setdefault(name, set()).add(frame.f_code.co_name)

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def told(seen: dict[str, set[str]]) -> str:
    return "\n".join(f"{Path(name).relative_to(KB)}: {', '.join(sorted(seen[name]))}" for name in sorted(seen))


def test_the_way_of_a_compound(fresh_database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PubChem, "policy", POLICY)

    def is_aspirin(value: Any) -> bool:
        if isinstance(value, str):
            return "2244" in value and len(value) < 10_000
        return value == 2244 if type(value) is int else isinstance(value, bytes) and b"2244" in value

    with StandIn(NO_LIMITS) as standin:
        settings = settings_in(tmp_path, pubchem_url=standin.url, contact="tests@example.org")
        with watching(is_aspirin) as seen:
            ingest(fresh_database, settings, "pubchem", IngestOptions(ids=("2244",)))
            with fresh_database.connect() as connection:
                _, sections = describe(connection, "pubchem.compound:2244")
    assert all(sections[s] for s in ("texts", "properties"))
    assert len(seen) <= MOST["compound"], told(seen)


def test_the_way_of_a_triple(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "drkg.tsv"
    rows = [(f"Compound::DB{i:05}", "DRUGBANK::ddi-interactor-in::Compound:Compound", f"Compound::DB{i + 1:05}")
            for i in range(500)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))

    def is_batch(value: Any) -> bool:
        if isinstance(value, np.ndarray):
            return value.ndim == 1 and len(value) == len(rows)
        return isinstance(value, CodedTriples | pa.Table | Triples)

    with watching(is_batch) as seen:
        ingest(fresh_database, Settings(), "drkg", IngestOptions(path=path, allow_subset=True))
        with fresh_database.connect() as connection:
            assert len(read_triples(connection).head) == len(rows)
    assert len(seen) <= MOST["triple"], told(seen)
