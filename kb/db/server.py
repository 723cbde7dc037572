"""The embedded PostgreSQL: started on demand, shared by all processes of a home, stopped when the last one leaves.

Who uses the server is known from a lock that the kernel keeps: every process holds a shared ``flock`` on
``postgres/users`` as long as it lives. The last one to leave gets the lock alone and stops the server. A process that
was killed holds nothing, so there is no list of processes that could be torn, stale or filled with reused numbers.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import psycopg2

from kb.db import cluster as files
from kb.db import space
from kb.db.cluster import SUPERUSER, Cluster, Postmaster
from kb.errors import Busy, DatabaseUnavailable, DiskFull
from kb.files import open_own, read_own, replace_file
from kb.output import say

DATABASE = "mkmed"
RECOVERY_SECONDS = 600.0
"""How long a server may take to replay its log after a crash."""
STOP_SECONDS = 120.0
RECOVERING = ("starting up", "recovery", "shutting down", "not yet accepting", "Connection refused", "No such file")
"""What libpq says of a server that will answer later."""


class Server:
    """The embedded server of one home."""

    def __init__(self, home: Path, overrides: dict[str, str] | None = None) -> None:
        self.home = home
        self.cluster: Cluster = files.locate(home)
        self._overrides = overrides
        self._hold: int | None = None
        self._owner = 0
        self._thread_lock = threading.RLock()

    def start(self) -> Path:
        """The folder of the socket of the running server, which is made, started or waited for as needed."""
        with self._thread_lock:
            files.make_folders(self.cluster, self.home)
            with self._exclusive():
                self._enter()
                for _ in range(3):  # the one that was found may have been dying
                    running = files.postmaster(self.cluster) or self._launch()
                    if self._answers(running):
                        space.lay_ballast(self.cluster.root)
                        return running.socket
        raise _start_failure(self.cluster, "it dies again and again")

    def running(self) -> Postmaster | None:
        """The live server, if there is one."""
        return files.postmaster(self.cluster)

    def stop(self, *, force: bool = False) -> bool:
        """Whether a server was stopped; raises Busy when other processes use it, unless ``force``."""
        if not self.cluster.root.exists():
            return False
        with self._thread_lock, self._exclusive():
            self._drop_hold()
            alone = self._alone()
            try:
                if alone is None and not force:
                    raise Busy("other mkmed processes are using the database", hint="wait, or mkmed db stop --force")
                self._kept.unlink(missing_ok=True)
                return self._shut_down()
            finally:
                if alone is not None:
                    os.close(alone)

    def keep(self) -> None:
        """Leave the running server up when the last process leaves, until ``stop``."""
        running = self.running()
        if running is not None:
            replace_file(self._kept, f"{running.pid} {running.started}")

    def kept(self) -> bool:
        """Whether the running server was asked to stay."""
        running = self.running()
        return running is not None and read_own(self._kept) == f"{running.pid} {running.started}"

    @property
    def _kept(self) -> Path:
        return self.cluster.root / "kept"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Only one process starts or stops this cluster at a time; the lock lies beside the data, not in /tmp."""
        descriptor = open_own(self.cluster.root / "lock")
        deadline = time.monotonic() + RECOVERY_SECONDS
        try:
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise Busy("another process has been starting the database for ten minutes", hint="mkmed doctor")
                time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def _enter(self) -> None:
        """Hold the users' lock; waits while the last user of before is stopping the server."""
        if self._hold is not None and self._owner == os.getpid():
            return
        self._hold = open_own(self.cluster.root / "users")
        fcntl.flock(self._hold, fcntl.LOCK_SH)
        self._owner = os.getpid()
        atexit.register(self.leave)

    def leave(self) -> None:
        """Stop using the server, and stop it if nobody else does and nobody asked to keep it."""
        if self._hold is None or self._owner != os.getpid():
            return
        self._drop_hold()
        if not self.cluster.root.exists():
            return
        alone = self._alone()
        if alone is None:
            return
        try:
            if not self.kept():
                self._shut_down()
        finally:
            os.close(alone)

    def _drop_hold(self) -> None:
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None
            atexit.unregister(self.leave)

    def _alone(self) -> int | None:
        """The users' lock, held alone, as a file descriptor to close; None when others hold it."""
        descriptor = open_own(self.cluster.root / "users")
        if _locked(descriptor):
            return descriptor
        os.close(descriptor)
        return None

    def _launch(self) -> Postmaster:
        """Make the data directory if there is none, clear what a crash left, and start the server."""
        from kb.db.processes import clear_stale_locks, end_processes, strays
        from kb.db.tuning import server_settings

        if not self.cluster.exists():
            end_processes(str(self.cluster.data))  # a server whose data were deleted under it
            files.initialise(self.cluster, sync=(self._overrides or {}).get("fsync") != "off")
        files.require_version(self.cluster)
        socket = files.socket_folder(self.cluster)
        clear_stale_locks(self.cluster.data, [self.cluster.data / "postmaster.pid", socket / f"{files.SOCKET}.lock"])
        settings = server_settings(socket, self._overrides)
        files.write_configuration(self.cluster, settings)
        _rotate_log(self.cluster.log)
        deadline = time.monotonic() + 60
        while True:
            talk = self._pg_ctl_start()
            running = files.postmaster(self.cluster)
            if running is not None:
                return running
            # Backends of a killed postmaster need a moment to notice and let go of its shared memory.
            if not strays(self.cluster.data) or time.monotonic() > deadline:
                failure = _start_failure(self.cluster, talk)
                freed = space.drop_ballast(self.cluster.root) if isinstance(failure, DiskFull) else 0
                if not freed:
                    raise failure
                say(f"the disk is full; starting with the {freed >> 20} MiB that were kept for this")
            time.sleep(0.2)

    def _pg_ctl_start(self) -> str:
        process = self.cluster.run(
            "pg_ctl", "-w", "-t", str(int(RECOVERY_SECONDS)), "-D", str(self.cluster.data), "-l",
            str(self.cluster.log), "start",
        )
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            say("PostgreSQL is replaying its log after a crash; this can take minutes")
            process.wait()
        return files.read_talk(process)

    def _answers(self, running: Postmaster) -> bool:
        """Whether the server came to answer a query, for which it has ten minutes; False when it died meanwhile."""
        began = time.monotonic()
        told = began + 5
        while True:
            try:
                connect(running.socket, SUPERUSER).close()
                return True
            except psycopg2.OperationalError as error:
                said = str(error)
            if "too many clients" in said:
                return True
            if files.postmaster(self.cluster) is None:
                return False
            patience = RECOVERY_SECONDS if any(word in said for word in RECOVERING) else 30.0
            if time.monotonic() - began > patience:
                raise _start_failure(self.cluster, said)
            if time.monotonic() > told:
                say("waiting for PostgreSQL to answer")
                told += 60
            time.sleep(0.1)

    def _shut_down(self) -> bool:
        """Ask the verified server process to close its sessions and stop; never kills it."""
        running = files.postmaster(self.cluster)
        if running is None:
            return False
        from kb.db.processes import ended

        if ended(running.pid, {"SIGINT": STOP_SECONDS, "SIGQUIT": 30.0}):
            return True
        raise DatabaseUnavailable(
            f"PostgreSQL (process {running.pid}) does not stop", hint=f"look at {self.cluster.log}"
        )


