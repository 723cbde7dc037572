"""Files from outside, opened safely: regular files only, unpacked up to a limit, read line by line within bounds.

A device never ends and a pipe never begins, so both are refused before a byte is read. gzip is undone on the way and
stops at its limit; nothing is extracted to disk, so a name inside an archive cannot lead anywhere.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kb.errors import ConfigError, DataError, SourceError, UsageError

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError)
"""What Python raises for an archive that is cut off or altered."""
GZIP = b"\x1f\x8b"
SMALL = 64 << 20
"""Bytes that a file of settings, ids or visits may have."""
FLOOR, RATIO = 64 << 20, 100
"""A table may unpack to 64 MiB, or to a hundred times its size, whichever is more."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: Path, what: str) -> io.BufferedReader:
    """The regular file ``path``, open for reading; ``what`` names the option or the use in errors.

    Raises UsageError when there is none, or when it is a folder, a pipe, a device or a socket, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0))
    except FileNotFoundError:
        raise UsageError(f"{what}: {path} does not exist", hint=f"check {what}") from None
    except (OSError, ValueError) as error:  # a name with NUL is a ValueError
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"{what}: {path} cannot be read: {reason}", hint=f"check {what}") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    kind = next((name for check, name in _KINDS if check(mode)), "not a regular file")
    raise UsageError(f"{what}: {path} is {kind}, not a file", hint="give a regular file")


def require_regular(path: Path, what: str) -> Path:
    """The path, if it is a readable regular file; raises UsageError otherwise, as ``open_regular`` does."""
    open_regular(path, what).close()
    return path


def read_regular(path: Path, what: str, limit: int = SMALL) -> bytes:
    """All bytes of a regular file; raises UsageError for anything else and for more than ``limit`` bytes."""
    with open_regular(path, what) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise UsageError(f"{what}: {path} has more than {limit:,} bytes", hint="is it the right file?")
    return data


def read_text(path: Path, what: str, limit: int = SMALL) -> str:
    """The text of a regular file in UTF-8, or in UTF-16 where a byte order mark says so; the mark is left out.

    Raises UsageError for what is no regular file, too large, or in another encoding.
    """
    data = read_regular(path, what, limit)
    try:
        return data.decode(encoding_of(data[:4]))
    except UnicodeDecodeError as error:
        raise UsageError(f"{what}: {path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The table of a TOML file; raises UsageError for what is no regular file, ConfigError for what is no TOML."""
    import tomllib

    try:
        return tomllib.loads(read_text(path, what))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a bare ValueError
        raise ConfigError(f"{path} is not TOML: {error}", hint="a line reads name = value, text in quotes") from None


def encoding_of(head: bytes) -> str:
    """The codec of a text that begins with ``head``: UTF-16 by its byte order mark, else UTF-8 with or without one."""
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def limit_of(path: Path) -> int:
    """How many bytes a packed table may unpack to."""
    return max(FLOOR, RATIO * path.stat().st_size)


class Capped(io.RawIOBase):
    """A stream that raises SourceError once more than ``limit`` bytes were read from it, or when it is damaged."""

    def __init__(self, inner: BinaryIO, limit: int, name: str) -> None:
        super().__init__()
        self._inner, self._limit, self._name = inner, limit, name
        self.taken = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """How many bytes were put into ``buffer``."""
        try:
            data = self._inner.read(len(buffer))
        except DAMAGED as error:
            raise SourceError(f"{self._name} is damaged: {error}", hint="download it again") from None
        self.taken += len(data)
        if self.taken > self._limit:
            raise SourceError(f"{self._name} unpacks to more than {self._limit:,} bytes", hint="is it the right file?")
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_plain(path: Path, limit: int | None = None, what: str = "--path") -> Iterator[io.BufferedReader]:
    """The bytes of a regular file, gunzipped where its content is gzip, capped at ``limit`` bytes (``limit_of``).

    A byte order mark of UTF-8, as editors of Windows write it, is left out.
    """
    with open_regular(path, what) as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        inner = gzip.GzipFile(fileobj=raw) if packed else raw
        size = limit_of(path) if limit is None else limit
        yield without_mark(io.BufferedReader(Capped(inner, size, path.name), 1 << 20))  # type: ignore[arg-type]


def without_mark(stream: io.BufferedReader) -> io.BufferedReader:
    """The stream, behind a byte order mark of UTF-8 where it begins with one."""
    if stream.peek(3).startswith(codecs.BOM_UTF8):
        stream.read(3)
    return stream


@contextmanager
def open_member(path: Path, wanted: str, limit: int) -> Iterator[io.BufferedReader]:
    """The bytes of the first regular file named ``wanted`` (whatever its folder) in a tar or tar.gz.

    Raises SourceError when there is none; links, devices and folders of that name do not count.
    """
    with open_plain(path, limit) as plain:
        try:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                for member in archive:
                    inner = archive.extractfile(member) if member.isreg() else None
                    if inner is not None and member.name.rsplit("/", 1)[-1] == wanted:
                        yield io.BufferedReader(Capped(inner, limit, wanted), 1 << 20)  # type: ignore[arg-type]
                        return
        except DAMAGED as error:
            raise SourceError(f"{path.name} is damaged: {error}", hint="download it again") from None
    raise SourceError(f"{path.name} holds no file {wanted}", hint="is it the right archive?")


def read_lines(stream: BinaryIO, longest: int) -> Iterator[bytes | None]:
    """The lines of a stream with their ends; None for one of more than ``longest`` bytes, which is passed over."""
    while line := stream.readline(longest + 1):
        if len(line) <= longest or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)
        yield None


def is_gzip(path: Path) -> bool:
    """Whether the file's content is gzip, whatever its name."""
    with open_regular(path, "--path") as raw:
        return raw.read(2) == GZIP


def is_tar(path: Path) -> bool:
    """Whether the file, gunzipped where need be, begins like a tar archive (POSIX or GNU magic)."""
    with open_plain(path, 1 << 21) as plain:
        return plain.read(262)[257:262] == b"ustar"


def sha256_of(path: Path) -> bytes:
    """The sha256 of a regular file's bytes as they lie on disk."""
    with open_regular(path, "--path") as raw:
        return hashlib.file_digest(raw, "sha256").digest()


def require_text(head: bytes, name: str) -> str:
    """The codec of a table that begins with ``head``; raises DataError for bytes that are no text."""
    codec = encoding_of(head)
    if codec != "utf-16" and head.count(0) > len(head) // 4:
        raise DataError(f"{name} is not UTF-8 text: it may be UTF-16 without a mark, or no table",
                        hint="save it as UTF-8")
    return codec
