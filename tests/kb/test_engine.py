"""The engine: options that a source has, no transaction over the network, a dead server survived, a refresh made good."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from servers import ROOT, home
from sqlalchemy import Engine, text

from kb.db.server import DATABASE, Server, connect
from kb.errors import Incomplete, UsageError
from kb.ingest.engine import ingest, make_job
from kb.ledger.verify import verify
from kb.settings import load_settings
from kb.sources import SOURCES
from kb.sources.contract import IngestOptions, flag
from kb.sources.pubchem.source import PubChem
from tests.standin.quick import FAST, NO_LIMITS, settings_in
from tests.standin.server import StandIn

__all__ = ["home"]

GIVEN: dict[str, Any] = {
    "ids": ("aspirin",), "limit": 3, "workers": 2, "retry_failed": True, "refresh_days": 1.0, "path": Path("x.csv"),
    "url": "http://127.0.0.1/x", "allow_subset": True, "columns": {"name": "Name"}, "also": {"names": Path("n.tsv")},
    "modalities": ("image",),
}


@pytest.mark.parametrize("name", list(SOURCES))
def test_an_option_that_a_source_has_not_is_a_usage_error(name: str, database: Engine, tmp_path: Path) -> None:
    source = SOURCES[name]()
    settings = load_settings(home=tmp_path)
    for option, value in GIVEN.items():
        given = IngestOptions(**{option: value})
        assert given.given() == [flag(option)]
        if option in source.options:
            source.refuse_other_options(given)
            continue
        with pytest.raises(UsageError, match=f"source {name} has no {flag(option)}") as caught:
            make_job(database, settings, source, given)
        assert all(flag(honoured) in caught.value.hint for honoured in source.options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PubChem, "policy", replace(FAST, blocks=10**6))  # a service that is down refuses in a row


def fetch(engine: Engine, standin: StandIn, place: Path, ids: tuple[str, ...], **options: Any) -> Any:
    settings = settings_in(place, pubchem_url=standin.url, contact="tests@example.org")
    return ingest(engine, settings, "pubchem", IngestOptions(ids=ids, **options))


def test_no_transaction_is_open_while_the_network_is_waited_for(quick, fresh_database: Engine, tmp_path: Path) -> None:
    """With a timeout for idle transactions that is shorter than an answer, and with nobody seen to hold a row."""
    with fresh_database.connect() as connection:
        name = connection.scalar(text("SELECT current_database()"))
    fresh_database.dispose()
    with fresh_database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET idle_in_transaction_session_timeout = \'1s\''))
    fresh_database.dispose()
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        query = text("SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0) FROM pg_stat_activity"
                     " WHERE state = 'idle in transaction' AND datname = :name AND pid <> pg_backend_pid()")
        with fresh_database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not over.is_set():
                seen.append(float(connection.scalar(query, {"name": name})))
                time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with StandIn(NO_LIMITS, latency=1.6) as standin:
            fetch(fresh_database, standin, tmp_path, ("2244", "4091", "aspirin"))
    finally:
        over.set()
        watcher.join()
    assert max(seen) < 1.0, "a transaction waited for the network"
    with fresh_database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM cell WHERE state IN ('unknown', 'failed')")) == 0
        assert connection.scalar(text("SELECT count(*) FROM cell WHERE state = 'present' AND modality = 'image'")) == 2


@pytest.mark.parametrize("endpoint", ["png", "property"])
def test_what_could_not_be_refreshed_is_due_again(quick, fresh_database: Engine, tmp_path: Path, endpoint: str) -> None:
    """A plain run makes good for it, without --retry-failed; until then what is known stays."""
    down = threading.Event()

    def fault(method: str, path: str, cids: list[int]) -> str | None:
        return "503 html" if down.is_set() and endpoint in path.lower() else None

    def known() -> list[tuple[Any, ...]]:
        with fresh_database.connect() as connection:
            assert [c.number for c in verify(connection) if c.broken] == []
            return [tuple(row) for row in connection.execute(text(
                "SELECT d.id, c.modality, c.state, c.last_error IS NULL FROM cell c JOIN drug d ON d.id = c.drug_id"
                " WHERE c.modality <> 'identity' ORDER BY 1, 2"))]

    ids = ("2244", "4091")
    with StandIn(NO_LIMITS, fault=fault) as standin:
        fetch(fresh_database, standin, tmp_path, ids)
        before = known()
        down.set()
        with pytest.raises(Incomplete):
            fetch(fresh_database, standin, tmp_path, ids, refresh_days=0.0)
        assert [row[:3] for row in known()] == [row[:3] for row in before], "a failure hides nothing"
        down.clear()
        asked = standin.requests
        fetch(fresh_database, standin, tmp_path, ids)
        assert standin.requests > asked, "the next run fetches it"
        assert known() == before
        asked = standin.requests
        fetch(fresh_database, standin, tmp_path, ids)
        assert standin.requests == asked, "and then it is known"


def table(folder: Path, rows: int) -> Path:
    """A table of that many compounds, each with a structure of its own."""
    path = folder / "compounds.csv"
    lines = [f"c{n},compound {n},{'C' * (n % 40 + 1)}{'N' * (n // 1600 + 1)}{'O' * (n // 40 % 40 + 1)}" for n in range(rows)]
    path.write_text("\n".join(["id,name,smiles", *lines]) + "\n")
    return path


def command(home: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MKMED_")}
    return subprocess.Popen([sys.executable, "-m", "cli", "-q", *arguments], cwd=ROOT, text=True, stderr=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, env=clean | {"MKMED_HOME": str(home), "MKMED_WORKERS": "1"})


def finished(home: Path, *arguments: str) -> int:
    """The exit code of a command."""
    process = command(home, *arguments)
    process.communicate(timeout=300)
    return process.returncode


def count(server: Server, query: str) -> int:
    """A number from the home's database; -1 while it does not answer."""
    running = server.running()
    if running is None:
        return -1
    try:
        connection = connect(running.socket, DATABASE)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return int(cursor.fetchone()[0])
        finally:
            connection.close()
    except psycopg2.Error:
        return -1


