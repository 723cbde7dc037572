"""Intervals over seeds by Student's t."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
