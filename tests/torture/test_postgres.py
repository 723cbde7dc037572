"""Postgres killed, and out of space: nothing that was acknowledged is lost, and the user is told what to do."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import time
from pathlib import Path

import pytest
from harness import (
    acknowledged,
    enlarge,
    kill,
    kill_postmaster,
    run_command,
    small_disk,
    spawn,
    torture_home,
    wait_for,
)
from sqlalchemy import Engine, text

from kb.db.engine import engine_for, url_of
from kb.db.server import embedded
from kb.errors import DiskFull
from kb.output import say

KILLS = 25
SECONDS_OF_TERMINATION = 60

WRITER = """
import os, sys, time
from sqlalchemy import text
from kb.db.engine import open_engine
from kb.db.failures import with_retry
from kb.errors import MkmedError

engine = open_engine(migrated=False)
size, pause = int(os.environ["SIZE"]), float(os.environ["PAUSE"])

def table(connection):
    connection.execute(text("CREATE TABLE IF NOT EXISTS payload (n int PRIMARY KEY, bytes bytea)"))
    connection.execute(text("CREATE TABLE IF NOT EXISTS ledger (n int PRIMARY KEY, size int)"))

def step(connection):
    connection.execute(text("INSERT INTO payload VALUES (:n, :b) ON CONFLICT DO NOTHING"), {"n": n, "b": os.urandom(size)})
    time.sleep(pause)
    connection.execute(text("INSERT INTO ledger VALUES (:n, :s) ON CONFLICT DO NOTHING"), {"n": n, "s": size})

try:
    with_retry(table, engine)
    n = with_retry(lambda c: c.scalar(text("SELECT coalesce(max(n), 0) FROM ledger")), engine)
    with open(os.environ["NOTES"], "a") as notes:
        while True:
            n += 1
            with_retry(step, engine)
            notes.write(f"{n}\\n")
            notes.flush()
except MkmedError as error:
    print(f"error: {error.message}\\nhint: {error.hint}", file=sys.stderr)
    os._exit(error.exit_code)
