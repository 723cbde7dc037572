"""How far a request is from the cohort: ordinary visits are ordinary, strange ones far, and nothing of one patient is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from small_cohort import make_encoded, sides

from recsys.answers.listing import drift_lines
from recsys.answers.recommend import Answer, Coverage
from recsys.cohorts.batches import Histories
from recsys.cohorts.cohort import Ragged
from recsys.experiments.drift import LEAST_VISITS, Drift, fit_drift, visit_features


def everything(visits: Histories) -> dict[str, np.ndarray]:
    return {kind: np.ones(size, bool) for kind, size in visits.sizes._asdict().items()}


def test_visits_like_the_cohort_are_spread_evenly_and_a_strange_one_is_far() -> None:
    train, validation, test = sides(make_encoded(patients=700))
    drift = fit_drift(train, validation, everything(train))
    assert drift is not None
    drift = Drift.from_json(json.loads(json.dumps(drift.as_json())))
    rows = np.flatnonzero(test.scored)
    place = drift.farther_than(test, rows)
    assert 0.4 < place.mean() < 0.6 and (place > 0.9).mean() < 0.2
    whole = Ragged.from_lists([range(train.sizes.diagnosis)] * test.visits)
    assert (drift.farther_than(replace(test, diagnosis=whole), rows) >= 0.99).all()
    rare = np.argsort(drift.shares["diagnosis"])[:3].tolist()
    odd = Ragged.from_lists([rare] * test.visits)
    assert drift.farther_than(replace(test, diagnosis=odd), rows).mean() > place.mean() + 0.2


def test_the_distance_is_mahalanobis_of_plain_features() -> None:
    train, validation, _ = sides(make_encoded(patients=700))
    drift = fit_drift(train, validation, everything(train))
    assert drift is not None
    rows = np.flatnonzero(train.scored)
    features = visit_features(train, rows, drift.shares)
    row = int(rows[7])
    codes = train.diagnosis.row(row)
    assert np.isclose(features[7, 0], np.log1p(len(codes)))
    assert np.isclose(features[7, 1], np.mean(-np.log(drift.shares["diagnosis"][codes])), atol=1e-4)
    apart = features[7] - features.mean(0)
    inverse = np.linalg.inv(np.cov(features.T) + 1e-3 * np.eye(7))
    assert np.isclose(drift.distance(train, rows)[7], np.sqrt(apart @ inverse @ apart), rtol=1e-3)


def test_codes_that_a_model_forgets_have_no_share_and_few_visits_have_no_drift() -> None:
    train, validation, _ = sides(make_encoded(patients=700))
    kept = everything(train)
    kept["diagnosis"] = np.arange(train.sizes.diagnosis) % 2 == 0
    drift = fit_drift(train, validation, kept)
    assert drift is not None and len(drift.shares["diagnosis"]) == kept["diagnosis"].sum()
    assert drift.percentiles[-1] == drift.percentiles[-2]
    small = sides(make_encoded(patients=60))
    assert int(small[1].scored.sum()) < LEAST_VISITS and fit_drift(small[0], small[1], everything(small[0])) is None


def test_a_far_patient_is_told_so() -> None:
    coverage = Coverage(1, 1, 1, 1, {}, {})
    assert drift_lines(Answer([], [], coverage, "r")) == [] == drift_lines(Answer([], [], coverage, "r", farther_than=0.9))
    far = Answer([], [], coverage, "r", farther_than=0.98)
    assert "98% of its validation visits" in drift_lines(far)[0] and far.as_json()["drift"] == {"farther_than": 0.98}
