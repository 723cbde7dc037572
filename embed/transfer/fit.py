"""Fits the head on the training drugs of a run; what is chosen is chosen on its validation drugs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.linalg.lapack import dpotri

from embed.features.reduce import one_thread, unit
from embed.transfer.head import NEAR, TANIMOTO, Target, TransferHead, Wide, csls, hubness, raw_parts, side_by_side
from embed.transfer.kernel import Kernel, bit_tanimoto, fit_kernel
from embed.transfer.molecules import Matrix, Molecules

PENALTIES = (0.1, 0.3, 1.0)
LEAST = 20
"""Training drugs that a target has at least."""
MOST = 4_000
"""Training drugs that the wide vector is fitted on at most."""
TANIMOTO_COMPONENTS = 512
SAMPLE = 1_000
"""Drugs among which similarities are compared for their standard deviation."""
LEAST_SPREAD = 1e-6
NONE = np.empty((1, 0), np.float32)
TELLING = ("text", "graph")
"""Kinds that the wide vector and the choice of the penalty go by."""

Truth = tuple[Matrix, NDArray[np.bool_]]


@dataclass(frozen=True)
class TransferDrugs:
    """N drugs with a structure: molecules, substance numbers, names, and on which side of the split they are."""

    molecules: Molecules
    group: NDArray[np.int64]
    names: Sequence[str]
    side: NDArray[np.int8]
    other: NDArray[np.bool_] | None = None
    """Which are no drugs: they train, and no answer and no correction of hubs goes by them."""

    @property
    def others(self) -> NDArray[np.bool_]:
        """Which are no drugs."""
        return np.zeros(len(self.side), bool) if self.other is None else self.other


@dataclass(frozen=True)
class Ridge:
    """A solved regression: ``alpha`` (m, D), ``mean`` (D,), ``shift`` (m,), predictions (t, D) of left-out drugs."""

    alpha: Matrix
    mean: Matrix
    shift: Matrix
    left_out: Matrix


@one_thread
def solve(kernel: Matrix, truth: Matrix, rows: NDArray[np.int64], landmarks: NDArray[np.int64],
          penalty: float) -> Ridge:
    """The regression of ``truth`` (N, D) on ``kernel`` (N, m) over the drugs at ``rows``.

    Where these are landmarks it is exact kernel ridge regression over them. Otherwise it is the subset of regressors
    (Smola and Schölkopf 2000), in which a single drug weighs so little that none is left out.
    """
    mean = truth[rows].mean(0).astype(np.float32)
    centred = (truth[rows] - mean).astype(np.float64)
    alpha = np.zeros((len(landmarks), truth.shape[1]), np.float32)
    shift = np.zeros(len(landmarks), np.float32)
    place = np.searchsorted(landmarks, rows).clip(max=len(landmarks) - 1)
    if (landmarks[place] == rows).all():
        inner = kernel[np.ix_(rows, place)].astype(np.float64)
        factor = cho_factor(inner + penalty * np.eye(len(rows)), lower=True, overwrite_a=True)
        found = cho_solve(factor, centred)
        inverse, _ = dpotri(factor[0], lower=1, overwrite_c=1)
        own = np.diag(inverse)
        alpha[place], shift[place] = found, penalty - 1 / own
        left_out = truth[rows] - found / own[:, None]
        return Ridge(alpha, mean, shift, left_out.astype(np.float32))
    inner = kernel[landmarks].astype(np.float64)
    outer = kernel[rows].astype(np.float64)
    normal = outer.T @ outer + penalty * inner + 1e-6 * np.eye(len(landmarks))
    alpha[:] = cho_solve(cho_factor(normal), outer.T @ centred)
    return Ridge(alpha, mean, shift, (kernel[rows] @ alpha + mean).astype(np.float32))


def fit_head(drugs: TransferDrugs, truths: Mapping[str, Truth], *, width: int, encoder: dict[str, Any] | None,
             seed: int = 0, penalty: float | None = None, compared: int = MOST,
             like: TransferHead | None = None) -> TransferHead | None:
    """The head of a run, or None where no kind of vector has ``LEAST`` training drugs with a structure.

    ``truths`` maps a kind to ``(vectors (N, D), known (N,))``. Without ``penalty`` the one is taken under which
    validation drugs are found best. Molecules are compared with at most ``compared`` training drugs; of more, as many
    are drawn, those first of which a text or a place in the graph is known. What a head that is ``like`` this one has
    found of the same molecules is taken from it.
    """
    train = np.flatnonzero(drugs.side == 0)
    usable = {name: (unit(matrix), known) for name, (matrix, known) in truths.items()
              if (known & (drugs.side == 0)).sum() >= LEAST}
    if not usable:
        return None
    told_of = [name for name in TELLING if name in usable]
    known = [usable[name][1] for name in told_of] or [drugs.side == 0]
    landmarks = train
    if len(train) > compared:
        told = np.any(known, axis=0)
        drawn = np.random.default_rng(seed).permutation(train)
        landmarks = np.sort(drawn[np.lexsort((drugs.others[drawn], ~told[drawn]))][:compared])
    kernel = fit_kernel(drugs.molecules.take(landmarks))
    similarity = kernel(drugs.molecules)
    telling = told_of or list(usable)
    scores: dict[float, float] = {}
    solved: dict[float, dict[str, Ridge]] = {}
    for one in PENALTIES if penalty is None else (penalty,):
        solved[one] = {name: solve(similarity, *_training(usable[name], drugs), landmarks, one) for name in telling}
        scores[one] = float(np.mean([recall(similarity, solved[one][name], usable[name], drugs) for name in telling]))
    chosen = max(scores, key=lambda one: (scores[one], one))
    ridges = solved[chosen]
    for name in usable:
        if name not in ridges:
            ridges[name] = solve(similarity, *_training(usable[name], drugs), landmarks, chosen)
    targets = {name: _target(similarity, ridges[name], usable[name], drugs) for name in usable}
    names = [drugs.names[int(row)] for row in landmarks]
    notes = {"penalty": chosen, "validation recall@10": scores, "training drugs": int((~drugs.others[train]).sum()),
             "other molecules": int(drugs.others[train].sum())}
    return _with_wide(kernel, targets, told_of, drugs, train[~drugs.others[train]], np.all(known, axis=0), width, names,
                      encoder, notes, like)


def _training(truth: Truth, drugs: TransferDrugs) -> tuple[Matrix, NDArray[np.int64]]:
    matrix, known = truth
    return matrix, np.flatnonzero(known & (drugs.side == 0))


def recall(similarity: Matrix, ridge: Ridge, truth: Truth, drugs: TransferDrugs, side: int = 1, k: int = 10) -> float:
    """Recall@k of validation drugs' vectors from their molecules, hubs corrected, mean of both directions."""
    matrix, known = truth
    rows = np.flatnonzero(known & (drugs.side == side))
    if len(rows) < 2:
        return 0.0
    a, b = unit(similarity[rows] @ ridge.alpha + ridge.mean), matrix[rows]
    train = known & (drugs.side == 0)
    own = ~drugs.others[train]
    score = csls(a @ b.T, hubness(a, matrix[train][own]), hubness(b, unit(ridge.left_out[own])))
    rival = drugs.group[rows][:, None] != drugs.group[rows][None, :]
    found = [1 + (~(s < np.diag(s)[:, None]) & rival).sum(1) for s in (score, score.T)]
    return float((np.concatenate(found) <= k).mean())


