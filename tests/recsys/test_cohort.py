"""Cohorts: ragged tables against plain lists, vocabularies of the training side only, files that notice alteration."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import DataError, NotFound, UsageError
from kb.settings import load_settings
from recsys.cohorts.cohort import KINDS, UNKNOWN_TIME, Attribute, Cohort, Loss, Ragged, Split, Vocabulary, encode
from recsys.cohorts.files import cohorts_folder, list_cohorts, load_cohort, save_cohort

rows = st.lists(st.sets(st.integers(0, 30), max_size=6).map(sorted), max_size=12)


def cohort_of(visits_of, codes, name="small"):
    """A cohort with ``visits_of[p]`` visits a patient; ``codes[kind]`` lists each visit's codes as texts."""
    patient = np.repeat(np.arange(len(visits_of)), visits_of).astype(np.int32)
    tables, names = {}, {}
    for kind in KINDS:
        known = sorted({code for row in codes[kind] for code in row})
        tables[kind] = Ragged.from_lists([[known.index(code) for code in row] for row in codes[kind]])
        names[kind] = Vocabulary(tuple(known))
    return Cohort(name, patient, np.arange(len(patient), dtype=np.int64) * 86400, tables, names,
                  (Loss("t", "kept", 3),), {"format": "made"})


@pytest.fixture
def small():
    codes = {kind: [[f"{kind[0]}{i}", f"{kind[0]}x"] for i in range(6)] for kind in KINDS}
    return cohort_of([1, 2, 3], codes)


@given(rows)
def test_a_ragged_table_holds_its_lists(lists):
    table = Ragged.from_lists(lists)
    assert [table.row(i).tolist() for i in range(len(table))] == lists
    assert table.lengths.tolist() == [len(row) for row in lists]
    dense = table.dense(31)
    assert [np.flatnonzero(row).tolist() for row in dense] == lists


@given(rows, st.data())
def test_take_gives_the_rows_asked_for_and_empty_ones_for_none(lists, data):
    table = Ragged.from_lists(lists)
    wanted = data.draw(st.lists(st.integers(-1, len(lists) - 1), max_size=10))
    taken = table.take(np.asarray(wanted, dtype=np.int64))
    assert [taken.row(i).tolist() for i in range(len(taken))] == [lists[i] if i >= 0 else [] for i in wanted]


def test_a_vocabulary_names_what_it_does_not_know():
    words = Vocabulary(("ICD9CM:4280", "ICD9CM:5849"))
    assert words.indices(["ICD9CM:5849", "ICD10CM:I10", "ICD9CM:4280"]) == ([1, 0], ["ICD10CM:I10"])
    with pytest.raises(NotFound, match="ICD10CM:I10"):
        words.index("ICD10CM:I10")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_vocabularies_know_only_the_training_side(seed):
    rng = np.random.default_rng(seed)
    visits_of = rng.integers(1, 4, 9)
    codes = {kind: [[f"{c}" for c in rng.choice(12, rng.integers(1, 5), replace=False)] for _ in range(visits_of.sum())]
             for kind in KINDS}
    cohort = cohort_of(visits_of, codes)
    order = rng.permutation(9).astype(np.int32)
    encoded = encode(cohort, Split(order[:5], order[5:7], order[7:]))
    train = set(encoded.visits_of("train").tolist())
    for kind in KINDS:
        seen = {code for visit in train for code in codes[kind][visit]}
        names = encoded.vocabularies[kind].codes
        assert set(names) == seen and list(names) == sorted(names)
        for visit in range(cohort.visits):
            kept = {names[i] for i in encoded.codes[kind].row(visit)}
            assert kept == set(codes[kind][visit]) & seen
            assert encoded.unknown[kind][visit] == len(set(codes[kind][visit]) - seen)
    assert encoded.unknown_of("train") == dict.fromkeys(KINDS, 0)


def test_top_keeps_the_most_frequent_codes_and_counts_the_rest(small):
    everyone = Split(np.arange(3, dtype=np.int32), np.empty(0, np.int32), np.empty(0, np.int32))
    encoded = encode(small, everyone, top={"diagnosis": 1})
    assert encoded.vocabularies["diagnosis"].codes == ("dx",)
    assert encoded.unknown["diagnosis"].tolist() == [1] * 6
    assert len(encoded.vocabularies["procedure"]) == 7


