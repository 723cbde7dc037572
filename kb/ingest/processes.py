"""Child processes that compute, each item within a wall-clock limit and each process within a memory limit.

A molecule may keep RDKit busy for hours, or make it die. The parent sees from shared memory what each child is at; a
child that is too long at one item is killed, the item is reported, and the rest of its share is done by a fresh child.

It is our own because the time limit of pebble's pool is a task's: of a share of items that is sent as one task, a slow
one takes the others along. It sets no memory limit either.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from kb.errors import DataError

_CONTEXT = multiprocessing.get_context("spawn")
POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no result; ``refused`` says that the input broke a rule, so that trying again is of no use."""

    reason: str
    refused: bool = False


def _serve(pipe: Any, position: Any, began: Any, function: str, memory: int) -> None:
    """A child's life: take a list of items, answer with a list of results, until told None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    work = _named(function)
    _die_with_parent()
    _limit_memory(memory)
    try:
        pipe.send("ready")
        while (items := pipe.recv()) is not None:
            results = []
            for index, item in enumerate(items):
                position.value, began.value = index, time.monotonic()
                results.append(attempt(work, item))
            began.value = 0.0
            pipe.send(results)
    except (EOFError, BrokenPipeError):
        return  # the parent is gone


def _named(function: str) -> Callable[[Any], Any]:
    """The function "module:name"."""
    module, _, name = function.partition(":")
    work: Callable[[Any], Any] = getattr(import_module(module), name)
    return work


def attempt(work: Callable[[Any], Any], item: Any) -> Any:
    """What ``work`` makes of the item, or the Failure that it raised DataError, RuntimeError or MemoryError for."""
    try:
        return work(item)
    except DataError as error:
        return Failure(error.message, refused=True)
    except (RuntimeError, MemoryError, ValueError) as error:  # what RDKit's C++ raises
        return Failure(f"{type(error).__name__}: {error}"[:300])


def _die_with_parent() -> None:
    """Have Linux kill this process when its parent dies, even in the middle of a computation (prctl(2))."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _limit_memory(extra: int) -> None:
    """Let this process grow by ``extra`` bytes at most."""
    if sys.platform != "linux":
        return
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, now + extra))


class _Child:
    """One process and what it was given."""

    def __init__(self, function: str, memory: int) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.position, self.began = _CONTEXT.Value("q", 0, lock=False), _CONTEXT.Value("d", 0.0, lock=False)
        self.process = _CONTEXT.Process(
            target=_serve, args=(theirs, self.position, self.began, function, memory), daemon=True
        )
        self.process.start()
        theirs.close()
        self.share: list[tuple[int, Any]] | None = None
        self.ready = False

    def give(self, share: list[tuple[int, Any]]) -> None:
        """Send a share of (number, item) pairs."""
        self.share = share
        self.pipe.send([item for _, item in share])

    def end(self) -> None:
        """Stop the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Crew:
    """``count`` children that apply ``function`` ("module:name") to items; use it in a ``with`` block.

    ``wall`` is in seconds an item, ``memory`` in bytes that a child may grow by.
    """

    def __init__(self, function: str, count: int, *, wall: float = 10.0, memory: int = 2 << 30) -> None:
        self._make = lambda: _Child(function, memory)
        self._wall = wall
        self._children = [self._make() for _ in range(count)]

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.end()

    def map(self, items: Iterable[Any], share: int = 16) -> Iterator[tuple[int, Any]]:
        """(number, result or Failure) of every item, as they become ready; numbers count from 0."""
        waiting = deque(_shares(items, share))
        busy = 0
        while waiting or busy:
            for child in self._children:
                if child.share is None and child.ready and waiting:
                    child.give(waiting.popleft())
            pipes = {child.pipe: child for child in self._children}
            for pipe in multiprocessing.connection.wait(list(pipes), POLL_SECONDS):
                yield from self._hear(pipes[pipe], waiting)  # type: ignore[index]
            for child in list(self._children):
                if child.began.value and time.monotonic() - child.began.value > self._wall:
                    yield from self._replace(child, f"took longer than {self._wall:g} s", waiting)
            busy = sum(child.share is not None for child in self._children)

    def _hear(self, child: _Child, waiting: deque[list[tuple[int, Any]]]) -> Iterator[tuple[int, Any]]:
        try:
            said = child.pipe.recv()
        except (EOFError, ConnectionResetError):
            yield from self._replace(child, "the process died (out of memory, or a crash)", waiting)
            return
        if said == "ready":
            child.ready = True
            return
        numbers, child.share = [number for number, _ in child.share or []], None
        yield from zip(numbers, said, strict=True)

    def _replace(
        self, child: _Child, reason: str, waiting: deque[list[tuple[int, Any]]]
    ) -> Iterator[tuple[int, Failure]]:
        """Report the item that the child is at, and put the others of its share back."""
        if child.share is None:
            raise RuntimeError(f"a computing process ended by itself (exit code {child.process.exitcode})")
        culprit = int(child.position.value)
        number = child.share[culprit][0]
        rest = [pair for pair in child.share if pair[0] != number]
        if rest:
            waiting.appendleft(rest)
        child.end()
        self._children[self._children.index(child)] = self._make()
        yield number, Failure(reason)


def _shares(items: Iterable[Any], size: int) -> Iterator[list[tuple[int, Any]]]:
    """The items with their numbers, ``size`` at a time."""
    share: list[tuple[int, Any]] = []
    for pair in enumerate(items):
        share.append(pair)
        if len(share) == size:
            yield share
            share = []
    if share:
        yield share


def run_here(function: str, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Like ``Crew.map``, in this process and without limits."""
    work = _named(function)
    for number, item in enumerate(items):
        yield number, attempt(work, item)
