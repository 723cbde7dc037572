"""A content-addressed store of features: only what changed is computed again.

The key is (sha256 of the input, encoder, version). One folder per encoder and version holds immutable Arrow files, each
named by its own digest, written under a temporary name, flushed and renamed: a killed process leaves either a whole
file or none, several processes may write at once, and a flipped byte is found when the file is read. Reading copies
record batch by record batch into arrays of the final size; few rows are read through a memory map. What the bundled
corpus brings along (its texts, already read by the default encoder) lies beside it in the same layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embed.features.packed import Packed, concat, joined
from kb.bundle import CORPUS
from kb.compute.places import HERE, ComputePlace
from kb.errors import DataError
from kb.output import say

BUNDLED = CORPUS / "features"
"""Features that came with the bundled corpus: read, never written."""
TOLD = 1000
"""More missing features than this are announced: it will take a while."""
PART = 4096
"""Items a file while features are computed: what a kill costs at most."""
BATCH = 4096
"""Items a record batch."""
MOST_FILES = 8
"""With more files than this in a folder they are made into one."""
FEW = 256
"""Up to this many rows of a file are read through a memory map."""

Compute = Callable[[list[int]], tuple[list[int], Packed]]
"""From indices of missing inputs to those that have a feature, and the features."""
Made = Iterator[tuple[list[int], list[int], Packed]]
"""(asked, done, items) of chunk after chunk, in any order."""
Chunks = Callable[[list[int], ComputePlace], Made]
"""From indices of missing inputs, and where to compute, to what is made of them."""


def sha256(data: bytes | str) -> bytes:
    """The 32-byte digest of ``data`` (text as UTF-8): the address of an input."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).digest()


def version_of(**settings: object) -> str:
    """A short version made of everything that the output of a featuriser depends on."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_chunks(compute: Compute, size: int) -> Chunks:
    """The chunks of a function that works on indices, one after the other in this process."""
    def run(indices: list[int], place: ComputePlace) -> Made:
        for start in range(0, len(indices), size):
            asked = indices[start:start + size]
            yield asked, *compute(asked)

    return run


@dataclass(frozen=True)
class _Place:
    """Where items lie: item k is row ``row[k]`` of ``files[file[k]]``; sorted by file and row."""

    files: list[Path]
    file: NDArray[np.int64]
    row: NDArray[np.int64]


class Features:
    """The features of many inputs: ``position`` (n,) is each input's item or -1; items come whole or in parts."""

    def __init__(self, position: NDArray[np.int64], source: _Place | Packed | None) -> None:
        self.position = position
        self._source = source
        self.n = 0 if source is None else source.n if isinstance(source, Packed) else len(source.row)

    def all(self) -> Packed | None:
        """Every item, or None where there is none."""
        if isinstance(self._source, Packed) or self._source is None:
            return self._source
        return joined([part for _, part in self.batches()]) if self.n else None

    def batches(self) -> Iterator[tuple[int, Packed]]:
        """(number of the first item, items) of batch after batch, in order."""
        if isinstance(self._source, Packed):
            yield 0, self._source
        elif self._source is not None:
            yield from self._read(np.arange(self.n))

    def take(self, items: NDArray[np.int64]) -> Packed:
        """The items at these ascending numbers; raises DataError where there is none."""
        if isinstance(self._source, Packed):
            return self._source.take(items)
        return concat([part for _, part in self._read(items)])

    def _read(self, items: NDArray[np.int64]) -> Iterator[tuple[int, Packed]]:
        assert isinstance(self._source, _Place)
        place, start = self._source, 0
        for number in np.unique(place.file[items]):
            for part in _rows_of(place.files[number], place.row[items[place.file[items] == number]]):
                yield start, part
                start += part.n


