"""What travels with a visit: age, sex, outcome, times; in the fingerprint, through a save, out to MEDS and back."""

import stat
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kb.errors import DataError, UsageError
from kb.settings import load_settings
from recsys.cohorts.cohort import KINDS, UNKNOWN_TIME, Attribute, Cohort, Ragged, Vocabulary
from recsys.cohorts.files import load_cohort, private_cohorts_folder, save_cohort
from recsys.cohorts.prepare import choose_visits, prepare
from recsys.formats import FORMATS
from recsys.formats.contract import Limits
from recsys.formats.meds_writer import write_meds
from recsys.orders.medications import MedicationMap, OrderLabels, map_orders

DATA = Path(__file__).parents[2] / "mkmed" / "demo" / "data"
DAY = 86_400


class Classes(MedicationMap):
    """Spreads orders over a few ATC classes, so that a cohort has codes that MEDS can carry."""

    def label(self, order):
        return OrderLabels(((f"ATC:{'ABCD'[len(order.key) % 4]}{len(order.key) % 90 + 10}A", ""),))


def made(name, folder, min_visits=1):
    recorded = FORMATS[name].read(DATA / folder, {}, Limits())
    return choose_visits(name, recorded, map_orders(recorded.pairs["medication"], Classes("3")), ("diagnosis",), min_visits)


@pytest.fixture(scope="module")
def mimic4():
    return made("mimic4", "ehr_mimic4_demo")


def test_attributes_are_levels_and_places(mimic4):
    for attribute in mimic4.attributes.values():
        assert list(attribute.levels) == sorted(set(attribute.levels))
        assert attribute.values.min() >= -1 and attribute.values.max() == len(attribute.levels) - 1
        assert len(attribute.values) == mimic4.visits
    assert {"sex", "admission_type", "discharge", "readmitted_30d"} <= set(mimic4.attributes)
    counts = mimic4.attributes["discharge"].counts()
    assert counts["HOME"] > 5 and min(counts.values()) >= 5 and "ACUTE HOSPITAL" not in counts


def test_length_of_stay_and_readmission_are_those_of_the_dates():
    recorded = FORMATS["mimic4"].read(DATA / "ehr_mimic4_demo", {}, Limits())
    again = recorded.attributes["readmitted_30d"]
    for visit in range(len(recorded.visit_time)):
        same = np.flatnonzero(recorded.visit_patient == recorded.visit_patient[visit])
        later = [v for v in same if (recorded.visit_time[v], v) > (recorded.visit_time[visit], visit)]
        following = min((recorded.visit_time[v] for v in later), default=None)
        end = recorded.visit_end[visit]
        expected = "yes" if following is not None and 0 <= following - end <= 30 * DAY else "no"
        level = again.levels[again.values[visit]] if again.values[visit] >= 0 else None
        assert level == (None if end < recorded.visit_time[visit] else expected)
    died = made("mimic3", "ehr_mimic3_demo").attributes
    gone = died["died_in_hospital"].values == died["died_in_hospital"].levels.index("yes")
    assert gone.sum() > 30 and (died["readmitted_30d"].values[gone] == -1).all()


def test_a_length_of_stay_is_never_negative():
    attributes = {"sex": Attribute.from_texts(["f", "", "f"])}
    one = made("mimic3", "ehr_mimic3_demo")
    parts = (one.name, one.visit_patient[:3] * 0, np.array([0, 10, 20]), {k: t.take(np.arange(3)) for k, t in one.codes.items()},
             one.vocabularies)
    cohort = Cohort(*parts, visit_end=np.array([DAY, 5, UNKNOWN_TIME]), attributes=attributes)
    assert np.array_equal(cohort.length_of_stay, [1.0, np.nan, np.nan], equal_nan=True)
    with pytest.raises(DataError, match="unequal numbers"):
        Cohort(*parts, visit_end=np.array([DAY]))
    other = Cohort(*parts, visit_end=np.array([DAY, 5, UNKNOWN_TIME]), attributes={"sex": Attribute.from_texts(["f", "m", "f"])})
    bare = Cohort(*parts)
    assert len({c.fingerprint.sha256 for c in (cohort, other, bare)}) == 3