@lru_cache(maxsize=8)
def embedded(home: Path) -> Server:
    """The one Server object of this process for a home."""
    return Server(home)


_ENVIRONMENT = threading.Lock()


@contextmanager
def without_pg_variables() -> Iterator[None]:
    """Hide libpq's variables (``PGPORT``, ``PGSERVICE``, ``PGOPTIONS`` …) inside: they mean the user's other servers.

    Not all of them can be outvoted by naming everything: ``PGSERVICE`` counts even beside a full address.
    """
    with _ENVIRONMENT:
        hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
        try:
            yield
        finally:
            os.environ.update(hidden)


def connect(socket: Path, database: str) -> psycopg2.extensions.connection:
    """A raw connection to the embedded server, whatever libpq's variables say."""
    with without_pg_variables():
        return psycopg2.connect(host=str(socket), port=files.PORT, user=SUPERUSER, dbname=database, connect_timeout=10)


def _locked(descriptor: int) -> bool:
    """Whether the file is now locked by this descriptor alone; it does not wait."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rotate_log(log: Path, limit: int = 10 << 20) -> None:
    if log.exists() and log.stat().st_size > limit:
        log.replace(log.with_suffix(".log.1"))


def _start_failure(cluster: Cluster, talk: str) -> DatabaseUnavailable | DiskFull:
    """The error for a server that did not come up, from the last thing that its log says."""
    lines = files.last_words(cluster) or talk.splitlines()
    if files.ran_out_of_space(cluster):
        return disk_full(cluster)
    severe = [line for line in lines if ("FATAL:" in line or "PANIC:" in line) and "terminating connection" not in line]
    reason = (severe or lines or ["it said nothing"])[-1].strip()
    return DatabaseUnavailable(f"PostgreSQL did not start: {reason}", hint=f"look at {cluster.log}, then mkmed doctor")


def disk_full(cluster: Cluster) -> DiskFull:
    """The error for a server that stopped for want of space, with what is free where it writes."""
    tightest = min((cluster.data, (cluster.data / "pg_wal").resolve()), key=space.free_bytes)
    return DiskFull(f"PostgreSQL stopped because the disk is full ({space.free_bytes(tightest) >> 20} MiB free at "
                    f"{tightest}); everything acknowledged is kept", hint="free space, then mkmed db start")
