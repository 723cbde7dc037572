"""Scores of medications that could not be ordered in training, or hardly: learnt from those that could, drug for drug.

    logit P(n, k) = b_k + Σ_f δ_f z_f[n, k]

The features need no prescription of k: how many codes the visit has, what the other medications score there on average
and what those with vectors like k's score above that, and how many of the visit's codes go with k by ``CodeEvidence``,
at three strengths. δ is fitted on the medications that are given, each as if it were unseen: its neighbours are the
others, and their scores come from a process that did not see the visit's patient. Medications count alike, however
often each is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.cohorts.cohort import Ragged

Floats = NDArray[np.float32]

THRESHOLDS = (1.0, 2.0, 3.0)
"""Standard deviations above which a code's evidence for a medication counts; what it is above them is summed."""
LIKENESS_WIDTH = 0.2
RIDGES = (100.0, 1000.0)
FOLDS = 4
LEAST_GIVEN = 5
"""Visits that a medication is given and lacked at, at least, to be learnt from."""
LEAST_MEDICATIONS = 10
"""Medications to learn from, below which nothing is learnt of those unseen."""
SURE = 30.0
"""Visits that were given a medication, below which what they say of its ranking is trusted less, by the square."""
PRIOR_VISITS = 5.0
"""Visits that the base rate of the medications alike weighs, beside those at which one could be ordered itself."""


@dataclass
class Unseen:
    """What is known of the medications of ``columns`` after training."""

    columns: NDArray[np.int64]
    """int64[U]: their places among the K."""
    neighbours: Floats
    """float32[K, U]: the weights of the given medications, each column of sum 1."""
    sources: NDArray[np.bool_]
    """bool[K]: the given medications."""
    delta: Floats
    """float32[F]."""
    centre: Floats
    """float32[F, U]: each feature's mean over the training visits."""
    scale: Floats
    """float32[F]."""
    bias: Floats
    """float32[U]."""

    def scores(self, features: Floats) -> Floats:
        """float32[n, U]: log-odds from ``pair_features`` [F, n, U] of the same columns."""
        centred = (features - self.centre[:, None, :]) / self.scale[:, None, None]
        scores: Floats = self.bias + np.einsum("f,fnk->nk", self.delta, centred)
        return scores

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by name."""
        return dict(vars(self))


def neighbour_weights(vectors: NDArray[np.float64] | None, sources: NDArray[np.bool_]) -> Floats:
    """float32[K, K]: for every medication (column) the weights of the other ``sources`` by exp((cos − 1)/width).

    ``vectors`` [K, D] are of length 1 or 0; a medication without one has all others alike.
    """
    size = len(sources)
    alike = np.full((size, size), 1e-6)
    if vectors is not None:
        known = np.linalg.norm(vectors, axis=1) > 0
        alike += np.where(np.outer(known, known), np.exp((vectors @ vectors.T - 1) / LIKENESS_WIDTH), 0.0)
    np.fill_diagonal(alike, 0.0)
    alike[~sources] = 0.0
    return (alike / np.maximum(alike.sum(0), 1e-12)).astype(np.float32)


def pair_features(counts: Sequence[NDArray[Any]], scores: Floats, sources: NDArray[np.bool_],
                  neighbours: Floats, evidence: Sequence[tuple[Ragged, Floats]]) -> Floats:
    """float32[F, n, U]: counts of the visit [n] each, the others' mean score, the neighbours' above it, and evidence.

    ``scores`` float32[n, K] are log-odds of the ``sources``, ``neighbours`` float32[K, U]; ``evidence`` pairs the codes
    of the n visits with a table float32[C, U].
    """
    mean = scores[:, sources].mean(1)
    shape = (len(scores), neighbours.shape[1])
    found = [np.broadcast_to(np.asarray(part, np.float32)[:, None], shape) for part in (*counts, mean)]
    found.append(scores @ neighbours - mean[:, None])
    for codes, table in evidence:
        held = codes.sparse(len(table))
        found += [np.log1p(held @ np.maximum(table - threshold, 0)) for threshold in THRESHOLDS]
    return np.stack(found).astype(np.float32)


def learnable(target: Floats, sources: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The medications that are given and lacked at enough visits for their ranking to be learnt."""
    count = target.sum(0)
    return np.flatnonzero(sources & (count >= LEAST_GIVEN) & (len(target) - count >= LEAST_GIVEN))


def fit_shared(features: Floats, target: Floats, learnt: NDArray[np.int64],
               seed: int) -> tuple[Floats, Floats, Floats, float]:
    """δ [F], the features' centres [F, U] and scales [F], and the macro AUROC on medications left out.

    ``features`` [F, n, U] and ``target`` [n, U]; ``learnt`` are columns of both. The ridge is the one with the best
    AUROC on medications that δ was not fitted on.
    """
    from sklearn.metrics import roc_auc_score

    centre = features.mean(1)
    z = features[:, :, learnt] - centre[:, None, learnt]
    scale = np.maximum(z.std((1, 2)), 1e-6).astype(np.float32)
    z, truth = z / scale[:, None, None], target[:, learnt]
    share = (truth.sum(0) + 0.5) / (len(truth) + 1)
    offset, weight = np.log(share / (1 - share)), 1 / (share * (1 - share))
    weight /= weight.mean()
    order = np.random.default_rng([seed, 4]).permutation(len(learnt))
    cuts = np.linspace(0, len(order), min(FOLDS, len(order)) + 1).astype(int)
    quality = {}
    for ridge in RIDGES:
        found = []
        for first, last in pairwise(cuts):
            out = order[first:last]
            inside = np.setdiff1d(order, out)
            delta = weighted_logistic(z[:, :, inside], offset[inside], truth[:, inside], weight[inside], ridge)
            scores = np.einsum("f,fnk->nk", delta, z[:, :, out])
            found += [roc_auc_score(truth[:, k], scores[:, at]) for at, k in enumerate(out)]
        quality[ridge] = float(np.mean(found))
    best = max(RIDGES, key=lambda ridge: quality[ridge])
    return weighted_logistic(z, offset, truth, weight, best), centre, scale, quality[best]


def weighted_logistic(z: Floats, offset: NDArray[np.floating], target: Floats, weight: NDArray[np.floating],
                      ridge: float, *, steps: int = 15) -> Floats:
    """float32[F]: δ that minimises Σ weight_k · log loss(offset_k + δ·z) + ridge/2·‖δ‖², by Newton.

    ``z`` [F, n, k]; ``offset`` and ``weight`` are of the k columns.
    """
    flat, truth = z.reshape(len(z), -1), target.ravel()
    start = np.broadcast_to(offset, target.shape).ravel().astype(np.float32)
    share = np.broadcast_to(weight, target.shape).ravel().astype(np.float32)
    delta = np.zeros(len(flat), np.float32)
    for _ in range(steps):
        guess = 1 / (1 + np.exp(-np.clip(start + delta @ flat, -30, 30)))
        gradient = flat @ (share * (truth - guess)) - ridge * delta
        hessian = (flat * (share * guess * (1 - guess))) @ flat.T + ridge * np.eye(len(flat))
        step = np.linalg.solve(hessian, gradient)
        delta = (delta + step).astype(np.float32)
        if np.abs(step).max() < 1e-4:
            break
    return delta