class FeatureCache:
    """Features by input digest; what is missing is computed and kept. Without a root all is computed, nothing kept.

    The store is this process's; what computes may be anywhere (``place``).
    """

    def __init__(self, root: Path | None, place: ComputePlace = HERE) -> None:
        self.root, self.place = root, place

    def _folders(self, encoder: str, version: str) -> list[Path]:
        """Where features of this encoder and version may lie; only the first folder is written to."""
        return [] if self.root is None else [place / encoder / version for place in (self.root, BUNDLED)]

    def get(self, encoder: str, version: str, keys: Sequence[bytes], compute: Compute,
            *, shard: int = 512) -> tuple[NDArray[np.int64], Packed | None]:
        """``(position, items)``: row ``position[i]`` of ``items`` is the feature of ``keys[i]``, or -1 if it has none.

        ``compute`` gets indices into ``keys`` and returns those it could do, with their features; an input that it
        leaves out (a SMILES that does not parse) is remembered as having none. ``items`` is None if nothing has one.
        """
        found = self.open(encoder, version, keys, in_chunks(compute, shard))
        return found.position, found.all()

    def open(self, encoder: str, version: str, keys: Sequence[bytes], produce: Chunks) -> Features:
        """The features of all keys; those that are missing are made by ``produce`` and kept."""
        table = _key_table(keys)
        _, first, back = np.unique(_prefix(table), return_index=True, return_inverse=True)
        if not np.array_equal(table[first][back], table):
            raise DataError("two different inputs have digests that begin alike")
        order = np.argsort(first, kind="stable")  # in the order of the inputs
        first, back = first[order], np.argsort(order, kind="stable")[back]
        own = table[first]
        if self.root is None:
            return _fresh(first, back, produce, self.place)
        folders = self._folders(encoder, version)
        files, file, row, empty = _look_up(folders, own)
        todo = np.flatnonzero((file < 0) & ~empty)
        if len(todo):
            if len(todo) > TOLD:
                say(f"{encoder}: computing {len(todo):,} of {len(own):,} features")
            self._compute(folders[0], own, first, todo, produce)
            files, file, row, empty = _look_up(folders, own)
        found = np.flatnonzero(file >= 0)
        order = found[np.lexsort((row[found], file[found]))]
        number = np.full(len(own), -1, np.int64)
        number[order] = np.arange(len(order))
        return Features(number[back], _Place(files, file[order], row[order]))

    def known(self, encoder: str, version: str, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which of ``keys`` are in the cache, with a feature or known to have none."""
        if self.root is None or not keys:
            return np.zeros(len(keys), bool)
        _, file, _, empty = _look_up(self._folders(encoder, version), _key_table(keys))
        return (file >= 0) | empty

    def _compute(self, folder: Path, own: NDArray[np.uint8], first: NDArray[np.int64], todo: NDArray[np.int64],
                 produce: Chunks) -> None:
        rank = {int(first[k]): int(k) for k in todo}
        kept: list[tuple[NDArray[np.uint8], Packed]] = []
        none: list[bytes] = []
        count = 0
        for asked, done, items in produce(list(rank), self.place):
            if items.n != len(done):
                raise DataError(f"featuriser returned {items.n} items for {len(done)} inputs")
            without = set(asked) - set(done)
            none += [own[rank[i]].tobytes() for i in asked if i in without]
            if done:
                kept.append((own[[rank[i] for i in done]], items))
                count += len(done)
            if count >= PART:
                _write(folder, kept)
                kept, count = [], 0
        if kept:
            _write(folder, kept)
        if none:
            _write_none(folder, b"".join(none))
        if len(list(folder.glob("*.arrow"))) > MOST_FILES:
            _compact(folder)


def _key_table(keys: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)


def _prefix(table: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first 8 bytes of each digest, as a number to sort by."""
    return np.ascontiguousarray(table[:, :8]).view(np.uint64)[:, 0]


def _fresh(first: NDArray[np.int64], back: NDArray[np.int64], produce: Chunks, place: ComputePlace) -> Features:
    """Features that are computed and kept in memory only."""
    rank = {int(index): k for k, index in enumerate(first)}
    row = np.full(len(first), -1, np.int64)
    parts, count = [], 0
    for _, done, items in produce(list(rank), place):
        row[[rank[i] for i in done]] = np.arange(count, count + len(done))
        count += len(done)
        if done:
            parts.append(items)
    return Features(row[back], concat(parts) if parts else None)


def _look_up(folders: Sequence[Path], own: NDArray[np.uint8],
             ) -> tuple[list[Path], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """``(files, file, row, empty)``: where each key lies (file -1: nowhere), and which are known to have no feature."""
    files: list[Path] = []
    file, row = np.full(len(own), -1, np.int64), np.zeros(len(own), np.int64)
    for path in (path for folder in folders for path in sorted(folder.glob("*.arrow"))):
        stored = _keys_of(path)
        if stored is None:
            continue
        found, at = _match(stored, own)
        file[found], row[found] = len(files), at
        files.append(path)
    empty = np.zeros(len(own), bool)
    for path in (path for folder in folders for path in folder.glob("*.none")):
        if _intact(path):
            found, _ = _match(_key_table([path.read_bytes()]), own)
            empty[found] = True
    return files, file, row, empty


def _match(stored: NDArray[np.uint8], own: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(found, at)``: which of ``own`` are among ``stored``, and in which rows."""
    if not len(stored) or not len(own):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    prefix = _prefix(stored)
    order = np.argsort(prefix, kind="stable")
    at = order[np.searchsorted(prefix, _prefix(own), sorter=order).clip(max=len(order) - 1)]
    found = np.flatnonzero((stored[at] == own).all(1))
    return found, at[found]


_SOUND: set[tuple[Path, int, int]] = set()
"""Files (with size and time) whose bytes were compared with their names in this process."""


def _intact(path: Path) -> bool:
    """Whether a file's digest is the one in its name; a damaged one is said to be, and removed unless it is bundled."""
    try:
        facts = path.stat()
        mark = (path, facts.st_size, facts.st_mtime_ns)
        if mark in _SOUND:
            return True
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:  # another process made the files into one
        return False
    if digest == path.stem:
        _SOUND.add(mark)
        return True
    ours = not path.is_relative_to(BUNDLED)
    fate = "removed" if ours else "not used"
    say(f"feature file {path} is damaged; it is {fate} and its features are computed again")
    if ours:
        path.unlink(missing_ok=True)
    return False


def _keys_of(path: Path) -> NDArray[np.uint8] | None:
    if not _intact(path):
        return None
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        parts = [_bytes_of(reader.get_batch(k).column("@key")).reshape(-1, 32)
                 for k in range(reader.num_record_batches)]
        return np.concatenate(parts) if parts else np.zeros((0, 32), np.uint8)


def _bytes_of(array: Any) -> NDArray[np.uint8]:
    """The values of a fixed-size binary column."""
    width = array.type.byte_width
    return np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width:(array.offset + len(array)) * width]


def _rows_of(path: Path, rows: NDArray[np.int64]) -> Iterator[Packed]:
    """The items at ascending ``rows`` of a file, one record batch at a time."""
    opened = pa.memory_map(str(path)) if len(rows) <= FEW else pa.OSFile(str(path))
    with opened as source, pa.ipc.open_file(source) as reader:
        kinds = json.loads(reader.schema.metadata[b"columns"])
        start = 0
        for k in range(reader.num_record_batches):
            if start > rows[-1]:
                break
            batch = reader.get_batch(k)
            inside = rows[np.searchsorted(rows, start):np.searchsorted(rows, start + batch.num_rows)] - start
            start += batch.num_rows
            if len(inside):
                yield _unpack(batch, kinds).take(inside)


def _unpack(batch: Any, kinds: dict[str, Any]) -> Packed:
    """A record batch as packed items; arrays lie in the batch's own memory."""
    columns: dict[str, Any] = {}
    indptr: dict[str, NDArray[np.int64]] = {}
    for name, kind in kinds.items():
        dtype, shape = np.dtype(kind["dtype"]), tuple(kind["shape"])
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        array = batch.column(name)
        bounds = np.frombuffer(array.buffers()[1], np.int32)[array.offset:array.offset + len(array) + 1]
        data = np.frombuffer(array.buffers()[2] or b"", np.uint8)[bounds[0]:bounds[-1]]
        columns[name] = data.view(dtype).reshape(-1, *shape)
        axis, dot, _ = name.rpartition(".")
        if dot:
            indptr[axis] = ((bounds - bounds[0]) // max(size, 1)).astype(np.int64)
    return Packed(batch.num_rows, columns, indptr)


def _pack(keys: NDArray[np.uint8], items: Packed) -> Any:
    """A record batch of at most ``BATCH`` items."""
    fields, arrays = [pa.field("@key", pa.binary(32))], [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(keys), [None, pa.py_buffer(keys.tobytes())])]
    for name, column in items.columns.items():
        axis, dot, _ = name.rpartition(".")
        rows = items.indptr[axis] if dot else np.arange(items.n + 1)
        size = column.dtype.itemsize * int(np.prod(column.shape[1:], dtype=np.int64))
        bounds = rows * size
        if bounds[-1] >= 2**31:
            raise DataError(f"features of {bounds[-1]:,} bytes in one batch", hint="compute them in smaller chunks")
        buffers = [None, pa.py_buffer(bounds.astype(np.int32).tobytes()),
                   pa.py_buffer(np.ascontiguousarray(column).tobytes())]
        arrays.append(pa.BinaryArray.from_buffers(pa.binary(), items.n, buffers))
        fields.append(pa.field(name, pa.binary()))
    kinds = {name: {"dtype": column.dtype.str, "shape": column.shape[1:]} for name, column in items.columns.items()}
    return pa.record_batch(arrays, schema=pa.schema(fields, metadata={"columns": json.dumps(kinds)}))


def _batches(keys: NDArray[np.uint8], items: Packed) -> Iterator[Any]:
    for start, end in pairwise([*range(0, items.n, BATCH), items.n]):
        yield _pack(keys[start:end], items.take(np.arange(start, end)))


def _write(folder: Path, parts: Sequence[tuple[NDArray[np.uint8], Packed]]) -> None:
    _write_batches(folder, _batches(np.concatenate([keys for keys, _ in parts]), concat([items for _, items in parts])))


def _write_batches(folder: Path, batches: Iterator[Any]) -> Path:
    """One Arrow file of these record batches, named by its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        first = next(batches)
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
        return _settle(temporary, ".arrow")
    finally:
        temporary.unlink(missing_ok=True)


def _write_none(folder: Path, keys: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    temporary.write_bytes(keys)
    _settle(temporary, ".none")


def _settle(temporary: Path, suffix: str) -> Path:
    """Flush the file to disk and give it the name that its digest makes."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    final = temporary.with_name(digest + suffix)
    temporary.replace(final)
    return final


def _compact(folder: Path) -> None:
    """Make all files of a folder into one, batch by batch; another process that does the same is left alone."""
    with filelock.FileLock(folder / ".compact.lock"):
        paths = [path for path in sorted(folder.glob("*.arrow")) if _intact(path)]
        if len(paths) <= 1:
            return

        def batches() -> Iterator[Any]:
            for path in paths:
                with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
                    for k in range(reader.num_record_batches):
                        yield reader.get_batch(k)

        final = _write_batches(folder, batches())
        for path in paths:
            if path != final:
                path.unlink(missing_ok=True)