def killed_under(home: Path, watched: str, kills: int, *arguments: str) -> Iterator[int]:
    """Run a command to its end, and kill the server below it as often, each time after ``watched`` has grown."""
    server, process = Server(home), command(home, *arguments)
    before, done = 0, 0
    while process.poll() is None and done < kills:
        now = count(server, watched)
        if now > before:
            before = now
            time.sleep(random.random() * 0.2)
            running = server.running()
            if running is not None and process.poll() is None:
                os.kill(running.pid, signal.SIGKILL)
                done += 1
        time.sleep(0.02)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    yield done


@pytest.mark.slow
def test_a_server_that_is_killed_under_an_ingest_is_started_again(home: Path, tmp_path: Path) -> None:
    """Tables and computed data, by the program itself: nothing lost, exit 0."""
    rows = 3000
    path = table(tmp_path, rows)
    columns = ("--column", "key=id", "--column", "name=name", "--column", "smiles=smiles")
    server = Server(home)
    kills = next(killed_under(home, "SELECT count(*) FROM mkmed.drug", 2, "kb", "ingest", "--source", "tabular",
                              "--path", str(path), *columns))
    assert kills, "it was over before the first kill"
    assert finished(home, "db", "start") == 0
    assert count(server, "SELECT count(*) FROM mkmed.drug_record") == rows
    kills = next(killed_under(home, "SELECT count(*) FROM mkmed.property_set", 1, "kb", "ingest", "--source", "rdkit",
                              "--modality", "property"))
    assert kills, "it was over before the first kill"
    assert finished(home, "db", "start") == 0
    assert count(server, "SELECT count(*) FROM mkmed.property_set WHERE source = 'rdkit'") == count(
        server, "SELECT count(*) FROM mkmed.drug WHERE smiles IS NOT NULL")
    assert finished(home, "kb", "verify") == 0
    assert finished(home, "db", "stop") == 0
