"""Disk space of the database: a look before a large job, and a reserve for the moment when the disk is full.

On a full disk even ``TRUNCATE`` fails, and a server that ran out of log space cannot start to be tidied. The reserve is
a file that is given up then.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from kb.errors import DiskFull

MIB = 1 << 20
BALLAST_BYTES = 64 * MIB
STAGING = ".ballast-"
"""How the name of a reserve begins that is not laid yet; a killed process may leave one."""


def free_bytes(folder: Path) -> int:
    """Free bytes at a folder, or at its nearest parent that exists."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(place).free


def require_space(folder: Path, needed: int) -> None:
    """Return when twice ``needed`` bytes are free at ``folder``; raise DiskFull otherwise.

    Twice, because every row is written to the write-ahead log and to its table.
    """
    free = free_bytes(folder)
    if free < 2 * needed:
        raise DiskFull(
            f"about {2 * needed / MIB:,.0f} MiB are needed at {folder}, {free / MIB:,.0f} MiB are free",
            hint="free space, move MKMED_HOME to a larger disk, or ingest less at a time (--limit)",
        )


def lay_ballast(root: Path) -> None:
    """Make the reserve below ``root`` unless it is there or would take more than an eighth of what is free."""
    path = root / "ballast"
    size = min(BALLAST_BYTES, free_bytes(root) // 8)
    if os.path.lexists(path) or size < MIB:
        return
    for leftover in root.glob(f"{STAGING}*"):
        leftover.unlink()
    descriptor, staging = tempfile.mkstemp(prefix=STAGING, dir=root)
    try:
        _allocate(descriptor, size)
        Path(staging).rename(path)
    except OSError:  # a reserve that cannot be made must not stop the server
        Path(staging).unlink()
    finally:
        os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    """Blocks that are really taken, not a hole in the file."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    for _ in range(size // MIB):
        os.write(descriptor, b"\1" * MIB)


def drop_ballast(root: Path) -> int:
    """The bytes that giving up the reserve has freed; 0 when there was none."""
    path = root / "ballast"
    try:
        size = path.lstat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
