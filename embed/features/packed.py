"""Many items of unequal size in a few flat arrays: what the cache stores and what a batch is cut from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError

Array = NDArray[np.generic]


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The concatenation of ``arange(start, start + length)`` over all pairs, without a Python loop."""
    total = int(lengths.sum())
    if total == 0:
        return np.empty(0, np.int64)
    offsets = np.cumsum(lengths) - lengths
    return np.arange(total, dtype=np.int64) + np.repeat(starts - offsets, lengths)


@dataclass(frozen=True)
class Packed:
    """``n`` items whose columns lie end to end.

    ``columns`` maps ``"axis.name"`` (or ``"name"`` for one value per item) to an array; ``indptr[axis]`` (``n + 1``)
    says which rows of every column of that axis belong to which item. Indices inside a column are local to the item.
    """

    n: int
    columns: Mapping[str, Array]
    indptr: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for axis, pointer in self.indptr.items():
            if len(pointer) != self.n + 1 or pointer[0] != 0 or (np.diff(pointer) < 0).any():
                raise DataError(f"packed features: the pointers of axis {axis!r} do not describe {self.n} items")
        for name, column in self.columns.items():
            axis, dot, _ = name.rpartition(".")
            expected = int(self.indptr[axis][-1]) if dot else self.n
            if len(column) != expected:
                raise DataError(f"packed features: column {name!r} has {len(column)} rows, not {expected}")

    def take(self, rows: NDArray[np.int64]) -> Packed:
        """The items at ``rows``, in that order, repeats allowed."""
        rows = np.asarray(rows, np.int64)
        pick: dict[str, NDArray[np.int64]] = {}
        indptr: dict[str, NDArray[np.int64]] = {}
        for axis, pointer in self.indptr.items():
            lengths = pointer[rows + 1] - pointer[rows]
            pick[axis] = ranges(pointer[rows], lengths)
            indptr[axis] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        columns = {}
        for name, column in self.columns.items():
            axis, dot, _ = name.rpartition(".")
            columns[name] = column[pick[axis] if dot else rows]
        return Packed(len(rows), columns, indptr)


def concat(parts: Sequence[Packed]) -> Packed:
    """All items of ``parts``, in order; the parts must share their columns."""
    if not parts:
        raise DataError("packed features: nothing to concatenate")
    first = parts[0]
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in first.columns}
    indptr = {
        axis: np.concatenate([[0], *(np.diff(part.indptr[axis]) for part in parts)]).cumsum().astype(np.int64)
        for axis in first.indptr
    }
    return Packed(sum(part.n for part in parts), columns, indptr)


def joined(parts: list[Packed]) -> Packed:
    """As ``concat``, but the parts are used up: besides the result hardly more than one column is in memory."""
    if not parts:
        raise DataError("packed features: nothing to concatenate")
    n, names, axes = sum(part.n for part in parts), list(parts[0].columns), list(parts[0].indptr)
    indptr = {axis: np.concatenate([[0], *(np.diff(part.indptr[axis]) for part in parts)]).cumsum().astype(np.int64)
              for axis in axes}
    owned = [dict(part.columns) for part in parts]
    parts.clear()
    columns = {name: np.concatenate([one.pop(name) for one in owned]) for name in names}
    return Packed(n, columns, indptr)


def vectors(matrix: Array) -> Packed:
    """A matrix as packed items, one row each."""
    return Packed(len(matrix), {"vector": np.ascontiguousarray(matrix)})


def pack_strings(name: str, values: Sequence[str]) -> dict[str, Array]:
    """Strings as two arrays, ``<name>.text`` (UTF-8 bytes) and ``<name>.end`` (where each one ends)."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
    return {f"{name}.text": np.frombuffer(b"".join(encoded), np.uint8), f"{name}.end": ends.astype(np.int64)}


def unpack_strings(name: str, arrays: Mapping[str, Array]) -> list[str]:
    """The strings that ``pack_strings`` wrote."""
    text, ends = np.asarray(arrays[f"{name}.text"]).tobytes(), np.asarray(arrays[f"{name}.end"]).tolist()
    return [text[start:end].decode() for start, end in pairwise([0, *ends])]
