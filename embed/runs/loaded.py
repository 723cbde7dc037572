"""A finished run, ready to be asked: its configuration, the corpus as it is now, and the best epoch's model."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.config import PretrainConfig
from embed.features.cache import FeatureCache
from embed.runs import folder as run_folder
from embed.runs import store
from embed.runs.inference import TrainedRun
from embed.training.job import Prepared, prepare
from embed.training.model import AlignmentModel, build_model, embed_all
from kb.errors import CheckpointError
from kb.settings import Settings


@dataclass(frozen=True)
class Loaded:
    """A run with its model in evaluation mode, on the CPU."""

    run_id: uuid.UUID
    folder: Path
    config: PretrainConfig
    prepared: Prepared
    model: AlignmentModel


@dataclass(frozen=True)
class Embedded:
    """All drugs through a model: ``z`` [N, 1 + M, D] as ``names`` says, ``fused`` [N, D], ``present`` [N, 1 + M]."""

    names: tuple[str, ...]
    z: NDArray[np.float32]
    fused: NDArray[np.float32]
    present: NDArray[np.bool_]


def find_run_folder(engine: Engine, settings: Settings, wanted: str) -> Path:
    """The folder of the run that ``wanted`` names: ``published``, ``last``, or the start of an id."""
    if wanted == "published":
        return run_folder.pretrain_folder(settings) / str(store.published_run(engine))
    return run_folder.find_folder(settings, wanted)


def load_run(engine: Engine, settings: Settings, wanted: str = "published") -> Loaded:
    """The run, with the features of the knowledge base as it is now.

    Raises CheckpointError when the knowledge base has changed so much that the weights no longer fit its features.
    """
    folder = find_run_folder(engine, settings, wanted)
    config = run_folder.read_config(folder)
    if config.threads:
        torch.set_num_threads(config.threads)
    model = TrainedRun(folder).model
    prepared = prepare(engine, config, FeatureCache(settings.cache / "features"), torch.device("cpu"))
    if build_model(config, prepared.inputs.data).kwargs != model.kwargs:
        raise CheckpointError(
            f"run {folder.name} was trained on other features than the knowledge base now gives",
            hint="mkmed embed pretrain",
        )
    return Loaded(uuid.UUID(folder.name), folder, config, prepared, model)


def embed_drugs(model: AlignmentModel, loaded: Loaded) -> Embedded:
    """Every drug of the knowledge base through ``model`` (the run's own, or an untrained one beside it)."""
    z, fused, present = (part.numpy() for part in embed_all(model, loaded.prepared.inputs.data))
    return Embedded(model.names, z, fused, present)