"""


def write(home: Path, notes: Path, size: int, pause: float = 0.0):
    """A process that writes pairs of rows for ever, and notes each pair once it is committed."""
    return spawn(WRITER, home, SIZE=str(size), PAUSE=str(pause), NOTES=str(notes))


def opened(home: Path) -> Engine:
    server = embedded(home)
    server.start()
    return engine_for(url_of(server), server)


def assert_nothing_lost(home: Path, notes: Path) -> int:
    """Every noted pair is there, and no half of a pair is; returns how many pairs there are."""
    engine = opened(home)
    with engine.connect() as connection:
        payload = set(connection.scalars(text("SELECT n FROM payload")))
        ledger = set(connection.scalars(text("SELECT n FROM ledger")))
        whole = connection.scalar(text("SELECT count(*) FROM payload JOIN ledger USING (n) WHERE length(bytes) = size"))
    engine.dispose()
    noted = set(acknowledged(notes))
    assert payload == ledger and whole == len(ledger), "half a transaction"
    assert noted <= ledger, f"acknowledged and lost: {sorted(noted - ledger)[:10]}"
    return len(ledger)


def test_postmaster_killed_again_and_again(seed: int, tmp_path: Path) -> None:
    """Row 3: kill -9 of the postmaster in the middle of transactions."""
    rng = random.Random(seed)
    notes = tmp_path / "notes"
    with torture_home() as home:
        writer = write(home, notes, size=2000, pause=0.005)
        wait_for(lambda: len(acknowledged(notes)) > 5, 60, "first rows")
        gaps = []
        for number in range(KILLS):
            before = len(acknowledged(notes))
            wait_for(lambda before=before: len(acknowledged(notes)) > before, 60, "rows before a kill")
            wait_for(lambda: rng.random() < 0.2, 5, "a random moment")
            assert kill_postmaster(home), "there was no server to kill"
            before = len(acknowledged(notes))
            gaps.append(wait_for(lambda before=before: len(acknowledged(notes)) > before + 1, 90, f"kill {number}"))
            assert writer.poll() is None, "the writer gave up"
        kill(writer)
        pairs = assert_nothing_lost(home, notes)
        say(f"\n{KILLS} kills of the postmaster: {pairs} pairs, {len(acknowledged(notes))} acknowledged, 0 lost; "
            f"back after {statistics.mean(gaps):.2f} s in the mean, {max(gaps):.2f} s at most")


def test_server_restarted_under_a_writer(seed: int, tmp_path: Path) -> None:
    """Row 4: orderly restarts; sessions end with 57P01."""
    notes = tmp_path / "notes"
    with torture_home() as home:
        writer = write(home, notes, size=100)
        for _ in range(5):
            before = len(acknowledged(notes))
            wait_for(lambda before=before: len(acknowledged(notes)) > before + 20, 90, "rows between restarts")
            assert run_command("-q", "db", "stop", "--force", home=home).returncode == 0
        before = len(acknowledged(notes))
        wait_for(lambda: len(acknowledged(notes)) > before, 60, "rows after the last restart")
        assert writer.poll() is None
        kill(writer)
        assert_nothing_lost(home, notes)


def test_sessions_terminated_for_a_minute(tmp_path: Path) -> None:
    """Row 4: every session of a writer is ended five times a second for a minute; it never stops, and loses nothing."""
    notes = tmp_path / "notes"
    others = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                  " WHERE datname = current_database() AND pid <> pg_backend_pid()")
    with torture_home() as home:
        writer = write(home, notes, size=500, pause=0.01)
        wait_for(lambda: len(acknowledged(notes)) > 5, 60, "first rows")
        engine, ended = opened(home), 0
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            deadline = time.monotonic() + SECONDS_OF_TERMINATION
            while time.monotonic() < deadline:
                ended += connection.scalar(others) or 0
                time.sleep(0.2)
        engine.dispose()
        before = len(acknowledged(notes))
        wait_for(lambda: len(acknowledged(notes)) > before + 20, 60, "rows after the last one")
        assert writer.poll() is None, "the writer gave up"
        kill(writer)
        pairs = assert_nothing_lost(home, notes)
        assert ended >= 50, "hardly a session was there to be ended"
        say(f"\n{ended} sessions ended in {SECONDS_OF_TERMINATION} s: {pairs} pairs, 0 lost")


def test_disk_of_the_data_is_full(tmp_path: Path) -> None:
    """Row 5: exit 74, the rest is consistent, and with more room the same command goes on."""
    notes = tmp_path / "notes"
    with small_disk(400) as disk, torture_home(disk) as home:
        writer = write(home, notes, size=400_000)
        assert writer.wait(300) == DiskFull.exit_code
        first = assert_or_released(home, notes)
        enlarge(disk, 1200)
        writer = write(home, notes, size=1000)
        wait_for(lambda: len(acknowledged(notes)) > first + 20, 120, "rows after space was freed")
        kill(writer)
        pairs = assert_nothing_lost(home, notes)
        say(f"\ndata disk full after {first} pairs, {pairs} after it was enlarged, 0 lost")


def assert_or_released(home: Path, notes: Path) -> int:
    """On the still full disk: the server comes up, if need be with the reserve, and everything noted is there."""
    try:
        return assert_nothing_lost(home, notes)
    except DiskFull:
        assert not (home / "postgres" / "ballast").exists(), "the reserve was not given up"
        return len(acknowledged(notes))


def test_disk_of_the_log_is_full(tmp_path: Path) -> None:
    """Row 6: the server panics; the message names the next step; with more room nothing acknowledged is missing."""
    notes = tmp_path / "notes"
    with torture_home() as home:
        server = embedded(home)
        opened(home).dispose()
        server.stop()
        account = server.cluster.account
        with small_disk(80, account.uid if account else os.geteuid()) as disk:
            log = server.cluster.data / "pg_wal"
            moved = disk / "pg_wal"
            shutil.copytree(log, moved)
            for path in (moved, *moved.rglob("*")):
                if account:
                    account.own(path)
            moved.chmod(0o700)
            shutil.rmtree(log)
            log.symlink_to(moved)
            writer = write(home, notes, size=400_000)
            assert writer.wait(300) == DiskFull.exit_code
            told = run_command("db", "start", home=home)
            if told.returncode:
                assert told.returncode == DiskFull.exit_code
                assert "free space, then mkmed db start" in told.stderr
            enlarge(disk, 800)
            assert run_command("-q", "db", "start", home=home).returncode == 0
            pairs = assert_nothing_lost(home, notes)
            assert pairs >= 10
            server.stop(force=True)
            say(f"\nlog disk full after {pairs} pairs, 0 lost")


@pytest.mark.parametrize("megabytes", [20, 60])
def test_disk_is_full_at_the_very_first_start(megabytes: int) -> None:
    """No database fits: exit 74, and nothing half-made is left in the way of the next try."""
    with small_disk(megabytes) as disk:
        home = disk / "home"
        home.mkdir(mode=0o711)
        answer = run_command("db", "init", home=home)
        assert answer.returncode == DiskFull.exit_code, answer.stderr
        assert "error: " in answer.stderr and "Traceback" not in answer.stderr
        enlarge(disk, 600)
        assert run_command("-q", "db", "init", home=home).returncode == 0
        run_command("-q", "db", "stop", "--force", home=home)
