"""Files as byte streams that end at a limit: gzip is undone on the way, and a bomb stops at its cap, not at the disk's.

Nothing is ever extracted to disk, so a name inside an archive cannot lead anywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kb.errors import SourceError

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError)
"""What Python raises for an archive that is cut off or altered."""

GZIP = b"\x1f\x8b"


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
def open_plain(path: Path, limit: int) -> Iterator[io.BufferedReader]:
    """The file's bytes, gunzipped where its content is gzip, capped at ``limit`` bytes."""
    with path.open("rb") as raw:
        inner = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP else raw
        yield io.BufferedReader(Capped(inner, limit, path.name), 1 << 20)  # type: ignore[arg-type]


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


def is_gzip(path: Path) -> bool:
    """Whether the file's content is gzip, whatever its name."""
    with path.open("rb") as raw:
        return raw.read(2) == GZIP


def is_tar(path: Path) -> bool:
    """Whether the file, gunzipped where need be, begins like a tar archive (POSIX or GNU magic)."""
    with open_plain(path, 1 << 20) as plain:
        return plain.read(262)[257:262] == b"ustar"


def sha256_of(path: Path) -> bytes:
    """The sha256 of a file's bytes as they lie on disk."""
    with path.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").digest()
