"""How hard the synthetic cohorts are: popularity, repeat-last and logistic regression on the test patients of A and B.

Run: ``python benchmarks/bench_generators.py [A|B ...]``. The marks of the reference cohorts stand beside ours.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from kb.output import emit
from recsys.cohorts.cohort import Cohort, Encoded, Ragged, encode
from recsys.cohorts.tasks import STAY, patient_split, previous_visit
from recsys.generators import GENERATORS
from recsys.generators.classes import class_interactions

REFERENCE = {
    "A": {"popularity": 0.382, "LR current": 0.446, "LR + previous": 0.482, "repeat last": 0.50, "DDI rate": 0.085},
    "B": {"popularity": 0.250, "LR current": 0.490, "LR + previous": 0.525, "DDI rate": 0.085},
}
DESIGNS = {"A": "clusters", "B": "guidelines"}


def jaccard(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Jaccard of each visit, two empty sets give 1."""
    both, either = (predicted & truth).sum(1), (predicted | truth).sum(1)
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def sparse(table: Ragged, width: int) -> csr_matrix:
    return csr_matrix((np.ones(len(table.values), np.float32), table.values, table.indptr), (len(table), width))


def ddi_rate(table: Ragged, interacts: np.ndarray) -> float:
    given = table.dense(len(interacts))
    pairs = given.sum(1) * (given.sum(1) - 1) / 2
    return float((given @ interacts * given).sum() / 2 / pairs.sum())


def logistic(encoded: Encoded, kinds: tuple[str, ...], target: np.ndarray) -> float:
    """Mean Jaccard on the test visits at the threshold that is best on the validation visits."""
    inputs = STAY.inputs(encoded.codes, encoded.cohort.patient_indptr)
    features = hstack([sparse(inputs[kind], len(encoded.vocabularies[kind])) for kind in kinds], format="csr")
    train, validation, test = (encoded.visits_of(side) for side in ("train", "validation", "test"))
    usable = np.flatnonzero(target[train].any(0) & ~target[train].all(0))
    model = OneVsRestClassifier(LogisticRegression(solver="liblinear", C=0.3), n_jobs=1)
    model.fit(features[train], target[train][:, usable])
    scores = np.zeros(target.shape)
    for visits in (validation, test):
        scores[np.ix_(visits, usable)] = model.predict_proba(features[visits])
    cut = max(np.arange(0.2, 0.6, 0.025), key=lambda c: jaccard(scores[validation] >= c, target[validation]).mean())
    return float(jaccard(scores[test] >= cut, target[test]).mean())


def marks(cohort: Cohort, regressions: bool = True) -> dict[str, float]:
    """The marks of one cohort on its test patients."""
    encoded = encode(cohort, patient_split(cohort, seed=0))
    target = encoded.codes["medication"].dense(len(encoded.vocabularies["medication"])).astype(bool)
    train, test = encoded.visits_of("train"), encoded.visits_of("test")
    rates = target[train].mean(0)
    popular = max(jaccard(np.tile(rates >= c, (len(test), 1)), target[test]).mean() for c in np.unique(rates))
    before = previous_visit(cohort.patient_indptr)[test]
    again = before >= 0
    classes = [code.split(":")[1] for code in cohort.vocabularies["medication"].codes]
    found = {
        "popularity": float(popular),
        "repeat last": float(jaccard(target[before[again]], target[test[again]]).mean()),
        "DDI rate": ddi_rate(cohort.codes["medication"], class_interactions(classes)),
        "meds/visit": cohort.fingerprint.per_visit["medication"],
        "dx/visit": cohort.fingerprint.per_visit["diagnosis"],
        "px/visit": cohort.fingerprint.per_visit["procedure"],
    }
    if regressions:
        found["LR current"] = logistic(encoded, ("diagnosis", "procedure"), target)
        found["LR + previous"] = logistic(encoded, ("diagnosis", "procedure", "medication"), target)
    return found


def main() -> None:
    rows = []
    for label in sys.argv[1:] or ["A", "B"]:
        start = time.process_time()
        cohort = GENERATORS[DESIGNS[label]]()
        made = time.process_time() - start
        found = marks(cohort) | {"CPU s to generate": made}
        rows += [{"cohort": label, "mark": name, "ours": value, "reference": REFERENCE[label].get(name),
                  "ratio": value / REFERENCE[label][name] if name in REFERENCE[label] else None}
                 for name, value in found.items()]
        rows.append({"cohort": label, "mark": str(cohort.fingerprint)})
    emit(rows, columns=["cohort", "mark", "ours", "reference", "ratio"])
    path = Path(__file__).parent / "results" / "generators.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
