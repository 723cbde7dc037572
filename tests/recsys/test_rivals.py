"""Rivals of the experiments: what they compute, that they learn, and that nothing of them can be stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_cohort import make_encoded, make_knowledge, sides
from test_pairs import planted

from kb.errors import DataError
from recsys.experiments.config import from_json
from recsys.experiments.metrics import average_precision
from recsys.recommenders import rivals
from recsys.recommenders.popularity import Popularity
from recsys.recommenders.rivals import NEIGHBOURS, RIVALS, BoostedPairs, NearestVisits
from recsys.registry import RECOMMENDERS


def quality(model: object, test: object) -> float:
    rows = np.flatnonzero(test.scored)  # type: ignore[attr-defined]
    truth = test.target(rows).astype(np.float32)  # type: ignore[attr-defined]
    return float(average_precision(model.predict_proba(test)[rows], truth).mean())  # type: ignore[attr-defined]


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "TREES", rivals.TREES[:2])


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_a_rival_beats_popularity_and_is_not_stored(name: str, few_trees: None) -> None:
    encoded = make_encoded(patients=250, rates=(5, 2, 6))
    train, validation, test = sides(encoded)
    config = from_json({"recommender": "pairs"})
    floor = Popularity(train.sizes, make_knowledge(encoded), config)
    floor.fit(train, validation)
    model = RIVALS[name](train.sizes, make_knowledge(encoded), config)
    model.fit(train, validation)
    assert quality(model, test) > quality(floor, test) + 0.01
    probability = model.predict_proba(test)
    assert probability.shape == (test.visits, test.sizes.medication) and 0 <= probability.min() <= probability.max() <= 1
    assert len(model.tried) == len(NEIGHBOURS if name == "nearest_visits" else rivals.TREES)
    assert name not in RECOMMENDERS
    with pytest.raises(DataError, match="not stored"):
        model.tensors()


def test_the_nearest_visit_of_a_training_visit_is_itself() -> None:
    encoded = make_encoded(patients=60)
    train, validation, _ = sides(encoded)
    model = NearestVisits(train.sizes, make_knowledge(encoded), from_json({"recommender": "pairs"}))
    model.fit(train, validation)
    rows = np.flatnonzero(train.scored)
    found = model._scores(train, rows, 1)
    base, weight = model.given.mean(0), 1.0
    assert np.allclose(found, (model.given + base * weight) / (1 + weight), atol=1e-3)


def test_boosted_trees_read_the_evidence_of_the_pair_model(few_trees: None) -> None:
    encoded = make_encoded(patients=120, rates=(5, 2, 6))
    train, validation, test = sides(encoded)
    plain = BoostedPairs(train.sizes, make_knowledge(encoded), from_json({"recommender": "pairs"}))
    knowing = BoostedPairs(train.sizes, replace(make_knowledge(encoded), evidence=planted(encoded, 3.0)),
                           from_json({"recommender": "pairs"}))
    for model in (plain, knowing):
        model.fit(train, validation)
    rows = np.flatnonzero(test.scored)
    table = knowing.evidence.tables[0] if knowing.evidence is not None else np.zeros((0, 0))
    strongest = knowing._pairs(test, rows)[:, 6].reshape(len(rows), -1)
    codes = test.diagnosis.row(int(rows[0]))
    assert np.allclose(strongest[0], table[codes].max(0))
    assert knowing._pairs(test, rows).shape[1] == plain._pairs(test, rows).shape[1] + 12
    assert not np.allclose(knowing.predict_proba(test), plain.predict_proba(test), atol=0.01)
