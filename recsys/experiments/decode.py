"""From probabilities to a recommended set: a threshold, and a greedy rule that weighs interactions.

``penalty`` 0 is the literature's rule p ≥ θ. Above 0, medications are taken in falling order of probability, and one
is left out when logit(p) − logit(θ) does not exceed ``penalty`` times its interactions with those already taken.
Both numbers are tuned on validation patients, for every recommender in the same way.

With ``decide=expected`` the threshold may be each visit's own: that of the set with the largest expected Jaccard if the
calibrated probabilities were of independent medications, times a factor; it is taken where the validation patients'
Jaccard is better by it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys.experiments.parts import by_rows
from recsys.orders.interactions import pair_counts

FACTORS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
"""What the threshold of the largest expected Jaccard is multiplied by; labels are not independent."""
GRID = np.linspace(0.02, 0.8, 79)
PENALTIES = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.1, 1.5, 2.2, 4.0)


class Decision(NamedTuple):
    """How probabilities become a set."""

    threshold: float
    """Of raw probabilities; with ``slope`` a factor of each visit's own threshold."""
    penalty: float = 0.0
    slope: float = 0.0
    """Platt's numbers by which the expected Jaccard is reckoned; slope 0 has one threshold for all visits."""
    shift: float = 0.0


def thresholds(probability: np.ndarray, decision: Decision) -> np.ndarray | float:
    """The raw probability above which a medication counts at each visit [N, 1], or at all of them."""
    if decision.slope == 0:
        return decision.threshold
    score = decision.slope * logit(probability) + decision.shift
    own = np.clip(decision.threshold * expected_jaccard_threshold(1 / (1 + np.exp(-score))), 1e-6, 1 - 1e-6)
    raw: np.ndarray = 1 / (1 + np.exp(-(logit(own) - decision.shift) / decision.slope))
    return raw[:, None]


def expected_jaccard_threshold(probability: np.ndarray) -> np.ndarray:
    """float64[N]: the cut below the set of largest expected Jaccard, of independent medications [N, K].

    Of the k most probable the expected Jaccard is Σ p inside · E[1/(k + B)], where B, how many of the others are given,
    has the mean μ and the variance v: E[1/(k + B)] ≈ 1/(k + μ) · (1 + v/(k + μ)²). 1 where the empty set is expected to
    do better.
    """
    ordered = -np.sort(-probability.astype(np.float64), axis=1)
    inside, variance = np.cumsum(ordered, 1), np.cumsum(ordered * (1 - ordered), 1)
    size = np.arange(1, ordered.shape[1] + 1) + inside[:, -1:] - inside
    expected = inside / size * (1 + (variance[:, -1:] - variance) / size**2)
    last, after = expected.argmax(1)[:, None], np.pad(ordered, ((0, 0), (0, 1)))
    cut: np.ndarray = (np.take_along_axis(ordered, last, 1) + np.take_along_axis(after, last + 1, 1))[:, 0] / 2
    none = np.exp(np.log1p(-np.minimum(ordered, 1 - 1e-9)).sum(1))  # nothing recommended where nothing is given is 1
    return np.where(none > expected.max(1), 1.0, cut)


def logit(probability: np.ndarray | float) -> np.ndarray:
    """log(p / (1 − p)), with p kept within 1e-6 of its ends."""
    kept = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(kept) - np.log1p(-kept)


def select(probability: np.ndarray, decision: Decision, matrix: np.ndarray) -> np.ndarray:
    """bool[N, K]: the recommended medications."""
    if decision.penalty == 0:
        return probability >= thresholds(probability, decision)
    return np.concatenate(list(by_rows(lambda part: _greedy(part, decision, matrix), probability)))


def _greedy(probability: np.ndarray, decision: Decision, matrix: np.ndarray) -> np.ndarray:
    gain = (logit(probability) - logit(thresholds(probability, decision))).astype(np.float32)
    depth = int((gain > 0).sum(1).max(initial=0))
    order = np.argsort(-gain, axis=1, kind="stable")[:, :depth]
    cost = matrix.astype(np.float32) * decision.penalty
    chosen = np.zeros(probability.shape, bool)
    every = np.arange(len(probability))
    for rank in range(depth):
        item = order[:, rank]
        rows = every[gain[every, item] > 0]
        item = item[rows]
        chosen[rows, item] = True
        gain[rows] -= cost[item]
    return chosen