def test_attributes_come_back_from_a_save_that_only_the_user_can_read(mimic4, tmp_path):
    home = load_settings(home=tmp_path)
    folder = save_cohort(mimic4, home)
    loaded = load_cohort(mimic4.name, home)
    assert loaded.fingerprint == mimic4.fingerprint
    assert {n: a.levels for n, a in loaded.attributes.items()} == {n: a.levels for n, a in mimic4.attributes.items()}
    assert all(np.array_equal(a.values, mimic4.attributes[n].values) for n, a in loaded.attributes.items())
    assert np.array_equal(loaded.visit_end, mimic4.visit_end)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_a_killed_run_left_is_removed(tmp_path):
    home = load_settings(home=tmp_path)
    dead, alive = (private_cohorts_folder(home) / f".spill-{number}-x" for number in (2**22 + 7, 1))
    dead.mkdir()
    alive.mkdir()
    private_cohorts_folder(home)
    assert not dead.exists() and alive.exists()
    assert stat.S_IMODE((tmp_path / "cohorts").stat().st_mode) == 0o700


def test_a_cohort_written_as_meds_is_read_back(mimic4, tmp_path):
    meds = pytest.importorskip("meds", reason="the package of the standard is not installed")
    files = write_meds(mimic4, tmp_path / "out")
    table = pq.read_table(files[0])
    meds.DataSchema.validate(table)
    assert table["subject_id"].to_pylist() == sorted(table["subject_id"].to_pylist())
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    codes = pq.read_table(tmp_path / "out" / meds.code_metadata_filepath)["code"].to_pylist()
    assert len(codes) == sum(len(v) for v in mimic4.vocabularies.values())
    recorded = FORMATS["meds"].read(tmp_path / "out", {}, Limits())
    again = choose_visits("meds", recorded, map_orders(recorded.pairs["medication"], MedicationMap("3")), ("diagnosis",), 1)
    assert again.vocabularies == mimic4.vocabularies and again.codes == mimic4.codes
    assert np.array_equal(again.visit_time, mimic4.visit_time) and np.array_equal(again.visit_patient, mimic4.visit_patient)
    assert again.attributes["sex"].levels == mimic4.attributes["sex"].levels
    with pytest.raises(UsageError, match="not empty"):
        write_meds(mimic4, tmp_path / "out")


def test_prepare_keeps_attributes_and_works_within_little_memory(tmp_path):
    home = load_settings(home=tmp_path)
    root = DATA / "ehr_mimic3_demo"
    made_of = {memory: prepare(form="mimic3", root=root, min_visits=1, requires=["diagnosis"], settings=home, name=name,
                               memory=memory).cohort for name, memory in (("a", "4GB"), ("b", "64MB"))}
    assert made_of["4GB"].fingerprint == made_of["64MB"].fingerprint
    assert {"age", "sex", "race", "admission_type", "discharge", "died_in_hospital"} <= set(load_cohort("a", home).attributes)
    assert sorted(path.name for path in (tmp_path / "cohorts").iterdir()) == ["a", "b"]  # nothing is left of what spilled
    with pytest.raises(UsageError, match="no amount of memory"):
        prepare(form="mimic3", root=root, settings=home, memory="much")


def test_attributes_are_listed_and_what_few_patients_have_is_not_named():
    patients = np.repeat(np.arange(12, dtype=np.int32), 2)
    empty = Ragged.from_lists([[]] * 24)
    sex = Attribute(("female", "male", "other"), np.repeat(np.array([0] * 6 + [1] * 3 + [2] * 2 + [-1], np.int16), 2))
    city = Attribute(("a", "b"), np.repeat(np.array([0] * 10 + [1] * 2, np.int16), 2))
    made = Cohort("c", patients, np.arange(24, dtype=np.int64), dict.fromkeys(KINDS, empty),
                  dict.fromkeys(KINDS, Vocabulary(())), attributes={"sex": sex, "city": city})
    listed = [(row["attribute"], row["level"], row["patients"], row["visits"]) for row in made.listed_attributes()]
    assert listed == [("city", "a", 10, 20), ("city", "(1 others)", None, None), ("sex", "female", 6, 12),
                      ("sex", "(2 others)", 5, 10), ("sex", "(not known)", None, None)]
