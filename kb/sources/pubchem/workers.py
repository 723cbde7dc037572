"""Threads that keep enough requests under way, and stop together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from kb.errors import Blocked, SourceError, Transient, TransportError
from kb.sources.pubchem.bodies import BodyError

T = TypeVar("T")
R = TypeVar("R")

FAILURES_IN_A_ROW = 25
"""So many items that failed one after the other mean that the service is down: go on later."""


WORK_FAILS = (TransportError, BodyError)


class Workers:
    """Works through items with ``size`` threads; the first error stops everybody, after what is under way is done."""

    def __init__(self, size: int, stop: Callable[[], None]) -> None:
        self.size = size
        self._stop = stop
        self._failures = 0
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

    def attempt(self, question: Callable[[], T]) -> tuple[T | None, str | None]:
        """The answer and no error, or no answer and the error of an item that failed for now.

        Raises Blocked, what the service rejects (our mistake), and Transient when everything fails.
        """
        try:
            answer = question()
        except Blocked:
            raise
        except WORK_FAILS as error:
            self._failed(error)
            return None, str(error)
        with self._lock:
            self._failures = 0
        return answer, None

    def _failed(self, error: SourceError | BodyError) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                raise Transient(
                    f"{self._failures} requests failed one after the other, the last with: {error}",
                    hint="everything so far is committed: run the same command again later",
                ) from error
