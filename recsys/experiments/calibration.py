"""Calibrated probabilities: Platt's two numbers fitted on validation visits, and how far off probabilities are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys.experiments.decode import logit
from recsys.experiments.parts import by_rows


class Platt(NamedTuple):
    """p' = σ(slope · logit(p) + shift); Platt 1999."""

    slope: float = 1.0
    shift: float = 0.0

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """The calibrated probabilities, float32 of the same shape; the order within a visit stays."""
        def calibrated(part: np.ndarray) -> np.ndarray:
            return (1 / (1 + np.exp(-(self.slope * logit(part) + self.shift)))).astype(np.float32)

        return np.concatenate(list(by_rows(calibrated, np.atleast_1d(probability)))).reshape(np.shape(probability))


def fit_platt(probability: np.ndarray, target: np.ndarray, *, steps: int = 25) -> Platt:
    """The slope and shift that minimise log loss, by Newton steps on all N·K decisions at once."""
    weights = np.array([1.0, 0.0])

    def slopes(probability: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The gradient, and the Hessian's three numbers, of these decisions."""
        score = logit(probability).ravel().astype(np.float64)
        guess = 1 / (1 + np.exp(-(weights[0] * score + weights[1])))
        residual, curve = guess - target.ravel(), guess * (1 - guess) + 1e-9
        return np.array([residual @ score, residual.sum(), curve @ score**2, curve @ score, curve.sum()])

    for _ in range(steps):
        first, second, square, mixed, plain = sum(by_rows(slopes, probability, target))  # type: ignore[misc]
        gradient, hessian = np.array([first, second]), np.array([[square, mixed], [mixed, plain]])
        step = np.linalg.solve(hessian + 1e-6 * np.eye(2), gradient)
        weights = weights - np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    return Platt(float(max(weights[0], 1e-3)), float(weights[1]))


def reliability(probability: np.ndarray, target: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """One row a bin of equal width: mean probability, observed frequency, number of decisions."""
    def counted(probability: np.ndarray, target: np.ndarray) -> np.ndarray:
        place = np.minimum((probability.ravel() * bins).astype(int), bins - 1)
        return np.stack([np.bincount(place, weights, minlength=bins)
                         for weights in (None, probability.ravel(), target.ravel())])

    count, said, seen = sum(by_rows(counted, probability, target))  # type: ignore[misc]
    return [{"probability": float(said[i] / count[i]), "frequency": float(seen[i] / count[i]), "count": int(count[i])}
            for i in range(bins) if count[i]]


def calibration_error(probability: np.ndarray, target: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error: the mean gap between said and seen, weighted by decisions."""
    rows = reliability(probability, target, bins)
    total = sum(row["count"] for row in rows)
    return sum(row["count"] * abs(row["probability"] - row["frequency"]) for row in rows) / max(total, 1)


def brier(probability: np.ndarray, target: np.ndarray) -> float:
    """The mean squared error of the probabilities."""
    total = sum(by_rows(lambda *part: np.square(np.subtract(*part)).sum(dtype=np.float64), probability, target))
    return float(total / max(probability.size, 1))
