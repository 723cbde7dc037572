"""Intervals: over seeds by Student's t, over queries by the bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def over_seeds(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean, lower and upper bound of the mean of independent runs (t distribution; one run has no interval)."""
    from scipy.stats import t

    found = np.asarray([v for v in values if np.isfinite(v)], float)
    if len(found) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(found.mean())
    if len(found) == 1:
        return mean, float("nan"), float("nan")
    half = float(t.ppf(0.5 + level / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return mean, mean - half, mean + half


def paired(ours: NDArray[Any], theirs: NDArray[Any], draws: int = 2000) -> tuple[float, float, float]:
    """Mean difference over the same queries, and the bounds of its 95 % bootstrap interval (queries drawn anew)."""
    gain = np.asarray(ours, float) - np.asarray(theirs, float)
    if not len(gain):
        return float("nan"), float("nan"), float("nan")
    picked = np.random.default_rng(0).integers(0, len(gain), (draws, len(gain)))
    low, high = np.quantile(gain[picked].mean(1), [0.025, 0.975])
    return float(gain.mean()), float(low), float(high)
