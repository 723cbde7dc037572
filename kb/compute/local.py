"""Processes of this machine: each an executor of ``concurrent.futures`` of its own, so that one can be killed alone.

An executor of several processes breaks as a whole when one of them dies, and does not say which item it was at.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

import psutil

from kb.compute.pool import DEATHS, STUCK, LostShare, Pool, PoolTask, attempt, die_with_parent, limit_memory
from kb.errors import ConfigError

_CONTEXT = multiprocessing.get_context("spawn")
POLL_SECONDS = 0.25
GUARD = "below `if __name__ == '__main__':` a script is safe from every process's import of it; or memory is short"
_open: list[Callable[[Any], Any]] = []
"""In a worker process: the task's function."""

Results = Future[list[Any]]


def _begin(task: PoolTask) -> int:
    """A process's first share: the task is opened. The answer is the process's number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    die_with_parent()
    try:
        _open[:] = [task.open()]
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
        raise ConfigError(f"a process cannot begin: {error}") from None
    if task.memory is not None:
        limit_memory(task.memory)
    return os.getpid()


def _do(items: list[Any]) -> list[Any]:
    return [attempt(_open[0], item) for item in items]


class _Process:
    """One process, which opens the task when it is first sent a share."""

    def __init__(self, task: PoolTask) -> None:
        self._executor = ProcessPoolExecutor(1, mp_context=_CONTEXT)
        self.begun = self._executor.submit(_begin, task)

    def send(self, items: list[Any]) -> Results:
        return self._executor.submit(_do, items)

    def now(self) -> tuple[float, float]:
        """(seconds by the clock, seconds of CPU that the process has used); it has begun."""
        with suppress(psutil.NoSuchProcess, ConfigError, BrokenProcessPool):
            times = psutil.Process(self.begun.result()).cpu_times()
            return time.monotonic(), float(times.user + times.system)
        return time.monotonic(), 0.0

    def is_stillborn(self) -> bool:
        """Whether the process died before it had begun."""
        return self.begun.done() and isinstance(self.begun.exception(), BrokenProcessPool)

    def kill(self) -> None:
        """End the process, whatever it is at."""
        for process in list((self._executor._processes or {}).values()):  # its kill_workers comes with Python 3.14
            with suppress(ProcessLookupError):
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)


class LocalPool(Pool):
    """``workers`` processes of this machine, one share each at a time."""

    def __init__(self, task: PoolTask, workers: int) -> None:
        self.workers, self._task = workers, task
        self._stillborn = 0
        self._idle = [_Process(task) for _ in range(workers)]
        self._busy: dict[Results, tuple[_Process, tuple[float, float] | None]] = {}

    def room(self) -> int:
        """How many more shares can be sent now: one for each idle process."""
        return len(self._idle)

    def send(self, items: list[Any]) -> Results:
        """Start a share on an idle process."""
        process = self._idle.pop(0)
        share = process.send(items)
        self._busy[share] = process, process.now() if process.begun.done() else None
        return share

    def ready(self, sent: Sequence[Results]) -> list[Results]:
        """Those that are done, lost or late; the time of a share counts from when its process had begun."""
        done = wait(sent, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done
        for share, (process, began) in self._busy.items():
            if began is None and process.begun.done():
                self._busy[share] = process, process.now()
        return [share for share in sent if share in done or self._late(share)]

    def _late(self, share: Results) -> bool:
        process, began = self._busy[share]
        if began is None or share.done():
            return False
        passed, used = (now - then for now, then in zip(process.now(), began, strict=True))
        return used > self._task.seconds or passed > STUCK * self._task.seconds

    def results(self, share: Results) -> list[Any]:
        """The results of a share that is ready; the process of one that is lost or late is replaced."""
        late = self._late(share)
        process, _ = self._busy.pop(share)
        try:
            if late:
                raise LostShare(f"took longer than {self._task.seconds:g} s", late=True)
            if process.begun.done():
                process.begun.result()  # raises what kept it from beginning
            found = share.result()
        except (LostShare, BrokenProcessPool) as error:
            process.kill()
            self._stillborn = self._stillborn + 1 if process.is_stillborn() else 0
            if self._stillborn == DEATHS:
                raise ConfigError("processes die before they begin", hint=GUARD) from None
            self._idle.append(_Process(self._task))
            if isinstance(error, LostShare):
                raise
            raise LostShare("the process died (out of memory, or a crash)") from None
        self._idle.append(process)
        return found

    def close(self) -> None:
        """End all processes."""
        for process in [*self._idle, *(process for process, _ in self._busy.values())]:
            process.kill()