def threshold_curve(probability: np.ndarray, target: np.ndarray, unseen: np.ndarray | None = None) -> np.ndarray:
    """float64[len(GRID)]: the mean Jaccard of p ≥ θ for every θ of GRID, from two histograms a visit."""
    unseen = np.zeros(len(probability), np.int64) if unseen is None else unseen
    total: np.ndarray = sum(by_rows(_jaccard_sums, probability, target, unseen))  # type: ignore[assignment]
    return total / max(len(probability), 1)


def _jaccard_sums(probability: np.ndarray, target: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """float64[len(GRID)]: the sum over visits of their Jaccard at each threshold."""
    visits, bins = len(probability), len(GRID) + 1
    place = np.searchsorted(GRID, probability, side="right") + np.arange(visits)[:, None] * bins
    said = np.bincount(place.ravel(), minlength=visits * bins).reshape(visits, bins)
    hit = np.bincount(place[target > 0], minlength=visits * bins).reshape(visits, bins)
    said, hit = (np.cumsum(table[:, ::-1], 1)[:, ::-1][:, 1:] for table in (said, hit))
    union = said + (target.sum(1) + unseen)[:, None] - hit
    return np.where(union == 0, 1.0, hit / np.maximum(union, 1)).sum(0)


def tune_threshold(probability: np.ndarray, target: np.ndarray,
                   unseen: np.ndarray | None = None) -> tuple[float, float]:
    """The threshold of GRID with the best mean Jaccard, and that Jaccard."""
    curve = threshold_curve(probability, target, unseen)
    best = int(curve.argmax())
    return float(GRID[best]), float(curve[best])


def _jaccard(chosen: np.ndarray, target: np.ndarray) -> float:
    hit = (chosen & (target > 0)).sum(1)
    union = chosen.sum(1) + target.sum(1) - hit
    return float(np.where(union == 0, 1.0, hit / np.maximum(union, 1)).mean())


def tune(probability: np.ndarray, target: np.ndarray, matrix: np.ndarray, ddi_target: float = 0.0,
         platt: tuple[float, float] | None = None) -> Decision:
    """The decision with the best validation Jaccard whose DDI rate is at most ``ddi_target`` (0: no limit).

    When no penalty of PENALTIES gets there, the decision with the lowest rate. With ``platt`` (slope, shift) each
    visit's own threshold is tried too.
    """
    threshold, reached = tune_threshold(probability, target)
    plain = Decision(threshold)
    for factor in FACTORS if platt is not None and platt[0] > 0 else ():
        tried = Decision(factor, 0.0, *platt)  # type: ignore[misc]
        found = _jaccard(select(probability, tried, matrix), target)
        if found > reached:
            reached, plain = found, tried
    if ddi_target <= 0 or rate_of(select(probability, plain, matrix), matrix) <= ddi_target:
        return plain
    best: tuple[float, Decision] | None = None
    lowest = (np.inf, plain)
    for penalty in PENALTIES[1:]:
        for factor in (0.5, 0.65, 0.8, 0.9, 1.0):
            decision = plain._replace(threshold=float(plain.threshold * factor), penalty=penalty)
            chosen = select(probability, decision, matrix)
            rate, score = rate_of(chosen, matrix), _jaccard(chosen, target)
            lowest = min(lowest, (rate, decision))
            if rate <= ddi_target and (best is None or score > best[0]):
                best = (score, decision)
    return best[1] if best else lowest[1]


def rate_of(chosen: np.ndarray, matrix: np.ndarray) -> float:
    """Interacting pairs over all pairs of selections bool[N, K], pooled over visits; 0 without any pair."""
    counted = [(interacting.sum(), pairs.sum())
               for interacting, pairs in by_rows(lambda part: pair_counts(part, matrix), chosen)]
    interacting, pairs = (sum(column) for column in zip(*counted, strict=True))
    return float(interacting / pairs) if pairs else 0.0
