"""The pretraining loop, to be read from top to bottom.

Everything random in an epoch comes from (seed, epoch) alone, so a run that was stopped after any epoch and resumed from
``last.pt`` goes through the same numbers as one that was never stopped.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from embed.alignment.loss import same_substance
from embed.alignment.neighbours import NeighbourMemory, neighbour_memory
from embed.alignment.objective import Relation, objective, teacher
from embed.config import PretrainConfig, to_json
from embed.evaluation.retrieval import retrieve
from embed.runs import checkpoint
from embed.training import distributed
from embed.training.data import Batch, Dataset, send
from embed.training.model import AlignmentModel, embed_all
from kb.errors import DataError, TrainingDiverged
from kb.files import replace_file

LOGGER = logging.getLogger(__name__)
LEAST_VALIDATION_PAIRS = 10
VALIDATED = 2000
"""Validation drugs that are looked at after an epoch: all pairs of them are compared."""
NEAREST = 10


@dataclass
class Progress:
    """Where a run stands; all of it is in the checkpoint."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = -1
    bad_steps: int = 0


@dataclass
class TrainingJob:
    """All that one run needs, ready on one device."""

    model: AlignmentModel
    data: Dataset
    config: PretrainConfig
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    folder: Path
    relations: list[Relation] = field(default_factory=list)
    on_epoch: Callable[[dict[str, Any]], None] = lambda metrics: None
    memory: NeighbourMemory | None = None
    """What relation targets beyond the batch are taken from; ``fit`` makes it where the configuration wants it."""


def seed_of(*parts: int) -> int:
    """One 63-bit seed from several numbers."""
    return int(np.random.SeedSequence([p & 0xFFFFFFFF for p in parts]).generate_state(1, np.uint64)[0]) >> 1


def fit(job: TrainingJob, resume: bool = False) -> Progress:
    """Train until the epochs or the patience are spent; ``best.pt`` in the folder is the best validation epoch.

    What is validated and kept is the moving average of the weights, which hangs less on the last batches.

    Raises TrainingDiverged after ``bad_steps`` consecutive steps whose loss or gradient is not finite.
    """
    model, config, train = job.model, job.config, job.config.train
    if len(job.train) < 2:
        raise DataError(f"only {len(job.train)} drugs to train on", hint="ingest more drugs, or use --arm all")
    optimizer = torch.optim.AdamW(model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay,
                                  fused=job.data.group.is_cuda)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.average))
    averaged: AlignmentModel = average.module  # type: ignore[assignment]
    if config.loss.relation and config.loss.relation_targets == "neighbours" and job.relations:
        _, fused, _ = embed_all(model, job.data, job.train)
        job.memory = neighbour_memory(job.relations, job.train, job.data.group, config.loss, fused)
    at = _restore(job, optimizer, average) if resume else Progress()
    steps = train.epoch_steps or max(1, len(job.train) // _batch_size(job))
    drawn = _drawn(job)
    passes = -(-steps * _batch_size(job) // len(drawn))
    while at.epoch < train.epochs and at.epoch - 1 - max(at.best_epoch, 0) < train.patience:
        started = time.perf_counter()
        torch.manual_seed(seed_of(config.seed, at.epoch))
        shuffle = torch.Generator().manual_seed(seed_of(config.seed, at.epoch, 1))
        order = torch.cat([torch.randperm(len(drawn), generator=shuffle) for _ in range(passes)])
        model.train()
        sums: dict[str, float] = {}
        for number in range(steps):
            rows = drawn[order[number * _batch_size(job):][:_batch_size(job)]]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, at.step, steps * train.epochs)
            terms = step(job, optimizer, rows, at)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / steps
            average.update_parameters(model)
            at.step += 1
        seconds = time.perf_counter() - started
        metrics = {"epoch": at.epoch, "loss": sum(sums.values()), **{f"loss.{k}": v for k, v in sums.items()},
                   **validate(averaged, job), "seconds": seconds,
                   "drugs_per_second": steps * _batch_size(job) / seconds}
        # An epoch of bad steps only has learned nothing; without validation pairs the last epoch is as good as any.
        better = bool(sums) and (metrics["score"] > at.best or not metrics["validated"])
        if better:
            at.best, at.best_epoch = metrics["score"], at.epoch
        at.epoch += 1
        if distributed.rank() == 0:
            _keep(job, optimizer, average, at, metrics, better)
            LOGGER.info("epoch", extra={"fields": metrics})
            job.on_epoch(metrics)
    return at


def _drawn(job: TrainingJob) -> Tensor:
    """The rows that an epoch's batches are drawn from: ``train.complete`` times each drug that has every modality."""
    rows = torch.from_numpy(job.train)
    complete = rows[job.data.known(rows).all(1)]
    return torch.cat([rows, *[complete] * (job.config.train.complete - 1)])


def _batch_size(job: TrainingJob) -> int:
    """Drugs a step over all processes: the configured number, or all of a smaller set, a multiple of the processes."""
    world = distributed.world()
    return max(1, min(job.config.train.batch_size, len(job.train)) // world) * world


def learning_rate(config: PretrainConfig, step: int, total: int) -> float:
    """Linear warm-up, then a cosine to (almost) zero."""
    peak, warmup = config.train.learning_rate, config.train.warmup
    return peak * min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * step / max(1, total))) + 1e-6


