"""Actors of a Ray cluster that each hold the task's function; what a lost node was at is done again elsewhere.

An actor has one share at a time, so that its time is measured from when it was sent. Needs the extra ``scale``. Every
node needs the same release of mkmed; nothing else is shared, no folder and no database.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kb.compute.pool import STUCK, LostShare, Pool, PoolTask, attempt, die_with_parent
from kb.errors import ConfigError, MkmedError
from kb.output import say

PATIENCE = 60.0
"""Seconds without a living process after which the user is told."""
POLL_SECONDS = 0.25


def program() -> str:
    """The release of mkmed that is installed here."""
    try:
        return version("mkmed")
    except PackageNotFoundError:
        return "a checkout"


class PoolActor:
    """One process of the cluster."""

    def __init__(self, task: PoolTask) -> None:
        die_with_parent()
        self._work = task.open()

    def begin(self) -> str:
        """The release of mkmed on the node; answers once the task is open."""
        return program()

    def do(self, items: list[Any]) -> list[Any]:
        """The results of a share."""
        return [attempt(self._work, item) for item in items]


class RayPool(Pool):
    """``workers`` actors, by default one for each CPU of the cluster, or one for each card where the task takes cards.

    ``address`` is None for the cluster of this machine, which is started if there is none. Raises ConfigError without
    Ray, and for a cluster that cannot be reached.
    """

    def __init__(self, task: PoolTask, workers: int | None = None, address: str | None = None) -> None:
        self._ray = ray = _import()
        self._own = _join(ray, address)
        have = ray.cluster_resources()
        cards = have.get("GPU", 0.0) if task.gpus else 0.0
        most = int(cards / task.gpus) if cards else int(have.get("CPU", 1))
        self.workers = max(1, workers or most)
        self._task, self._seconds = ray.put(task), task.seconds
        # Tried again by ``Pool.map``, which knows what is at fault; a node's loss is no reason to wait here.
        self._remote = ray.remote(num_cpus=1, num_gpus=task.gpus if cards else 0, max_restarts=0)(PoolActor)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, float]] = {}
        self._alive = time.monotonic()
        for _ in range(self.workers):
            self._start()

    def _start(self) -> None:
        actor = self._remote.remote(self._task)
        self._starting[actor.begin.remote()] = actor

    def room(self) -> int:
        """How many more shares can be sent now: one for each idle actor."""
        if not self._idle and not self._busy:
            self._welcome(wait=True)
        return len(self._idle)

    def _welcome(self, *, wait: bool = False) -> None:
        """Take the actors that have started among the idle ones; those that could not start are started again."""
        while True:
            started, _ = self._ray.wait(list(self._starting), num_returns=len(self._starting),
                                        timeout=POLL_SECONDS if wait else 0) if self._starting else ([], [])
            for one in started:
                actor = self._starting.pop(one)
                try:
                    self._check(self._ray.get(one))
                except self._ray.exceptions.RayActorError as error:
                    if getattr(error, "actor_init_failed", False):
                        raise ConfigError(f"a process of the cluster cannot begin: {_cause(error)}",
                                          hint="every node needs the same installation of mkmed") from None
                    self._start()
                else:
                    self._idle.append(actor)
            if self._idle or self._busy:
                self._alive = time.monotonic()
            if self._idle or not wait:
                return
            if time.monotonic() - self._alive > PATIENCE:
                say(f"no process of the cluster has begun for {PATIENCE:g} s: are its CPUs taken? ray status shows it")
                self._alive = time.monotonic()

    def _check(self, theirs: str) -> None:
        if theirs != program():
            raise ConfigError(f"the cluster has mkmed {theirs}, this process {program()}",
                              hint="install the same release on every node")

    def send(self, items: list[Any]) -> Any:
        """Start a share on an idle actor."""
        actor = self._idle.pop()
        share = actor.do.remote(items)
        self._busy[share] = actor, time.monotonic()
        return share

    def ready(self, sent: Sequence[Any]) -> list[Any]:
        """Those that are done, lost or late."""
        self._welcome()
        done, open_ = self._ray.wait(list(sent), num_returns=1, timeout=POLL_SECONDS)
        if done:
            more, _ = self._ray.wait(open_, num_returns=len(open_), timeout=0) if open_ else ([], [])
            done = [*done, *more]
        now = time.monotonic()
        late = STUCK * self._seconds
        return [*done, *(share for share in sent if share not in done and now - self._busy[share][1] > late)]

    def results(self, share: Any) -> list[Any]:
        """The results of a share that is ready; the actor of one that is lost or late is replaced."""
        actor, began = self._busy.pop(share)
        try:
            late = time.monotonic() - began > STUCK * self._seconds
            found: list[Any] = self._ray.get(share, timeout=0.0 if late else None)
        except self._ray.exceptions.GetTimeoutError:
            self._ray.kill(actor)
            self._start()
            raise LostShare(f"took longer than {self._seconds:g} s", late=True) from None
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError,
                self._ray.exceptions.NodeDiedError, self._ray.exceptions.WorkerCrashedError):
            self._ray.kill(actor)  # where only the result was lost, it would go on holding its CPU
            self._start()
            raise LostShare("the process died (out of memory, or a crash)") from None
        self._idle.append(actor)
        return found

    def close(self) -> None:
        """End the actors, and leave the cluster if this pool joined it."""
        for actor in [*self._starting.values(), *self._idle, *(actor for actor, _ in self._busy.values())]:
            self._ray.kill(actor)
        if self._own:
            _leave(self._ray)


def run_ranks(task: PoolTask, ranks: int, address: str | None = None, *, folder: Path) -> Any:
    """Call the task's function, without an item, in ``ranks`` processes of the cluster: one process group of torch.

    They are Ray Train's, each on a card and with nccl where the task takes cards and there are enough, else with gloo.
    The answer is the first process's; what one raised of mkmed's errors is raised here. ``folder``, which every node
    sees, gets what Ray Train keeps of a job.
    """
    ray = _import()
    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError as error:
        raise ConfigError(f"Ray Train cannot be imported: {error}", hint='pip install "mkmed[scale]"') from None
    own, cards = _join(ray, address), bool(task.gpus) and ray.cluster_resources().get("GPU", 0.0) >= ranks
    try:
        trainer = TorchTrainer(
            _rank, train_loop_config={"task": task}, torch_config=TorchConfig("nccl" if cards else "gloo"),
            scaling_config=ScalingConfig(num_workers=ranks, use_gpu=cards),
            run_config=RunConfig(name="ranks", storage_path=str(folder)))
        with _interrupted():
            return trainer.fit().return_value
    except TrainingFailedError as error:
        raise _own_error(error) from None
    finally:
        if own:
            _leave(ray)


@contextmanager
def _interrupted() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt also where Ray Train takes the signal, stops its processes and exits."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if signal.getsignal(signal.SIGINT) is before:
            raise
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _rank(config: Mapping[str, Any]) -> Any:
    die_with_parent()
    return config["task"].open()()


def _own_error(error: Any) -> MkmedError:
    """What a process raised of mkmed's errors, or that one failed."""
    failures = list(getattr(error, "worker_failures", {}).values())
    for one in failures:
        found = getattr(one, "_base_exc", one)
        if isinstance(found, MkmedError):
            return found
    return MkmedError(f"a process of the training failed: {_cause(failures[0] if failures else error)}",
                      hint="its node's log says more: ray logs")


