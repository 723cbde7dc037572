"""What stands before every request: its token, its size, its time, and the figures that are kept of it.

Plain ASGI, so that a body is counted while it comes and nothing is read twice.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOGGER = logging.getLogger(__name__)
OPEN_PATHS = ("/healthz",)
"""What answers without a token: whether the service is alive says nothing of what it knows."""
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
           (b"cache-control", b"no-store")]


class Figures:
    """Requests by route, method and status, their time, and how many are being answered."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("route", "method")
        self.requests = Counter("mkmed_requests", "Answered requests.", (*names, "status"), registry=self.registry)
        self.seconds = Histogram("mkmed_request_seconds", "Time to the answer.", names, registry=self.registry,
                                 buckets=(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
        self.running = Gauge("mkmed_requests_running", "Requests being answered.", registry=self.registry)


@dataclass(frozen=True)
class RequestLimits:
    """Bounds of one request."""

    body: int = 8 * 2**20
    """Bytes."""
    seconds: float = 10.0
    token: str | None = None
    hosts: tuple[str, ...] = ()
    """The names that a request may call this service by; empty for any.

    Without a token they keep out the pages of other origins, which can make a name of theirs mean this machine.
    """


class Guard:
    """An ASGI application before another: 401 without the token, 421 by another name, 413 for a long body, 504 late."""

    def __init__(self, app: App, limits: RequestLimits, figures: Figures) -> None:
        self.app, self.limits, self.figures = app, limits, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        self.figures.running.inc()

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        try:
            await self._answer(scope, receive, told, lambda: status)
        finally:
            self.figures.running.dec()
            route = getattr(scope.get("route"), "path", "other")
            labels = {"route": route, "method": scope["method"] if route != "other" else "other"}
            self.figures.requests.labels(**labels, status=status).inc()
            seconds = time.perf_counter() - begun
            self.figures.seconds.labels(**labels).observe(seconds)
            # never the path as asked, nor the query: they hold what somebody looks for
            LOGGER.info("request", extra={"fields": {**labels, "status": status, "ms": round(seconds * 1000, 1)}})

    async def _answer(self, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]) -> None:
        headers = dict(scope["headers"])
        if not self._known(scope["path"], headers.get(b"authorization", b"")):
            await refuse(send, 401, "no token, or another one", "Authorization: Bearer TOKEN")
            return
        called = headers.get(b"host", b"").decode("latin-1").lower()
        if self.limits.hosts and re.sub(r":\d+$", "", called) not in self.limits.hosts:
            await refuse(send, 421, "this service is not called that", f"ask for {self.limits.hosts[0]}")
            return
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.limits.body:
            await self._too_long(send)
            return
        body, more = bytearray(), True
        started = False
        try:
            async with asyncio.timeout(self.limits.seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.limits.body:
                        await self._too_long(send)
                        return
                given = False

                async def again() -> Message:
                    nonlocal given
                    if given:
                        return await receive()
                    given = True
                    return {"type": "http.request", "body": bytes(body), "more_body": False}

                async def noted(message: Message) -> None:
                    nonlocal started
                    started = True
                    await send(message)

                await self.app(scope, again, noted)
        except TimeoutError:
            if not started:
                await refuse(send, 504, f"no answer within {self.limits.seconds:g} s", "ask for less")

    def _known(self, path: str, given: bytes) -> bool:
        if self.limits.token is None or path in OPEN_PATHS:
            return True
        return hmac.compare_digest(given, b"Bearer " + self.limits.token.encode())

    async def _too_long(self, send: Send) -> None:
        await refuse(send, 413, f"more than {self.limits.body} bytes", "ask in parts")


async def refuse(send: Send, status: int, error: str, hint: str) -> None:
    """Answer with an error in the service's own form."""
    body = json.dumps({"error": error, "hint": hint}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
               (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
