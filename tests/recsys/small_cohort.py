"""Small cohorts made of arrays for the recommenders' tests: conditions cause codes and medications, habits persist."""

from __future__ import annotations

import numpy as np

from recsys.cohorts.batches import Histories, histories
from recsys.cohorts.cohort import Cohort, Encoded, Ragged, Vocabulary, encode
from recsys.cohorts.tasks import STAY, Task, patient_split
from recsys.knowledge.table import Knowledge
from recsys.orders.interactions import from_pairs


def make_cohort(patients: int = 60, sizes: tuple[int, int, int] = (40, 20, 16), seed: int = 0,
                rates: tuple[float, float, float] = (4, 2, 4), longest: int = 6, conditions: int = 6) -> Cohort:
    """A cohort of ``patients`` with 1 to ``longest`` visits; the last patient has the most."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(1 + rng.geometric(0.45, patients), longest)
    lengths[-1], lengths[0] = longest, 1
    patient = np.repeat(np.arange(patients), lengths)
    has = rng.random((patients, conditions)) < 0.3
    has[np.arange(patients), rng.integers(0, conditions, patients)] = True
    codes, names = {}, {}
    habit = rng.random((patients, sizes[2])) < 0.12
    for kind, size, rate in zip(("diagnosis", "procedure", "medication"), sizes, rates, strict=True):
        loading = rng.gamma(0.25, 1, (conditions, size)) * rng.zipf(1.6, size).clip(max=20)[None, :]
        loading *= rate / loading.sum(1, keepdims=True)
        mean = (has @ loading)[patient] / has.sum(1)[patient][:, None]
        odds = np.minimum(mean, 0.95)
        if kind == "medication":
            odds = np.where(habit[patient], 0.8, odds)
        drawn = rng.random(odds.shape) < odds
        drawn[np.arange(len(drawn)), rng.integers(0, size, len(drawn))] = True
        rows, values = np.nonzero(drawn)
        codes[kind] = Ragged.from_pairs(rows, values, len(patient))
        names[kind] = Vocabulary(tuple(f"{kind[:2].upper()}:{i:04d}" for i in range(size)))
    time = np.concatenate([np.sort(rng.integers(0, 10**9, n)) for n in lengths])
    return Cohort("arrays", patient.astype(np.int32), time.astype(np.int64), codes, names)


def make_encoded(seed: int = 0, **shape: object) -> Encoded:
    """The cohort on the vocabularies of its training patients."""
    cohort = make_cohort(seed=seed, **shape)  # type: ignore[arg-type]
    return encode(cohort, patient_split(cohort, seed=seed))


def make_knowledge(encoded: Encoded, width: int = 12, seed: int = 0, unknown: int = 2) -> Knowledge:
    """Random unit vectors for all medications but the last ``unknown``, and about a tenth of all pairs interacting."""
    rng = np.random.default_rng(seed)
    codes = encoded.vocabularies["medication"].codes
    size = len(codes)
    known = np.arange(size) < size - unknown
    names = ("image", "text", "structure", "property", "graph", "molecule")
    rests_on = (rng.random((size, 6)) < 0.6) & known[:, None]
    rests_on[:, 0] = known
    alone = rng.standard_normal((6, size, width)).astype(np.float32)
    alone /= np.linalg.norm(alone, axis=2, keepdims=True)
    alone *= rests_on.T[:, :, None]
    vectors = alone.sum(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    pairs = [tuple(pair) for pair in np.argwhere(rng.random((size, size)) < 0.05)]
    smiles = tuple(((f"CC(=O)N{'C' * i}c1ccc(O{'C' * (i % 4)})cc1",) if i % 5 else ()) for i in range(size))
    return Knowledge(codes, codes, vectors * known[:, None], known, rests_on, from_pairs(pairs, size, "drawn"),
                     modalities=names, modality_vectors=alone, smiles=smiles, vectors_run="drawn")


def sides(encoded: Encoded, task: Task = STAY) -> tuple[Histories, Histories, Histories]:
    """The histories of the training, validation and test patients."""
    train, validation, test = (histories(encoded, side, task) for side in ("train", "validation", "test"))
    return train, validation, test
