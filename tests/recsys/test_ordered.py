"""What was ordered under each label, and the interactions that visits really had."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cohorts.cohort import Cohort, Ragged, Vocabulary
from recsys.cohorts.files import load_cohort, save_cohort
from recsys.formats import FORMATS
from recsys.formats.contract import Limits
from recsys.orders.interactions import DrugInteractions, Interaction
from recsys.orders.medications import MedicationMap, map_orders
from recsys.orders.ordered import ordered_interactions, shares
from tests.bundled_drugs import resolver

DATA = Path(__file__).parents[2] / "mkmed" / "demo" / "data"
A, B, C = "DRUG:a", "DRUG:b", "DRUG:c"
PAIRS = (("ATC:X", A), ("ATC:X", B), ("ATC:Y", A), ("ATC:Y", C))


def statement(first, second, severity="high"):
    return Interaction(first, second, first, second, severity, "", "mine", "CC0-1.0", "")


def cohort(visits):
    """One visit a patient; each a list of places in PAIRS."""
    ordered = Ragged.from_lists(visits)
    labels = ("ATC:X", "ATC:Y")
    codes = Ragged.from_lists([sorted({labels.index(PAIRS[i][0]) for i in own}) for own in visits])
    empty = Ragged.from_lists([[] for _ in visits])
    numbers = np.arange(len(visits))
    return Cohort("made", numbers.astype(np.int32), numbers.astype(np.int64),
                  {"diagnosis": empty, "procedure": empty, "medication": codes},
                  {"diagnosis": Vocabulary(()), "procedure": Vocabulary(()), "medication": Vocabulary(labels)},
                  ordered=ordered, ordered_pairs=PAIRS)


def test_one_drug_under_two_labels_is_no_interaction():
    made = cohort([[0, 2], [1, 3], [0, 3], [1, 2]])  # a under both; b and c; a and c; b and a
    known = DrugInteractions((statement(A, C), statement(B, C, "low")))
    classes = np.array([[False, True], [True, False]])
    found = ordered_interactions(made, np.arange(4), known, classes, ("ATC:X", "ATC:Y"))
    assert (found.drug_pairs, found.listed, found.by_severity) == (3, 2, {"high": 1, "moderate": 0, "low": 1, "unknown": 0})
    assert (found.label_pairs, found.flagged, found.flagged_by_class) == (4, 2, 4)
    assert (found.class_with_listed, found.class_with_itself) == (2, 1)
    assert found.rate == pytest.approx(2 / 3)
    assert [row["pairs"] for row in found.rows()] == [3, 2, 1, 1, 2, 4, 2, 1]


@given(st.lists(st.lists(st.integers(0, 3), max_size=4, unique=True), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_flagged_pairs_are_listed_pairs_of_drugs_ordered(visits, first, second):
    known = DrugInteractions(tuple(statement(*pair) for pair, has in (((A, B), first), ((A, C), second)) if has))
    made = cohort(visits)
    found = ordered_interactions(made, np.arange(len(visits)), known)
    by_hand = 0
    for own in visits:
        drugs = sorted({PAIRS[i][1] for i in own})
        by_hand += sum(bool(known.of(a, b)) for i, a in enumerate(drugs) for b in drugs[i + 1:])
        assert {frozenset((s.first, s.second)) for s in known.between(drugs)} <= {
            frozenset((a, b)) for a in drugs for b in drugs if a != b}
    assert found.listed == by_hand and found.flagged <= found.label_pairs


def test_shares_are_of_visits_and_hide_what_few_patients_had():
    made = cohort([[0], [0], [0], [1], [3]])
    assert shares(made, np.arange(5)) == {"ATC:X": {A: 0.75, B: 0.25}, "ATC:Y": {C: 1.0}}
    assert shares(made, np.arange(5), least=2) == {"ATC:X": {A: 1.0}}
    assert shares(made, np.array([3])) == {"ATC:X": {B: 1.0}}


def test_the_cohort_keeps_what_was_ordered(tmp_path):
    from kb.settings import load_settings

    made, home = cohort([[0, 2], [1]]), load_settings(home=tmp_path)
    save_cohort(made, home)
    loaded = load_cohort("made", home)
    assert loaded.ordered == made.ordered and loaded.ordered_pairs == PAIRS
    assert loaded.fingerprint == made.fingerprint
    assert cohort([[0, 2], [0]]).fingerprint != made.fingerprint  # the same labels, another drug


def test_the_open_demos_have_no_order_with_more_classes_than_ingredients():
    """The former labels gave 16-18 % of orders several classes; MIMIC-III's, by the readers as they are."""
    recorded = FORMATS["mimic3"].read(DATA / "ehr_mimic3_demo", {}, Limits())
    mapped = map_orders(recorded.pairs["medication"], MedicationMap("3", "one", resolver()))
    known = MedicationMap("3", "one", resolver())
    from recsys.orders.order import Order

    several = 0
    for key in recorded.pairs["medication"].names:
        order = Order.parse(key)
        labels, found = known.label(order), known.resolver.resolve(order)
        several += len(labels.labels) > max(len(found.ingredients), 1)
    assert several == 0
    assert mapped.keys_mapped > 0.8 * mapped.keys_in
    found_rows = mapped.pairs.rows.sum() + sum(mapped.lost.values())
    assert found_rows == recorded.pairs["medication"].rows.sum()
    unexplained = sum(rows for _, reason, rows in mapped.unmapped if "vehicle" not in reason and "container" not in reason)
    assert unexplained < 0.01 * found_rows
