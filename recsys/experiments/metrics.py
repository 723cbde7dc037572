"""Metrics of recommended sets, one number a visit, computed for all visits at once.

Conventions, stated because papers differ: two empty sets have Jaccard, precision, recall and F1 of 1; an empty
recommendation to a visit that had medications scores 0 in all four; PRAUC of a visit without medications is 0, as
scikit-learn's ``average_precision_score`` has it. ``selected`` and ``target`` are [N, K], ``probability`` float[N, K].
"""

from __future__ import annotations

from functools import partial

import numpy as np

from recsys.experiments.parts import by_rows
from recsys.orders.interactions import pair_counts


def _ratio(part: np.ndarray, whole: np.ndarray, both_empty: np.ndarray) -> np.ndarray:
    return np.where(both_empty, 1.0, part / np.maximum(whole, 1e-12))


def set_metrics(selected: np.ndarray, target: np.ndarray, unseen: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Jaccard, precision, recall, F1 and the number of medications of each visit, five float64[N].

    ``unseen`` int[N] counts medications of the visit outside the vocabulary: part of the truth, never hit.
    """
    chosen, truth = selected.astype(bool), target.astype(bool)
    hit = (chosen & truth).sum(1).astype(np.float64)
    said, had = chosen.sum(1).astype(np.float64), truth.sum(1).astype(np.float64)
    had = had if unseen is None else had + unseen
    empty = (said == 0) & (had == 0)
    return {
        "jaccard": _ratio(hit, said + had - hit, empty),
        "precision": _ratio(hit, said, empty),
        "recall": _ratio(hit, had, empty),
        "f1": _ratio(2 * hit, said + had, empty),
        "medications": said,
    }


def average_precision(probability: np.ndarray, target: np.ndarray) -> np.ndarray:
    """float64[N]: the area under each row's precision–recall curve as a step function, ties taken together.

    Equal to scikit-learn's ``average_precision_score`` row by row.
    """
    return np.concatenate(list(by_rows(_average_precision, probability, target)))


def _average_precision(probability: np.ndarray, target: np.ndarray) -> np.ndarray:
    order = np.argsort(-probability, axis=1, kind="stable")
    score = np.take_along_axis(probability, order, 1)
    truth = np.take_along_axis(target, order, 1).astype(np.float64)
    width = score.shape[1]
    precision = np.cumsum(truth, 1) / np.arange(1, width + 1)
    ends = np.broadcast_to(np.arange(width), score.shape).copy()
    ends[:, :-1][score[:, :-1] == score[:, 1:]] = width - 1
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    area = (truth * np.take_along_axis(precision, ends, 1)).sum(1)
    positives = truth.sum(1)
    return np.where(positives > 0, area / np.maximum(positives, 1), 0.0)


def visit_metrics(probability: np.ndarray, selected: np.ndarray, target: np.ndarray, ddi: np.ndarray,
                  unseen: np.ndarray | None = None, by_drug: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Every metric of every visit: name -> float64[N]; ``ddi_pairs`` over ``pairs`` pooled is the DDI rate.

    ``by_drug`` float[K, K], the chance that drugs of two medications are a listed pair, gives ``drug_ddi_pairs``.
    """
    unseen = np.zeros(len(target), np.int64) if unseen is None else unseen
    by_drug = ddi if by_drug is None else by_drug
    measure = partial(_visit_metrics, ddi, by_drug)
    parts = list(by_rows(measure, probability, selected, target, unseen))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _visit_metrics(ddi: np.ndarray, by_drug: np.ndarray, probability: np.ndarray, selected: np.ndarray,
                   target: np.ndarray, unseen: np.ndarray) -> dict[str, np.ndarray]:
    table = set_metrics(selected, target, unseen)
    table["prauc"] = average_precision(probability, target)
    table["ddi_pairs"], table["pairs"] = pair_counts(selected, ddi)
    table["drug_ddi_pairs"] = table["ddi_pairs"] if by_drug is ddi else pair_counts(selected, by_drug)[0]
    return table


MEANS = ("jaccard", "f1", "prauc", "precision", "recall", "medications")


def summary(table: dict[str, np.ndarray], patient_of: np.ndarray, *, by: str = "visit") -> dict[str, float]:
    """Means over visits, or over patients of their means over visits (``by="patient"``), and the pooled DDI rates.

    ``ddi_rate`` is the literature's, by the matrix of medications; ``ddi_rate_drugs`` is between drugs.
    """
    if by == "visit":
        means = {name: float(table[name].mean()) for name in MEANS}
    else:
        counts = np.bincount(patient_of)
        held = counts > 0
        means = {
            name: float((np.bincount(patient_of, table[name])[held] / counts[held]).mean()) for name in MEANS
        }
    pairs = float(table["pairs"].sum())
    rates = {"ddi_rate": table["ddi_pairs"], "ddi_rate_drugs": table["drug_ddi_pairs"]}
    return {**means, **{name: float(part.sum()) / pairs if pairs else 0.0 for name, part in rates.items()}}
