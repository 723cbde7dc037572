"""Projections of frozen features, fitted on the training drugs only and kept in the checkpoint.

x -> [sign(x) log(1 + |x|)] -> [x / |x|] -> x - mean -> [@ components] -> / scale -> [clip] -> [gain * x / |x|]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

Matrix = NDArray[np.float32]
ROWS = 8192
"""Rows that a projection works on at once."""
FIT_SEED = 0
"""The seed of everything that is fitted before training: a run's seed is of its training alone."""

# These products are small: with a BLAS thread per core they cost fifty times as long wherever a core is busy.
one_thread = threadpool_limits.wrap(limits=1, user_api="blas")


def unit(x: Matrix) -> Matrix:
    """The rows scaled to length 1; a zero row stays zero."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: Matrix = (x / np.maximum(length, 1e-9)).astype(np.float32)
    return scaled


@dataclass(frozen=True)
class Projection:
    """One fitted projection; NaN passes through, so a missing number stays missing."""

    mean: Matrix
    components: Matrix | None = None
    scale: Matrix | None = None
    log: bool = False
    unit_in: bool = False
    clip: float = 0.0
    gain: float = 0.0

    @property
    def width(self) -> int:
        """The width of what comes out."""
        return len(self.mean) if self.components is None else self.components.shape[1]

    @property
    def sparse(self) -> bool:
        """Whether it was fitted on sparse rows of unit length, and takes such."""
        return self.components is not None and not self.unit_in and not self.log

    @one_thread
    def apply(self, x: Matrix | csr_array) -> Matrix:
        """The projected rows, float32 (n, width); beside them little is in memory, however many there are."""
        if x.shape[0] <= ROWS:
            return self._apply(x)
        out = np.empty((x.shape[0], self.width), np.float32)
        for start in range(0, x.shape[0], ROWS):
            out[start:start + ROWS] = self._apply(x[start:start + ROWS])
        return out

    def _apply(self, x: Matrix | csr_array) -> Matrix:
        if isinstance(x, csr_array):
            assert self.components is not None  # only a dense projection may come without
            y = np.asarray(x @ self.components - self.mean @ self.components, np.float32)
        else:
            y = self._before(x.astype(np.float32)) - self.mean
            y = y if self.components is None else y @ self.components
        if self.scale is not None:
            y = y / self.scale
        if self.clip:
            y = np.clip(y, -self.clip, self.clip)
        return self.gain * unit(y) if self.gain else y.astype(np.float32)

    def _before(self, x: Matrix) -> Matrix:
        y = np.sign(x) * np.log1p(np.abs(x)) if self.log else x
        return unit(y) if self.unit_in else y

    def state(self) -> dict[str, Any]:
        """The projection as tensors and numbers, for a checkpoint."""
        import torch

        arrays = {"mean": self.mean, "components": self.components, "scale": self.scale}
        return {
            **{name: torch.from_numpy(array) for name, array in arrays.items() if array is not None},
            "log": self.log, "unit_in": self.unit_in, "clip": self.clip, "gain": self.gain,
        }


def projection_of(state: Mapping[str, Any]) -> Projection:
    """The projection that ``state`` described."""
    plain: dict[str, Any] = {k: v.numpy() if hasattr(v, "numpy") else v for k, v in state.items()}
    return Projection(**plain)


def standardise_columns(x: Matrix, fit: NDArray[np.int64], *, log: bool = False, clip: float = 0.0) -> Projection:
    """Zero mean and unit variance over the rows ``fit``, NaN left out; a constant or unknown column becomes 0."""
    first = Projection(np.zeros(x.shape[1], np.float32), log=log)
    y = np.ma.masked_invalid(first.apply(x[fit]).astype(np.float64))
    mean, scale = y.mean(0).filled(0.0), y.std(0).filled(0.0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    return replace(first, mean=mean.astype(np.float32), scale=scale.astype(np.float32), clip=clip)


def centre(x: Matrix, fit: NDArray[np.int64], *, gain: float = 8.0) -> Projection:
    """Unit rows minus their mean over ``fit``, to length ``gain``, which gives the towers inputs of unit scale."""
    base = Projection(np.zeros(x.shape[1], np.float32), unit_in=True, gain=gain)
    return replace(base, mean=unit(x[fit]).mean(0) if len(fit) else base.mean)


@one_thread
def principal(x: Matrix, fit: NDArray[np.int64], count: int, seed: int) -> Projection:
    """The leading ``count`` principal components over ``fit``, scaled to unit mean spread."""
    from sklearn.utils.extmath import randomized_svd

    mean = x[fit].mean(0).astype(np.float32)
    count = min(count, *x[fit].shape)
    _, singular, rows = randomized_svd(x[fit] - mean, count, random_state=seed)
    spread = singular / np.sqrt(max(len(fit), 1))
    scale = np.full(count, max(float(spread.mean()), 1e-6), np.float32)
    return Projection(mean, np.ascontiguousarray(rows.T, np.float32), scale)


@one_thread
def singular(x: Matrix | csr_array, fit: NDArray[np.int64], count: int, seed: int, *, log: bool = False,
             gain: float = 8.0) -> Projection:
    """The leading ``count`` right singular vectors over ``fit`` of unit rows (sparse rows must be unit already)."""
    from sklearn.utils.extmath import randomized_svd

    width = x.shape[1]
    base = Projection(np.zeros(width, np.float32), log=log, unit_in=not isinstance(x, csr_array), gain=gain)
    rows = x[fit] if isinstance(x, csr_array) else base._before(x[fit].astype(np.float32))
    count = min(count, *rows.shape)
    _, _, right = randomized_svd(rows, count, random_state=seed)
    return replace(base, components=np.ascontiguousarray(right.T, np.float32))
