"""The job behind ``mkmed embed pretrain``: knowledge base in, published vectors out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from embed.config import PretrainConfig, to_json
from embed.evaluation.retrieval import retrieve
from embed.features.cache import FeatureCache
from embed.registry import ANCHOR
from embed.runs import checkpoint, store
from embed.runs import folder as run_folder
from embed.runs.schema import embedding_run
from embed.source import Corpus, read_corpus
from embed.training import distributed
from embed.training.inputs import Inputs, build_inputs, split_corpus
from embed.training.loop import Job, fit
from embed.training.model import AlignmentModel, build_model, embed_all
from embed.training.split import DrugSplit
from kb.errors import ConfigError, DataError, Interrupted, MkmedError, TrainingDiverged, UsageError
from kb.ingest import runs
from kb.modalities import MODALITIES
from kb.output import say
from kb.settings import Settings

KINDS: tuple[str, ...] = (*MODALITIES, ANCHOR)
"""The columns of ``rests_on``."""


@dataclass(frozen=True)
class Pretrained:
    """A finished run: its id and folder, the epochs done, and its metrics (validation, and retrieval on test drugs)."""

    run_id: uuid.UUID
    folder: Path
    epochs: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Everything before the first step: corpus, split, inputs."""

    corpus: Corpus
    split: DrugSplit
    inputs: Inputs


