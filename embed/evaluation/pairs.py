"""Can unseen drugs' interactions and indications be told from their vectors? AUROC with a split by drug."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PairScore:
    """Area under the ROC curve on pairs of held-out drugs, with the numbers of pairs it rests on."""

    auroc: float
    positives: int
    negatives: int
    matched: float = float("nan")
    """The mean of the areas within each indication."""


def _features(matrix: NDArray[np.floating], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.floating]:
    """Symmetric features of pairs: product, absolute difference and sum."""
    left, right = matrix[a], matrix[b]
    return np.hstack([left * right, np.abs(left - right), left + right])


def _negatives(
    positive: set[tuple[int, int]], rows: NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to ``count`` random pairs of ``rows`` that are not known to interact, each once."""
    found: set[tuple[int, int]] = set()
    for _ in range(20 * count):
        if len(found) >= count:
            break
        a, b = sorted(rng.choice(rows, 2, replace=False).tolist())
        if (a, b) not in positive:
            found.add((a, b))
    return sorted(found)


def _matched(
    known: set[tuple[int, int]], test: NDArray[np.int64], held_out: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """For each test pair one with the same partner and another held-out drug, so that degrees say nothing."""
    others, out = np.unique(test[held_out[test]]), []
    for a, b in test.tolist():
        partner = b if held_out[a] else a
        for drug in rng.permutation(others)[:20].tolist():
            if drug != partner and (min(drug, partner), max(drug, partner)) not in known:
                out.append((drug, partner))
                break
    return np.array(out, np.int64).reshape(-1, 2)


def interaction_auroc(
    matrix: NDArray[np.floating] | None,
    pairs: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    seed: int = 0,
    *,
    matched: bool = False,
) -> PairScore:
    """AUROC of a logistic regression on pairs of which at least one drug is held out.

    Without a ``matrix`` a pair's score is how many interactions its drugs have among the training pairs. With
    ``matched`` every negative has the partner of a positive, so that being a partner of many says nothing.

    ``pairs`` [E, 2] are row numbers that interact. It is trained on pairs of training drugs only, and as many random
    pairs without a known interaction; an unknown pair may well interact, so the figure is a lower bound.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    known = {(min(a, b), max(a, b)) for a, b in pairs.tolist() if a != b}
    ordered = np.array(sorted(known), np.int64).reshape(-1, 2)
    touches = held_out[ordered].any(axis=1)
    involved = np.unique(ordered)
    train_rows = involved[~held_out[involved]]
    train, test = ordered[~touches], ordered[touches]
    if len(train) < 20 or len(test) < 20:
        return PairScore(float("nan"), len(test), 0)
    if matched:
        test_negatives = _matched(known, test, held_out, rng)
    else:
        candidates = _negatives(known, involved, 8 * len(test), rng)
        test_negatives = np.array([p for p in candidates if held_out[list(p)].any()][: len(test)]).reshape(-1, 2)
    asked = np.vstack([test, test_negatives])
    truth = np.repeat([1, 0], [len(test), len(test_negatives)])
    if matrix is None:
        degree = np.bincount(train.ravel(), minlength=len(held_out))
        return PairScore(float(roc_auc_score(truth, degree[asked].sum(1))), len(test), len(test_negatives))
    train_negatives = np.array(_negatives(known, train_rows, len(train), rng))
    model = LogisticRegression(max_iter=2000, C=1.0)
    both = np.vstack([train, train_negatives])
    model.fit(_features(matrix, both[:, 0], both[:, 1]), np.repeat([1, 0], [len(train), len(train_negatives)]))
    scores = model.decision_function(_features(matrix, asked[:, 0], asked[:, 1]))
    return PairScore(float(roc_auc_score(truth, scores)), len(test), len(test_negatives))


def indication_auroc(
    matrix: NDArray[np.floating] | None, pairs: NDArray[np.int64], held_out: NDArray[np.bool_], least: int = 3
) -> PairScore:
    """AUROC of telling a held-out drug's indications by its likeness to the training drugs of each indication.

    ``pairs`` [E, 2] are (row, indication). A drug's score for an indication is its mean cosine with the three nearest
    training drugs that have it (without a ``matrix``, how many have it); indications with fewer than ``least`` training
    drugs are left out. ``matrix`` must not have been made from these pairs.
    """
    from sklearn.metrics import roc_auc_score

    unit = None if matrix is None else matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    known = np.unique(pairs[:, ::-1], axis=0)  # by indication
    asked = np.unique(known[held_out[known[:, 1]], 1])
    scores, truth = [], []
    for having in np.split(known[:, 1], np.flatnonzero(np.diff(known[:, 0])) + 1):
        train = having[~held_out[having]]
        if len(train) < least or not len(asked):
            continue
        likeness = (np.full(len(asked), float(len(train))) if unit is None
                    else np.sort(unit[asked] @ unit[train].T, axis=1)[:, -3:].mean(axis=1))
        scores.append(likeness)
        truth.append(np.isin(asked, having))
    if not truth or not np.concatenate(truth).any():
        return PairScore(float("nan"), 0, 0)
    labels = np.concatenate(truth)
    within = aurocs(np.array(truth), np.array(scores))
    return PairScore(float(roc_auc_score(labels, np.concatenate(scores))), int(labels.sum()), int((~labels).sum()),
                     float(np.nanmean(within)) if np.isfinite(within).any() else float("nan"))


def aurocs(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The AUROC of each row (Q, N), by ranks; nan for a row whose truth is all one.

    scikit-learn's function takes one row at a time, and longer to check it than to rank it.
    """
    from scipy.stats import rankdata

    positives = truth.sum(1)
    total = (rankdata(scores, axis=1) * truth).sum(1) - positives * (positives + 1) / 2
    pairs = positives * (truth.shape[1] - positives)
    return np.divide(total, pairs, out=np.full(len(truth), np.nan), where=pairs > 0)
