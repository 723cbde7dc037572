"""One rank of a two-process step; writes the loss terms and all gradients to the file named on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from small_corpus import dataset

from embed.alignment.objective import Relation
from embed.config import PretrainConfig, TrainConfig
from embed.training import distributed
from embed.training.loop import Progress, TrainingJob, step
from embed.training.model import build_model


def main(target: str) -> None:
    torch.set_num_threads(1)
    distributed.join_processes(torch.device("cpu"))
    data = dataset(20, missing=0.3)
    settings = TrainConfig(batch_size=16, dropout=0.0, learning_rate=0.0, weight_decay=0.0, clip=1e9)
    config = PretrainConfig(modalities=("text", "graph"), train=settings)
    model = build_model(config, data)
    vectors = torch.nn.functional.normalize(torch.randn(20, 6, generator=torch.Generator().manual_seed(5)), dim=1)
    relations = [Relation(vectors, torch.arange(20), tanimoto=False)]
    job = TrainingJob(model, data, config, np.arange(16), np.arange(16), Path(target).parent, relations)
    terms = step(job, torch.optim.SGD(model.parameters(), lr=0.0), torch.arange(16), Progress())
    if distributed.rank() == 0:
        grads = {n: p.grad.flatten().tolist() for n, p in model.named_parameters() if p.grad is not None}
        Path(target).write_text(json.dumps({"world": distributed.world(), "terms": terms, "grads": grads}))
    distributed.leave()


if __name__ == "__main__":
    main(sys.argv[1])
