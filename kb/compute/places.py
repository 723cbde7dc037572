"""The places to compute, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kb.errors import UsageError

if TYPE_CHECKING:
    from kb.compute.pool import Pool, PoolTask

LOCAL, RAY = "local", "ray"
ON_HELP = "Where to compute: local, ray (this machine's cluster or a new one), or ray://HOST:PORT."


@dataclass(frozen=True, slots=True)
class ComputePlace:
    """Where to compute, and in how many processes: by default one for each core, or for each CPU of the cluster."""

    on: str = LOCAL
    workers: int | None = None

    @property
    def is_cluster(self) -> bool:
        """Whether other machines may take part."""
        return self.on != LOCAL

    @property
    def address(self) -> str | None:
        """The cluster's address; None for that of this machine."""
        return None if self.on in (LOCAL, RAY) else self.on

    def open(self, task: PoolTask) -> Pool:
        """The pool of this place; raises as ``open_pool`` does."""
        return open_pool(self.on, task, self.workers)

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Pools that are opened within join the cluster once, the first of them, and leave it at the end.

        Raises UsageError for no place, and ConfigError where Ray is not installed, before anything is computed.
        """
        if _is_local(self.on):
            yield
            return
        from kb.compute.on_ray import stay

        with stay():
            yield


HERE = ComputePlace()


def open_pool(on: str, task: PoolTask, workers: int | None = None) -> Pool:
    """The pool that ``on`` names: ``local``, ``ray`` or ``ray://HOST:PORT``; by default a process for each core.

    Raises UsageError for anything else, and ConfigError where Ray is not installed or its cluster cannot be reached.
    """
    if _is_local(on):
        from kb.compute.local import LocalPool
        from kb.compute.pool import cores

        return LocalPool(task, workers or cores())
    from kb.compute.on_ray import RayPool

    return RayPool(task, workers, None if on == RAY else on)


def _is_local(on: str) -> bool:
    """Whether ``on`` is this machine's processes; raises UsageError for what is no place."""
    if on != LOCAL and on != RAY and not on.startswith("ray://"):
        raise UsageError(f"--on {on} is no place to compute", hint="local, ray or ray://HOST:PORT")
    return on == LOCAL
