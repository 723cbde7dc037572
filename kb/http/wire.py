"""One HTTP exchange under a total deadline, a decoded-byte cap and a rate limit that all processes share."""

from __future__ import annotations

import socket
import threading
import time
import zlib
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

import requests
from filelock import FileLock
from pyrate_limiter import AbstractBucket, Limiter, Rate, RateItem, SQLiteBucket
from requests.adapters import HTTPAdapter
from requests_ratelimiter import HostBucketFactory, LimiterMixin
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from kb.errors import Transient, TransportError
from kb.http.pace import Pace, Policy, open_memory

CHUNK = 64 * 1024


class Deadline:
    """A moment after which an exchange is cut off, whatever the other side does.

    Socket timeouts bound one read each, so a server that drips one byte a second is never too slow for them. Shutting
    the socket down from a timer ends any blocked read, of headers and body alike.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.passed = False

    def start(self) -> None:
        """Start the clock."""
        self._timer.start()

    def hold(self, connected: socket.socket) -> None:
        """Take charge of the socket that the answer comes from."""
        with self._lock:
            self._socket = connected
            if self.passed:
                self._shut()

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # already closed: there is nothing left to cut

    def cancel(self) -> None:
        """Stop the clock and let the socket go."""
        self._timer.cancel()
        with self._lock:
            self._socket = None


_DEADLINE: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def _hold(connection: HTTPConnection) -> None:
    deadline = _DEADLINE.get()
    if deadline is not None and connection.sock is not None:
        deadline.hold(connection.sock)


class _Once(HTTPConnection):
    """A connection that serves one exchange.

    On a kept connection a response that nobody asked for, or one that is late, is taken for the answer to the next
    question, and neither a picture, a list of CIDs nor a NotFound says which question it answers.
    """

    @property
    def is_connected(self) -> bool:
        """False: the pool opens the connection anew before it is used again."""
        return False

    def getresponse(self) -> Any:
        """The response, whose socket the deadline takes charge of."""
        _hold(self)
        return super().getresponse()


class _Connection(_Once):
    pass


class _SecureConnection(_Once, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _MonotonicBucket(SQLiteBucket):
    """The limiter's shared log, on the clock that does not jump."""

    def now(self) -> int:
        return time.monotonic_ns() // 1_000_000


