"""What tests do to the server that all workers of a session share, one at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    from kb.db.server import Server

HOME_VARIABLE = "MKMED_TEST_HOME"
"""Where the session's server lives; workers of xdist inherit it."""


def maintain(server: Server, statement: str) -> None:
    """Execute one statement on the maintenance database."""
    from kb.db.server import connect

    running = server.running()
    assert running is not None, "the test server died"
    # Only one session at a time may copy the template.
    with filelock.FileLock(server.home / "template.lock"):
        connection = connect(running.socket, "postgres")
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


def roles_lock() -> filelock.FileLock:
    """A lock to hold while roles are made or changed: they belong to the server, which all workers of xdist share."""
    return filelock.FileLock(Path(os.environ[HOME_VARIABLE]) / "roles.lock")