def test_visits_must_be_grouped_and_in_time_order(small):
    for patient, time in (([0, 1, 0, 1, 2, 2], range(6)), ([0, 1, 1, 2, 2, 2], [0, 5, 4, 6, 7, 8]), ([1] * 6, range(6))):
        with pytest.raises(DataError):
            Cohort("x", np.asarray(patient, np.int32), np.asarray(list(time), np.int64), small.codes,
                   small.vocabularies)


def test_a_patient_is_on_one_side_only():
    one = np.array([1], np.int32)
    with pytest.raises(DataError, match="two sides"):
        Split(one, one, np.array([2], np.int32))


@pytest.fixture
def home(tmp_path):
    return load_settings(home=tmp_path)


def test_a_cohort_comes_back_as_it_was_saved(small, home):
    folder = save_cohort(small, home)
    loaded = load_cohort("small", home)
    assert loaded.fingerprint == small.fingerprint
    assert loaded.accounting == small.accounting and loaded.provenance == small.provenance
    assert all(loaded.codes[kind] == small.codes[kind] for kind in KINDS)
    assert loaded.vocabularies == small.vocabularies
    assert list_cohorts(home) == ["small"] and folder.parent == cohorts_folder(home)
    assert sorted(path.name for path in folder.iterdir()) == ["cohort.json", "cohort.npz"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("stay", [0, 255, 256, 1 << 32, 1 << 40, -1, None])
@pytest.mark.parametrize("first", [-10**10, 0, 10**11])
def test_times_and_stays_come_back_however_wide_they_are(small, home, stay, first):
    time = small.visit_time * (10**6 if first else 1) + first
    end = np.full(small.visits, UNKNOWN_TIME) if stay is None else time + stay
    end[0] = time[0]
    levels = tuple(f"{i:03}" for i in range(200))
    marks = Attribute(levels, (np.arange(small.visits) * 40 % 201 - 1).astype(np.int16))
    made = replace(small, visit_time=time, visit_end=end, attributes={"mark": marks, "few": Attribute(("no", "yes"), marks.values % 3 - 1)})
    save_cohort(made, home)
    loaded = load_cohort("small", home)
    assert loaded.fingerprint == made.fingerprint
    assert np.array_equal(loaded.visit_end, end) and loaded.visit_end.dtype == loaded.visit_time.dtype == np.int64
    assert {table.values.dtype.name for table in loaded.codes.values()} == {"int32"}
    assert all(attribute.values.dtype == np.int16 for attribute in loaded.attributes.values())


def test_a_cohort_of_release_0_1_is_read(small, home):
    folder = save_cohort(small, home)
    arrays = {"visit_patient": small.visit_patient, "visit_time": small.visit_time}
    for kind in KINDS:
        arrays |= {f"{kind}_indptr": small.codes[kind].indptr, f"{kind}_values": small.codes[kind].values}
    np.savez(folder / "cohort.npz", **arrays)
    assert load_cohort("small", home).fingerprint == small.fingerprint


def test_an_altered_cohort_is_noticed(small, home):
    folder = save_cohort(small, home)
    document = json.loads((folder / "cohort.json").read_text())
    document["vocabularies"]["diagnosis"][0] = "another"
    (folder / "cohort.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="differ"):
        load_cohort("small", home)
    (folder / "cohort.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match="cannot be read"):
        load_cohort("small", home)


def test_a_missing_cohort_is_named_with_those_there_are(small, home):
    save_cohort(small, home)
    with pytest.raises(NotFound, match="larger") as caught:
        load_cohort("larger", home)
    assert "small" in caught.value.hint


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x" * 65])
def test_a_cohort_name_cannot_leave_the_folder(name, home):
    with pytest.raises(UsageError):
        load_cohort(name, home)


def test_the_fingerprint_sees_every_part(small):
    other_time = Cohort(small.name, small.visit_patient, small.visit_time + 1, small.codes, small.vocabularies)
    codes = {**small.codes, "procedure": small.codes["procedure"].take(np.arange(6)[::-1])}
    other_codes = Cohort(small.name, small.visit_patient, small.visit_time, codes, small.vocabularies)
    prints = {c.fingerprint.sha256 for c in (small, other_time, other_codes)}
    assert len(prints) == 3
    assert "3 patients, 6 visits (max 3)" in str(small.fingerprint)
