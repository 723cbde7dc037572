"""Features made by several processes, of this machine or of a cluster.

A featuriser of molecules is a function from a list of texts (SMILES, mol blocks) to ``(done, items)``. Its name and
settings travel to the process with each chunk, and one that RDKit hangs in can be killed. A frozen model runs in this
process, in threads that share its weights; on a cluster each actor holds it, and contents travel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embed.features.cache import Chunks, Made
from embed.features.packed import Packed, vectors
from kb.compute.places import ComputePlace
from kb.compute.pool import Failure, Pool, PoolTask, cores
from kb.errors import ConfigError, DataError
from kb.output import say

if TYPE_CHECKING:
    import torch

    from embed.features.frozen import Encode, FrozenModel

ALONE = 2000
"""Up to this many inputs are done in this process: starting others would take longer."""
CHUNK = 64
WINDOW = 8192
"""Inputs whose texts are in memory at once."""
FROZEN_CHUNK = 512
"""Inputs that go through a frozen model at once, wherever it is: batches of the same inputs give the same bits."""
FROZEN_SECONDS = 900.0
SECONDS = 60.0
"""A chunk that takes longer is done again molecule by molecule, and a molecule that takes longer has no feature."""

Chunk = tuple[str, dict[str, Any], list[str]]


def featurise_chunk(chunk: Chunk) -> tuple[list[int], Packed]:
    """What the featuriser "module:name" with its settings makes of the texts."""
    function, settings, texts = chunk
    work: Callable[..., tuple[list[int], Packed]] = PoolTask(function).open()
    return work(texts, **settings)


def molecule_chunks(function: str, settings: Mapping[str, Any],
                    content: Callable[[list[int]], Sequence[str]]) -> Chunks:
    """The chunks of the featuriser over the inputs at the given indices, whose text ``content`` looks up."""
    def run(indices: list[int], place: ComputePlace) -> Made:
        alone = (place.workers or cores()) < 2
        if len(indices) <= CHUNK or (not place.is_cluster and (alone or len(indices) <= ALONE)):
            for start in range(0, len(indices), 512):
                asked = indices[start:start + 512]
                done, items = featurise_chunk((function, dict(settings), list(content(asked))))
                yield asked, [asked[i] for i in done], items
            return
        with place.open(PoolTask(f"{__name__}:featurise_chunk", seconds=SECONDS)) as pool:
            yield from _together(pool, function, dict(settings), content, indices)

    return run


def _together(pool: Pool, function: str, settings: dict[str, Any], content: Callable[[list[int]], Sequence[str]],
              indices: list[int]) -> Made:
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


def frozen_chunks(kind: str, settings: Any, model: FrozenModel, device: torch.device,
                  content: Callable[[list[int]], Sequence[Any]]) -> Chunks:
    """The chunks of the frozen model of a ``kind`` (text, image) over inputs, which ``content`` looks up.

    On a cluster an actor takes a card where ``device`` is one. Raises DataError for an input that it refuses.
    """
    def run(indices: list[int], place: ComputePlace) -> Made:
        shares = [indices[start:start + FROZEN_CHUNK] for start in range(0, len(indices), FROZEN_CHUNK)]
        if not place.is_cluster:
            for share in shares:
                yield share, share, vectors(model.encode(content(share)))
            return
        arguments = {"kind": kind, "settings": settings, "identity": model.identity, "device": device.type}
        task = PoolTask(f"{__name__}:open_frozen", arguments, FROZEN_SECONDS, gpus=float(device.type == "cuda"))
        with place.open(task) as pool:
            for number, result in pool.map(map(content, shares), 1):
                if isinstance(result, Failure):
                    raise DataError(f"{model.name}: {result.reason}")
                yield shares[number], shares[number], vectors(result)

    return run


def open_frozen(kind: str, settings: Any, identity: Mapping[str, Any], device: str) -> Encode:
    """The frozen model in a process of a cluster, on its one core or card.

    Raises ConfigError where the node has other weights than ``identity`` names.
    """
    import torch

    from embed.features import frozen
    from embed.registry import IMAGE_MODELS, TEXT_MODELS

    frozen.MOST_WORKERS = 1
    torch.set_num_threads(1)
    registry = {"text": TEXT_MODELS, "image": IMAGE_MODELS}[kind]
    model: FrozenModel = registry[settings.model](settings, torch.device(device))
    if model.identity != identity:
        raise ConfigError(f"a node's {kind} model is {model.identity}, not {identity}")
    return model.encode
