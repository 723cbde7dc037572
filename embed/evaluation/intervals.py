"""Intervals: over seeds by Student's t, over drugs by the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def over_rows(
    rows: int, statistic: Callable[[NDArray[np.int64]], float], *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic of row numbers (Efron 1979)."""
    rng = np.random.default_rng(seed)
    found = [statistic(rng.integers(rows, size=rows)) for _ in range(draws)]
    low, high = np.percentile(found, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
