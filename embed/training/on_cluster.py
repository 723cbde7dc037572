"""Pretraining by processes of a Ray cluster: each of them runs the one job (``embed.training.job``), as under torchrun.

Every node must see this home and reach the database.
"""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from embed.config import PretrainConfig
from embed.runs import folder as run_folder
from embed.training import job
from embed.training.job import Pretrained
from kb.compute.places import ComputePlace
from kb.compute.pool import PoolTask
from kb.errors import Interrupted, UsageError
from kb.ledger import entries as runs
from kb.meanwhile import meanwhile
from kb.settings import Settings

POLL_SECONDS = 1.0


def pretrain_on_cluster(engine: Engine, settings: Settings, config: PretrainConfig, place: ComputePlace, ranks: int, *,
                        resume: str | None = None, publish: bool = True, name: str = "",
                        on_epoch: Callable[[dict[str, Any]], None] = lambda m: None) -> Pretrained:
    """As ``embed.training.job.pretrain``, by ``ranks`` processes of the cluster, each on a card where there are enough.

    Raises UsageError where ``place`` is this machine alone, and what the first process raised.
    """
    if not place.is_cluster:
        raise UsageError("--ranks are processes of a Ray cluster",
                         hint=f"--on ray, or torchrun --nproc-per-node {ranks} -m cli embed pretrain")
    folder = run_folder.find_folder(settings, resume) if resume is not None else (
        run_folder.pretrain_folder(settings) / str(uuid.uuid4()))
    run_id = uuid.UUID(folder.name)
    with place.staying():
        from kb.compute.on_ray import run_ranks

        task = PoolTask(f"{__name__}:open_rank", gpus=float(config.device != "cpu"), arguments={
            "settings": settings, "config": config, "run_id": run_id, "resume": resume and str(run_id),
            "publish": publish, "name": name})
        with _telling(folder, on_epoch):
            try:
                done = run_ranks(task, ranks, place.address, folder=settings.cache / "ray")
            except KeyboardInterrupt:
                done = None
    if not isinstance(done, Pretrained):
        with engine.begin() as connection:
            runs.finish_run(connection, run_id, "interrupted", error="stopped by the user")
        raise Interrupted(f"run {run_id} was stopped; its epochs are kept", hint="mkmed embed pretrain --resume last")
    return done


def open_rank(settings: Settings, config: PretrainConfig, **how: Any) -> Callable[[], Pretrained]:
    """The job in one process of the cluster."""
    from kb.db.engine import open_engine

    return functools.partial(job.pretrain, open_engine(settings), settings, config, **how)


@contextmanager
def _telling(folder: Path, on_epoch: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Tell of every epoch that the first process, wherever it is, writes into the run folder meanwhile."""
    before = len(run_folder.read_metrics(folder))

    def tell(told: int) -> int:
        found = run_folder.read_metrics(folder)
        for row in found[told:]:
            on_epoch(row)
        return max(told, len(found))

    def watch(over: threading.Event) -> None:
        told = before
        while not over.wait(POLL_SECONDS):
            told = tell(told)
        tell(told)

    with meanwhile(watch, "epochs"):
        yield
