"""Intervals over seeds and distinct units at once, and Holm's correction.

Under several seeds one patient is tested several times, so the tests are not independent. Both factors are resampled:
every draw takes seeds with replacement and, independently, units (patients, medications) with replacement, and a test
counts as often as its seed times its unit was drawn (the crossed bootstrap of Owen 2007, which errs to the wide side).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tests:
    """Sums and counts of one arm by seed and unit; a unit that a seed did not test counts 0."""

    sums: Floats
    """float64[S, U, metrics]."""
    counts: Floats
    """float64[S, U]."""

    def means(self) -> Floats:
        """float64[metrics]: the mean over all tests."""
        mean: Floats = self.sums.sum((0, 1)) / self.counts.sum()
        return mean


class Interval(NamedTuple):
    """A difference, its percentile interval, and a two-sided bootstrap p of at least 1/draws."""

    difference: float
    low: float
    high: float
    p: float


def gather_units(tests: Sequence[tuple[NDArray[np.int64], Floats, Floats]], units: int) -> Tests:
    """The tests of an arm from (units int[n], sums float[n, metrics], counts float[n]) of each seed."""
    sums = np.zeros((len(tests), units, tests[0][1].shape[1]))
    counts = np.zeros((len(tests), units))
    for seed, (of, found, number) in enumerate(tests):
        sums[seed, of], counts[seed, of] = found, number
    return Tests(sums, counts)


def difference(first: Tests, second: Tests, *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> list[Interval]:
    """For each metric the mean of ``first`` − ``second`` on the same tests.

    Raises DataError when the two arms were not tested on the same units by the same seeds.
    """
    one, other = drawn_means((first, second), draws, seed)
    drawn = one - other
    seen = first.means() - second.means()
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    side = np.minimum((drawn <= 0).mean(0), (drawn >= 0).mean(0))
    p = np.minimum(1.0, np.maximum(2 * side, 1 / draws))
    return [Interval(*map(float, row)) for row in zip(seen, low, high, p, strict=True)]


def recovered(gains: Tests, null: Tests, oracle: Tests, metric: int, *, draws: int = 2000, seed: int = 0,
              level: float = 0.95) -> tuple[float, float, float]:
    """What share of the oracle's gain over ``null`` an arm has on the same tests, and its percentile interval.

    A draw in which the oracle gains nothing counts as a share without bound, of the sign of the arm's own gain.
    """
    seen = [arm.means()[metric] for arm in (gains, null, oracle)]
    arm, base, most = (part[:, metric] for part in drawn_means((gains, null, oracle), draws, seed))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(most > base, (arm - base) / (most - base), np.copysign(np.inf, arm - base))
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    share = (seen[0] - seen[1]) / (seen[2] - seen[1]) if seen[2] > seen[1] else float("nan")
    return float(share), float(low), float(high)


def drawn_means(arms: Sequence[Tests], draws: int, seed: int) -> list[Floats]:
    """float64[draws, metrics] of each arm: its means under the same draws of seeds and units.

    Raises DataError when the arms were not tested on the same units by the same seeds.
    """
    first = arms[0]
    for other in arms[1:]:
        if first.counts.shape != other.counts.shape or not np.array_equal(first.counts > 0, other.counts > 0):
            raise DataError("the arms were not tested on the same seeds and patients", hint="run the study to its end")
    generator = np.random.default_rng(seed)
    seeds = len(first.counts)
    tested = np.flatnonzero(first.counts.sum(0) > 0)
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(float)
    of_units = generator.multinomial(len(tested), np.full(len(tested), 1 / len(tested)), size=draws).astype(float)
    means = []
    for arm in arms:
        below = np.einsum("ds,su,du->d", of_seeds, arm.counts[:, tested], of_units, optimize=True)
        above = np.einsum("ds,sum,du->dm", of_seeds, arm.sums[:, tested], of_units, optimize=True)
        means.append(above / np.maximum(below, 1e-12)[:, None])
    return means


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p of each hypothesis: the family-wise error rate stays below what they are compared with."""
    adjusted, running = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = running
    return adjusted
