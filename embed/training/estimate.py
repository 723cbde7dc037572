"""``--dry-run``: what a run would take, before it takes it, counted from the data and timed on a few real steps."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from sqlalchemy import Engine

from embed.config import PretrainConfig
from embed.features.cache import FeatureCache
from embed.training.data import Dataset
from embed.training.job import pick_device, prepare, training_rows
from embed.training.loop import Job, Progress, step
from embed.training.model import build_model
from kb.settings import Settings

TIMED = 3
"""Steps that are timed, after one that warms up."""


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes of a run; ``feature_seconds`` is what this dry run spent on features (now cached)."""

    drugs: int
    train: int
    validation: int
    test: int
    weights: int
    steps: int
    feature_seconds: float
    step_seconds: float
    train_seconds: float
    data_bytes: int
    peak_bytes: int


def tensor_bytes(data: Dataset) -> int:
    """The memory of all tables on the device."""
    tables = data.tables.values()
    return sum(t.numel() * t.element_size() for table in tables
               for t in (*table.items.columns.values(), *table.items.indptr.values(), table.position))


def estimate(engine: Engine, settings: Settings, config: PretrainConfig) -> Estimate:
    """The cost of a run of this configuration on this machine; features are computed (and kept), nothing is stored."""
    device = pick_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    started = time.perf_counter()
    prepared = prepare(engine, config, FeatureCache(settings.cache / "features"), device)
    feature_seconds = time.perf_counter() - started
    rows = training_rows(prepared, config)
    model = build_model(config, prepared.inputs.data).to(device)
    model.train()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(model, prepared.inputs.data, config, rows, prepared.split.validation, Path(folder),
                  prepared.inputs.relations)
        seconds = _timed(job)
    size = min(config.train.batch_size, len(rows))
    steps = config.train.epochs * max(1, len(rows) // max(size, 1))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    return Estimate(
        drugs=len(prepared.corpus.drug_ids), train=len(rows), validation=len(prepared.split.validation),
        test=len(prepared.split.test), weights=sum(p.numel() for p in model.parameters()), steps=steps,
        feature_seconds=feature_seconds, step_seconds=seconds, train_seconds=seconds * steps,
        data_bytes=tensor_bytes(prepared.inputs.data), peak_bytes=peak)


def _timed(job: Job) -> float:
    """The mean seconds of a training step."""
    optimizer = torch.optim.AdamW(job.model.parameters(), lr=1e-4)
    rows = torch.from_numpy(job.train)[:job.config.train.batch_size]
    step(job, optimizer, rows, Progress())
    started = time.perf_counter()
    for _ in range(TIMED):
        step(job, optimizer, rows, Progress())
    if job.data.group.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / TIMED
