"""Threads that keep enough requests under way, and stop together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import tenacity
from sqlalchemy.exc import DBAPIError

from kb.db.failures import RETRY_SECONDS, is_conflict
from kb.errors import Blocked, DatabaseUnavailable, SourceError, Transient, TransportError, Unusable
from kb.modalities import State
from kb.sources.pubchem.answers import RejectedError

T = TypeVar("T")

FAILURES_IN_A_ROW = 25
"""So many items that failed one after the other mean that the service is down: go on later."""


@dataclass(frozen=True, slots=True)
class Miss:
    """An item without an answer: failed for now, or rejected for what the answer said."""

    state: State
    error: str


class Crew:
    """Works through items with ``size`` threads; the first error stops everybody, after what is under way is done."""

    def __init__(self, size: int, stop: Callable[[], None]) -> None:
        self.size = size
        self._stop = stop
        self._failures = 0
        self._answered = False
        self._refusal: RejectedError | None = None
        self._lock = threading.Lock()

    def each(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Call ``work`` on every item; raises the first error, or KeyboardInterrupt, once no thread works any more."""
        with ThreadPoolExecutor(self.size, thread_name_prefix="pubchem") as pool:
            under_way: set[Future[None]] = set()
            try:
                for item in items:
                    under_way.add(pool.submit(_patiently, work, item))
                    if len(under_way) >= 2 * self.size:
                        under_way = _settle(under_way)
                while under_way:
                    under_way = _settle(under_way)
            except BaseException:
                self._stop()
                for future in under_way:
                    future.cancel()
                raise

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


def _patiently(work: Callable[[T], None], item: T) -> None:
    """Do the work, again from its start when Postgres was lost or another transaction was in the way."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_passes),
        stop=tenacity.stop_after_delay(RETRY_SECONDS),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
        reraise=True,
    )
    retrying(work, item)


def _passes(error: BaseException) -> bool:
    return isinstance(error, DatabaseUnavailable) or (isinstance(error, DBAPIError) and is_conflict(error))


def _settle(under_way: set[Future[None]]) -> set[Future[None]]:
    done, left = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left
