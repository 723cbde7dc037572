"""Downloads one large file: resumed where it broke off, under a total deadline and a size cap, renamed when complete.

Requests' timeouts count per read, so a server that drips would never hit them; here every piece looks at the clock.
The partial file keeps the ETag that it belongs to, and ``If-Range`` makes a server that has changed the file send it
from the start (RFC 9110 §13.1.5).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kb.errors import Transient, TransportError, UsageError
from kb.http.reasons import reason
from kb.output import say

if TYPE_CHECKING:
    import requests

ATTEMPTS = 5
PIECE = 1 << 18
TIMEOUT = (10.0, 30.0)
_RETRYABLE = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the file may be, in bytes, and how long all attempts together may take, in seconds."""

    size: int = 4 << 30
    seconds: float = 3600.0
    pause: float = 2.0


def download(
    url: str,
    folder: Path,
    *,
    limits: Limits = Limits(),
    agent: str = "mkmed",
    heard: Callable[[int], None] | None = None,
) -> Path:
    """Where the file lies after it came whole; one that is there already is not asked for again.

    ``heard`` is told the bytes of every piece. Raises UsageError for another scheme than http(s), TransportError when
    the server refuses, Transient when it does not get through; what has come by then is kept for the next call.
    """
    if not re.match(r"https?://[^/]+/", url):
        raise UsageError(f"{url} is not an http(s) address of a file", hint="--url https://…/drkg.tar.gz")
    target = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{_safe_name(url)}"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limits.seconds
    part = target.with_name(target.name + ".part")
    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(limits.pause * 2**attempt, max(0.0, deadline - time.monotonic())))
        try:
            _fetch(url, part, limits, deadline, agent, heard)
        except Transient as error:
            last = error
            if time.monotonic() >= deadline:
                break
            say(f"{target.name.partition('-')[2]}: {last}; trying again" if attempt + 1 < ATTEMPTS else "giving up")
            continue
        _publish(part, target)
        return target
    raise _gave_up(url, part, last)


def _gave_up(url: str, part: Path, last: Exception | None) -> Transient:
    """The error for a file of which something came, or nothing."""
    if part.exists() and part.stat().st_size:
        return Transient(f"{url} did not come whole: {last}",
                         hint="run the same command again: it goes on where it stopped")
    return Transient(f"nothing came from {url}: {last}",
                     hint="check the address and the network, or fetch it elsewhere and give --path FILE")


def _safe_name(url: str) -> str:
    """The last part of the address, as a file name that cannot lead anywhere."""
    last = url.split("?", 1)[0].split("#", 1)[0].rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_.-]", "_", last).strip(".") or "file"


def _fetch(
    url: str, part: Path, limits: Limits, deadline: float, agent: str, heard: Callable[[int], None] | None
) -> None:
    """Complete the partial file; raises Transient when that breaks off."""
    import requests
    import urllib3

    offset, tag = _resume_point(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": agent}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            offset = _accept(answer, part, offset)
            expected = _expected_size(answer, offset)
            if expected is not None and expected > limits.size:
                raise TransportError(f"{url} has {expected:,} bytes, more than the limit of {limits.size:,}")
            with part.open("ab") as out:
                got = _pour(answer, out, offset, limits, deadline, heard)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException | TimeoutError):
            raise
        raise Transient(reason(error)) from None
    if expected is not None and got < expected:
        raise Transient(f"{got:,} of {expected:,} bytes came")


def _resume_point(part: Path) -> tuple[int, str]:
    """How many bytes there are, and the validator of what they belong to; (0, "") when it is not known."""
    note = part.with_name(part.name + ".json")
    if not part.exists() or not note.exists():
        part.unlink(missing_ok=True)
        return 0, ""
    tag = json.loads(note.read_text()).get("tag", "")
    return (part.stat().st_size, tag) if tag else (0, "")


def _accept(answer: requests.Response, part: Path, offset: int) -> int:
    """From which byte the answer goes on; the partial file is cut back to it."""
    if answer.status_code in _RETRYABLE:
        raise Transient(f"HTTP {answer.status_code}")
    if answer.status_code == 416:
        part.unlink(missing_ok=True)
        raise Transient("the server has less than what came before; starting again")
    if answer.status_code not in (200, 206):
        raise TransportError(f"{answer.url} answered HTTP {answer.status_code}", hint="check --url")
    start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    begins = int(start.group(1)) if answer.status_code == 206 and start else 0
    if begins > offset:
        raise TransportError(f"{answer.url} answered from byte {begins}, not {offset}")
    part.touch()
    os.truncate(part, begins)
    tag = answer.headers.get("ETag", "")
    tag = answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    part.with_name(part.name + ".json").write_text(json.dumps({"url": answer.url, "tag": tag}))
    return begins


def _expected_size(answer: requests.Response, offset: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return offset + int(length) if length.isdigit() else None


def _pour(
    answer: requests.Response,
    out: object,
    offset: int,
    limits: Limits,
    deadline: float,
    heard: Callable[[int], None] | None,
) -> int:
    """The file's size after all that the server sent was appended."""
    while piece := answer.raw.read1(PIECE):
        offset += len(piece)
        if offset > limits.size:
            raise TransportError(f"{answer.url} sends more than the limit of {limits.size:,} bytes")
        out.write(piece)  # type: ignore[attr-defined]
        if heard is not None:
            heard(len(piece))
        if time.monotonic() > deadline:
            raise Transient(f"the deadline of {limits.seconds:g} s has passed at {offset:,} bytes")
    return offset


def _publish(part: Path, target: Path) -> None:
    """Give the complete file its name, after it is on disk."""
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(target)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
