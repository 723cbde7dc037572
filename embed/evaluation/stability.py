"""Do two trainings that differ in their seed alone give a drug the same nearest neighbour?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.config import PretrainConfig
from embed.evaluation.training import trained
from embed.features.cache import FeatureCache
from embed.training.job import pick_device, prepare_training
from embed.training.model import embed_all
from kb.settings import Settings

CHUNK = 1024


def nearest_rows(fused: NDArray[np.floating]) -> NDArray[np.int64]:
    """The row of each row's nearest other one (N,) by cosine; ``fused`` [N, D] are unit vectors."""
    found = np.empty(len(fused), np.int64)
    for start in range(0, len(fused), CHUNK):
        part = fused[start:start + CHUNK] @ fused.T
        part[np.arange(len(part)), start + np.arange(len(part))] = -np.inf
        found[start:start + CHUNK] = part.argmax(1)
    return found


def neighbour_stability(engine: Engine, settings: Settings, config: PretrainConfig, *,
                        seeds: Sequence[int] = (0, 1)) -> list[dict[str, Any]]:
    """For each two seeds on one split the share of drugs, and of held-out drugs, with the same nearest neighbour."""
    prepared = prepare_training(engine, config, FeatureCache(settings.cache / "features"), pick_device(config.device))
    there = prepared.inputs.data.present.any(1).numpy()
    rows = np.flatnonzero(there)
    held = np.isin(rows, prepared.split.test)
    found = {}
    for seed in seeds:
        model, _ = trained(prepared, dataclasses.replace(config, seed=seed))
        found[seed] = nearest_rows(embed_all(model, prepared.inputs.data, rows)[1].numpy())
    return [{"seeds": f"{a}, {b}", "drugs": len(rows), "same": float((found[a] == found[b]).mean()),
             "same, held-out drugs": float((found[a] == found[b])[held].mean())} for a, b in combinations(seeds, 2)]
