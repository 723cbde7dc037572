"""The contract that every registered recommender keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import make_encoded, make_knowledge, sides

from kb.errors import CheckpointError, TrainingDiverged
from recsys.cohorts.batches import Histories
from recsys.cohorts.cohort import Ragged
from recsys.experiments.calibration import Platt
from recsys.experiments.checkpoint import Trained, load_recommender, save_recommender
from recsys.experiments.config import from_json
from recsys.experiments.decode import Decision, tune_threshold
from recsys.recommenders.contract import Recommender
from recsys.recommenders.network import NeuralRecommender
from recsys.recommenders.predict import predict
from recsys.registry import RECOMMENDERS

NAMES = [*RECOMMENDERS, "mkmed-reference", "mkmed-unfrozen"]
BLIND = {"popularity"}
"""Recommenders that do not look at the patient, and so cannot overfit."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make(name: str, **settings: object) -> tuple[Recommender, Histories, Histories, Histories]:
    plain, _, variant = name.partition("-")
    if variant:
        settings |= {"mode": "reference"} if variant == "reference" else {"frozen": False}
    encoded = make_encoded()
    config = from_json({"recommender": plain, "epochs": 2, "batch": 16, "dim": 8, "l2": 1e-3, **settings})
    train, validation, test = sides(encoded)
    return RECOMMENDERS[plain](train.sizes, make_knowledge(encoded), config), train, validation, test


def few(visits: Histories, patients: int) -> Histories:
    """The first patients of the histories."""
    rows = np.arange(visits.starts[patients])
    parts = {kind: getattr(visits, kind).take(rows) for kind in ("diagnosis", "procedure", "medication")}
    return Histories(visits.starts[:patients + 1], **parts, sizes=visits.sizes, scored=visits.scored[rows],
                     unseen=visits.unseen[rows])


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_have_the_shape_and_are_probabilities(name: str) -> None:
    model, train, validation, test = make(name)
    model.fit(train, validation)
    p = model.predict_proba(test)
    assert p.shape == (test.visits, test.sizes.medication) and p.dtype == np.float32
    assert np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BLIND and n != "repeat_last"])
def test_it_overfits_eight_patients(name: str) -> None:
    model, train, _, _ = make(name, epochs=250, learning_rate=0.02, dim=16, dropout=0.0, code_dropout=0.0,
                              weight_decay=0.0, ddi_target=0.0, batch=8, l2=1e-5)
    eight = few(train, 8)
    model.fit(eight, eight)
    _, jaccard = tune_threshold(model.predict_proba(eight), eight.target())
    assert jaccard > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_it_is_deterministic_and_equal_after_save_and_load(name: str, tmp_path: Path) -> None:
    first, train, validation, test = make(name)
    first.fit(train, validation)
    expected = first.predict_proba(test)
    second, *_ = make(name)
    second.fit(train, validation)
    np.testing.assert_array_equal(second.predict_proba(test), expected)
    trained = Trained(first, {"medication": first.knowledge.medications}, Decision(0.4, 0.3), Platt(1.1, -0.2),
                      {"run": "r"})
    save_recommender(tmp_path / "best.pt", trained)
    loaded = load_recommender(tmp_path / "best.pt")
    np.testing.assert_array_equal(loaded.recommender.predict_proba(test), expected)
    assert loaded.decision == trained.decision and loaded.platt == trained.platt and loaded.meta == {"run": "r"}
    assert loaded.recommender.knowledge.interactions.version == first.knowledge.interactions.version


@pytest.mark.parametrize("name", NAMES)
def test_batching_and_company_change_no_result(name: str) -> None:
    model, train, validation, test = make(name)
    model.fit(train, validation)
    whole = model.predict_proba(test)
    for patient in (0, test.patients - 1):
        rows = np.arange(test.starts[patient], test.starts[patient + 1])
        parts = {kind: getattr(test, kind).take(rows) for kind in ("diagnosis", "procedure", "medication")}
        alone = Histories(np.array([0, len(rows)]), **parts, sizes=test.sizes, scored=test.scored[rows],
                          unseen=test.unseen[rows])
        np.testing.assert_allclose(model.predict_proba(alone), whole[rows], atol=2e-6)
    if isinstance(model, NeuralRecommender):
        np.testing.assert_allclose(predict(model.network, test, batch=3), whole, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_current_medications_are_never_an_input(name: str) -> None:
    model, train, validation, test = make(name)
    model.fit(train, validation)
    last = np.zeros(test.visits, bool)
    last[test.starts[1:] - 1] = True
    lists = [[0] if last[v] else test.medication.row(v).tolist() for v in range(test.visits)]
    other = Histories(test.starts, test.diagnosis, test.procedure, Ragged.from_lists(lists), test.sizes, test.scored,
                      test.unseen)
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(test))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("popularity", "repeat_last")])
def test_a_visit_without_any_code_has_an_answer(name: str) -> None:
    model, train, validation, _ = make(name)
    model.fit(train, validation)
    none = Ragged.from_lists([[], []])
    bare = Histories(np.array([0, 2]), none, none, none, train.sizes, np.ones(2, bool), np.zeros(2, np.int64))
    assert np.isfinite(model.predict_proba(bare)).all()


@pytest.mark.parametrize("name", ["mkmed", "mkmed-reference", "armr"])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole, train, validation, test = make(name, epochs=4)
    whole.fit(train, validation)

    class Stopped(Exception):
        pass

    def stop(row: dict) -> None:
        if row["epoch"] == 2:
            raise Stopped

    cut, *_ = make(name, epochs=4)
    with pytest.raises(Stopped):
        cut.fit(train, validation, folder=tmp_path, log=stop)
    resumed, *_ = make(name, epochs=4, seed=0)
    rows: list[dict] = []
    resumed.fit(train, validation, folder=tmp_path, resume=True, log=rows.append)
    assert [row["epoch"] for row in rows] == [2, 3, 4]  # the second was told of, and stopped before its checkpoint
    np.testing.assert_array_equal(resumed.predict_proba(test), whole.predict_proba(test))


def test_training_stops_on_a_loss_that_is_not_finite() -> None:
    model, train, validation, _ = make("mkmed")
    with torch.no_grad():
        model.network.bias[0] = float("nan")
    with pytest.raises(TrainingDiverged):
        model.fit(train, validation)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    model, train, validation, _ = make("popularity")
    model.fit(train, validation)
    save_recommender(tmp_path / "best.pt", Trained(model, {}, Decision(0.4), Platt()))
    data = bytearray((tmp_path / "best.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "best.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        load_recommender(tmp_path / "best.pt")


def test_frozen_vectors_stay_and_unfrozen_ones_learn() -> None:
    for name, moves in (("mkmed", False), ("mkmed-unfrozen", True)):
        model, train, validation, _ = make(name)
        before = model.network.drugs.vectors.detach().clone()
        model.fit(train, validation)
        assert torch.equal(before, model.network.drugs.vectors) is not moves
        assert isinstance(model.network.drugs.learned, torch.nn.Parameter)
        assert len(model.network.drugs.learned) == (~model.knowledge.known).sum()


