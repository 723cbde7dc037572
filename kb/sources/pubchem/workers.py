"""Threads that keep enough requests under way, and stop together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from kb.errors import Blocked, SourceError, Transient, TransportError, Unusable
from kb.modalities import State
from kb.sources.pubchem.answers import RejectedError

T = TypeVar("T")
R = TypeVar("R")

FAILURES_IN_A_ROW = 25
"""So many items that failed one after the other mean that the service is down: go on later."""


@dataclass(frozen=True, slots=True)
class Miss:
    """An item without an answer: failed for now, or rejected for what the answer said."""

    state: State
    error: str


class Workers:
    """Works through items with ``size`` threads; the first error stops everybody, after what is under way is done."""

    def __init__(self, size: int, stop: Callable[[], None]) -> None:
        self.size = size
        self._stop = stop
        self._failures = 0
        self._answered = False
        self._refusal: RejectedError | None = None
        self._lock = threading.Lock()

    def each(self, work: Callable[[T], R | None], items: Iterable[T]) -> Iterator[R]:
        """What ``work`` makes of every item, as it is ready.

        After the first error, or Ctrl-C, what is under way is still handed over, and then the error is raised.
        """
        failure: BaseException | None = None
        waiting = iter(items)
        with ThreadPoolExecutor(self.size, thread_name_prefix="pubchem") as pool:
            under_way: set[Future[R | None]] = set()
            try:
                while True:
                    try:
                        if failure is None:
                            room = 2 * self.size - len(under_way)
                            under_way.update(pool.submit(work, item) for item in islice(waiting, room))
                        if not under_way:
                            break
                        wait(under_way, return_when=FIRST_COMPLETED)
                        for future in [future for future in under_way if future.done()]:
                            under_way.discard(future)
                            error = None if future.cancelled() else future.exception()
                            if error is not None:
                                raise error
                            if not future.cancelled() and (result := future.result()) is not None:
                                yield result
                    except Exception as error:  # noqa: BLE001 - raised below, once nothing is under way
                        failure = self._leave(under_way, failure or error)
                    except KeyboardInterrupt as stopped:
                        failure = self._leave(under_way, failure or stopped)
            except GeneratorExit as closed:
                self._leave(under_way, closed)
                raise
        if failure is not None:
            raise failure

    def _leave(self, under_way: Iterable[Future[R | None]], reason: BaseException) -> BaseException:
        self._stop()
        for future in under_way:
            future.cancel()
        return reason

    def attempt(self, question: Callable[[], T]) -> T | Miss:
        """The answer, or why an item has none.

        Raises Blocked, Transient when everything fails, and RejectedError when everything is rejected.
        """
        try:
            answer = question()
        except Blocked:
            raise
        except Unusable as error:  # the item's own matter: the service answers
            self._answered = True
            return Miss(State.rejected, error.message)
        except (TransportError, RejectedError) as error:
            self._failed(error)
            return Miss(State.rejected if isinstance(error, RejectedError) else State.failed, error.message)
        with self._lock:
            self._failures, self._answered = 0, True
        return answer

    def finish(self) -> None:
        """Raise what the service rejected if it answered nothing at all: then the mistake is in how it is asked."""
        if self._refusal is not None and not self._answered:
            raise self._refusal

    def _failed(self, error: SourceError) -> None:
        with self._lock:
            self._failures += 1
            if isinstance(error, RejectedError):
                self._refusal = error
                if self._failures >= FAILURES_IN_A_ROW:
                    raise error
            elif self._failures >= FAILURES_IN_A_ROW:
                raise Transient(
                    f"{self._failures} requests failed one after the other, the last with: {error}",
                    hint="everything so far is committed: run the same command again later",
                ) from error
