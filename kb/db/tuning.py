"""Settings of the embedded server, measured for bulk loads and vector indexes on a desktop or a small server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

MIB = 1 << 20


def server_settings(socket: Path, overrides: dict[str, str] | None = None) -> dict[str, str]:
    """The settings of the server; ``fsync`` and ``synchronous_commit`` stay on, so that a committed row is on disk."""
    memory = psutil.virtual_memory().total // MIB
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{socket}"',
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": f"{min(1024, max(64, memory // 8))}MB",
        "maintenance_work_mem": f"{min(1024, max(64, memory // 16))}MB",
        "effective_cache_size": f"{max(256, memory // 2)}MB",
        "work_mem": "16MB",
        "max_wal_size": "4GB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "checkpoint_timeout": "30min",
        "random_page_cost": "1.1",
        "jit": "off",
        "fsync": "on",
        "synchronous_commit": "on",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Neither a failing statement nor the row that failed is logged: whole payloads would go into the log.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_line_prefix": "%m [%p] ",
    }
    if sys.platform == "linux":
        # After a crash: one sync of the file system, not one of every file; five times sooner back.
        settings["recovery_init_sync_method"] = "syncfs"
    if _small_shared_memory():
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings | (overrides or {})


def _small_shared_memory() -> bool:
    """Whether ``/dev/shm`` is as small as containers make it (64 MB): parallel queries would fail in it."""
    try:
        status = os.statvfs("/dev/shm")  # noqa: S108 - asked, not written to
    except OSError:
        return False
    return status.f_blocks * status.f_frsize < 512 * MIB
