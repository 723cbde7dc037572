"""What a frozen model is to the rest: a name that can be checked, a version for the cache, and ``encode``."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embed.allocator import keep_freed_memory
from embed.features.cache import version_of
from kb.errors import NotFound

if TYPE_CHECKING:
    import torch

HUB = ("huggingface.co", 443)
HUB_SECONDS = 3.0
MOST_WORKERS = 4
"""Batches that go through a frozen model at once on a CPU; more would mostly need memory."""

Item = TypeVar("Item")


Encode = Callable[[Sequence[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class FrozenModel:
    """A model whose output is computed once. ``identity`` is what the run records: name, revision, sha256, settings.

    ``load`` brings the weights into memory and returns the function; a run whose features are all cached never calls
    it. ``load_few`` returns one that needs no torch, for a handful of inputs, where the model has such.
    """

    identity: dict[str, Any]
    load: Callable[[], Encode]
    load_few: Callable[[], Encode] | None = None

    @cached_property
    def encode(self) -> Encode:
        """The function from inputs (texts, or PNG bytes) to (n, F)."""
        return self.load()

    @cached_property
    def encode_few(self) -> Encode:
        """The same function for a handful of inputs; equal within 1e-5."""
        return self.load_few() if self.load_few is not None else self.encode

    @property
    def name(self) -> str:
        """The name under which the cache keeps its output; a path becomes its last part."""
        return str(self.identity["name"]).rstrip("/").rpartition("/")[2]

    @property
    def version(self) -> str:
        """Changes whenever the weights or a setting does."""
        return version_of(**self.identity)


def in_parallel(work: Callable[[Item], NDArray[np.float32]], items: Sequence[Item],
                device: torch.device | None) -> list[NDArray[np.float32]]:
    """``work`` of every item, in order: on a CPU several at once, each on one thread.

    Independent batches on single threads need no barrier between the layers, so they do not wait for each other where
    cores are shared; and a batch gives the same bits however many run beside it.
    """
    import torch

    if device is not None and device.type != "cpu":
        return [work(item) for item in items]
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        workers = max(before, min(os.cpu_count() or 1, MOST_WORKERS))
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(before)


def file_sha256(path: Path) -> str:
    """The hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hub_folder(name: str, revision: str) -> tuple[Path, str]:
    """``(folder, commit)`` of a transformers model: a local folder, the local cache, or the hub if it answers at all.

    Never hangs without a network: the hub is asked only after a connection of at most 3 seconds, and not at all with
    ``HF_HUB_OFFLINE=1``. Raises NotFound if the model is nowhere.
    """
    if Path(name).is_dir():
        return Path(name), "local"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.txt", "*.safetensors", "*.model"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        if os.environ.get("HF_HUB_OFFLINE") == "1" or not _hub_answers():
            raise NotFound(
                f"model {name!r} (revision {revision!r}) is not on this machine and {HUB[0]} cannot be reached",
                hint="download it where there is a network (`hf download NAME`), or give a folder as its name",
            ) from None
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, etag_timeout=HUB_SECONDS))
    return folder, folder.name


def _hub_answers() -> bool:
    try:
        with socket.create_connection(HUB, timeout=HUB_SECONDS):
            return True
    except OSError:
        return False


def weights_sha256(folder: Path) -> str:
    """One digest over all ``.safetensors`` files of a folder, in the order of their names; raises NotFound."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise NotFound(f"{folder} has no .safetensors weights", hint="mkmed does not load pickled weights")
    if len(files) == 1:
        return file_sha256(files[0])
    return hashlib.sha256("".join(file_sha256(path) for path in files).encode()).hexdigest()


def quiet_transformers() -> None:
    """Keep transformers' own progress bars off stderr."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