class Optimiser(Protocol):
    """What changes the weights by their gradients, as torch.optim's do."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> object:
        """Change the weights."""


def step(job: TrainingJob, optimizer: Optimiser, rows: Tensor, at: Progress) -> dict[str, float]:
    """The loss terms of one optimiser step on the drugs at ``rows``; a step that is not finite changes nothing.

    A card is waited for once, when the step's numbers are read.
    """
    model, config, data = job.model, job.config, job.data
    device = data.group.device
    share = len(rows) // distributed.world()
    batch = data.batch(rows[distributed.rank() * share:][:share])
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        z = model(batch)
    z, drugs = distributed.gather(z), distributed.gather(batch.drugs)
    group = data.group[drugs]
    beyond = None if job.memory is None else job.memory.beyond(drugs)
    target = teacher(job.relations, drugs, same_substance(group), config.loss, beyond) if job.relations else None
    known = data.known(rows)
    generator = torch.Generator().manual_seed(seed_of(config.seed, at.step, 2))
    terms = objective(model, config.loss, z, known, group, target, config.train.modality_dropout, generator, beyond)
    if not terms:
        return {}
    loss = torch.stack(list(terms.values())).sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    distributed.sum_gradients(model.towers.parameters(), [p for n, p in model.named_parameters()
                                                          if not n.startswith("towers.")])
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.train.clip)
    *values, whole, length = torch.stack([*(term.detach() for term in terms.values()), loss.detach(), norm]).tolist()
    if not (math.isfinite(whole) and math.isfinite(length)):
        at.bad_steps += 1
        if at.bad_steps >= config.train.bad_steps:
            raise TrainingDiverged(
                f"the loss or its gradient was not finite in {at.bad_steps} steps in a row (step {at.step})",
                hint="nothing was published; lower train.learning_rate, or look for extreme property values")
        return {}
    at.bad_steps = 0
    if job.memory is not None:
        with torch.no_grad():
            job.memory.remember(drugs, model.fusion(z, send([known], device)[0]))
    optimizer.step()
    return dict(zip(terms, values, strict=True))


@torch.no_grad()
def validate(model: AlignmentModel, job: TrainingJob) -> dict[str, Any]:
    """How well ``model`` does on (at most ``VALIDATED`` of) the validation drugs; ``score`` chooses the epoch.

    It is the mean of what the towers are for, retrieval between the molecule and each modality both ways, and of what
    the fused vector is for: the share of the ten nearest by the late fusion that are its ten nearest.
    """
    data = job.data
    model.eval()
    rows = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(job.validation)[:VALIDATED]))
    batch, known = data.batch(rows), data.known(rows)
    z = model(batch)
    out: dict[str, Any] = {}
    found = []
    for m, name in enumerate(model.names[1:], start=1):
        both = (known[:, 0] & known[:, m]).nonzero()[:, 0]
        out[f"temperature.{name}"] = 1.0 / float(model.scales[name]())
        if len(both) < LEAST_VALIDATION_PAIRS:
            continue
        both = both.to(z.device)
        for a, b in ((0, m), (m, 0)):
            scores = retrieve(z[both, a], z[both, b], batch.group[both]).figures()
            found.append(scores)
            out[f"{model.names[a]}->{model.names[b]}"] = scores
    for key in ("recall@1", "recall@10", "mrr"):
        out[key] = float(np.mean([scores[key] for scores in found])) if found else 0.0
    out["validated"] = len(found)
    # Recall alone moves in steps of one drug; the reciprocal rank tells near ties apart.
    out["score"] = (out["recall@10"] + out["mrr"]) / 2
    if job.relations and len(rows) > NEAREST + 1:
        out[f"neighbours@{NEAREST}"] = _kept_neighbours(model, job, z, batch)
        out["score"] = (out["score"] + out[f"neighbours@{NEAREST}"]) / 2
    return out


def _kept_neighbours(model: AlignmentModel, job: TrainingJob, z: Tensor, batch: Batch) -> float:
    """The share of each drug's ``NEAREST`` neighbours by the late fusion that the fused vectors give it too."""
    same = batch.group[:, None] == batch.group[None, :]
    told = teacher(job.relations, batch.drugs, same, job.config.loss)
    fused = model.fusion(z, batch.present)
    found = (fused @ fused.T).masked_fill(same, -2.0)
    first, second = (torch.zeros_like(told, dtype=torch.bool).scatter(1, table.topk(NEAREST, 1).indices, True)
                     for table in (told, found))
    return float((first & second).sum(1).float().mean()) / NEAREST


def _keep(job: TrainingJob, optimizer: torch.optim.Optimizer, average: AveragedModel, at: Progress,
          metrics: dict[str, Any], better: bool) -> None:
    meta = {"model": job.model.kwargs, "config": to_json(job.config), "progress": vars(at)}
    weights = {"model": job.model.state_dict(), "average": average.state_dict()}
    if better:
        checkpoint.save(job.folder / "best.pt", {"model": average.module.state_dict()}, meta)
    with (job.folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(metrics) + "\n")
    memory = {} if job.memory is None else {"memory": job.memory.vectors}
    checkpoint.save(job.folder / "last.pt", {**weights, **memory, "optimizer": optimizer.state_dict()}, meta)


def _restore(job: TrainingJob, optimizer: torch.optim.Optimizer, average: AveragedModel) -> Progress:
    tensors, meta = checkpoint.load_checkpoint(job.folder / "last.pt")
    job.model.load_state_dict(tensors["model"])
    average.load_state_dict(tensors["average"])
    optimizer.load_state_dict(tensors["optimizer"])
    if job.memory is not None:
        job.memory.vectors.copy_(tensors["memory"])
    at = Progress(**meta["progress"])
    path = job.folder / "metrics.jsonl"
    if path.exists() and distributed.rank() == 0:
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["epoch"] < at.epoch]
        replace_file(path, "".join(line + "\n" for line in lines).encode())
    return at
