"""A training whose folder is thrown away, for studies that compare trainings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from embed.allocator import keep_freed_memory
from embed.config import PretrainConfig
from embed.runs import checkpoint
from embed.training.job import PreparedTraining, training_rows
from embed.training.loop import Progress, TrainingJob, fit
from embed.training.model import AlignmentModel
from embed.training.start import start_model


def trained(prepared: PreparedTraining, config: PretrainConfig) -> tuple[AlignmentModel, Progress]:
    """The model of the best validation epoch, and where the training ended."""
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    rows = training_rows(prepared, config)
    model = start_model(config, prepared.inputs.data, rows)
    with tempfile.TemporaryDirectory(prefix="mkmed-study-") as folder:
        at = fit(TrainingJob(model, prepared.inputs.data, config, rows, prepared.split.validation, Path(folder),
                     prepared.inputs.relations))
        tensors, _ = checkpoint.load_checkpoint(Path(folder) / "best.pt")
    model.load_state_dict(tensors["model"])
    return model, at
