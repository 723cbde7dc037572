"""The account that the embedded server runs under: ours, or an unprivileged one when we are root.

PostgreSQL refuses to run as root. No directory is ever opened for that account: what it cannot reach is put elsewhere.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kb.errors import DatabaseUnavailable

NAME = "mkmed"


@dataclass(frozen=True)
class Account:
    """An operating-system account that is not root."""

    name: str
    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether the account may pass through every directory above ``path`` (permission bits only)."""
        return all(self._may_enter(parent) for parent in path.resolve().parents if parent.exists())

    def _may_enter(self, directory: Path) -> bool:
        status = directory.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def own(self, path: Path) -> None:
        """Give ``path`` to the account."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(data: Path) -> Account | None:
    """The account to run the server of ``data`` under, or None for our own.

    Root runs the server of existing data under their owner, so that it may look into a user's home as that user.
    """
    if os.geteuid() != 0:
        return None
    if not data.exists() or data.stat().st_uid == 0:
        return server_account()
    owner = data.stat().st_uid
    try:
        entry = pwd.getpwuid(owner)
    except KeyError:
        return Account(str(owner), owner, data.stat().st_gid)
    return Account(entry.pw_name, owner, entry.pw_gid)


@lru_cache(maxsize=1)
def server_account() -> Account:
    """The account that root starts new servers under; made with ``useradd`` when there is none yet."""
    return _lookup(NAME) or _create() or _lookup("nobody") or _no_account()


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid) if entry.pw_uid != 0 else None


def _create() -> Account | None:
    program = shutil.which("useradd")
    if program is None:
        return None
    shell = shutil.which("nologin") or "/bin/false"
    command = [program, "--system", "--no-create-home", "--user-group", "--shell", shell, NAME]
    subprocess.run(command, capture_output=True, check=False)
    return _lookup(NAME)


def _no_account() -> Account:
    raise DatabaseUnavailable(
        "PostgreSQL refuses to run as root, and there is no other account to run it under",
        hint=f"create one (useradd --system {NAME}), run mkmed as an ordinary user, or set MKMED_DATABASE_URL",
    )
