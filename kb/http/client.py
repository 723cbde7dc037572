"""One HTTP exchange under a total deadline, a byte cap and a rate limit that all processes share; and the client of a
service, which repeats what may pass.
"""

from __future__ import annotations

import email.utils
import ipaddress
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urljoin, urlsplit

import requests
import tenacity
import urllib3
from filelock import FileLock
from pyrate_limiter import AbstractBucket, Limiter, Rate, RateItem, SQLiteBucket
from requests.adapters import HTTPAdapter
from requests_ratelimiter import HostBucketFactory, LimiterMixin
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from kb.errors import ConfigError, Transient, TransportError, Unusable
from kb.http.pace import Pace, Policy, open_memory, parse_throttle
from kb.http.reasons import reason
from kb.output import say
from kb.settings import Settings

# One HTTP exchange under a total deadline, a decoded-byte cap and a rate limit that all processes share.

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


# HTTP as mkmed speaks it: polite, bounded, patient and honest about what came back.
#
# The rate limit and the pauses are shared by all processes of this machine (``kb.http.pace``). Retries stand outside
# the limiter, so each of them waits for its slot as well. An answer is whatever arrived completely; what it means is
# decided by the caller's ``judge``, never by its status alone.

T = TypeVar("T")

MAX_REDIRECTS = 2
TELL_SECONDS = 60.0
REFUSALS = (429, 503)
UNUSABLE = 2
"""Answers to one question that cannot be true, after which it is not asked again."""
LONGEST_WAIT = 86_400.0
"""The longest ``Retry-After`` that makes sense, in seconds: a day."""


@dataclass(frozen=True)
class Request:
    """What is asked: a path below the base URL, query ``params``, and a ``form`` (which makes it a POST)."""

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    cap: int = 32 * 2**20
    """The most decoded bytes that the answer may have."""
    beside: bool = False
    """Whether the path lies beside the last part of the base URL, and not below it."""

    @property
    def method(self) -> str:
        """``POST`` with a form, else ``GET``."""
        return "GET" if self.form is None else "POST"


@dataclass(frozen=True)
class HttpAnswer:
    """What came back, complete and decoded."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    retrieved_at: datetime
    elapsed: float
    departed: float
    """When the request left, in monotonic seconds."""


class _Session(requests.Session):
    """A session that leaves redirects to us: requests would read their bodies without a bound."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: nothing is followed."""
        return None


