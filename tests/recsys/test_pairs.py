"""The pair model: its closed forms against dense algebra, what knowledge does to a drug nobody was given, and the arms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from small_cohort import make_cohort, make_encoded, make_knowledge, sides

from recsys.cohorts.batches import Histories
from recsys.cohorts.cohort import Ragged, encode
from recsys.cohorts.tasks import patient_split
from recsys.experiments.config import from_json
from recsys.knowledge.evidence import CodeEvidence, standardised_table, unit_rows
from recsys.knowledge.table import Knowledge, with_shuffled_medications
from recsys.recommenders import pairs
from recsys.recommenders.pairs import Pairs, eigen, ridge_logistic, strongest_and_total


def planted(encoded: object, strength: float = 1.5, seed: int = 0) -> CodeEvidence:
    """Evidence that is mostly what the cohort does: the log-odds ratio of code and medication, and noise."""
    rng = np.random.default_rng(seed)
    codes = [encoded.codes[k].dense(len(encoded.vocabularies[k])) for k in ("diagnosis", "procedure")]  # type: ignore[attr-defined]
    has = np.hstack(codes)
    given = encoded.codes["medication"].dense(len(encoded.vocabularies["medication"]))  # type: ignore[attr-defined]
    together = (has - has.mean(0)).T @ (given - given.mean(0)) / len(has)
    table = standardised_table(together.astype(np.float32), np.ones(has.shape[1], bool), np.ones(given.shape[1], bool))
    noise = rng.standard_normal((3, *table.shape)).astype(np.float32)
    names = tuple(name for k in ("diagnosis", "procedure") for name in encoded.vocabularies[k].codes)  # type: ignore[attr-defined]
    return CodeEvidence(names, strength * table + noise, unit_rows(rng.standard_normal((has.shape[1], 8))))


def without(visits: Histories, medication: int) -> Histories:
    """The histories as if nobody had been given one medication."""
    keep = visits.medication.values != medication
    rows = visits.medication.rows()[keep]
    kept = Ragged.from_pairs(rows, visits.medication.values[keep], len(visits.medication))
    return replace(visits, medication=kept)


def fitted(knowledge: Knowledge, train: Histories, validation: Histories, **settings: object) -> Pairs:
    model = Pairs(train.sizes, knowledge, from_json({"recommender": "pairs", **settings}))
    model.fit(train, validation)
    return model


def test_strongest_and_total_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    codes = Ragged.from_lists([[0, 3], [], [2], [1, 2, 4], []])
    table = rng.standard_normal((5, 7)).astype(np.float32)
    strongest, total = strongest_and_total(codes, table)
    for row in range(5):
        chosen = table[codes.row(row)]
        assert np.allclose(strongest[row], chosen.max(0) if len(chosen) else 0)
        assert np.allclose(total[row], np.log1p(np.maximum(chosen, 0).sum(0)), atol=1e-6)


def test_shared_coefficients_are_at_the_minimum() -> None:
    rng = np.random.default_rng(1)
    z, offset = rng.standard_normal((3, 400)).astype(np.float32), rng.standard_normal(400).astype(np.float32)
    target = (rng.random(400) < expit(offset + np.array([1.0, -0.5, 0.0]) @ z)).astype(np.float32)
    gamma = ridge_logistic(z, offset, target, 1.0)
    slope = z @ (target - expit(offset + gamma @ z)) - gamma
    assert np.abs(slope).max() < 1e-2 < np.abs(z @ (target - expit(offset))).max()


def test_process_is_the_posterior_mean_of_dense_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = make_encoded(patients=30)
    knowledge = replace(make_knowledge(encoded), evidence=planted(encoded))
    train, validation, _ = sides(encoded)
    for name, value in {"TITLE_WEIGHTS": (1.0,), "NOISES": (0.3,), "DRUG_WEIGHTS": (0.0, 0.4), "DRUG_WIDTHS": (0.5,)}.items():
        monkeypatch.setattr(pairs, name, value)
    monkeypatch.setattr(pairs, "drug_settings", lambda known: [(0.4, 0.5)])
    model = fitted(knowledge, train, validation)
    rows, held = np.flatnonzero(train.scored), np.flatnonzero(validation.scored)
    guess = expit(model._shared(train, rows)).astype(np.float64)
    given = train.target(rows).sum(0) > 0
    weight = np.sqrt((guess * (1 - guess)).mean(0))
    codes, history = (part.toarray().astype(np.float64) for part in model.inputs(train, rows))
    held_codes, held_history = (part.toarray().astype(np.float64) for part in model.inputs(validation, held))
    mix = (np.eye(codes.shape[1]) + model._title_kernel().astype(np.float64)) / 2  # type: ignore[union-attr]
    visits = codes @ mix @ codes.T + history @ history.T
    size = np.trace(visits) / len(visits)
    kernel = pairs.drug_kernel(model._centred_vectors(given), 0.4, 0.5, len(given))
    inner = weight[given, None] * kernel[np.ix_(given, given)] * weight[given]
    trace = np.trace(inner) / given.sum()
    joint = np.kron(visits / size, inner / trace)
    scaled = ((train.target(rows) - guess)[:, given] / weight[given]).ravel()
    alpha = np.linalg.solve(joint + 0.3 * np.eye(len(joint)), scaled).reshape(len(rows), -1)
    cross = (held_codes @ mix @ codes.T + held_history @ history.T) / size
    expected = cross @ alpha @ (weight[given, None] * kernel[given]) / trace
    found = held_codes @ model.by_code + held_history @ model.by_history
    assert np.allclose(found, expected, atol=1e-3) and np.abs(expected).max() > 0.05


def test_landmarks_span_the_kernel_when_they_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    codes = sparse.csr_matrix((rng.random((200, 12)) < 0.3).astype(np.float32))
    history = sparse.csr_matrix(np.zeros((200, 1), np.float32))
    values, vectors, size = eigen(codes, codes, history, 0)
    monkeypatch.setattr(pairs, "LANDMARKS", 60)
    fewer, spanned, again = eigen(codes, codes, history, 0)
    whole = (vectors * values) @ vectors.T
    assert size == pytest.approx(again) and np.allclose((spanned * fewer) @ spanned.T, whole, atol=1e-3)


def ranking(score: np.ndarray, truth: np.ndarray) -> float:
    """The share of (given, not given) visit pairs in the right order."""
    return float((score[truth > 0][:, None] > score[truth == 0][None, :]).mean())


@pytest.mark.slow
def test_a_medication_nobody_was_given_is_ranked_by_knowledge_and_not_by_shuffled_knowledge() -> None:
    encoded = make_encoded(patients=150, rates=(5, 2, 5))
    knowledge = replace(make_knowledge(encoded, unknown=0), evidence=planted(encoded))
    train, validation, test = sides(encoded)
    popular = np.argsort(-train.target().sum(0))[:5]
    found, control = [], []
    for hidden in popular.tolist():
        arms = (knowledge, with_shuffled_medications(knowledge, 5))
        models = [fitted(arm, without(train, hidden), without(validation, hidden)) for arm in arms]
        truth = test.target()[:, hidden]
        scores = [model.predict_proba(without(test, hidden))[:, hidden] for model in models]
        found.append(ranking(scores[0], truth))
        control.append(ranking(scores[1], truth))
    assert np.mean(found) > 0.65 > np.mean(control) + 0.05


def closed(visits: Histories, medications: np.ndarray, until: int = 0) -> Histories:
    """The histories as if these medications could be ordered at the first ``until`` visits only."""
    available = np.ones((visits.visits, visits.sizes.medication), bool)
    available[until:, medications] = False
    rows, values = visits.medication.rows(), visits.medication.values
    keep = available[rows, values]
    return replace(visits, medication=Ragged.from_pairs(rows[keep], values[keep], visits.visits), available=available)


@pytest.mark.slow
def test_a_medication_that_could_not_be_ordered_is_ranked_and_its_visits_teach() -> None:
    encoded = make_encoded(patients=400, rates=(5, 2, 6))
    knowledge = replace(make_knowledge(encoded, unknown=0), evidence=planted(encoded, strength=0.4))
    train, validation, test = sides(encoded)
    hidden = np.argsort(-train.frequency)[1:5]
    found = {}
    for until in (0, 120, train.visits - 1):
        model = fitted(knowledge, closed(train, hidden, until), closed(validation, hidden))
        assert model.unseen is not None and model.unseen.columns.tolist() == sorted(hidden)
        score = model.predict_proba(closed(test, hidden))
        found[until] = np.mean([ranking(score[:, k], test.target()[:, k]) for k in hidden])
        assert (score[:, hidden].mean(0) > 0.05).all()  # a rate that nobody could be given says nothing
    assert found[0] > 0.55 and found[train.visits - 1] > found[0] + 0.01 and found[120] > found[0] - 0.02


def test_the_kinds_of_evidence_sum_to_the_log_odds() -> None:
    encoded = make_encoded(patients=80)
    train, validation, test = sides(encoded)
    model = fitted(replace(make_knowledge(encoded), evidence=planted(encoded)), train, validation)
    row = int(test.starts[2]) - 1
    parts = model.parts(test, row)
    assert {"given before", "evidence: treats", "patients with like codes"} <= set(parts)
    assert np.allclose(expit(model.bias + sum(parts.values())), model.predict_proba(test)[row], atol=1e-5)
    assert all(np.abs(added).max() > 0 for added in parts.values())


def test_what_is_known_of_unseen_medications_is_stored() -> None:
    encoded = make_encoded(patients=150, rates=(5, 2, 6))
    knowledge = replace(make_knowledge(encoded, unknown=0), evidence=planted(encoded))
    train, validation, test = sides(encoded)
    hidden = np.argsort(-train.frequency)[1:3]
    model = fitted(knowledge, closed(train, hidden, 30), closed(validation, hidden))
    again = Pairs(train.sizes, knowledge, model.config)
    again.restore({name: tensor.copy() for name, tensor in model.tensors().items()})
    assert np.allclose(again.predict_proba(test), model.predict_proba(test), atol=2e-3)


def test_titles_off_and_vectors_learned_know_nothing_of_codes_and_drugs() -> None:
    encoded = make_encoded()
    train, validation, _ = sides(encoded)
    bare = replace(make_knowledge(encoded), known=np.zeros(train.sizes.medication, bool), evidence=None)
    model = fitted(bare, train, validation, titles="off")
    assert len(model.gamma) == 6 and model.chosen["drugs"] == 0.0 and model.chosen["titles"] == 0.0


def test_shuffled_titles_stay_within_their_system() -> None:
    codes = ("ICD9CM:1", "ICD9CM:2", "ICD9CM:3", "EICU:a", "EICU:b")
    tables = np.arange(15, dtype=np.float32).reshape(1, 5, 3).repeat(3, 0)
    moved = CodeEvidence(codes, tables, np.eye(5, dtype=np.float32)).shuffled_titles(3)
    assert set(map(tuple, moved.tables[0, :3])) == set(map(tuple, tables[0, :3]))
    assert not np.array_equal(moved.tables, tables)


def test_what_is_stored_has_no_code_of_other_than_training_patients() -> None:
    cohort = make_cohort(patients=24, sizes=(300, 150, 16))
    encoded = encode(cohort, patient_split(cohort, 0), unseen=("diagnosis", "procedure"))
    knowledge = replace(make_knowledge(encoded), evidence=planted(encoded))
    train, validation, _ = sides(encoded)
    model = fitted(knowledge, train, validation, least_patients=1)
    names = {kind: vocabulary.codes for kind, vocabulary in encoded.vocabularies.items()}
    before = model.predict_proba(train)
    kept = model.forget_unseen_codes(dict(names))
    trained_on = encode(cohort, patient_split(cohort, 0)).vocabularies
    assert all(kept[kind] == trained_on[kind].codes for kind in ("diagnosis", "procedure", "medication"))
    assert len(kept["diagnosis"]) + len(kept["procedure"]) < len(names["diagnosis"]) + len(names["procedure"])
    again = sides(encode(cohort, patient_split(cohort, 0)))[0]
    assert np.allclose(model.predict_proba(again), before, atol=1e-5)


def test_codes_of_few_patients_are_not_stored() -> None:
    cohort = make_cohort(patients=24, sizes=(300, 150, 16))
    encoded = encode(cohort, patient_split(cohort, 0), unseen=("diagnosis", "procedure"))
    train, validation, _ = sides(encoded)
    model = fitted(replace(make_knowledge(encoded), evidence=planted(encoded)), train, validation)
    kept = model.forget_unseen_codes({kind: words.codes for kind, words in encoded.vocabularies.items()})
    often = encode(cohort, patient_split(cohort, 0), least=5).vocabularies
    assert 0 < len(kept["diagnosis"]) < len(encoded.vocabularies["diagnosis"].codes)
    assert kept["diagnosis"] == often["diagnosis"].codes and kept["procedure"] == often["procedure"].codes
    assert model.by_code.shape == (len(kept["diagnosis"]) + len(kept["procedure"]), train.sizes.medication)