@dataclass
class _Membership:
    """Whether this process joined a cluster itself, and in how many ``stay`` it is."""

    joined: bool = False
    staying: int = 0


_member = _Membership()


@contextmanager
def stay() -> Iterator[None]:
    """Pools that are opened within join a cluster once and leave it at the end; raises ConfigError without Ray."""
    ray = _import()
    _member.staying += 1
    try:
        yield
    finally:
        _member.staying -= 1
        if _member.joined:
            _leave(ray)


def _leave(ray: Any) -> None:
    """Leave the cluster that this process joined, unless it is to stay."""
    if not _member.staying:
        _member.joined = False
        ray.shutdown()


def _import() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
    except ImportError:
        raise ConfigError("Ray is not installed", hint='pip install "mkmed[scale]", or --on local') from None
    return ray


def _join(ray: Any, address: str | None) -> bool:
    """Connect to the cluster at ``address``; with None to this machine's, which is started if there is none.

    The answer is whether that was to be done: another part of this process may have done it.
    """
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR",
                 **({} if address else {"include_dashboard": False}))
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ImportError) as error:
        first = (str(error).strip().splitlines() or ["no answer"])[0][:200]
        raise ConfigError(f"Ray at {address or 'this machine'} cannot be reached: {first}",
                          hint="ray status on its head node shows whether it runs; or --on local") from None
    _member.joined = True
    return True


def _cause(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
