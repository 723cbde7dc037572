"""How alike two molecules are to the head: the mean of up to three kernels, each 1 between a molecule and itself.

The Tanimoto kernel of counts (Ralaivola et al. 2005), and Gaussian kernels of MiniMol's fingerprint and of RDKit's
descriptors, both standardised over the training drugs, with the median squared distance as their width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from embed.features.reduce import one_thread
from embed.transfer.molecules import MOST_COUNT, Matrix, Molecules

CLIP = 5.0
"""Standard deviations from the mean at which a descriptor is cut off."""
PAIRS = 400
"""Molecules whose distances give the median."""


@dataclass(frozen=True)
class Scale:
    """``(x - mean) / spread``, and the median squared distance of what comes out."""

    mean: Matrix
    spread: Matrix
    median: float

    def apply(self, x: Matrix) -> Matrix:
        """The standardised rows, cut off far from the mean."""
        out: Matrix = np.clip((x - self.mean) / self.spread, -CLIP, CLIP).astype(np.float32)
        return out


def fit_scale(x: Matrix) -> Scale:
    """The scale of these rows; a constant column becomes 0."""
    spread = x.std(0)
    scale = Scale(x.mean(0), np.where(spread > 1e-6, spread, 1.0).astype(np.float32), 1.0)
    some = scale.apply(x[np.random.default_rng(0).permutation(len(x))[:PAIRS]])
    squares = squared_distances(some, some)[np.triu_indices(len(some), 1)]
    median = float(np.median(squares)) if len(squares) else 0.0
    return Scale(scale.mean, scale.spread, median if median > 0 else 1.0)


def squared_distances(a: Matrix, b: Matrix) -> Matrix:
    """The squared Euclidean distances (n, m) of rows."""
    out: Matrix = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T, 0)
    return out


@dataclass(frozen=True)
class Kernel:
    """The kernel against fixed ``landmarks``; without MiniMol it is the mean of the other two."""

    landmarks: Molecules
    numbers: Scale
    network: Scale | None

    @property
    def parts(self) -> int:
        """How many kernels the mean is of."""
        return 2 if self.network is None else 3

    @one_thread
    def __call__(self, molecules: Molecules) -> Matrix:
        """The similarities (n, m) to the landmarks."""
        total = count_tanimoto(molecules.counts, self.landmarks.counts)
        total += _gaussian(self.numbers, molecules.numbers, self.landmarks.numbers)
        if self.network is not None:
            total += _gaussian(self.network, molecules.network, self.landmarks.network)
        total /= self.parts
        return total

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The kernel as arrays."""
        counts = self.landmarks.counts
        out = {"landmark.bit": counts.indices.astype(np.uint16), "landmark.count": counts.data.astype(np.uint8),
               "landmark.start": counts.indptr.astype(np.int64), "landmark.bits": np.array([counts.shape[1]]),
               "landmark.numbers": self.landmarks.numbers, "landmark.network": self.landmarks.network}
        for name, scale in (("numbers", self.numbers), ("network", self.network)):
            if scale is not None:
                out |= {f"{name}.mean": scale.mean, f"{name}.spread": scale.spread,
                        f"{name}.median": np.array([scale.median])}
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Kernel:
        """The kernel that ``arrays`` described."""
        start = arrays["landmark.start"]
        value, column = arrays["landmark.count"].astype(np.float32), arrays["landmark.bit"].astype(np.int32)
        counts = csr_array((value, column, start), shape=(len(start) - 1, int(arrays["landmark.bits"][0])))
        scales = {name: Scale(arrays[f"{name}.mean"], arrays[f"{name}.spread"], float(arrays[f"{name}.median"][0]))
                  for name in ("numbers", "network") if f"{name}.mean" in arrays}
        return cls(Molecules(counts, arrays["landmark.network"], arrays["landmark.numbers"]), scales["numbers"],
                   scales.get("network"))


def fit_kernel(landmarks: Molecules) -> Kernel:
    """The kernel against these molecules, whose means and spreads it takes."""
    network = fit_scale(landmarks.network) if landmarks.network.shape[1] else None
    return Kernel(landmarks, fit_scale(landmarks.numbers), network)


def _gaussian(scale: Scale, x: Matrix, landmarks: Matrix) -> Matrix:
    out: Matrix = np.exp(squared_distances(scale.apply(x), scale.apply(landmarks)) / -scale.median)
    return out


def count_tanimoto(a: csr_array, b: csr_array) -> Matrix:
    """The Tanimoto similarities (n, m) of counts: the sum of the smaller ones over the sum of the larger ones."""
    return _tanimoto((_unary(a) @ _unary(b).T).toarray(), a, b)


def bit_tanimoto(a: csr_array, b: csr_array) -> Matrix:
    """The Tanimoto similarities (n, m) of which substructures are there, however often."""
    a, b = (csr_array((np.ones_like(x.data), x.indices, x.indptr), shape=x.shape) for x in (a, b))
    return _tanimoto((a @ b.T).toarray(), a, b)


def _tanimoto(both: Matrix, a: csr_array, b: csr_array) -> Matrix:
    size_a, size_b = (np.asarray(x.sum(1), np.float32).ravel() for x in (a, b))
    out: Matrix = (both / np.maximum(size_a[:, None] + size_b[None, :] - both, 1e-9)).astype(np.float32)
    return out


def _unary(counts: csr_array) -> csr_array:
    """One column for every number of occurrences of every substructure: a product of two is the smaller count."""
    levels = []
    for level in range(1, MOST_COUNT + 1):
        kept = counts.copy()
        kept.data = (kept.data >= level).astype(np.float32)
        kept.eliminate_zeros()
        levels.append(kept)
    return csr_array(hstack(levels, format="csr"))
