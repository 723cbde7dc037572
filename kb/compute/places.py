"""The places to compute, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb.errors import UsageError

if TYPE_CHECKING:
    from kb.compute.pool import Pool, PoolTask

LOCAL, RAY = "local", "ray"
ON_HELP = "Where to compute: local, ray (this machine's cluster or a new one), or ray://HOST:PORT."


def open_pool(on: str, task: PoolTask, workers: int | None = None) -> Pool:
    """The pool that ``on`` names: ``local``, ``ray`` or ``ray://HOST:PORT``; by default a process for each core.

    Raises UsageError for anything else, and ConfigError where Ray is not installed or its cluster cannot be reached.
    """
    if on == LOCAL:
        from kb.compute.local import LocalPool
        from kb.compute.pool import cores

        return LocalPool(task, workers or cores())
    if on == RAY or on.startswith("ray://"):
        from kb.compute.on_ray import RayPool

        return RayPool(task, workers, None if on == RAY else on)
    raise UsageError(f"--on {on} is no place to compute", hint="local, ray or ray://HOST:PORT")
