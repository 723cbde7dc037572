"""How fast one service may be asked: one shared memory of pauses, colours and server time for all processes.

The memory is a small SQLite file, so that every process on this machine slows down and stops together. Times are
monotonic seconds, which on one machine are common to all processes and do not jump with the wall clock.

PubChem's rules: https://pubchem.ncbi.nlm.nih.gov/docs/dynamic-request-throttling
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from filelock import FileLock

from kb.errors import Blocked, DiskFull, Interrupted
from kb.output import say


class Colour(IntEnum):
    """What ``X-Throttling-Control`` says about a service, from calm to blocked."""

    green = 0
    yellow = 1
    red = 2
    black = 3


@dataclass(frozen=True)
class Throttle:
    """What one answer says about our standing: its worst colour, and whether it names us blocked."""

    colour: Colour
    refused: bool

    @property
    def blocked(self) -> bool:
        """Whether the service wants no more requests for now."""
        return self.refused or self.colour is Colour.black


_STATUS = re.compile(r"(Request Count|Request Time|Service) status:\s*(\w+)\s*\((\d+)%\)", re.IGNORECASE)
_REFUSED = re.compile(r"too many requests|blacklisted", re.IGNORECASE)


def parse_throttle(header: str | None) -> Throttle:
    """The meaning of an ``X-Throttling-Control`` header; one that is missing or unreadable says nothing (green)."""
    text = header or ""
    names = (match.group(2).lower() for match in _STATUS.finditer(text))
    colours = [Colour[name] for name in names if name in Colour.__members__]
    return Throttle(max(colours, default=Colour.green), bool(_REFUSED.search(text)))


@dataclass(frozen=True)
class Policy:
    """How politely, and for how long, a service is asked; seconds unless said otherwise."""

    per_second: float = 4.0
    """Requests a second, evenly spaced. PubChem permits 5; jitter on the way compresses what leaves evenly."""
    per_minute: int = 380
    red_per_second: float = 1.0
    """The rate while any colour is red; yellow halves ``per_second``."""
    server_seconds: float = 150.0
    """Running time that the service may spend on us in a minute; PubChem permits 300."""
    minute: float = 60.0
    """Length of the window that ``per_minute`` and ``server_seconds`` are counted in."""
    first_pause: float = 30.0
    longest_pause: float = 900.0
    blocks: int = 5
    """Consecutive refusals after which the run ends, to be continued later."""
    attempts: int = 8
    first_wait: float = 1.0
    """Mean wait before the second attempt; it doubles with every further one, up to a minute."""
    give_up_after: float = 900.0
    deadline: float = 45.0
    """Time for one exchange, from connecting to the last byte, whatever the server does."""
    connect: float = 10.0

    def rate(self, colour: Colour) -> float:
        """Requests a second that are polite under ``colour``."""
        if colour is Colour.green:
            return self.per_second
        if colour is Colour.yellow:
            return self.per_second / 2
        return min(self.red_per_second, self.per_second / 2)


LONGEST_ASKED = 3600.0
"""The longest ``Retry-After`` that is believed, in seconds."""

TOLD_SECONDS = 5.0
"""A pause longer than this is told."""

_TABLES = """
CREATE TABLE IF NOT EXISTS standing (
    host TEXT PRIMARY KEY, colour INTEGER NOT NULL, blocks INTEGER NOT NULL, blocked_at REAL NOT NULL,
    paused_until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS flight (
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, started REAL NOT NULL, ended REAL);
CREATE INDEX IF NOT EXISTS flight_host_started ON flight (host, started);
"""

# Running time inside the window (:since, :now]; a flight without an end runs until it must have been given up.
_SPENT = """
SELECT COALESCE(SUM(MAX(0, MIN(COALESCE(ended, started + :deadline), :now) - MAX(started, :since))), 0)
  FROM flight WHERE host = :host AND started <= :now AND started > :since - :deadline
"""


def open_memory(path: Path) -> sqlite3.Connection:
    """A SQLite file that threads and processes share; one that is damaged is thrown away, for it only holds minutes."""
    with FileLock(f"{path}.lock", poll_interval=0.005):  # the journal's mode may not be changed by two at once
        try:
            return _open(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")  # a lost second of memory after a power cut does no harm
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"


class Pace:
    """The shared standing with one host; every method is safe to call from threads and processes."""

    def __init__(self, path: Path, host: str, policy: Policy) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.policy = policy
        self._told_of = 0.0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._db = open_memory(path)
        with self._write():
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT OR IGNORE INTO standing VALUES (?, 0, 0, 0, 0)", (host,))
            self._forget_the_future()

    def _forget_the_future(self) -> None:
        """Drop what a monotonic clock of before a reboot has left behind: it lies ahead of this clock."""
        now = time.monotonic()
        horizon = now + max(self.policy.longest_pause, LONGEST_ASKED) + 1.0
        self._db.execute("DELETE FROM flight WHERE started > ? OR started < ?", (now, now - 3600))
        self._db.execute(
            "UPDATE standing SET colour = 0, blocks = 0, blocked_at = 0, paused_until = 0"
            " WHERE host = ? AND (paused_until > ? OR blocked_at > ?)", (self.host, horizon, now),
        )

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                    raise DiskFull("the disk of the cache folder is full", hint="free space and run it again") from None
                raise

    def _standing(self) -> tuple[Colour, int, float]:
        with self._lock:
            row = self._db.execute(
                "SELECT colour, blocks, paused_until FROM standing WHERE host = ?", (self.host,)
            ).fetchone()
        return Colour(row[0]), row[1], row[2]

    def rate(self) -> float:
        """Requests a second that are polite now."""
        return self.policy.rate(self._standing()[0])

    def paused(self) -> float:
        """Seconds that nobody may send for; raises Blocked when that is too long to sit out, or there were too many."""
        _, blocks, until = self._standing()
        left = max(0.0, until - time.monotonic())
        often = blocks >= self.policy.blocks
        if left and (often or left > self.policy.longest_pause):
            why = f"refused {blocks} times in a row" if often else f"asked to be left alone for {_minutes(left)} more"
            raise Blocked(
                f"{self.host} {why}",
                hint=f"everything so far is kept: run the same command again in {_minutes(left)}",
            )
        return left

    def spent(self) -> float:
        """Seconds that the service has worked for us within the last minute."""
        now = time.monotonic()
        with self._lock:
            row = self._db.execute(_SPENT, {
                "host": self.host, "now": now, "since": now - self.policy.minute, "deadline": self.policy.deadline,
            }).fetchone()
        return float(row[0])

    def clear(self) -> None:
        """Return once a request may leave: no pause is on, and the minute's server time is not used up."""
        while True:
            if left := self.paused():
                self._tell(left)
                self.sleep(min(left, 1.0))
            elif self.spent() > self.policy.server_seconds:
                self.sleep(self.policy.minute / 120)
            else:
                return

    def _tell(self, left: float) -> None:
        """Say once that a pause is on, if it is a long one."""
        ends = time.monotonic() + left
        with self._lock:
            known, self._told_of = self._told_of, max(ends, self._told_of)
        if left > TOLD_SECONDS and ends > known + TOLD_SECONDS:
            say(f"{self.host} asked for a pause: going on in {left:.0f} s")

    def sleep(self, seconds: float) -> None:
        """Wait, or raise Interrupted as soon as ``stop`` is called."""
        if self._stop.wait(seconds):
            raise Interrupted("stopped while waiting for the service", hint="run the same command again to go on")

    def stop(self) -> None:
        """Wake every waiting thread of this process with Interrupted."""
        self._stop.set()

    def depart(self) -> tuple[int, float]:
        """Note that a request leaves now; the ticket to hand to ``arrive``."""
        now = time.monotonic()
        with self._write() as db:
            cursor = db.execute("INSERT INTO flight (host, started) VALUES (?, ?)", (self.host, now))
            past = now - self.policy.minute - self.policy.deadline
            db.execute("DELETE FROM flight WHERE host = ? AND started < ?", (self.host, past))
        return int(cursor.lastrowid or 0), now

    def arrive(self, ticket: tuple[int, float]) -> None:
        """Note that the exchange is over, whatever came of it."""
        with self._write() as db:
            db.execute("UPDATE flight SET ended = ? WHERE id = ?", (time.monotonic(), ticket[0]))

    def heard(self, colour: Colour, departed: float) -> None:
        """Note an answer that was not a refusal: its colour sets the rate, and the refusals in a row are over.

        An answer to a request that had left before the last refusal says nothing of what came after it.
        """
        with self._write() as db:
            db.execute(
                "UPDATE standing SET colour = ?, blocks = 0"
                " WHERE host = ? AND blocked_at <= ? AND (colour <> ? OR blocks > 0)",
                (int(colour), self.host, departed, int(colour)),
            )

    def refused(self, departed: float, retry_after: float | None) -> float:
        """Pause everybody after a refusal of a request that left at ``departed``; the seconds of the pause.

        Requests that were under way together are refused together: only one that left after the last refusal was
        known counts as another in a row.
        """
        now = time.monotonic()
        with self._write() as db:
            blocks, blocked_at, until = db.execute(
                "SELECT blocks, blocked_at, paused_until FROM standing WHERE host = ?", (self.host,)
            ).fetchone()
            if departed >= blocked_at:
                blocks, blocked_at = blocks + 1, now
            asked = min(retry_after or 0.0, LONGEST_ASKED)
            pause = max(asked, min(self.policy.first_pause * 2 ** min(blocks - 1, 10), self.policy.longest_pause))
            db.execute(
                "UPDATE standing SET colour = ?, blocks = ?, blocked_at = ?, paused_until = ? WHERE host = ?",
                (int(Colour.red), blocks, blocked_at, max(until, now + pause), self.host),
            )
        return pause

    def close(self) -> None:
        """Close the file; threads still waiting are woken."""
        self.stop()
        with self._lock:
            self._db.close()
