"""Packed batches hold every visit once, no future codes, and the same rows as the plain loops."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cohort import make_cohort, make_encoded, sides

from recsys.cohorts.batches import histories
from recsys.cohorts.cohort import Cohort, Ragged, encode
from recsys.cohorts.tasks import ORDER_TIME, STAY, patient_split


def test_every_visit_is_in_exactly_one_batch() -> None:
    train, _, _ = sides(make_encoded())
    for order in (None, np.random.default_rng(0)):
        rows = np.concatenate([batch.rows for batch in train.batches(7, order)])
        assert sorted(rows.tolist()) == list(range(train.visits))


def test_packed_rows_follow_their_patients() -> None:
    train, _, _ = sides(make_encoded())
    batch = train.batch(np.array([3, 0, 9, 5]))
    grid, mask = batch.pad(torch.from_numpy(batch.rows.astype(np.float32)))
    assert mask.sum() == len(batch.rows)
    for patient, row in enumerate(grid):
        visits = row[mask[patient]].int().tolist()
        assert visits == list(range(visits[0], visits[0] + len(visits)))
        assert visits[0] in train.starts
    assert torch.equal(batch.pack(grid), torch.from_numpy(batch.rows.astype(np.float32)))


def test_history_features_equal_plain_loops() -> None:
    train, _, _ = sides(make_encoded())
    for patient in range(train.patients):
        rows = range(train.starts[patient], train.starts[patient + 1])
        for number, row in enumerate(rows):
            before = train.target(np.arange(rows[0], row))
            recent, share = (table[[row]].toarray()[0] for table in (train.recent, train.share))
            np.testing.assert_array_equal(recent, before[-1] if number else 0)
            np.testing.assert_allclose(share, before.mean(0) if number else 0, atol=1e-6)
            assert train.past[row] == number


def _with_other_medications(cohort: Cohort, visit: int) -> Cohort:
    """The cohort with the visit's medications replaced by all the others, and later visits emptied of everything."""
    size = len(cohort.vocabularies["medication"])
    codes = {}
    for kind, ragged in cohort.codes.items():
        lists = [ragged.row(v).tolist() for v in range(cohort.visits)]
        for later in range(visit + 1, cohort.visits):
            if cohort.visit_patient[later] == cohort.visit_patient[visit]:
                lists[later] = [0]
        if kind == "medication":
            lists[visit] = sorted(set(range(size)) - set(lists[visit])) or [0]
        codes[kind] = Ragged.from_lists(lists)
    return Cohort(cohort.name, cohort.visit_patient, cohort.visit_time, codes, cohort.vocabularies)


@given(st.integers(0, 1000), st.sampled_from([STAY, ORDER_TIME]))
@settings(max_examples=15, deadline=None)
def test_no_future_code_reaches_an_input(seed: int, task: object) -> None:
    cohort = make_cohort(patients=14, seed=seed)
    split = patient_split(cohort, seed=0)
    encoded = encode(cohort, split)
    rng = np.random.default_rng(seed)
    in_test = np.isin(cohort.visit_patient, split.test)
    visit = int(rng.choice(np.flatnonzero(in_test)))
    changed = encode(_with_other_medications(cohort, visit), split)
    row = int(np.flatnonzero(encoded.visits_of("test") == visit)[0])
    one, two = histories(encoded, "test", task), histories(changed, "test", task)
    first = int(one.starts[one.patient_of[row]])
    for name in ("recent", "share"):
        assert (getattr(one, name)[first:row + 1] != getattr(two, name)[first:row + 1]).nnz == 0
    for kind in ("diagnosis", "procedure"):
        for v in range(first, row + 1):
            assert getattr(one, kind).row(v).tolist() == getattr(two, kind).row(v).tolist()


def test_order_time_scores_later_visits_only_and_lags_codes() -> None:
    encoded = make_encoded()
    stay, later = histories(encoded, "train", STAY), histories(encoded, "train", ORDER_TIME)
    assert stay.scored.all()
    np.testing.assert_array_equal(later.scored, later.past > 0)
    row = int(np.flatnonzero(later.past > 0)[0])
    assert later.diagnosis.row(row).tolist() == stay.diagnosis.row(row - 1).tolist()
