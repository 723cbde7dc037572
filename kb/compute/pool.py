"""One interface for work on many items: ``open_pool`` gives processes of this machine, or actors of a Ray cluster.

Items travel in shares, so many that sending one costs less than computing it. A share whose process dies, or takes too
long, is done again item by item, so that one bad molecule costs itself; what dies because a node was lost is done again
elsewhere. A result is handed over once. Nothing is remembered between calls: what must survive the caller's own death
is the caller's to keep (the ledger's cells, a data set's parts).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kb.errors import DataError

DEATHS = 3
"""So often a single item's process may die before the item has no result."""


STUCK = 6.0
"""How many times a share's seconds may pass by the clock."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no result; ``refused`` says that the input broke a rule, so that trying again is of no use."""

    reason: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class PoolTask:
    """What is done to each item: the function "module:name", which every process imports.

    With ``arguments`` it is a maker: called with them once in a process, it returns the function, which may hold an
    encoder. ``seconds`` of CPU are what a share may take, and ``STUCK`` times as long by the clock: on a busy machine
    nothing is given up that only waits for its turn. ``memory`` is in bytes that a local process may grow by (None: no
    limit), and ``gpus`` the cards that a process of a cluster with cards takes.
    """

    function: str
    arguments: Mapping[str, Any] | None = None
    seconds: float = 10.0
    memory: int | None = 2 << 30
    gpus: float = 0.0

    def open(self) -> Callable[[Any], Any]:
        """The function, made ready in this process."""
        module, _, name = self.function.partition(":")
        found: Callable[..., Any] = getattr(import_module(module), name)
        return found if self.arguments is None else found(**self.arguments)


def attempt(work: Callable[[Any], Any], item: Any) -> Any:
    """What ``work`` makes of the item, or the Failure that it raised DataError, RuntimeError or MemoryError for."""
    try:
        return work(item)
    except DataError as error:
        return Failure(error.message, refused=True)
    except (RuntimeError, MemoryError, ValueError) as error:  # what RDKit's C++ raises
        return Failure(f"{type(error).__name__}: {error}"[:300])


class LostShare(Exception):
    """A share has no results: its process died, or was ended because it took too long (``late``)."""

    def __init__(self, reason: str, *, late: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.late = reason, late


@dataclass(frozen=True, slots=True)
class _Share:
    pairs: list[tuple[int, Any]]
    deaths: int = 0


class Pool(ABC):
    """Processes that apply one task to items; use it in a ``with`` block. ``workers`` is how many there are."""

    workers: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def room(self) -> int:
        """How many more shares can be sent now."""

    @abstractmethod
    def send(self, items: list[Any]) -> Hashable:
        """Start a share; the answer names it."""

    @abstractmethod
    def ready(self, sent: Sequence[Any]) -> Sequence[Hashable]:
        """Those of the shares that are done or lost; waits a moment when none is."""

    @abstractmethod
    def results(self, share: Any) -> list[Any]:
        """The results of a share that is ready; raises LostShare."""

    @abstractmethod
    def close(self) -> None:
        """End all processes, whatever they are at."""

    def map(self, items: Iterable[Any], share: int = 16) -> Iterator[tuple[int, Any]]:
        """(number, result or Failure) of every item, as they become ready; numbers count from 0.

        Items are taken only as fast as they are done: each process has one share at a time.
        """
        coming = _shares(items, share)
        again: deque[_Share] = deque()
        sent: dict[Hashable, _Share] = {}
        more = True
        while True:
            while self.room() > 0:
                own = again.popleft() if again else next(coming, None) if more else None
                if own is None:
                    more = False
                    break
                sent[self.send([item for _, item in own.pairs])] = own
            if not sent and not again and not more:
                return
            for name in self.ready(list(sent)):
                own = sent.pop(name)
                try:
                    found = self.results(name)
                except LostShare as lost:
                    yield from _repeat(own, lost, again)
                else:
                    yield from zip((number for number, _ in own.pairs), found, strict=True)

    def ordered(self, items: Iterable[Any], share: int = 16) -> Iterator[Any]:
        """The results in the order of the items; those that are ready before their turn are kept until then."""
        early: dict[int, Any] = {}
        due = 0
        for number, result in self.map(items, share):
            early[number] = result
            while due in early:
                yield early.pop(due)
                due += 1


def _repeat(own: _Share, lost: LostShare, again: deque[_Share]) -> Iterator[tuple[int, Failure]]:
    """Put the items of a lost share back one by one; one that was alone and is at fault has its Failure."""
    if len(own.pairs) > 1:
        again.extendleft(_Share([pair]) for pair in reversed(own.pairs))
    elif lost.late or own.deaths + 1 >= DEATHS:
        yield own.pairs[0][0], Failure(lost.reason)
    else:
        again.append(_Share(own.pairs, own.deaths + 1))


def _shares(items: Iterable[Any], size: int) -> Iterator[_Share]:
    numbered = enumerate(items)
    while pairs := list(islice(numbered, size)):
        yield _Share(pairs)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_here(task: PoolTask, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Like ``Pool.map``, in this process and without limits."""
    work = task.open()
    for number, item in enumerate(items):
        yield number, attempt(work, item)


def die_with_parent() -> None:
    """Have Linux kill this process when its parent dies, even in the middle of a computation (prctl(2))."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def limit_memory(extra: int) -> None:
    """Let this process grow by ``extra`` bytes at most (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, now + extra))
