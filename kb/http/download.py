"""Downloads one large file: resumed where it broke off, bounded in time and size, checked before it is kept.

Requests' timeouts count per read, so a server that drips would never hit them; here every piece looks at the clock.
The partial file keeps the ETag and the size that it belongs to, and ``If-Range`` makes a server that has changed the
file send it from the start (RFC 9110 §13.1.5). What comes is believed when it is what was asked for: the range, the
version, the length, the kind that its name says, and the sha256 where one is published. Otherwise it is thrown away.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kb.errors import SourceError, Transient, TransportError, UsageError
from kb.http.reasons import reason
from kb.inputs import GZIP, open_plain, open_regular, sha256_of
from kb.output import say

if TYPE_CHECKING:
    import requests

ATTEMPTS = 5
PIECE = 1 << 18
TIMEOUT = (10.0, 30.0)
PACKED = (".gz", ".tgz", ".gz.part", ".tgz.part")
"""Names of files that are gzip, partial ones included."""
UNPACKED = 64 << 30
"""Bytes that a file may unpack to while it is checked."""
_RETRYABLE = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """How large the file may be, in bytes, and how long all attempts together may take, in seconds."""

    size: int = 4 << 30
    seconds: float = 3600.0
    pause: float = 2.0


def download(
    url: str,
    folder: Path,
    *,
    limits: DownloadLimits = DownloadLimits(),
    agent: str = "mkmed",
    heard: Callable[[int], None] | None = None,
) -> Path:
    """Where the file lies after it came whole; one that is there already is not asked for again.

    ``#sha256=<hex>`` at the end of the address says what it must be. ``heard`` is told the bytes of every piece. Raises
    UsageError for another scheme than http(s), TransportError when the server refuses, Transient when it does not get
    through; what has come by then is kept for the next call.
    """
    url, _, fragment = url.partition("#")
    wanted = fragment.removeprefix("sha256=").lower() if fragment.startswith("sha256=") else ""
    if not re.match(r"https?://[^/]+/", url) or (wanted and not re.fullmatch(r"[0-9a-f]{64}", wanted)):
        raise UsageError(f"{url} is not an http(s) address of a file", hint="--url https://…/drkg.tar.gz")
    target = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{_safe_name(url)}"
    if target.exists():
        if not _wrong_kind(target) and (not wanted or sha256_of(target).hex() == wanted):
            return target
        target.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limits.seconds
    part = target.with_name(target.name + ".part")
    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(limits.pause * 2**attempt, max(0.0, deadline - time.monotonic())))
        try:
            published = _fetch(url, part, limits, deadline, agent, heard)
            _check(part, target.name, wanted or published)
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
    return Transient(f"nothing came from {url} that could be kept: {last}",
                     hint="check the address and the network, or fetch it elsewhere and give --path FILE")


def _safe_name(url: str) -> str:
    """The last part of the address, as a file name that cannot lead anywhere."""
    last = url.split("?", 1)[0].split("#", 1)[0].rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_.-]", "_", last).strip(".")[-100:] or "file"


def _fetch(
    url: str, part: Path, limits: DownloadLimits, deadline: float, agent: str, heard: Callable[[int], None] | None
) -> str:
    """Complete the partial file; the sha256 that the server publishes, or "". Raises Transient if it breaks off."""
    import requests
    import urllib3

    offset, note = _resume_point(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": agent}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": note.tag}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            expected = _accept(answer, part, offset, note)
            if expected is not None and expected > limits.size:
                raise TransportError(f"{url} has {expected:,} bytes, more than the limit of {limits.size:,}")
            with part.open("ab") as out:
                got = _pour(answer, out, limits, deadline, heard)
            published = _published(answer)
            chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException | TimeoutError):
            raise
        if isinstance(error, requests.RequestException) and isinstance(error, ValueError):  # the address is none
            raise TransportError(f"{url} could not be asked: {reason(error)}", hint="check --url") from None
        raise Transient(reason(error)) from None
    if expected is not None and got != expected:
        if got > expected:
            _discard(part)
        raise Transient(f"{got:,} of {expected:,} bytes came")
    if expected is None and not chunked and not published and not part.name.endswith(PACKED):
        _discard(part)
        raise TransportError(f"{url} does not say how long the file is, so that nobody can tell whether it came whole",
                             hint="fetch it elsewhere and give --path FILE, or add #sha256=… to the address")
    return published


@dataclass(frozen=True, slots=True)
class _Note:
    """What a partial file is a part of: the validator and the size of the whole, where they are known."""

    tag: str = ""
    total: int | None = None


def _resume_point(part: Path) -> tuple[int, _Note]:
    """How many bytes there are, and of what; none where that is not known."""
    try:
        said = json.loads(part.with_name(part.name + ".json").read_text())
        tag, total = said["tag"], said["total"]
        if part.exists() and isinstance(tag, str) and tag and (total is None or isinstance(total, int)):
            return part.stat().st_size, _Note(tag, total)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # whatever it was a part of, it is not known any more
    _discard(part)
    return 0, _Note()


def _discard(part: Path) -> None:
    """Forget what has come."""
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".json").unlink(missing_ok=True)


def _accept(answer: requests.Response, part: Path, offset: int, note: _Note) -> int | None:
    """The size that the whole file will have, if it is told; the partial file is cut back to where the answer begins.

    Raises Transient, after what came before is forgotten, for a range, a version or a kind that was not asked for.
    """
    if answer.status_code in _RETRYABLE:
        raise Transient(f"HTTP {answer.status_code}")
    if answer.status_code not in (200, 206, 416):
        raise TransportError(f"{answer.url} answered HTTP {answer.status_code}", hint="check --url")
    length = answer.headers.get("Content-Length", "")
    size = int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None
    given = re.fullmatch(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)", answer.headers.get("Content-Range", ""))
    tag = answer.headers.get("ETag", "")
    tag = answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    total = size
    why = ""
    if answer.status_code == 416:
        why = "the server has less than what came before"
    elif answer.headers.get("Content-Encoding", "identity") != "identity":
        why = f"the file comes encoded as {answer.headers['Content-Encoding'][:20]!r}"
    elif answer.status_code == 206:
        total = int(given.group(3)) if given and given.group(3) != "*" else note.total
        if not given or int(given.group(1)) != offset:
            why = f"the server sent another range than from byte {offset:,}"
        elif (tag and note.tag and tag != note.tag) or (note.total is not None and total != note.total):
            why = "the server has another version of the file by now"
    if why:
        _discard(part)
        raise Transient(f"{why}; starting again")
    part.touch()
    os.truncate(part, offset if answer.status_code == 206 else 0)
    text = json.dumps({"url": answer.url, "tag": tag, "total": total})
    part.with_name(part.name + ".json").write_text(text)
    return total


def _published(answer: requests.Response) -> str:
    """The sha256 of the whole file in hex where the server states it (``Repr-Digest``, RFC 9530), or an empty text."""
    said = re.search(r"sha-256=:([A-Za-z0-9+/=]{44}):", answer.headers.get("Repr-Digest", ""))
    try:
        return base64.b64decode(said.group(1), validate=True).hex() if said else ""
    except ValueError:
        return ""


def _pour(
    answer: requests.Response, out: BinaryIO, limits: DownloadLimits, deadline: float,
    heard: Callable[[int], None] | None,
) -> int:
    """The file's size after all that the server sent was appended."""
    size = out.tell()
    while piece := answer.raw.read1(PIECE):
        size += len(piece)
        if size > limits.size:
            raise TransportError(f"{answer.url} sends more than the limit of {limits.size:,} bytes")
        out.write(piece)
        if heard is not None:
            heard(len(piece))
        if time.monotonic() > deadline:
            raise Transient(f"the deadline of {limits.seconds:g} s has passed at {size:,} bytes")
    return size