def _target(similarity: Matrix, ridge: Ridge, truth: Truth, drugs: TransferDrugs) -> Target:
    from sklearn.isotonic import IsotonicRegression

    matrix, known = truth
    train = np.flatnonzero(known & (drugs.side == 0))
    own = ~drugs.others[train]
    train, left_out = train[own], ridge.left_out[own]
    asked = np.flatnonzero(known & (drugs.side == 1))
    if len(asked) >= NEAR:
        foretold, truth_of = similarity[asked] @ ridge.alpha + ridge.mean, matrix[asked]
    else:  # hardly a validation drug: the training drugs, each without itself
        foretold, truth_of = left_out, matrix[train]
    far = np.linalg.norm(foretold - ridge.mean, axis=1)
    rising = IsotonicRegression(out_of_bounds="clip").fit(far, (unit(foretold) * truth_of).sum(1))
    return Target(ridge.mean, ridge.alpha, ridge.shift, matrix[train].astype(np.float32), unit(left_out),
                  rising.X_thresholds_.astype(np.float32), rising.y_thresholds_.astype(np.float32))


def _with_wide(kernel: Kernel, targets: dict[str, Target], telling: list[str], drugs: TransferDrugs,
               train: NDArray[np.int64], well: NDArray[np.bool_], width: int, names: list[str],
               encoder: dict[str, Any] | None, notes: dict[str, Any], like: TransferHead | None) -> TransferHead:
    """The head with its wide vector, fitted on what the training drugs look like when each is left out.

    ``well`` are the drugs that are described by all that is foretold: how much similarities differ is measured there.
    """
    some = train[:MOST]
    counts, former = kernel.landmarks.counts, None if like is None else like.kernel.landmarks.counts
    same = former is not None and former.shape == counts.shape and not (former != counts).nnz
    tanimoto = like.wide.tanimoto if like is not None and same else _tanimoto_components(kernel)
    parts = [TANIMOTO, *(["network"] if kernel.network is not None else []), *telling]
    draft = TransferHead(kernel, targets, Wide(tanimoto, parts, {}, {}, {}, NONE[0], NONE), names, encoder, notes)
    fitted = drugs.molecules.take(some)
    vectors = _left_out(draft, fitted)
    from sklearn.utils.extmath import randomized_svd

    raw = raw_parts(draft, fitted, vectors)
    mean = {name: raw[name].mean(0).astype(np.float32) for name in parts}
    units = {name: unit(raw[name] - mean[name]) for name in parts}
    weight = {name: 1 / np.sqrt(_spread(units[name])) for name in parts}
    whole = side_by_side(units, weight)
    centre = whole.mean(0).astype(np.float32)
    _, _, right = randomized_svd(whole - centre, min(width, *whole.shape), random_state=0)
    rows = np.flatnonzero(well[some])
    rows = _sample(rows if len(rows) >= LEAST else np.arange(len(some)))
    sampled = fitted.counts[rows]
    spread = {TANIMOTO: _spread_of(bit_tanimoto(sampled, sampled)),
              **{name: _spread(units[name][rows]) for name in parts if name != TANIMOTO}}
    draft.wide = Wide(tanimoto, parts, mean, {k: float(v) for k, v in weight.items()}, spread, centre,
                      np.ascontiguousarray(right.T, np.float32))
    return draft


