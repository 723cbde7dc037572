"""The processes of the embedded server beside the one that answers: what a crash left, and how one is ended.

Imported only to start and to stop a server.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from kb.errors import DatabaseUnavailable


def strays(data: Path) -> list[psutil.Process]:
    """Live PostgreSQL processes that work in a cluster's directory, whatever its ``postmaster.pid`` says."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] != "postgres":
            continue
        try:
            inside = Path(process.cwd()) == data.resolve()
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def end_processes(argument: str) -> None:
    """End the PostgreSQL programs that were started with exactly this path, and wait until they are gone."""
    found = [
        process for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] in ("postgres", "initdb") and argument in (process.info["cmdline"] or [])
    ]
    for process in found:
        try:
            process.send_signal(signal.SIGQUIT)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(found, timeout=30)


def ended(pid: int, signals: Mapping[str, float]) -> bool:
    """Whether a process was gone, or a zombie, after one of these signals, each with the seconds that it has."""
    try:
        process = psutil.Process(pid)
        for name, seconds in signals.items():
            process.send_signal(getattr(signal, name))
            gone, _ = psutil.wait_procs([process], timeout=seconds)
            if gone or process.status() == psutil.STATUS_ZOMBIE:
                return True
    except psutil.NoSuchProcess:
        return True
    return False


def clear_stale_locks(data: Path, locks: Sequence[Path]) -> None:
    """Remove lock files whose process number now belongs to another program, or to a zombie.

    PostgreSQL itself clears the files of a process that is gone, and checks first that no backend still writes. It only
    refuses when the number is in use; that is cleared here, under the same condition.
    """
    stale = [path for path in locks if path.exists() and (not (pid := _first_number(path)) or psutil.pid_exists(pid))]
    deadline = time.monotonic() + 60
    while stale and strays(data):
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"PostgreSQL processes still work in {data}, but none of them leads",
                hint="stop them, then mkmed db start",
            )
        time.sleep(0.2)
    for path in stale:
        path.unlink()


def _first_number(path: Path) -> int:
    """The process number in the first line of a lock file; 0 when there is none."""
    first = path.read_text(errors="replace").partition("\n")[0].strip()
    return int(first) if first.isdigit() else 0
