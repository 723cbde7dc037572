"""The generators: the literature's shape, any size, the same seed the same cohort, and as hard as they are meant to be."""

import numpy as np
import pytest

from kb.errors import UnknownName, UsageError
from recsys.cohorts.cohort import KINDS
from recsys.cohorts.tasks import previous_visit
from recsys.generators import GENERATORS, clusters, guidelines
from recsys.generators.classes import class_interactions, frequent_classes, relatedness
from recsys.generators.population import Shape

SMALL = Shape(300, 720, 12, 300, 200, 60)


def interacting_share(cohort):
    table = cohort.codes["medication"]
    matrix = class_interactions([code.removeprefix("ATC:") for code in cohort.vocabularies["medication"].codes])
    given = table.dense(len(matrix))
    return (given @ matrix * given).sum() / (given.sum(1) * (given.sum(1) - 1)).sum()


def repeated(cohort):
    """The mean Jaccard of a visit's medications with those of the visit before."""
    given = cohort.codes["medication"].dense(len(cohort.vocabularies["medication"])) > 0
    before = previous_visit(cohort.patient_indptr)
    now, last = given[before >= 0], given[before[before >= 0]]
    return ((now & last).sum(1) / (now | last).sum(1)).mean()


@pytest.mark.parametrize(("design", "low", "high", "last"), [("clusters", 10.7, 11.7, 0.50), ("guidelines", 17.7, 18.7, 0.42)])
def test_the_preset_has_the_shape_and_the_marks(design, low, high, last):
    made = GENERATORS[design]()
    found = made.fingerprint
    assert (found.patients, found.visits, found.max_visits) == (6350, 15032, 29)
    assert found.vocabulary == {"diagnosis": 1958, "procedure": 1430, "medication": 131}
    assert low < found.per_visit["medication"] < high
    assert all(len(np.unique(made.codes[kind].values)) == found.vocabulary[kind] for kind in KINDS)
    assert all(made.codes[kind].lengths.min() > 0 for kind in KINDS)
    assert 0.075 < interacting_share(made) < 0.095
    assert abs(repeated(made) - last) < 0.03


@pytest.mark.parametrize("design", sorted(GENERATORS))
def test_the_same_seed_gives_the_same_cohort_and_another_another(design):
    make = GENERATORS[design]
    assert make(shape=SMALL, seed=3).fingerprint == make(shape=SMALL, seed=3).fingerprint
    assert make(shape=SMALL, seed=3).fingerprint.sha256 != make(shape=SMALL, seed=4).fingerprint.sha256


@pytest.mark.parametrize("design", sorted(GENERATORS))
def test_any_size_can_be_made(design):
    for patients in (8, 9000):
        made = GENERATORS[design](shape=Shape().scaled(patients))
        assert made.patients == patients and made.visits == round(15032 * patients / 6350)


def test_neighbours_in_the_atc_tree_share_conditions():
    near = relatedness(frequent_classes(131))
    for world_of, field in ((clusters, "slot_classes"), (guidelines, "lines")):
        table = getattr(world_of.make_world(5, Shape(), world_of.Dials()), field)
        together = np.mean([near[row[0], row[1:]].mean() for row in table])
        assert together > 2 * near[~np.eye(131, dtype=bool)].mean()


def test_the_interactions_are_real_and_as_dense_as_the_literature_s():
    classes = frequent_classes(131)
    matrix = class_interactions(classes)
    assert matrix.sum() / 2 == 448 and np.array_equal(matrix, matrix.T) and not matrix.diagonal().any()
    assert matrix[classes.index("C07A"), classes.index("M01A")]  # beta blockers and anti-inflammatory drugs
    with pytest.raises(UsageError, match="500"):
        frequent_classes(500)


def test_impossible_shapes_and_names_are_refused():
    with pytest.raises(UsageError):
        Shape(100, 50)
    with pytest.raises(UnknownName):
        GENERATORS["cluster"]
