"""Featurisers of molecules in several processes: each chunk goes to one that can be killed when RDKit hangs.

A featuriser is a function from a list of texts (SMILES, mol blocks) to ``(done, items)``. Its name and settings travel
to the child with each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from embed.features.cache import Chunks
from embed.features.packed import Packed
from kb.compute.places import LOCAL, open_pool
from kb.compute.pool import Failure, Pool, PoolTask, cores
from kb.output import say

ALONE = 2000
"""Up to this many inputs are done in this process: starting others would take longer."""
CHUNK = 64
WINDOW = 8192
"""Inputs whose texts are in memory at once."""
SECONDS = 60.0
"""A chunk that takes longer is done again molecule by molecule, and a molecule that takes longer has no feature."""

Chunk = tuple[str, dict[str, Any], list[str]]


def featurise_chunk(chunk: Chunk) -> tuple[list[int], Packed]:
    """What the featuriser "module:name" with its settings makes of the texts."""
    function, settings, texts = chunk
    work: Callable[..., tuple[list[int], Packed]] = PoolTask(function).open()
    return work(texts, **settings)


def molecule_chunks(function: str, settings: Mapping[str, Any], content: Callable[[list[int]], Sequence[str]],
                    *, count: int | None = None) -> Chunks:
    """The chunks of the featuriser over the inputs at the given indices, whose text ``content`` looks up."""
    def run(indices: list[int]) -> Iterator[tuple[list[int], list[int], Packed]]:
        workers = cores() if count is None else count
        if len(indices) <= ALONE or workers < 2:
            for start in range(0, len(indices), 512):
                asked = indices[start:start + 512]
                done, items = featurise_chunk((function, dict(settings), list(content(asked))))
                yield asked, [asked[i] for i in done], items
            return
        with open_pool(LOCAL, PoolTask("embed.features.work:featurise_chunk", seconds=SECONDS), workers) as pool:
            yield from _together(pool, function, dict(settings), content, indices)

    return run


def _together(pool: Pool, function: str, settings: dict[str, Any], content: Callable[[list[int]], Sequence[str]],
              indices: list[int]) -> Iterator[tuple[list[int], list[int], Packed]]:
    again: list[int] = []
    for begin in range(0, len(indices), WINDOW):
        window = indices[begin:begin + WINDOW]
        shares = [window[start:start + CHUNK] for start in range(0, len(window), CHUNK)]
        for number, result in pool.map(((function, settings, list(content(share))) for share in shares), 1):
            share = shares[number]
            if isinstance(result, Failure):
                again += share
            else:
                done, items = result
                yield share, [share[i] for i in done], items
    for number, result in pool.map(((function, settings, list(content([index]))) for index in again), 1):
        if isinstance(result, Failure):
            say(f"{function.rpartition(':')[2]}: an input is left out: {result.reason}")
        else:
            done, items = result
            yield [again[number]], [again[number] for _ in done], items