def pick_device(wanted: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda`` (this process's card under torchrun); raises ConfigError."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = "" if torch.backends.cuda.is_built() else " (this torch was built without CUDA)"
        raise ConfigError(f"device is cuda, but torch sees no CUDA card{built}",
                          hint="use --device cpu, or install a CUDA build of torch")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def prepare(engine: Engine, config: PretrainConfig, cache: FeatureCache, device: torch.device) -> Prepared:
    """The corpus of the knowledge base with its features, computed or from the cache, and its scaffold split."""
    g = config.graph
    corpus = read_corpus(engine, notes=config.text.notes, exclude_types=g.exclude_types, exclude_relations=g.exclude)
    if not any(corpus.smiles):
        raise DataError("no drug in the knowledge base has a structure, and the molecule is the anchor",
                        hint="mkmed kb ingest corpus fills it from the bundled data")
    split = split_corpus(corpus, config, cache)
    inputs = build_inputs(corpus, config, cache, device, split.train)
    return Prepared(corpus, split.among(inputs.data.present.any(1).cpu().numpy()), inputs)


def training_rows(prepared: Prepared, config: PretrainConfig) -> NDArray[np.int64]:
    """The training drugs of the arm: all that have anything, or only those that have every modality."""
    present = prepared.inputs.data.present.cpu().numpy()[prepared.split.train]
    return prepared.split.train[np.flatnonzero(present.all(1) if config.arm == "intersection" else present.any(1))]


def pretrain(engine: Engine, settings: Settings, config: PretrainConfig, *, resume: str | None = None,
             publish: bool = True, name: str = "", on_epoch: Callable[[dict[str, Any]], None] = lambda m: None,
             ) -> Pretrained:
    """Train, embed every drug that has anything, store the vectors and (by default) publish them.

    ``resume`` names a run (``last``, or the start of an id) that goes on with its own configuration. Nothing is stored
    or published if training diverges or is interrupted; what was reached stays in the run folder.
    """
    run_id = uuid.uuid4()
    if resume is not None:
        folder = run_folder.find_folder(settings, resume)
        config, run_id = run_folder.read_config(folder), uuid.UUID(folder.name)
        _refuse_finished(engine, run_id)
    device = pick_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    distributed.join(device)
    try:
        if resume is None:
            run_id = distributed.agree(run_id)
            folder = run_folder.pretrain_folder(settings) / str(run_id)
        with run_folder.alone(folder) if distributed.rank() == 0 else nullcontext():
            return _run(engine, settings, config, run_id, folder, device, name, resume is not None, publish, on_epoch)
    finally:
        distributed.leave()


def _run(engine: Engine, settings: Settings, config: PretrainConfig, run_id: uuid.UUID, folder: Path,
         device: torch.device, name: str, resume: bool, publish: bool, on_epoch: Callable[[dict[str, Any]], None],
         ) -> Pretrained:
    """The run from its row to its vectors; how it ended is written into the row."""
    try:
        if distributed.rank() == 0:
            if resume:
                _refuse_finished(engine, run_id)  # again: it may have ended before the lock was had
            run_folder.write_config(folder, config)
            _open_run(engine, run_id, config, name, resume)
        return _work(engine, settings, config, run_id, folder, device, resume, publish, on_epoch)
    except KeyboardInterrupt:
        _close_run(engine, run_id, "interrupted", "stopped by the user")
        raise Interrupted(f"run {run_id} was stopped; its epochs are kept",
                          hint="mkmed embed pretrain --resume last") from None
    except MkmedError as error:
        _close_run(engine, run_id, "failed", error.message)
        raise


def _refuse_finished(engine: Engine, run_id: uuid.UUID) -> None:
    with engine.connect() as connection:
        if connection.scalar(select(embedding_run.c.run_id).where(embedding_run.c.run_id == run_id)):
            raise UsageError(f"run {run_id} is finished: its vectors are stored",
                             hint=f"mkmed embed publish {str(run_id)[:8]}, or pretrain without --resume")


def _open_run(engine: Engine, run_id: uuid.UUID, config: PretrainConfig, name: str, again: bool) -> None:
    with engine.begin() as connection:
        if not (again and runs.reopen_run(connection, run_id)):
            runs.start_run(connection, "pretrain", name=name, config=to_json(config), run_id=run_id)


def _close_run(engine: Engine, run_id: uuid.UUID, status: str, error: str) -> None:
    if distributed.rank() == 0:
        with engine.begin() as connection:
            runs.finish_run(connection, run_id, status, error=error)


def _work(engine: Engine, settings: Settings, config: PretrainConfig, run_id: uuid.UUID, folder: Path,
          device: torch.device, resume: bool, publish: bool, on_epoch: Callable[[dict[str, Any]], None]) -> Pretrained:
    cache = FeatureCache(settings.cache / "features")
    with distributed.first_alone():
        prepared = prepare(engine, config, cache, device)
    inputs, rows = prepared.inputs, training_rows(prepared, config)
    model = build_model(config, inputs.data).to(device)
    if distributed.rank() == 0:
        say(f"{len(rows):,} drugs train, {len(prepared.split.validation):,} validate, {len(prepared.split.test):,} are "
            f"held out; {', '.join(model.names)}; {sum(p.numel() for p in model.parameters()):,} weights on {device}")
        run_folder.write_environment(folder, device, inputs.identities)
    extra = {"projections": {key: projection.state() for key, projection in inputs.projections.items()}}
    job = Job(model, inputs.data, config, rows, prepared.split.validation, folder, inputs.relations, extra, on_epoch)
    at = fit(job, resume and (folder / "last.pt").exists())
    distributed.wait()
    if not (folder / "best.pt").exists():
        raise TrainingDiverged("no epoch had a finite step", hint="nothing was published; lower train.learning_rate")
    tensors, meta = checkpoint.load(folder / "best.pt")
    model.load_state_dict(tensors["model"])
    metrics = {"epochs": at.epoch, "best_epoch": meta["progress"]["best_epoch"], "score": meta["progress"]["best"],
               "test": score_held_out(model, prepared), "encoders": inputs.identities}
    if distributed.rank() == 0:
        vectors, rests_on = vectors_of(model, prepared)
        store.write_run(engine, run_id, vectors, rests_on, metrics=metrics)
        with engine.begin() as connection:
            runs.finish_run(connection, run_id, "complete", counts={k: len(v[0]) for k, v in vectors.items()})
        if publish:
            store.publish(engine, run_id)
        run_folder.draw_curves(folder)
    distributed.wait()
    return Pretrained(run_id, folder, at.epoch, metrics)


def vectors_of(model: AlignmentModel, prepared: Prepared,
               ) -> tuple[dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]], NDArray[np.bool_]]:
    """``({modality: (drug ids, matrix)}, rests_on)`` of every drug that has anything, as the store wants them."""
    data = prepared.inputs.data
    z, fused, present = (part.numpy() for part in embed_all(model, data))
    if not (np.isfinite(z).all() and np.isfinite(fused).all()):
        raise TrainingDiverged("the trained towers give vectors that are not finite", hint="nothing was published")
    vectors = {name: (data.drug_ids[present[:, m]], z[present[:, m], m]) for m, name in enumerate(model.names)}
    any_of = present.any(1)
    vectors["fused"] = (data.drug_ids[any_of], fused[any_of])
    rests_on = np.zeros((int(any_of.sum()), len(KINDS)), bool)
    for m, name in enumerate(model.names):
        rests_on[:, KINDS.index(name)] = present[any_of, m]
    return vectors, rests_on


def score_held_out(model: AlignmentModel, prepared: Prepared, least: int = 20) -> dict[str, dict[str, float]]:
    """Retrieval between every two towers on the test drugs that have both (at least ``least``), beside chance."""
    data, test = prepared.inputs.data, prepared.split.test
    z, _, present = (part.numpy() for part in embed_all(model, data))
    group = data.group.cpu().numpy()
    out = {}
    for a, first in enumerate(model.names):
        for b, second in enumerate(model.names):
            rows = test[present[test, a] & present[test, b]]
            if a != b and len(rows) >= least:
                found = retrieve(z[rows, a], z[rows, b], group[rows])
                chance = {"drugs": found.drugs, "chance@10": found.chance[10]}
                out[f"{first}->{second}"] = {**found.figures(), **chance}
    return out
