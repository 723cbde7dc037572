"""Tasks and splits: nothing of the future in a history, patients on one side, training over before testing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cohort import cohort_of

from kb.errors import DataError, UnknownName, UsageError
from recsys.cohorts.cohort import KINDS, encode
from recsys.cohorts.tasks import TASKS, patient_split, previous_visit, reference_split, split_cohort, temporal_split


def marked(visits_of):
    """A cohort in which every code names its own visit, so that a leak can be traced."""
    codes = {kind: [[f"{kind}:{visit:03d}:{i}" for i in range(2)] for visit in range(sum(visits_of))] for kind in KINDS}
    return cohort_of(visits_of, codes)


@given(st.lists(st.integers(1, 5), min_size=6, max_size=12), st.sampled_from(sorted(TASKS)), st.integers(0, 99))
@settings(max_examples=60)
def test_no_future_code_in_a_history(visits_of, name, seed):
    cohort = marked(visits_of)
    task, encoded = TASKS[name], encode(cohort, patient_split(cohort, seed))
    inputs = task.inputs(encoded.codes, cohort.patient_indptr)
    for visit in np.flatnonzero(task.scored(cohort.patient_indptr)):
        first = cohort.patient_indptr[cohort.visit_patient[visit]]
        for kind in KINDS:
            names = encoded.vocabularies[kind].codes
            rows = range(first, visit + 1)
            known = {int(names[i].split(":")[1]) for row in rows for i in inputs[kind].row(row)}
            latest = visit if kind != "medication" and name == "stay" else visit - 1
            assert known <= set(range(first, latest + 1)), f"{kind} of another time at visit {visit}"


def test_what_the_tasks_may_see():
    cohort = marked([3, 1, 2, 2, 2, 2])
    encoded = encode(cohort, patient_split(cohort, 0))
    starts = cohort.patient_indptr
    before = previous_visit(starts)
    assert before.tolist() == [-1, 0, 1, -1, -1, 4, -1, 6, -1, 8, -1, 10]
    stay, order_time = TASKS["stay"], TASKS["order-time"]
    assert stay.inputs(encoded.codes, starts)["diagnosis"] == encoded.codes["diagnosis"]
    assert stay.inputs(encoded.codes, starts)["medication"] == encoded.codes["medication"].take(before)
    assert order_time.inputs(encoded.codes, starts)["diagnosis"] == encoded.codes["diagnosis"].take(before)
    assert stay.scored(starts).all()
    assert np.flatnonzero(order_time.scored(starts)).tolist() == [1, 2, 5, 7, 9, 11]
    with pytest.raises(UnknownName, match="staay"):
        TASKS["staay"]


@given(st.integers(6, 60), st.integers(0, 5), st.sampled_from(["patients", "temporal", "reference"]))
@settings(max_examples=60)
def test_every_patient_is_on_one_side(patients, seed, rule):
    cohort = marked([1 + i % 3 for i in range(patients)])
    split = split_cohort(cohort, rule, seed)
    everyone = np.concatenate((split.train, split.validation, split.test))
    assert sorted(everyone.tolist()) == list(range(patients))
    again = split_cohort(cohort, rule, seed)
    assert all(np.array_equal(split.side(s), again.side(s)) for s in ("train", "validation", "test"))


def test_seeds_give_other_patients():
    cohort = marked([2] * 30)
    assert not np.array_equal(patient_split(cohort, 0).test, patient_split(cohort, 1).test)


def test_training_is_over_before_validation_and_test():
    rng = np.random.default_rng(3)
    cohort = marked([2] * 60)
    cohort.visit_time[:] = np.sort(rng.integers(0, 60, (60, 2)), axis=1).ravel()  # many ties
    split = temporal_split(cohort)
    last = cohort.visit_time[cohort.patient_indptr[1:] - 1]
    assert last[split.train].max() < last[split.validation].min()
    assert last[split.validation].max() < last[split.test].min()


def test_the_reference_split_is_the_public_code_s():
    split = reference_split(cohort_of([1] * 6350, {kind: [["x"]] * 6350 for kind in KINDS}))
    # The figures of the literature's cohort: 4,233 to train, the middle 1,058 to test, the last 1,059 to validate.
    assert (len(split.train), len(split.test), len(split.validation)) == (4233, 1058, 1059)
    assert split.test.min() == 4233 and split.validation.max() == 6349


def test_splits_that_cannot_be_made_say_so():
    with pytest.raises(DataError, match="without patients"):
        patient_split(marked([2, 2]))
    with pytest.raises(UsageError, match="sum to 1"):
        patient_split(marked([2] * 9), shares=(0.5, 0.1, 0.1))
    with pytest.raises(UsageError, match="tempral"):
        split_cohort(marked([2] * 9), "tempral")
