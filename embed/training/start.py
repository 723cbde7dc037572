"""The weights that training starts from, computed rather than drawn.

The linear path of every tower over frozen features begins as the ridge regression onto one target: the principal
components of what the late fusion compares, laid side by side. So all towers begin in one space, which no seed turns,
and training bends it from there; the nearest neighbours of two runs are mostly the same.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from embed.config import LossConfig, PretrainConfig
from embed.features.reduce import FIT_SEED, one_thread, unit
from embed.training.data import Dataset
from embed.training.model import AlignmentModel, build_model

Matrix = NDArray[np.float32]
MOST = 20_000
"""Training drugs that the regressions are fitted on."""
PENALTY = 1.0
"""The ridge, in mean variances of a feature."""


def start_model(config: PretrainConfig, data: Dataset, train: NDArray[np.int64]) -> AlignmentModel:
    """The model as training begins with it; ``train`` are the rows of the drugs that train."""
    model = build_model(config, data)
    if config.train.start == "components":
        set_linear_paths(model, data, train, config.loss)
    return model.to(data.group.device)


@torch.no_grad()
def set_linear_paths(model: AlignmentModel, data: Dataset, train: NDArray[np.int64], loss: LossConfig) -> None:
    """Set each linear path to its regression onto the target, and what is added to it to zero.

    Without any of the modalities that the late fusion compares, nothing is changed.
    """
    rows = np.sort(np.random.default_rng(FIT_SEED).permutation(train)[:MOST])
    target = components(data, rows, loss, model.width)
    if target is None:
        return
    for name, tower in model.towers.items():
        path, head = getattr(tower, "skip", None), getattr(tower, "head", None)
        found = _features(data, name, rows)
        if path is None or head is None or found is None:
            continue
        features, has = found
        if path.in_features == 2 * features.shape[1]:  # beside each number, whether it is known
            features = np.concatenate([features, has[:, None] * np.isfinite(_raw(data, name, rows))], 1)
        weight, bias = regression(features[has], target[has])
        path.weight.copy_(torch.from_numpy(weight.T.copy()))
        path.bias.copy_(torch.from_numpy(bias))
        head.weight.zero_()
        head.bias.zero_()


@one_thread
def components(data: Dataset, rows: NDArray[np.int64], loss: LossConfig, width: int) -> Matrix | None:
    """The target (n, D) for the drugs at ``rows``: unit vectors, zero for a drug that has nothing of it."""
    from sklearn.utils.extmath import randomized_svd

    parts: list[Matrix] = []
    for name, weight in zip(loss.relation_of, loss.relation_weights, strict=True):
        found = _features(data, name, rows)
        if found is not None:
            parts.append(unit(found[0]) * np.float32(weight**0.5))
    if not parts:
        return None
    whole = np.concatenate(parts, 1)
    whole -= whole.mean(0)
    left, size, _ = randomized_svd(whole, min(width, *whole.shape), random_state=FIT_SEED)
    target = np.zeros((len(rows), width), np.float32)
    target[:, :len(size)] = left * size
    return unit(target)


@one_thread
def regression(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """``(weight (F, D), bias (D,))`` of the ridge regression of ``y`` (n, D) on ``x`` (n, F)."""
    mean, centre = x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64)
    inner = (x - mean).T @ (x - mean)
    ridge = PENALTY * max(float(np.trace(inner)) / len(inner), 1e-9)
    weight = np.linalg.solve(inner + ridge * np.eye(len(inner)), (x - mean).T @ (y - centre))
    return weight.astype(np.float32), (centre - mean @ weight).astype(np.float32)


def _raw(data: Dataset, name: str, rows: NDArray[np.int64]) -> Matrix:
    """The vectors (n, F) that the tower reads for the drugs at ``rows``; of the first item where there is none."""
    table = data.tables[name]
    place = table.position[torch.from_numpy(rows)].clamp(min=0)
    found: Matrix = table.items.columns["vector"][place].float().cpu().numpy()
    return found


def _features(data: Dataset, name: str, rows: NDArray[np.int64]) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """``(vectors, has)`` of the drugs at ``rows``, zero where there is none or a number is missing."""
    table = data.tables.get(name)
    if table is None or "vector" not in table.items.columns or not table.items.n:
        return None
    has = (table.position.numpy()[rows] >= 0)
    if not has.any():
        return None
    return np.nan_to_num(_raw(data, name, rows)) * has[:, None], has
