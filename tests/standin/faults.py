"""What can go wrong on the way: answers that lie, and bytes that break off. Each is named and asked for by tests."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.standin.server import Handler


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int
    type: str
    body: bytes
    retry_after: str | None = None
    location: str | None = None
    colour: str | None = "Green"
    refused: bool = False


def fault_body(code: str, message: str, status: int) -> Reply:
    body = json.dumps({"Fault": {"Code": code, "Message": message, "Details": [message]}}, indent=1).encode()
    return Reply(status, "application/json", body)


HTML = b"<!DOCTYPE html>\n<html><head><title>Service unavailable</title></head><body><h1>Sorry</h1></body></html>\n"
BUSY = fault_body("PUGREST.ServerBusy", "Too many requests or server too busy", 503)


def _json(reply: Reply, change: Callable[[Any], Any]) -> Reply:
    """The reply with its JSON changed; what is not JSON becomes what the change makes of an empty object."""
    try:
        document = json.loads(reply.body)
    except ValueError:
        document = {}
    return replace(reply, body=json.dumps(change(document)).encode())


def _renumber(value: Any, old: set[int], new: int) -> Any:
    if isinstance(value, dict):
        return {k: _renumber(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_renumber(v, old, new) for v in value]
    if isinstance(value, str) and value.isdigit() and int(value) in old:
        return str(new)
    return new if isinstance(value, int) and value in old else value


def _swap(reply: Reply, cids: list[int]) -> Reply:
    """The answer of another compound."""
    if reply.type == "chemical/x-mdl-sdfile":
        body = reply.body
        for cid in cids:
            body = body.replace(b"%d\n" % cid, b"%d\n" % (cid + 1))
        return replace(reply, body=body)
    return _json(reply, lambda d: _renumber(d, set(cids), 987654321))


def _empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _empty(v) for k, v in value.items()}
    return [] if isinstance(value, list) else value


def _twice(reply: Reply) -> Reply:
    if reply.type == "chemical/x-mdl-sdfile":
        return replace(reply, body=reply.body * 2)

    def change(document: Any) -> Any:
        for key in ("PropertyTable", "InformationList"):
            for inner, rows in document.get(key, {}).items():
                document[key][inner] = rows * 2
        return document
    return _json(reply, change)


SELF = "<the same address>"

LIES: dict[str, Callable[[Reply, list[int]], Reply]] = {
    "503 busy": lambda r, c: replace(BUSY, retry_after="0"),
    "503 html": lambda r, c: Reply(503, "text/html", HTML),
    "429 html": lambda r, c: Reply(429, "text/html", HTML, colour=None),
    "429 blacklisted": lambda r, c: replace(BUSY, status=429, refused=True),
    "404 busy": lambda r, c: replace(BUSY, status=404),
    "404 html": lambda r, c: Reply(404, "text/html", HTML),
    "404 empty": lambda r, c: Reply(404, "application/json", b""),
    "404 list": lambda r, c: Reply(404, "application/json", b"[]"),
    "200 fault": lambda r, c: replace(BUSY, status=200),
    "200 server error": lambda r, c: fault_body("PUGREST.ServerError", "oops", 200),
    "200 html": lambda r, c: Reply(200, "text/html", HTML),
    "200 html as data": lambda r, c: Reply(200, r.type, HTML),
    "200 empty": lambda r, c: Reply(200, r.type, b""),
    "200 list": lambda r, c: Reply(200, "application/json", b"[]"),
    "200 null": lambda r, c: Reply(200, r.type, b"null"),
    "200 object": lambda r, c: Reply(200, r.type, b"{}"),
    "200 waiting": lambda r, c: Reply(200, "application/json", b'{"Waiting":{"ListKey":"33","Message":"running"}}'),
    "202 waiting": lambda r, c: Reply(202, "application/json", b'{"Waiting":{"ListKey":"33","Message":"running"}}'),
    "204": lambda r, c: Reply(204, r.type, b""),
    "wrong type": lambda r, c: replace(r, type="text/plain"),
    "empty lists": lambda r, c: _json(r, _empty),
    "bad utf-8": lambda r, c: replace(r, body=r.body[:20] + b"\xff\xfe\xfd" + r.body[20:]),
    "nan": lambda r, c: replace(r, body=r.body.replace(b": ", b": NaN, \"x\": ", 1)
                                if r.type == "application/json" else b"NaN"),
    "half": lambda r, c: replace(r, body=r.body[:len(r.body) // 2]),
    "one byte short": lambda r, c: replace(r, body=r.body[:-4]),
    "another compound": _swap,
    "twice": lambda r, c: _twice(r),
    "500 unknown": lambda r, c: fault_body("PUGREST.Unknown", "unknown", 500),
    "504 timeout": lambda r, c: fault_body("PUGREST.Timeout", "The request timed out", 504),
    "502": lambda r, c: Reply(502, "text/html", HTML),
    "not found in the middle": lambda r, c: Reply(200, r.type, b'{"a": {"Fault": {"Code": "PUGREST.NotFound"}}}'),
    "not found behind 503": lambda r, c: fault_body("PUGREST.NotFound", "No data", 503),
    "to a file": lambda r, c: Reply(302, "text/html", b"", location="file:///etc/passwd"),
    "to another host": lambda r, c: Reply(302, "text/html", b"", location="http://127.0.0.2:9/rest/pug"),
    "to another port": lambda r, c: Reply(302, "text/html", b"", location="http://127.0.0.1:9/rest/pug"),
    "to another question": lambda r, c: Reply(302, "text/html", b"", location="?again"),
    "to itself": lambda r, c: Reply(302, "text/html", b"", location=SELF),
    "black": lambda r, c: replace(BUSY, colour="Black"),
}
"""Answers that arrive whole and must never become ``present`` or ``absent``."""


def _dirty(value: Any) -> Any:
    """The same document with text that Postgres refuses: NUL, a lone surrogate, a decomposed letter."""
    if isinstance(value, dict):
        return {k: _dirty(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_dirty(v) for v in value]
    return value.replace(" is ", " i\x00s \ud800 e\u0301 ") if isinstance(value, str) else value


ODD: dict[str, Callable[[Reply, list[int]], Reply]] = {
    "dirty": lambda r, c: _json(r, _dirty) if r.type == "application/json" else r,
}
"""Answers that are odd but true."""


def _head(reply: Reply, *more: str, version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {reply.status} X", f"Content-Type: {reply.type}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _short_length(h: Handler, r: Reply) -> None:
    h.wfile.write(_head(r, f"Content-Length: {len(r.body) + 100}") + r.body)


def _short_chunk(h: Handler, r: Reply) -> None:
    h.wfile.write(_head(r, "Transfer-Encoding: chunked") + f"{len(r.body) + 50:x}\r\n".encode() + r.body)


def _no_last_chunk(h: Handler, r: Reply) -> None:
    half = r.body[:max(1, len(r.body) // 2)]
    h.wfile.write(_head(r, "Transfer-Encoding: chunked") + f"{len(half):x}\r\n".encode() + half + b"\r\n")


def _short_gzip(h: Handler, r: Reply) -> None:
    packed = gzip.compress(r.body)[:-9]
    h.wfile.write(_head(r, "Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed)


def _broken_gzip(h: Handler, r: Reply) -> None:
    packed = bytearray(gzip.compress(r.body))
    packed[len(packed) // 2] ^= 0xFF
    h.wfile.write(_head(r, "Content-Encoding: gzip", f"Content-Length: {len(packed)}") + bytes(packed))


def _early_close(h: Handler, r: Reply) -> None:
    h.wfile.write(_head(r, "Connection: close") + r.body[:len(r.body) // 2])


def _reset(h: Handler, r: Reply) -> None:
    import socket
    import struct

    h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _silence(h: Handler, r: Reply) -> None:
    h.server.standin.nap(30)


def _slow_head(h: Handler, r: Reply) -> None:
    for byte in _head(r, "X-Slow: " + "x" * 400):
        h.wfile.write(bytes([byte]))
        h.wfile.flush()
        h.server.standin.nap(0.1)


def _drip(h: Handler, r: Reply) -> None:
    h.wfile.write(_head(r, f"Content-Length: {len(r.body)}"))
    for byte in r.body:
        h.wfile.write(bytes([byte]))
        h.wfile.flush()
        h.server.standin.nap(0.1)


def _bomb(h: Handler, r: Reply) -> None:
    """200 MB of blanks in 200 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    h.wfile.write(_head(r, "Content-Encoding: gzip", "Connection: close"))
    block = b" " * 2**20
    for _ in range(200):
        h.wfile.write(packer.compress(block))
    h.wfile.write(packer.flush())


def _huge(h: Handler, r: Reply) -> None:
    h.wfile.write(_head(r, "Connection: close"))
    block = b" " * 2**16
    end = time.monotonic() + 10
    while time.monotonic() < end:
        h.wfile.write(block)


def _nonsense(h: Handler, r: Reply) -> None:
    h.wfile.write(b"\x00\x01\x02 not http at all\r\n\r\n")


def _other_encoding(h: Handler, r: Reply) -> None:
    h.wfile.write(_head(r, "Content-Encoding: br", f"Content-Length: {len(r.body)}") + r.body)


WIRE: dict[str, Callable[[Handler, Reply], None]] = {
    "content-length too long": _short_length, "chunk cut": _short_chunk, "no last chunk": _no_last_chunk,
    "gzip cut": _short_gzip, "gzip broken": _broken_gzip, "closed early": _early_close, "reset": _reset,
    "nonsense": _nonsense, "other encoding": _other_encoding, "bomb": _bomb, "huge": _huge,
    "silence": _silence, "slow head": _slow_head, "drip": _drip,
}
"""What breaks below HTTP's libraries, written to the socket byte by byte."""