class _Unusable(tenacity.stop.stop_base):
    """Stops after so many answers that cannot be used: the service means what it says."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        self._left -= isinstance(state.outcome and state.outcome.exception(), Unusable)
        return self._left <= 0


class Transport:
    """One service: its base URL, its pace, and a pool of connections that threads may share."""

    def __init__(self, base_url: str, settings: Settings, *, policy: Policy | None = None,
                 connections: int = 16) -> None:
        self._base = base_url.rstrip("/")
        self._origin = _origin(self._base)
        self._told = -TELL_SECONDS
        self.policy = policy or policy_for(base_url, settings)
        settings.cache.mkdir(parents=True, exist_ok=True)
        host = urlsplit(self._base).netloc
        self.pace = Pace(settings.cache / "pace.sqlite", host, self.policy)
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.trust_env = not _is_loopback(self._base)
        self._session.headers.update({"User-Agent": _user_agent(settings), "Accept-Encoding": "gzip",
                                      "Connection": "close"})  # one exchange a connection: kb/http/client.py
        self._adapter = PoliteAdapter(settings.cache / "slots.sqlite", self.policy, self.pace, connections)
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sent(self) -> int:
        """How many requests have left, those that failed included."""
        return self._adapter.sent

    def close(self) -> None:
        """Wake waiting threads with Interrupted and close connections and files."""
        self.pace.stop()
        self._session.close()
        self.pace.close()

    def fetch(self, request: Request, judge: Callable[[HttpAnswer], T]) -> T:
        """What ``judge`` makes of the answer; asked again, politely, as long as something raises Transient.

        A Transient with ``retry_after`` means that the service is busy: every process pauses. Raises Transient when all
        attempts are used up (Unusable after ``UNUSABLE`` answers that cannot be true), Blocked when the service keeps
        refusing, TransportError when repeating cannot help.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            stop=tenacity.stop_after_attempt(self.policy.attempts)
            | tenacity.stop_after_delay(self.policy.give_up_after)
            | _Unusable(UNUSABLE),
            wait=tenacity.wait_exponential(self.policy.first_wait, 60.0)
            + tenacity.wait_random(0, self.policy.first_wait),
            sleep=self.pace.sleep,
            before_sleep=self._tell,
            reraise=True,
        )
        return retrying(self._attempt, request, judge)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        """Say what fails, once a minute at most, from the second failure of one request on."""
        error = state.outcome.exception() if state.outcome is not None else None
        now = time.monotonic()
        if isinstance(error, Transient) and state.attempt_number > 1 and now > self._told + TELL_SECONDS:
            self._told = now
            say(f"{error.message}; trying again (attempt {state.attempt_number} of {self.policy.attempts})")

    def _attempt(self, request: Request, judge: Callable[[HttpAnswer], T]) -> T:
        answer = self.send(request)
        throttle = parse_throttle(answer.headers.get("X-Throttling-Control"))
        retry_after = parse_retry_after(answer.headers.get("Retry-After"))
        try:
            verdict = judge(answer)
        except Transient as error:
            if answer.status in REFUSALS or throttle.blocked or error.retry_after is not None:
                self.pace.refused(answer.departed, max(retry_after or 0.0, error.retry_after or 0.0))
            raise
        if answer.status in REFUSALS or throttle.blocked:
            self.pace.refused(answer.departed, retry_after)
        else:
            self.pace.heard(throttle.colour, answer.departed)
        return verdict

    def send(self, request: Request) -> HttpAnswer:
        """One answer, complete, without judging it.

        At most two redirects are followed, and only within the origin and to the same question: an answer to another
        path or query would be taken for what was asked.
        """
        url = (self._base.rpartition("/")[0] if request.beside else self._base) + request.path
        params: Mapping[str, str] | None = request.params
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._exchange(request, url, params)
            location = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            url, params = _target(answer.url, location), None
            if not (_same_origin(url, self._origin) and _same_question(url, answer.url, request.path)):
                raise TransportError(f"{self.pace.host} redirected to another place, which was refused")
        raise TransportError(f"{self.pace.host} redirected more than {MAX_REDIRECTS} times")

    def _exchange(self, request: Request, url: str, params: Mapping[str, str] | None) -> HttpAnswer:
        policy = self.policy
        try:
            response = self._session.request(
                request.method, url, params=dict(params) if params else None, data=request.form, stream=True,
                allow_redirects=False, timeout=(policy.connect, policy.deadline),
            )
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise Transient(f"{self.pace.host} could not be asked: {reason(error)}") from error
        except requests.RequestException as error:
            raise TransportError(f"{self.pace.host} could not be asked: {reason(error)}") from error
        return self._receive(response, request.cap)

    def _receive(self, response: requests.Response, cap: int) -> HttpAnswer:
        ticket = response.ticket  # type: ignore[attr-defined]
        deadline = response.deadline  # type: ignore[attr-defined]
        try:
            body = read_body(response, cap)
        except (urllib3.exceptions.HTTPError, OSError, ValueError, zlib.error) as error:
            late = "was not complete at the deadline" if deadline.passed else f"broke off: {reason(error)}"
            raise Transient(f"the answer of {self.pace.host} {late}") from error
        finally:
            deadline.cancel()
            response.close()
            self.pace.arrive(ticket)
        return HttpAnswer(
            url=str(response.url), status=response.status_code, headers=response.headers, body=body,
            retrieved_at=datetime.now(UTC), elapsed=time.monotonic() - ticket[1], departed=ticket[1],
        )


def policy_for(base_url: str, settings: Settings) -> Policy:
    """The policy that the settings ask for; raises ConfigError where it would break PubChem's limits."""
    if settings.requests_per_second > 5 and urlsplit(base_url).hostname == "pubchem.ncbi.nlm.nih.gov":
        raise ConfigError("PubChem permits at most 5 requests a second", hint="set MKMED_REQUESTS_PER_SECOND=4")
    return Policy(
        per_second=settings.requests_per_second,
        per_minute=max(380, round(settings.requests_per_second * 60)),
        deadline=settings.request_deadline,
        connect=min(10.0, settings.request_deadline),
    )


def parse_retry_after(header: str | None) -> float | None:
    """Seconds to wait, from a ``Retry-After`` header in either of its two forms (RFC 9110 §10.2.3).

    None if there is no sense in it: neither digits nor a date of the calendar, or more than a day.
    """
    text = (header or "").strip()
    if not text.isascii() or len(text) > 64:
        return None
    if text.isdigit():
        seconds = float(text)
    else:
        try:
            moment = email.utils.parsedate_to_datetime(text)
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return max(0.0, seconds) if seconds <= LONGEST_WAIT else None


def _parts(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port; raises ConfigError for what mkmed does not speak."""
    try:
        scheme, host, port = _parts(url)
    except ValueError:
        scheme, host, port = "", "", 0
    if not host or not (scheme == "https" or (scheme == "http" and _is_loopback(url))):
        raise ConfigError(f"cannot ask {scheme or '?'}://{host or '?'}",
                          hint="give an https:// URL; plain http is for this machine only")
    return scheme, host, port


def _target(url: str, location: str) -> str:
    """The address that a redirect names, or an empty text for what is none."""
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def _same_origin(url: str, origin: tuple[str, str, int]) -> bool:
    try:
        return _parts(url) == origin
    except ValueError:  # not a URL at all
        return False


def _same_question(url: str, asked: str, path: str) -> bool:
    return urlsplit(url).path.endswith(path) and urlsplit(url).query == urlsplit(asked).query


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _user_agent(settings: Settings) -> str:
    try:
        release = version("mkmed")
    except PackageNotFoundError:
        release = "0"
    contact = "".join(c for c in settings.contact if c.isprintable() and c.isascii())
    return f"mkmed/{release}" + (f" (+{contact})" if contact else "")
