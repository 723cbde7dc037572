"""What every source that reads a file keeps to: accounts for all items, changes nothing twice, goes on, names licences."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from kb.ingest import crash
from kb.ingest.engine import Summary, ingest
from kb.ingest.retract import remove_named
from kb.ledger.verify import verify
from kb.licences import LICENCES
from kb.query.export import ExportFormat, export
from kb.query.snapshot import release_of
from kb.settings import Settings
from kb.sources import SOURCES, stream
from kb.sources.contract import IngestOptions
from tests.kb.published import SAMPLES, Sample, known

NOT_OF_FILES = {"corpus", "pubchem", "pubchem-bulk", "drkg", "tabular", "rdkit"}
"""Sources with samples and tests of their own."""
POINTS = ("after_fetch", "mid_tx", "before_commit", "after_commit")


def run(engine: Engine, name: str, options: dict[str, object]) -> Summary:
    return ingest(engine, Settings(), SAMPLES[name].source or name, IngestOptions(**options))  # type: ignore[arg-type]


def prepared(engine: Engine, name: str, folder: Path) -> tuple[Sample, dict[str, object]]:
    sample = SAMPLES[name]
    known(engine, *sample.known)
    return sample, sample.write(folder)


def release(engine: Engine) -> str:
    with engine.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []
        return release_of(connection)[0]


def test_every_source_has_a_sample() -> None:
    assert {sample.source or name for name, sample in SAMPLES.items()} == set(SOURCES) - NOT_OF_FILES


@pytest.mark.parametrize("name", SAMPLES)
def test_items_in_are_items_out_and_reasons_and_twice_is_once(name: str, fresh_database: Engine, tmp_path: Path) -> None:
    _, options = prepared(fresh_database, name, tmp_path)
    counts = run(fresh_database, name, options).counts
    if "items" in counts:
        left = sum(n for key, n in counts.items() if key.startswith("left out: "))
        assert counts["items"] == counts["taken"] + left > 0 and left > 0
    else:  # of the user's own tables refused rows are counted
        assert counts["rejected"] > 0
    before = release(fresh_database)
    assert run(fresh_database, name, options).counts.get("rows", 0) == 0
    assert release(fresh_database) == before


class Killed(BaseException):
    """What a killed process does: nothing after it is run."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_killed_anywhere_and_gone_on_is_as_never_killed(
    name: str, fresh_database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop at the first, second, … point of an ingest from nothing, until there is none left; each time it goes on."""
    monkeypatch.setattr(stream, "CHUNK", 3)
    sample, options = prepared(fresh_database, name, tmp_path)
    nothing = release(fresh_database)
    run(fresh_database, name, options)
    whole, seen, at = release(fresh_database), 0, 0

    def stop(point: str) -> None:
        nonlocal seen
        seen += point in POINTS
        if seen == at:
            raise Killed(point)

    kills = 0
    while True:
        with fresh_database.connect() as connection:
            own = [row[0] for row in connection.exec_driver_sql("SELECT name FROM mkmed.sources WHERE name ~ %s",
                                                                (f"^{sample.source or name}(/|$)",))]
        for source in own:
            remove_named(fresh_database, source=source)
        assert release(fresh_database) == nothing, "something was left of the source"
        at, seen = at + 1, 0
        for module in ("kb.ingest.engine", "kb.ingest.write"):
            monkeypatch.setattr(f"{module}.crash_at", stop)
        try:
            run(fresh_database, name, options)
        except Killed:
            kills += 1
        else:
            break
        finally:
            for module in ("kb.ingest.engine", "kb.ingest.write"):
                monkeypatch.setattr(f"{module}.crash_at", crash.crash_at)
        run(fresh_database, name, options)
        assert release(fresh_database) == whole, f"killed at point {at}, the end is another one"
    assert kills >= 3


def rows_of(place: Path, form: ExportFormat, table: str) -> list[dict[str, object]]:
    if form is ExportFormat.sqlite:
        with closing(sqlite3.connect(place)) as base:
            base.row_factory = sqlite3.Row
            return [dict(row) for row in base.execute(f'SELECT * FROM "{table}"')]
    path = place / f"{table}.{form}"
    if form is ExportFormat.parquet:
        return pq.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if form is ExportFormat.jsonl else list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_are_in_every_export_under_their_licence(name: str, fresh_database: Engine, tmp_path: Path) -> None:
    sample, options = prepared(fresh_database, name, tmp_path)
    run(fresh_database, name, options)
    for form in (ExportFormat.sqlite, ExportFormat.csv, ExportFormat.jsonl, ExportFormat.parquet):
        for open_only in (False, True):
            place = tmp_path / f"{form}-{open_only}"
            export(fresh_database, place, form, open_only=open_only)
            licences: set[object] = set()
            for table in sample.tables:
                own = [row for row in rows_of(place, form, table) if str(row["source"]).partition("/")[0] == (sample.source or name)]
                assert own or (not sample.open and open_only), (form, table)
                licences |= {row["licence_id"] for row in own}
            assert licences == (sample.open if open_only else sample.open | sample.closed), (form, open_only)
            assert {row["id"] for row in rows_of(place, form, "licences")} >= licences
    assert all(LICENCES[licence].is_open for licence in sample.open)
    assert not any(LICENCES[licence].is_open for licence in sample.closed)


