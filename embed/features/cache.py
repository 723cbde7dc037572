"""A content-addressed store of features: only what changed is computed again.

The key is (sha256 of the input, encoder, version). One folder per encoder and version; each batch is one immutable
``.npz`` shard that is named after the sha256 of its bytes, written under a temporary name, flushed and renamed, so a
killed process leaves either a whole shard or none and several processes may write at once. A shard whose bytes do not
have the sha256 of its name is told, removed and computed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.features.packed import Packed, concat
from kb.errors import DataError
from kb.output import say

SHA256_DIGITS = 64
TOLD = 1000
"""More missing features than this are announced: it will take a while."""

Compute = Callable[[list[int]], tuple[list[int], Packed]]


def sha256(data: bytes | str) -> bytes:
    """The 32-byte digest of ``data`` (text as UTF-8): the address of an input."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).digest()


class FeatureCache:
    """Features by input digest; ``get`` computes what is missing and keeps it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sound: set[Path] = set()
        """Shards whose bytes were compared with their names in this process."""

    def get(self, encoder: str, version: str, keys: Sequence[bytes], compute: Compute,
            *, shard: int = 512) -> tuple[NDArray[np.int64], Packed | None]:
        """``(position, items)``: row ``position[i]`` of ``items`` is the feature of ``keys[i]``, or -1 if it has none.

        ``compute`` gets indices into ``keys`` and returns those it could do, with their features; an input that it
        leaves out (a SMILES that does not parse) is remembered as having none. ``items`` is None if nothing has one.
        """
        folder = self.root / encoder / version
        known, empty = self._open(folder)
        first: dict[bytes, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        todo = [index for key, index in first.items() if key not in known and key not in empty]
        if len(todo) > TOLD:
            say(f"{encoder}: computing {len(todo):,} of {len(first):,} features")
        for start in range(0, len(todo), shard):
            chunk = todo[start:start + shard]
            done, items = compute(chunk)
            self._write(folder, [keys[i] for i in done], items, [keys[i] for i in chunk if i not in set(done)])
        if todo:
            known, empty = self._open(folder)
        return self._collect(keys, known)

    def _open(self, folder: Path) -> tuple[dict[bytes, tuple[Path, int]], set[bytes]]:
        known: dict[bytes, tuple[Path, int]] = {}
        empty: set[bytes] = set()
        for path in sorted(folder.glob("*.npz")):
            if path not in self._sound and not _is_whole(path):
                say(f"feature shard {path} is damaged; it is removed and its features are computed again")
                path.unlink(missing_ok=True)
                continue
            self._sound.add(path)
            with np.load(path, allow_pickle=False) as shard:
                names, failed = shard["@keys"], shard["@empty"]
            known.update((row.tobytes(), (path, i)) for i, row in enumerate(names))
            empty.update(row.tobytes() for row in failed)
        return known, empty

    def _write(self, folder: Path, keys: list[bytes], items: Packed, empty: list[bytes]) -> None:
        if items.n != len(keys):
            raise DataError(f"featuriser returned {items.n} items for {len(keys)} inputs")
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"c:{name}": column for name, column in items.columns.items()}
        arrays |= {f"p:{axis}": pointer for axis, pointer in items.indptr.items()}
        arrays["@keys"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
        arrays["@empty"] = np.frombuffer(b"".join(empty), np.uint8).reshape(-1, 32)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        with temporary.open("xb") as stream:
            stream.write(buffer.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(folder / f"{hashlib.sha256(buffer.getbuffer()).hexdigest()}.npz")

    def _collect(self, keys: Sequence[bytes],
                 known: dict[bytes, tuple[Path, int]]) -> tuple[NDArray[np.int64], Packed | None]:
        wanted: dict[Path, list[int]] = {}
        order: dict[bytes, int] = {}
        for key in dict.fromkeys(keys):
            if key in known:
                path, row = known[key]
                wanted.setdefault(path, []).append(row)
        parts = []
        for path, rows in wanted.items():
            shard, names = _read(path)
            for row in rows:
                order[names[row].tobytes()] = len(order)
            parts.append(shard.take(np.array(rows, np.int64)))
        position = np.array([order.get(key, -1) for key in keys], np.int64)
        return position, concat(parts) if parts else None


def _is_whole(path: Path) -> bool:
    """Whether the file has the sha256 that it is named after; of one named otherwise, whether all of it can be read."""
    if len(path.stem) == SHA256_DIGITS:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == path.stem
    try:  # shards of mkmed 0.1.0 have names of chance, and the check sums of zip
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as shard:
            return {"@keys", "@empty"} <= {name for name in shard.files if shard[name] is not None}
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError, NotImplementedError):
        return False


def _read(path: Path) -> tuple[Packed, NDArray[np.uint8]]:
    with np.load(path, allow_pickle=False) as shard:
        columns = {name[2:]: shard[name] for name in shard.files if name.startswith("c:")}
        indptr = {name[2:]: shard[name] for name in shard.files if name.startswith("p:")}
        return Packed(len(shard["@keys"]), columns, indptr), shard["@keys"]


def version_of(**settings: object) -> str:
    """A short version made of everything that the output of a featuriser depends on."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
