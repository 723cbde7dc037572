"""Outcomes beside recommendations: the weighting takes recorded confounding away, and what is shown is what was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_cohort import make_cohort

from kb.errors import DataError
from kb.settings import load_settings
from recsys.cohorts.cohort import Attribute, encode, encode_on
from recsys.cohorts.files import save_cohort
from recsys.cohorts.tasks import patient_split
from recsys.experiments.config import from_json
from recsys.experiments.outcomes import OutcomeVisits, agrees_more, both_sides, e_value, recommended_visits
from recsys.experiments.runs import train_run
from recsys.formats.contract import DIED, READMITTED


def drawn(effect: float, visits: int = 4000, seed: int = 0) -> OutcomeVisits:
    """Visits whose severity lowers agreement and raises the risk; ``effect`` is what agreement itself adds to it."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(visits)
    agreement = 0.5 - 0.1 * severity + 0.1 * rng.standard_normal(visits)
    more = agreement > np.median(agreement)
    risk = np.clip(0.25 + 0.08 * severity + effect * more, 0.01, 0.99)
    return OutcomeVisits(np.arange(visits) // 2, agreement, severity[:, None], ("severity",),
                  {"readmission within 30 days": (rng.random(visits) < risk).astype(float),
                   "days in hospital": np.exp(0.3 * severity + 0.5 * rng.standard_normal(visits))})


def test_confounding_that_is_recorded_is_weighted_away() -> None:
    row, days = both_sides(drawn(0.0), draws=50)
    assert row["crude: more"] < row["less"] - 0.05
    assert abs(row["difference"]) < 0.03
    assert row["imbalance after"] < 0.02 < row["imbalance before"]
    assert row["E-value of the limit"] == 1.0 and 0 < row["overlap"] < 1
    assert days["crude: more"] < days["less"] and abs(days["difference"]) < 0.08


def test_an_effect_that_is_there_is_found_with_its_e_value() -> None:
    row = both_sides(drawn(-0.15), draws=50)[0]
    assert -0.20 < row["difference"] < -0.10 and row["risk ratio"] < 1
    assert 1 < row["E-value of the limit"] < row["E-value"]


def test_e_values_are_those_of_the_paper() -> None:
    assert e_value(3.9) == pytest.approx(7.26, abs=0.01) and e_value(1 / 3.9) == pytest.approx(7.26, abs=0.01)
    assert e_value(1.0) == 1.0


def test_visits_at_the_median_go_where_the_sides_are_most_even() -> None:
    mostly_whole = np.array([1.0] * 60 + [0.5] * 25 + [0.0] * 15)
    assert agrees_more(mostly_whole).sum() == 60
    assert agrees_more(np.array([0.2] * 55 + [0.9] * 45)).sum() == 45
    with pytest.raises(DataError, match="all visits alike"):
        agrees_more(np.ones(50))


def test_few_events_are_not_told() -> None:
    visits = drawn(0.0, visits=200)
    rare = np.zeros(200)
    rare[:3] = 1
    row = both_sides(replace(visits, outcomes={"death in hospital": rare}), draws=50)[0]
    assert "fewer than 5 events" in row["said"] and "difference" not in row
    with pytest.raises(DataError, match="how visits ended"):
        both_sides(replace(visits, outcomes={}))


def test_a_stored_run_is_set_beside_its_test_visits_outcomes(database_environment: object) -> None:
    cohort = replace(make_cohort(patients=300), name="ends", provenance={"format": "synthetic"})
    rng = np.random.default_rng(0)
    ends = {DIED: 0.1, READMITTED: 0.3}
    said = {name: Attribute.from_texts(["yes" if rng.random() < p else "no" for _ in range(cohort.visits)])
            for name, p in ends.items()}
    said["sex"] = Attribute.from_texts([("female", "male")[p % 2] for p in cohort.visit_patient])
    cohort = replace(cohort, attributes=said, visit_end=cohort.visit_time + 86400 * rng.integers(1, 9, cohort.visits))
    settings = load_settings()
    save_cohort(cohort, settings)
    run = train_run(from_json({"recommender": "logistic_history", "cohort": "ends", "vectors": "learned", "l2": "0.1"}),
                    settings)
    visits = recommended_visits(settings, run.run_id)
    assert visits.agreement.mean() == pytest.approx(run.report["per_visit"]["jaccard"], abs=1e-6)
    assert set(visits.outcomes) == {"death in hospital", "readmission within 30 days", "days in hospital"}
    dead = visits.outcomes["death in hospital"] == 1
    assert dead.any() and np.isnan(visits.outcomes["readmission within 30 days"][dead]).all()
    assert "sex: female" in visits.names and np.allclose(visits.covariates.std(0), 1)
    assert len(both_sides(visits, draws=50)) == 3


def test_a_cohort_on_a_stored_vocabulary_is_the_cohort_on_its_own() -> None:
    cohort = make_cohort(patients=60)
    split = patient_split(cohort, 0)
    own = encode(cohort, split, least=5)
    again = encode_on(cohort, split, {kind: words.codes for kind, words in own.vocabularies.items() if kind != "door"})
    assert all(again.codes[kind] == own.codes[kind] for kind in own.codes)
    assert all(np.array_equal(again.unknown[kind], own.unknown[kind]) for kind in own.unknown)
