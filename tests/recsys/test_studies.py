"""Studies of where knowledge helps: their statistics, their splits, what they hide, and going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_cohort import make_cohort, make_encoded, make_knowledge, sides
from sqlalchemy import Engine

from kb.errors import DataError, MkmedError, UsageError
from kb.settings import load_settings
from recsys.cohorts.cohort import KINDS, Attribute, Cohort, Vocabulary
from recsys.cohorts.files import save_cohort
from recsys.experiments.crossed import Interval, difference, gather_units, holm
from recsys.experiments.studies import (
    ABLATE_ARMS,
    ARMS,
    COLD_ARMS,
    METRICS,
    Study,
    StudyJob,
    altered,
    curve_points,
    folder_of,
    joined_cohorts,
    leave_values_out,
    of_modalities,
    run_study,
    stripped,
    study_table,
    taken,
    verdict,
    verdicts,
    without_treat_edges,
)
from recsys.knowledge.evidence import CodeEvidence, unit_rows


def found(values: np.ndarray, seeds: int = 4, units: int = 30, share: float = 0.5, seed: int = 0) -> list:
    """What seeds that test half of the units each find, the mean of each test being ``values[unit]``."""
    rng = np.random.default_rng(seed)
    tests = []
    for _ in range(seeds):
        of = np.sort(rng.choice(units, round(share * units), False))
        tests.append((of, values[of, None], np.ones(len(of))))
    return tests


def test_the_interval_of_a_constant_difference_is_that_difference() -> None:
    base = np.random.default_rng(1).random(30)
    first, second = gather_units(found(base + 0.1), 30), gather_units(found(base), 30)
    interval = difference(first, second)[0]
    assert interval.low == pytest.approx(0.1) and interval.high == pytest.approx(0.1) and interval.p < 0.01


def test_seeds_that_test_the_same_patients_again_do_not_make_the_interval_narrow() -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(30)
    once = difference(gather_units(found(noise, seeds=1, share=1.0), 30), gather_units(found(noise * 0, seeds=1, share=1.0), 30))[0]
    many = difference(gather_units(found(noise, seeds=16, share=1.0), 30), gather_units(found(noise * 0, seeds=16, share=1.0), 30))[0]
    assert many.high - many.low > 0.8 * (once.high - once.low)


def test_arms_that_were_tested_on_other_patients_are_not_compared() -> None:
    values = np.ones(30)
    with pytest.raises(DataError, match="not tested on the same"):
        difference(gather_units(found(values, seed=0), 30), gather_units(found(values, seed=1), 30))


def test_holm_is_that_of_the_textbook() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_a_hidden_medication_is_in_no_label_and_no_history_but_the_shots() -> None:
    train, _, test = sides(make_encoded(patients=120))
    hidden = np.argsort(-train.frequency)[:3]
    generator = np.random.default_rng(0)
    assert not stripped(test, hidden, 0, generator).target()[:, hidden].any()
    assert stripped(test, hidden, 0, generator).recent[:, hidden].nnz == 0
    few = stripped(train, hidden, 4, generator)
    assert (few.target()[:, hidden].sum(0) == 4).all()
    others = np.setdiff1d(np.arange(train.sizes.medication), hidden)
    assert np.array_equal(few.target()[:, others], train.target()[:, others])


def test_visits_outside_the_shots_say_nothing_of_the_hidden() -> None:
    train, _, _ = sides(make_encoded(patients=120))
    hidden = np.argsort(-train.frequency)[:3]
    few = stripped(train, hidden, 4, np.random.default_rng(0))
    assert few.available is not None and few.available[:, np.setdiff1d(np.arange(train.sizes.medication), hidden)].all()
    open_ = few.available[:, hidden]
    assert (few.target()[:, hidden] <= open_).all() and (open_.sum(0) < len(open_)).all()
    assert np.array_equal(few.target()[:, hidden] & open_, train.target()[:, hidden] & open_)
    assert (open_ & ~train.target()[:, hidden]).any()
    assert not stripped(train, hidden, 0, np.random.default_rng(0)).available[:, hidden].any()  # type: ignore[index]
    part = taken(few, np.array([1, 5]))
    rows = np.concatenate([np.arange(few.starts[p], few.starts[p + 1]) for p in (1, 5)])
    assert np.array_equal(part.available, few.available[rows])


def test_some_patients_are_whole_patients() -> None:
    train, _, _ = sides(make_encoded())
    chosen = np.array([0, 3, 4])
    part = taken(train, chosen)
    assert np.array_equal(part.lengths, train.lengths[chosen])
    for new, old in enumerate(chosen):
        rows = np.arange(train.starts[old], train.starts[old + 1])
        mine = np.arange(part.starts[new], part.starts[new + 1])
        for kind in KINDS:
            assert getattr(part, kind).take(mine) == getattr(train, kind).take(rows)


def test_a_hospital_is_on_one_side_only() -> None:
    cohort = make_cohort(patients=90)
    places = np.array([f"hospital {p % 9}" for p in cohort.visit_patient])
    cohort = replace(cohort, attributes={"hospital": Attribute.from_texts(list(places))})
    split = leave_values_out(cohort, "hospital", 0)
    of = places[cohort.patient_indptr[:-1]]
    train, validation, test = (set(of[side]) for side in (split.train, split.validation, split.test))
    assert train and validation and test
    assert not (train & test or train & validation or validation & test)
    with pytest.raises(UsageError, match="does not know the ward"):
        leave_values_out(cohort, "ward", 0)


def test_two_cohorts_beside_one_another_keep_their_codes() -> None:
    first, second = make_cohort(patients=20, seed=1), make_cohort(patients=15, seed=2)
    shifted = {kind: Vocabulary(tuple(f"X{code}" if i % 2 else code for i, code in enumerate(words.codes)))
               for kind, words in second.vocabularies.items()}
    second = replace(second, vocabularies=shifted)
    joined, split = joined_cohorts(first, second, 0)
    assert set(split.test) == set(range(20, 35)) and joined.visits == first.visits + second.visits

    def words(cohort: Cohort, kind: str, visit: int) -> set[str]:
        return {cohort.vocabularies[kind].codes[i] for i in cohort.codes[kind].row(visit)}

    for kind in KINDS:
        assert all(words(joined, kind, v) == words(first, kind, v) for v in range(first.visits))
        assert all(words(joined, kind, first.visits + v) == words(second, kind, v) for v in range(second.visits))


def test_a_subset_of_modalities_takes_its_evidence_with_it() -> None:
    encoded = make_encoded()
    rng = np.random.default_rng(0)
    knowledge = make_knowledge(encoded)
    codes, size = 5, len(knowledge.medications)
    aligned = unit_rows(rng.standard_normal((codes, knowledge.vectors.shape[1])))
    tables = rng.standard_normal((3, codes, size)).astype(np.float32)
    knowledge = replace(knowledge, evidence=CodeEvidence(tuple("abcde"), tables, aligned, aligned))
    pictures = of_modalities(knowledge, ["image"])
    assert pictures.evidence is not None and not pictures.evidence.tables[1:].any()
    assert np.allclose(pictures.vectors[knowledge.known], knowledge.modality_vectors[0][knowledge.known])  # type: ignore[index]
    expected = aligned @ pictures.vectors[knowledge.known].T
    found = pictures.evidence.tables[0][:, knowledge.known]
    row = np.corrcoef(found[0], (expected - expected.mean(0))[0])[0, 1]
    assert row == pytest.approx(1, abs=1e-4)
    graph = of_modalities(knowledge, ["graph", "text"]).evidence
    assert graph is not None and np.array_equal(graph.tables[1:], tables[1:])
    every = of_modalities(knowledge, list(knowledge.modalities))
    assert np.allclose(every.vectors, knowledge.vectors, atol=1e-5)
    assert {arm.name for arm in ABLATE_ARMS} >= {"null", "all", "shuffled", "random", "oracle", "without graph"}


def test_an_arm_without_treat_edges_loses_what_the_hidden_treat_and_nothing_else() -> None:
    encoded = make_encoded()
    rng = np.random.default_rng(0)
    knowledge = make_knowledge(encoded)
    tables = rng.standard_normal((4, 5, len(knowledge.medications))).astype(np.float32)
    knowledge = replace(knowledge, evidence=CodeEvidence(tuple("abcde"), tables, np.zeros((5, 3), np.float32)))
    arm, shuffled = without_treat_edges("abc")
    assert arm.settings == {"vectors": "run:abc"}
    hidden = knowledge.medications[2:4]
    left = altered(knowledge, StudyJob("0", 0, arm), encoded, hidden).evidence
    assert left is not None and not left.tables[2:, :, 2:4].any()
    assert np.array_equal(left.tables[:2], tables[:2]) and np.array_equal(left.tables[:, :, 4:], tables[:, :, 4:])
    mixed = altered(knowledge, StudyJob("0", 0, shuffled), encoded, hidden).evidence
    assert mixed is not None and not np.array_equal(mixed.tables, left.tables)
    assert np.array_equal(np.sort(mixed.tables, axis=2), np.sort(left.tables, axis=2))


@pytest.mark.parametrize(("gain", "beyond", "control", "said"), [
    ((-0.1, 0.2), (0, 1), (-0.1, 0.5), "nothing can be said"), ((-0.1, 0.2), (-0.1, 1), (0.1, 0.5), "no gain"),
    ((0.1, 0.2), (-0.1, 0.3), (0.1, 0.5), "does not tell"), ((0.1, 0.2), (0.1, 0.3), (0.1, 0.5), "helps less"),
    ((0.1, 0.2), (-0.3, -0.1), (0.1, 0.5), "helps more"), ((0.1, 0.2), None, (0.1, 0.5), "not tested"),
    ((-0.3, -0.2), (0.1, 0.3), (0.1, 0.5), "harms")])
def test_a_verdict_says_no_more_than_its_intervals(gain: tuple, beyond: tuple | None, control: tuple, said: str) -> None:
    three = [one and Interval(sum(one) / 2, *one, 0.5) for one in (gain, beyond, control)]
    assert said in verdict(*three)  # type: ignore[arg-type]


def test_curve_points_double_up_to_all() -> None:
    assert curve_points(160) == ("25", "50", "100", "all")


def test_a_study_goes_on_where_it_was_and_keeps_its_finds_with_the_patients(
    database_environment: Engine, tmp_path: Path,
) -> None:
    cohort = replace(make_cohort(patients=80), name="small", provenance={"format": "synthetic"})
    settings = load_settings()
    save_cohort(cohort, settings)
    arms = tuple(arm for arm in ARMS if arm.name in ("null", "logistic_history"))
    study = Study("curve", "small", ("25", "all"), (0, 1), arms, {"vectors": "learned"})
    done: list[tuple[int, int]] = []
    first = run_study(study, settings, told=lambda now, total: done.append((now, total)))
    assert done[-1] == (8, 8)
    folder = folder_of(study, settings)
    assert folder.is_relative_to(tmp_path / "cohorts" / "small") and folder.stat().st_mode & 0o077 == 0
    for kept in sorted(folder.glob("*.npz"))[:3]:
        kept.unlink()
    done.clear()
    again = run_study(study, settings, workers=2, told=lambda now, total: done.append((now, total)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert study_table(study, again) == study_table(study, first)
    rows = {(row["point"], row["arm"]): row for row in study_table(study, first)}
    assert rows["all", "null"]["prauc"] > rows["25", "null"]["prauc"] - 0.05
    assert "prauc − null" in rows["all", "logistic_history"] and rows["all", "null"]["p (Holm)"] is None
    assert verdicts(study, first) == []


def test_a_job_that_fails_says_why(database_environment: Engine) -> None:
    settings = load_settings()
    save_cohort(replace(make_cohort(patients=40), name="one", provenance={"format": "synthetic"}), settings)
    study = Study("curve", "one", ("all",), (0, 1), (ARMS[0],), {"vectors": "learned", "epochs": "-1"})
    with pytest.raises(MkmedError, match="epochs"):
        run_study(study, settings, workers=2)


def test_cold_start_needs_no_knowledge_to_run_and_says_nothing_without_an_oracle(database_environment: Engine) -> None:
    cohort = replace(make_cohort(patients=120), name="cold", provenance={"format": "synthetic"})
    settings = load_settings()
    save_cohort(cohort, settings)
    arms = tuple(arm for arm in COLD_ARMS if arm.name == "null")
    study = Study("coldstart", "cold", ("0", "10"), (0, 1), arms, {"vectors": "learned"})
    rows = study_table(study, run_study(study, settings))
    assert [row["point"] for row in rows] == ["0", "10"] and all(0 < row["auroc"] < 1 for row in rows)


def test_the_table_has_what_everything_has_over_each_arm() -> None:
    study = Study("curve", "small", ("all",), (0, 1), tuple(arm for arm in ARMS if arm.name in ("null", "all", "shuffled")))
    generator = np.random.default_rng(3)
    noise = generator.random((3, 2, 40, len(METRICS["curve"])))
    found = {("all", arm.name): [(np.arange(40), noise[k, seed] + (arm.name == "all"), np.ones(40)) for seed in (0, 1)]
             for k, arm in enumerate(study.arms)}
    rows = {row["arm"]: row for row in study_table(study, found)}
    assert rows["null"]["all − it, prauc"] == rows["all"]["prauc − null"]
    assert rows["all"]["all − it, prauc"] is None
    assert float(rows["shuffled"]["all − it, prauc"].split()[0]) == pytest.approx(1, abs=0.2)