def _left_out(head: TransferHead, molecules: Molecules) -> dict[str, Matrix]:
    similarity = head.kernel(molecules)
    own = similarity.argmax(1)
    return {name: (similarity @ t.alpha + t.mean + t.alpha[own] * t.shift[own, None]).astype(np.float32)
            for name, t in head.targets.items()}


def _tanimoto_components(kernel: Kernel) -> Matrix:
    """(m, r): from Tanimoto similarities to the landmarks to coordinates whose products are these similarities."""
    own = bit_tanimoto(kernel.landmarks.counts, kernel.landmarks.counts)
    first = max(0, len(own) - TANIMOTO_COMPONENTS)
    values, basis = eigh(own, subset_by_index=(first, len(own) - 1))
    order = np.flatnonzero(values > 1e-6 * len(own))[::-1]
    out: Matrix = (basis[:, order] / np.sqrt(values[order])).astype(np.float32)
    return out


def _sample(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.random.default_rng(0).permutation(len(rows))[:SAMPLE]]


def _spread(rows: Matrix) -> float:
    """The standard deviation of the cosines of different unit rows."""
    some = rows[_sample(np.arange(len(rows)))]
    return _spread_of(some @ some.T)


def _spread_of(square: Matrix) -> float:
    """The standard deviation of the entries above the diagonal of a table of similarities (n, n), above zero."""
    return max(float(square[np.triu_indices(len(square), 1)].std()) if len(square) > 1 else 0.0, LEAST_SPREAD)
