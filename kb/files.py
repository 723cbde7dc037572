"""Files that mkmed writes: whole or not at all, and nothing that somebody else planted is followed or overwritten.

Root may work in a home that belongs to a user, who can put links there under the names that root writes next. So every
file is made under a name of chance and renamed over the old one, a lock is opened without following links, and root
refuses a home in which a user's link waits.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from kb.errors import Busy, ConfigError, UsageError

SERVED = frozenset({"data"})
"""Folders of the server's own account, whose links are that account's business: root writes nothing in them."""


def require_place(path: Path) -> None:
    """Return when a file can be written at ``path``; raises UsageError for a folder, a device, a pipe or a socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no file, but a device or a pipe"
        raise UsageError(f"{path} is {kind}", hint="name a file")


@contextmanager
def written(path: Path, mode: int | None = 0o600) -> Iterator[Path]:
    """A new empty file beside ``path`` that takes its place at the end of the block, and is removed when that fails.

    A link that lies there is replaced, not followed. ``mode`` None leaves the permissions to the account's umask.
    Raises UsageError where something lies that is no file.
    """
    require_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}-{secrets.token_hex(8)}.part")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666 if mode is None else mode))
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        for place, flags in ((temporary, os.O_RDWR), (path.parent, os.O_RDONLY)):
            descriptor = os.open(place, flags | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if place == temporary:
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes, mode: int | None = 0o600) -> None:
    """Write ``path`` as ``written`` does, with ``content``."""
    with written(path, mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def open_own(path: Path, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o600) -> int:
    """A descriptor of the regular file ``path``, made if need be; raises ConfigError for a link or a device."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK):
            raise
        raise ConfigError(f"{path} is a link, which mkmed does not follow here", hint=f"remove {path}") from None
    status = os.fstat(descriptor)
    # A user may link a file of root's into a folder of the user's; backups of one's own home may use links too.
    planted = status.st_nlink > 1 and os.geteuid() == 0 and path.parent.stat().st_uid != 0
    if planted or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ConfigError(f"{path} is not a file of mkmed's", hint=f"remove {path}")
    return descriptor


def read_own(path: Path) -> str | None:
    """The text of the regular file ``path``; None when there is none or it is a link."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except (FileNotFoundError, ConfigError):
        return None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def refuse_planted(home: Path) -> None:
    """Return unless this is root and a link in the home of somebody else belongs to a user; raise ConfigError then."""
    if os.geteuid() != 0 or not home.is_dir() or home.stat().st_uid == 0:
        return
    for folder, names, files in os.walk(home):
        for name in (*names, *files):
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode) and status.st_uid != 0:
                raise ConfigError(
                    f"{path} is a link of user {status.st_uid}'s, and root does not follow users' links",
                    hint=f"run mkmed as the owner of {home}, or remove the link",
                )
        names[:] = [name for name in names if name not in SERVED]


@contextmanager
def hold(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` alone; raises Busy, naming who holds it, when another process does.

    The kernel drops the lock of a process that ends, however it ends.
    """
    descriptor = open_own(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 4096, 0).decode(errors="replace")
        os.close(descriptor)
        raise Busy(f"{what} is in use by {_name(holder)}", hint="wait until that process ends, or stop it") from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_own_name()).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _own_name() -> dict[str, str | int]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        user = str(os.geteuid())
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"user": user, "host": platform.node(), "pid": os.getpid(), "since": now}


def _name(written: str) -> str:
    try:
        holder = json.loads(written)
        return f"process {holder['pid']} of {holder['user']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