class _Buckets(HostBucketFactory):
    """One shared log a host, in one file; ``leak_interval`` is how often old entries are swept, in ms."""

    def __init__(self, path: Path, policy: Policy) -> None:
        super().__init__(rates=_rates(policy, policy.per_second))
        self._path = path
        self.leak_interval = 10_000

    def _create_bucket(self, name: str) -> AbstractBucket:
        table = "bucket_" + "".join(c if c.isalnum() else "_" for c in name)
        database = open_memory(self._path)
        database.isolation_level = "DEFERRED"  # as the library's bucket expects it
        lock = FileLock(f"{self._path}.lock", poll_interval=0.005)
        with lock:
            database.execute(f"CREATE TABLE IF NOT EXISTS '{table}' (name VARCHAR, item_timestamp INTEGER)")
            database.execute(f"CREATE INDEX IF NOT EXISTS 'i_{table}' ON '{table}' (item_timestamp)")
            # Entries of before a reboot lie ahead of this boot's monotonic clock.
            database.execute(f"DELETE FROM '{table}' WHERE item_timestamp > ?",  # noqa: S608
                             (time.monotonic_ns() // 1_000_000 + 1000,))
            database.commit()
        return _MonotonicBucket(self.rates, database, table=table, lock=lock)


def _rates(policy: Policy, per_second: float) -> list[Rate]:
    # One request a slot, not n a second: bursts at the edges of two windows would reach the server as 2n in one.
    # The library's window includes its lower bound, hence 1 ms less.
    slot = max(1, round(1000 / per_second) - 1)
    minute = round(policy.minute * 1000)
    if policy.per_minute * slot >= minute:  # the slots alone keep the minute's limit
        return [Rate(1, slot)]
    return [Rate(1, slot), Rate(max(policy.per_minute, 2), minute)]


class SharedLimiter(Limiter):
    """Lets one request of all processes through a slot; waits out pauses and follows the throttling colour."""

    CATCH_UP_MS = 40
    """A slot that was taken late by no more than this counts as taken in time, so that delays do not add up."""

    def __init__(self, path: Path, pace: Pace) -> None:
        super().__init__(_Buckets(path, pace.policy))
        self._pace = pace
        self._turn = threading.Lock()

    def try_acquire(self, name: str = "", weight: int = 1, blocking: bool = True, timeout: float = -1) -> bool:
        """True once a request may leave; raises Blocked or Interrupted instead of waiting for ever."""
        with self._turn:
            while True:
                self._pace.clear()
                self._take_slot(name)
                if not self._pace.paused():  # another process may have been refused while this one waited
                    return True

    def _take_slot(self, name: str) -> None:
        item = cast(RateItem, self.bucket_factory.wrap_item(name))
        bucket = cast(_MonotonicBucket, self.bucket_factory.get(item))
        due = 0
        while True:
            bucket.rates = _rates(self._pace.policy, self._pace.rate())
            now = bucket.now()
            item.timestamp = due if 0 < now - due <= self.CATCH_UP_MS else now
            if bucket.put(item):
                return
            due = item.timestamp + cast(int, bucket.waiting(item))
            self._pace.sleep(max(0, due - bucket.now()) / 1000)


class _DeadlineAdapter(HTTPAdapter):
    """Sends under a deadline that starts when the rate limit has let the request through."""

    def __init__(self, policy: Policy, pace: Pace, connections: int) -> None:
        self._policy = policy
        self._pace = pace
        self._counting = threading.Lock()
        self.sent = 0
        super().__init__(pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make pools whose connections hand their socket to the deadline."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, **kwargs: Any
    ) -> requests.Response:
        """The answer's head; its body is to be read before the deadline, which travels with it."""
        deadline = Deadline(self._policy.deadline)
        ticket = self._pace.depart()
        with self._counting:
            self.sent += 1
        token = _DEADLINE.set(deadline)
        deadline.start()
        try:
            response = super().send(request, **kwargs)
        except BaseException as error:
            deadline.cancel()
            self._pace.arrive(ticket)
            if deadline.passed:
                raise Transient(f"no answer within {self._policy.deadline:g} s") from error
            raise
        finally:
            _DEADLINE.reset(token)
        response.deadline, response.ticket = deadline, ticket  # type: ignore[attr-defined]
        return response


class PoliteAdapter(LimiterMixin, _DeadlineAdapter):  # type: ignore[misc]
    """requests-ratelimiter's adapter: the shared limiter first, then one exchange under a deadline."""

    def __init__(self, path: Path, policy: Policy, pace: Pace, connections: int) -> None:
        self._policy, self._pace = policy, pace
        LimiterMixin.__init__(
            self, limiter=SharedLimiter(path, pace), limit_statuses=(), policy=policy, pace=pace,
            connections=connections,
        )

    def close(self) -> None:
        """Close the connections and the limiter's file."""
        super().close()
        self.limiter.bucket_factory.close()


class _Inflater:
    """Undoes gzip with bounded output, and knows whether the stream came to its end."""

    def __init__(self, cap: int) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._left = cap
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes of ``data``; raises TransportError as soon as there are more than the cap."""
        out = []
        while data:
            if self.complete:  # another gzip member follows
                self._stream, self.complete = zlib.decompressobj(16 + zlib.MAX_WBITS), False
            piece = self._stream.decompress(data, min(self._left, CHUNK) + 1)
            self._left -= len(piece)
            if self._left < 0:
                raise _too_large()
            out.append(piece)
            self.complete = self._stream.eof
            data = self._stream.unused_data if self.complete else self._stream.unconsumed_tail
        return b"".join(out)


def _too_large() -> TransportError:
    return TransportError("the answer is larger than its kind can be; reading was stopped")


def read_body(response: requests.Response, cap: int) -> bytes:
    """The whole decoded body of at most ``cap`` bytes.

    Raises Transient when it is cut short, cannot be decoded or is late, TransportError when it is too large.
    """
    deadline: Deadline = response.deadline  # type: ignore[attr-defined]
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise Transient(f"the answer is encoded as {encoding[:40]!r}, which was not asked for")
    inflater = _Inflater(cap) if "gzip" in encoding else None
    pieces: list[bytes] = []
    size = 0
    while True:
        chunk = response.raw.read1(CHUNK, decode_content=False)
        if deadline.passed:
            raise Transient("the answer was not complete at the deadline")
        if not chunk:
            break
        piece = inflater.feed(chunk) if inflater else chunk
        size += len(piece)
        if size > cap:
            raise _too_large()
        pieces.append(piece)
    if inflater and pieces and not inflater.complete:
        raise Transient("the gzip stream of the answer ends too early")
    return b"".join(pieces)
