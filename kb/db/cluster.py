"""The files of the embedded server: where they lie, how they are made, and which process serves them."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kb.db import shared, space
from kb.db.account import Account, account_for
from kb.db.binaries import VERSION, programs
from kb.errors import ConfigError, DatabaseUnavailable, DiskFull, SchemaMismatch
from kb.files import open_own, replace_file

SUPERUSER = "postgres"
PORT = 5432
"""A part of the socket's name; nothing listens on the network."""
SOCKET = f".s.PGSQL.{PORT}"
SOCKET_LIMIT = 100
"""Bytes of a socket's path that every platform takes (Linux 107, macOS 103)."""
SHARED_HOMES = Path("/var/lib/mkmed/clusters")
"""Where the cluster of a private home goes when we are root."""
NEEDED_BYTES = 64 << 20
"""What a new database takes, and a little; some file systems end the process instead of refusing to write."""
FULL = ("No space left", "Check free disk space")
"""What PostgreSQL says on a full disk."""
UNQUOTABLE = re.compile(r"[\"$`\\\n\r]")
"""What ``pg_ctl`` would hand to a shell unquoted."""


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL cluster on disk.

    ``root`` is ours (configuration, locks, ballast); ``data`` below it belongs to the server's account.
    """

    root: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data / "server.log"

    @property
    def configuration(self) -> Path:
        """The settings that mkmed writes anew at every start."""
        return self.root / "mkmed.conf"

    def exists(self) -> bool:
        """Whether the data directory has been made."""
        return (self.data / "PG_VERSION").exists()

    def run(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """A started PostgreSQL program, under the server's account, with its talk captured in one stream."""
        command = [str(programs(self.root, self.account) / program), *arguments]
        environment = {k: v for k, v in os.environ.items() if k in ("PATH", "TMPDIR", "TZ", "SYSTEMROOT")}
        environment |= {"LC_ALL": "C", "PGUSER": SUPERUSER}
        identity: dict[str, object] = {}
        if self.account is not None:
            identity = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        # A file, not a pipe: the server inherits the stream and would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as talk:
            process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdin=subprocess.DEVNULL, stdout=talk, stderr=talk, env=environment,
                cwd="/", text=True, **identity,
            )
            process.stdout = os.fdopen(os.dup(talk.fileno()), "r+")
        return process  # type: ignore[no-any-return]


def locate(home: Path) -> Cluster:
    """The cluster of a home; a home that the server's account cannot reach has its cluster in ``/var/lib/mkmed``."""
    root = home / "postgres"
    account = account_for(root / "data")
    if account is not None and not account.can_reach(root / "data"):
        if (root / "data" / "PG_VERSION").exists():
            raise DatabaseUnavailable(
                f"a folder above {root} was closed to the account {account.name!r}, which runs PostgreSQL for root",
                hint=f"let {account.name} pass (chmod o+x, or setfacl -m u:{account.name}:x), or move the folder",
            )
        name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
        root = SHARED_HOMES / name
        account = account_for(root / "data")
    if UNQUOTABLE.search(str(root)):
        raise ConfigError(
            f"the path {str(root)!r} holds a character that a shell would read",
            hint="set MKMED_HOME to a path without quotes, backslashes and dollar signs",
        )
    return Cluster(root, account)


def make_folders(cluster: Cluster, home: Path) -> None:
    """Make the home and the cluster's folder; existing folders keep the permissions that they have."""
    # The server's account passes through (0711) but cannot list; without such an account nobody else passes.
    mode = 0o700 if cluster.account is None else 0o711
    try:
        for folder in (home, cluster.root):
            missing = [p for p in (folder, *folder.parents) if not p.exists()]
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                path.chmod(mode)
        usable = os.access(cluster.root, os.W_OK | os.X_OK)
        if usable:
            shared.sign(cluster.root, home)
    except OSError as error:
        raise ConfigError(f"{error.filename or home} cannot be made: {error.strerror}",
                          hint="set MKMED_HOME to a folder of yours") from None
    if not usable:
        why = why_not_writable(cluster.root)
        raise ConfigError(f"{cluster.root} {why}", hint="set MKMED_HOME to a folder of yours")


def why_not_writable(folder: Path) -> str:
    """What keeps this process from writing in ``folder``, to stand behind its name."""
    status = folder.stat()
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "is on a file system that can only be read"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, and this is user {os.geteuid()}"
    return f"may not be written (its permissions are {stat.S_IMODE(status.st_mode):04o})"


def require_version(cluster: Cluster) -> None:
    """Return when this PostgreSQL can read the data; raise SchemaMismatch when another major version made it."""
    made_by = (cluster.data / "PG_VERSION").read_text().strip()
    if made_by != str(VERSION):
        raise SchemaMismatch(
            f"the data in {cluster.data} was made by PostgreSQL {made_by}; this is {VERSION}",
            hint=f"pg_dump it with PostgreSQL {made_by}, move the folder away, and load the dump after mkmed db init",
        )


