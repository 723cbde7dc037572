"""The nearest compounds of a data set, exactly and out of core: every vector is compared, block by block.

What is compared are the stored numbers (float16 or int8). Nothing but the best so far is kept in memory.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embed.screening.dataset import PARTS, PROPERTY_COLUMNS, ScreeningSet, read_set, vector_blocks
from kb.compute.places import LOCAL, open_pool
from kb.compute.pool import Failure, PoolTask, cores
from kb.errors import DataError, UsageError
from kb.files import replace_file

BLOCK = 4096
"""Vectors that are turned into float32 at once: they stay in the cache."""
MOST = 1_000_000
"""The most hits that one question may have."""

SLACK = 1e-4
"""More than float32 is off by in a sum of 2,000 products, as a share of the question's length."""

Scores = NDArray[np.floating[Any]]
Ranked = tuple[Scores, NDArray[np.int64]]
"""The best of one part: scores, descending, and row numbers; of equal scores the lower row first."""


@dataclass(frozen=True)
class Hit:
    """A compound that was found: its rank from 1, its similarity (cosine), and where it lies."""

    rank: int
    id: str
    inchikey: str
    smiles: str
    similarity: float
    part: str
    row: int
    properties: dict[str, float] = field(default_factory=dict)


class Floor:
    """What a hit has at least: rises while parts are searched, and is never above the last of the best in the end."""

    def __init__(self) -> None:
        self.value = -np.inf

    def rise(self, best: Scores, k: int) -> None:
        """``best`` are the greatest so far, descending."""
        if len(best) == k:
            self.value = float(best[-1])


def part_scorer(one: ScreeningSet, question: Scores, k: int, floor: Floor | None = None) -> Callable[[str], Ranked]:
    """The function that finds the best ``k`` of the part with a name, of those that are not below the floor."""
    return lambda name: best_of_part(one, one.folder / PARTS / name, question, k, floor)


def best_of_part(one: ScreeningSet, path: Path, question: Scores, k: int, floor: Floor | None = None) -> Ranked:
    """The ``k`` rows of a part whose vectors have the greatest product with ``question`` (D,).

    All are multiplied in float32, whose last digits hang on where in a block a vector lies; those that could be among
    the best by more than such digits are multiplied again in float64, by which they are ranked.
    """
    import torch

    asked = torch.from_numpy(np.ascontiguousarray(question, np.float32))
    slack = SLACK * float(np.linalg.norm(question))
    buffer = torch.empty(BLOCK, one.width)
    near, rows = np.empty(0, np.float32), np.empty(0, np.int64)
    exact: list[Scores] = []
    least = -np.inf
    for start, numbers, scale in vector_blocks(path, one):
        found = np.empty(len(numbers), np.float32)
        for at in range(0, len(numbers), BLOCK):
            block = numbers[at:at + BLOCK]
            part = buffer[:len(block)]
            part.copy_(torch.from_numpy(block))
            torch.mv(part, asked, out=torch.from_numpy(found[at:at + BLOCK]))
        if scale is not None:
            found *= scale
        if floor is not None:
            least = max(least, floor.value - slack)
        better = np.flatnonzero(found >= least)  # most blocks have few
        least = max(least, _last_of_best(found[better], k) - slack)
        better = better[found[better] >= least]
        near, rows = np.concatenate([near, found[better]]), np.concatenate([rows, start + better])
        exact.append(_products(numbers[better], None if scale is None else scale[better], question))
        least = max(least, _last_of_best(near, k) - slack)
    products = np.concatenate([np.empty(0), *exact])
    return top(products[near >= least], rows[near >= least], k)