def _check(part: Path, name: str, wanted: str) -> None:
    """Raise Transient, after the file was thrown away, when it is not what its name or its sha256 say."""
    why = _wrong_kind(part, name)
    if not why and wanted and (found := sha256_of(part).hex()) != wanted:
        why = f"its sha256 is {found[:12]}…, not {wanted[:12]}…"
    if not why and name.endswith(PACKED):
        why = _broken(part)
    if why:
        _discard(part)
        raise Transient(f"what came is not the file: {why}; starting again")


def _wrong_kind(path: Path, name: str = "") -> str:
    """Why a file's first bytes are not those of what its name says, or an empty text."""
    name = (name or path.name).lower()
    with open_regular(path, "the download") as stream:
        head = stream.read(1024)
    if name.endswith(PACKED) and not head.startswith(GZIP):
        return "it is not gzip"
    is_page = re.match(rb"\s*(<\?xml[^>]*>\s*)?<(!doctype )?html", head, re.IGNORECASE)
    if is_page and not name.endswith((".html", ".htm")):
        return "it is an HTML page"
    return "" if head else "it is empty"


def _broken(path: Path) -> str:
    """Why a gzip file does not come to its end, or an empty text."""
    try:
        with open_plain(path, UNPACKED) as stream:
            while stream.read(PIECE):
                pass
    except SourceError as error:
        return error.message.partition(" is ")[2] or error.message
    return ""


def _publish(part: Path, target: Path) -> None:
    """Give the complete file its name, after it is on disk."""
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(target)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