def initialise(cluster: Cluster, *, sync: bool = True) -> None:
    """Make the data directory under a temporary name and rename it, so that a kill leaves nothing half-made.

    Without ``sync`` a power failure right afterwards may lose it.
    """
    from kb.db.processes import end_processes

    require_account()
    for leftover in cluster.root.glob("initdb-*"):
        end_processes(str(leftover))
        shutil.rmtree(leftover)
    staging = Path(tempfile.mkdtemp(prefix="initdb-", dir=cluster.root))
    if cluster.account is not None:
        cluster.account.own(staging)
    # The builtin provider sorts the same on every platform, so that indexes outlive a change of the C library.
    process = cluster.run(
        "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8", "--no-instructions", "--username", SUPERUSER, "--pgdata", str(staging),
        *(_sync_method() if sync else ["--no-sync"]),
    )
    code = process.wait()
    talk = read_talk(process)
    if code != 0:
        shutil.rmtree(staging, ignore_errors=True)
        if any(words in talk for words in FULL) or space.free_bytes(cluster.root) < NEEDED_BYTES:
            raise DiskFull(f"no space left for a database in {cluster.root}", hint="free 100 MB, or move MKMED_HOME")
        last = talk.strip().splitlines()[-1:] or ["no output"]
        raise DatabaseUnavailable(f"initdb failed: {last[0]}", hint="run again with --debug, or set MKMED_DATABASE_URL")
    _include_configuration(cluster, staging)
    staging.rename(cluster.data)


def require_account() -> None:
    """Return when the system knows this process's user by a name, as ``initdb`` asks; raise DatabaseUnavailable."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise DatabaseUnavailable(
            f"user {os.geteuid()} has no entry in the system's list of accounts, and PostgreSQL asks for one",
            hint="run as a user that has one (in a container: add a line to /etc/passwd), or set MKMED_DATABASE_URL",
        ) from None


def _include_configuration(cluster: Cluster, data: Path) -> None:
    """Have the server read ``mkmed.conf``; written only into the file that ``initdb`` has made for its account."""
    descriptor = open_own(data / "postgresql.conf", os.O_WRONLY | os.O_APPEND)
    with os.fdopen(descriptor, "a") as file:
        owner = os.geteuid() if cluster.account is None else cluster.account.uid
        if os.fstat(descriptor).st_uid != owner:
            raise ConfigError(f"{data} was changed while it was made", hint="set MKMED_HOME to a folder of yours")
        file.write("\ninclude_if_exists = '../mkmed.conf'\n")


def _sync_method() -> list[str]:
    """One sync of the whole file system where there is such a call, instead of one of each of a thousand files."""
    return ["--sync-method=syncfs"] if sys.platform == "linux" else []


def read_talk(process: subprocess.Popen[str]) -> str:
    """What a finished program said."""
    stream = process.stdout
    if stream is None:
        return ""
    with stream:
        stream.seek(0)
        return stream.read()


def write_configuration(cluster: Cluster, settings: Mapping[str, str]) -> None:
    """Write the server's settings beside its data, whole or not at all."""
    lines = ["# Written by mkmed at every start; edits are lost. Put your own in data/postgresql.auto.conf."]
    lines += [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
    replace_file(cluster.configuration, "\n".join(lines) + "\n", mode=0o644)


def socket_folder(cluster: Cluster) -> Path:
    """The folder for the server's socket: the data directory, or a private one in the temporary folder if that
    path is too long or has a comma."""
    # libpq takes a comma in a host for the start of another host.
    if len(os.fsencode(cluster.data / SOCKET)) <= SOCKET_LIMIT and not set(str(cluster.data)) & set(",\"'"):
        return cluster.data
    uid = cluster.account.uid if cluster.account else os.geteuid()
    name = hashlib.sha256(os.fsencode(cluster.data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"mkmed-{uid}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if cluster.account is not None and folder.lstat().st_uid == 0:
        cluster.account.own(folder)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != uid or status.st_mode & 0o077:
        raise ConfigError(f"{folder} belongs to somebody else", hint="set MKMED_HOME to a shorter path")
    return folder


@dataclass(frozen=True)
class Postmaster:
    """A live server process of one cluster, and the folder of its socket."""

    pid: int
    started: str
    socket: Path


def postmaster(cluster: Cluster) -> Postmaster | None:
    """The live server of the cluster; None unless the process is PostgreSQL and serves exactly this directory."""
    lines = pid_lines(cluster)
    if len(lines) < 5:
        return None
    pid = int(lines[0])
    return Postmaster(pid, lines[2], Path(lines[4])) if _serves(cluster, pid) else None


def pid_lines(cluster: Cluster) -> Sequence[str]:
    """The lines of ``postmaster.pid``; empty when there is none or its first is no number."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return lines if lines and lines[0].strip().isdigit() else []


def _serves(cluster: Cluster, pid: int) -> bool:
    """Whether ``pid`` is a live ``postgres -D <data>`` of this cluster."""
    program, *arguments = _words(pid) or [""]
    if Path(program).name != "postgres" or "-D" not in arguments[:-1]:
        return False
    served = Path(arguments[arguments.index("-D") + 1])
    return served == cluster.data or served.resolve() == cluster.data.resolve()


def _words(pid: int) -> Sequence[str]:
    """What a process was started with; nothing where it is gone, a zombie or hidden from us.

    Every command asks this once or twice, and psutil takes a tenth of a short command's time to import: Linux answers
    without it.
    """
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").rstrip("\0").split("\0")
        except OSError:
            return []
    import psutil

    try:
        process = psutil.Process(pid)
        return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return []


def last_words(cluster: Cluster) -> list[str]:
    """The last lines of the server's log; empty when it has none."""
    try:
        with cluster.log.open("rb") as file:
            file.seek(max(0, cluster.log.stat().st_size - 8192))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def ran_out_of_space(cluster: Cluster, seconds: float = 120.0) -> bool:
    """Whether the server's log complained of a full disk within the last ``seconds``."""
    since = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")
    return any(line[:19] >= since and any(words in line for words in FULL) for line in last_words(cluster))