def _last_of_best(scores: Scores, k: int) -> float:
    """The ``k``-th greatest score; minus infinity where there are fewer."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) if len(scores) >= k else -np.inf


def _products(numbers: NDArray[Any], scale: NDArray[np.float32] | None, question: Scores) -> Scores:
    """The products of vectors with ``question``, each summed in float64 by itself."""
    products: Scores = (numbers.astype(np.float64) * question.astype(np.float64)).sum(1)
    return products if scale is None else products * scale


def top(scores: Scores, rows: NDArray[np.int64], k: int) -> Ranked:
    """The ``k`` greatest, descending; of equal ones the lower row first, at the border as well."""
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


def screen(folder: Path, question: Scores, k: int = 1000, *, on: str = LOCAL, workers: int | None = None) -> list[Hit]:
    """The ``k`` compounds of the data set whose vectors are nearest to ``question`` (D,).

    Of equal ones the earlier part and row is first. With Ray every node must see ``folder`` under the same path.
    Raises UsageError for a data set that is not whole, and DataError where a part is gone or damaged.
    """
    one = read_set(folder)
    if one.state != "complete":
        raise UsageError(f"{folder} is not whole yet", hint="mkmed embed encode with the same options goes on with it")
    if question.shape != (one.width,):
        raise DataError(f"the question has {len(question)} numbers, the data set {one.width}")
    if not 1 <= k <= MOST:
        raise UsageError(f"-k {k} is out of range", hint=f"1 to {MOST:,}")
    missing = [name for name in one.parts if not (one.folder / PARTS / name).is_file()]
    if missing:
        raise DataError(f"{missing[0]} is gone from {folder}", hint="mkmed embed encode with the same options makes it")
    best: Scores = np.empty(0)
    where = np.empty(0, np.int64)
    floor = Floor()
    for place, (scores, rows) in _each_part(one, question, k, on, workers, floor):
        best, where = top(np.concatenate([best, scores]), np.concatenate([where, (place << 40) + rows]), k)
        floor.rise(best, k)
    return _hits(one, best, where, workers or cores())


def _each_part(one: ScreeningSet, question: Scores, k: int, on: str, workers: int | None,
               floor: Floor) -> Iterator[tuple[int, Ranked]]:
    if on == LOCAL:  # threads: the work is done outside of Python's lock
        import torch

        own = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(workers or cores(), thread_name_prefix="screen") as threads:
                yield from enumerate(threads.map(part_scorer(one, question, k, floor), one.parts))
        finally:
            torch.set_num_threads(own)
        return
    whole = ScreeningSet(**{**vars(one), "folder": one.folder.resolve()})
    task = PoolTask(f"{__name__}:part_scorer", {"one": whole, "question": question, "k": k}, seconds=600.0)
    with open_pool(on, task, workers) as pool:
        for place, found in pool.map(one.parts, share=1):
            if isinstance(found, Failure):
                raise DataError(f"{one.parts[place]}: {found.reason}")
            yield place, found


def _hits(one: ScreeningSet, best: Scores, where: NDArray[np.int64], workers: int) -> list[Hit]:
    """What the data set says of the rows that were found."""
    columns = ["id", "inchikey", "smiles", *PROPERTY_COLUMNS]
    places, rows = where >> 40, where & ((1 << 40) - 1)

    def read(place: int) -> tuple[list[int], list[dict[str, Any]]]:
        own = np.flatnonzero(places == place)
        with pq.ParquetFile(one.folder / PARTS / one.parts[place]) as file:
            return own.tolist(), _rows_of(file, rows[own].tolist(), columns)

    said: dict[int, dict[str, Any]] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="hits") as threads:
        for own, cells in threads.map(read, np.unique(places).tolist()):
            said.update(zip(own, cells, strict=True))
    return [Hit(n + 1, said[n]["id"], said[n]["inchikey"], said[n]["smiles"], score, one.parts[place], row,
                {name: said[n][name] for name in PROPERTY_COLUMNS if said[n][name] is not None})
            for n, (score, place, row) in enumerate(zip(best.tolist(), places.tolist(), rows.tolist(), strict=True))]


def write_hits(path: Path, one: ScreeningSet, hits: Sequence[Hit]) -> None:
    """The hits as CSV, each with the run and the licence that its vector is of."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "id", "inchikey", "smiles", "similarity", *PROPERTY_COLUMNS, "licence", "run", "part"])
    for hit in hits:
        writer.writerow([hit.rank, hit.id, hit.inchikey, hit.smiles, f"{hit.similarity:.6f}",
                         *(hit.properties.get(name, "") for name in PROPERTY_COLUMNS), one.licence, one.run, hit.part])
    replace_file(path, text.getvalue(), mode=None)


def _rows_of(file: pq.ParquetFile, rows: Sequence[int], columns: list[str]) -> list[dict[str, Any]]:
    """The cells of rows, which may lie in several row groups."""
    starts = np.cumsum([0, *(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups))])
    found: dict[int, dict[str, Any]] = {}
    group = np.searchsorted(starts, rows, side="right") - 1
    for number in np.unique(group).tolist():
        own = [row for row, its in zip(rows, group.tolist(), strict=True) if its == number]
        whole = file.read_row_group(number, columns=columns, use_threads=False)
        table = whole.take([row - int(starts[number]) for row in own])
        found |= dict(zip(own, table.to_pylist(), strict=True))
    return [found[row] for row in rows]
