"""Generator C: the dial, its truth, and that a study on it finds what is planted and nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_cohort import make_encoded, make_knowledge, sides
from sqlalchemy import Engine

from kb.errors import DataError, UsageError
from kb.settings import load_settings
from recsys.cohorts.cohort import encode
from recsys.cohorts.files import load_cohort
from recsys.cohorts.tasks import patient_split
from recsys.experiments.config import from_json
from recsys.experiments.crossed import gather_units, recovered
from recsys.experiments.dial import cohort_name, dial_study, make_cohort
from recsys.experiments.metrics import average_precision
from recsys.experiments.studies import StudyJob, altered, stored_truth
from recsys.generators.population import Shape
from recsys.generators.prescribing import Dials, PrescribingFacts, generate, make_world, read_facts, truth
from recsys.knowledge.codes import codes_of
from recsys.knowledge.evidence import STATED, CodeEvidence
from recsys.knowledge.table import no_knowledge
from recsys.orders.interactions import Interactions
from recsys.recommenders.pairs import Pairs

SMALL = Shape(300, 720, 8, 64, 80, 60)


def planted(seed: int = 0, diseases: int = 40, drugs: int = 60) -> PrescribingFacts:
    """Facts with real codes: each disease has three codes and three to five drugs, of which neighbours share a target."""
    rng = np.random.default_rng(seed)
    codes = [f"ICD10CM:{code}" for code in codes_of("ICD10CM")[:3 * diseases]]
    family = np.kron(np.eye(diseases, dtype=bool), np.ones(3, bool))
    indicated = rng.random((diseases, drugs)) < 0.07
    indicated[np.arange(diseases), rng.integers(drugs, size=diseases)] = True
    against = (rng.random((diseases, drugs)) < 0.02) & ~indicated
    shared = np.abs(np.subtract.outer(np.arange(drugs), np.arange(drugs))) == 1
    return PrescribingFacts(tuple(f"DRUG:{k:03d}" for k in range(drugs)), tuple(codes), family, indicated, against, shared)


def lift(follows: float, facts: PrescribingFacts) -> float:
    """How much oftener a drug is given where a code of a disease that it is stated for is present, than elsewhere, beyond
    what the statements about other drugs have of it (sicker patients get more of everything)."""
    made = generate(shape=SMALL, follows=follows, facts=facts)
    has = made.codes["diagnosis"].dense(len(facts.diagnoses)) > 0
    given = made.codes["medication"].dense(len(facts.medications)) > 0
    beyond = given - given.mean(0)

    def by(indicated: np.ndarray) -> float:
        return float(beyond[(has @ facts.family.T @ indicated) > 0].mean())

    others = [by(np.roll(facts.indicated, shift, axis=1)) for shift in range(2, 50)]
    return by(facts.indicated) - float(np.mean(others))


def test_prescribing_follows_what_is_known_as_far_as_the_dial_says() -> None:
    facts = planted()
    none, half, full = (lift(follows, facts) for follows in (0.0, 0.5, 1.0))
    assert abs(none) < 0.015 < half < full and full > 0.08


def test_the_dial_rewires_links_and_keeps_their_number() -> None:
    facts = planted()
    worlds = {follows: make_world(3, facts, follows, Dials(), 80) for follows in (0.0, 1.0)}
    assert np.array_equal(worlds[1.0].treats, facts.indicated) and np.array_equal(worlds[1.0].codes, facts.family)
    assert np.array_equal(worlds[1.0].avoids, facts.contraindicated)
    assert worlds[0.0].treats.sum() == facts.indicated.sum() and worlds[0.0].codes.sum() == facts.family.sum()
    overlap = (worlds[0.0].treats & facts.indicated).sum() / facts.indicated.sum()
    assert overlap < 0.25
    assert np.array_equal(worlds[0.0].prevalence, worlds[1.0].prevalence)


def test_a_contraindication_keeps_a_drug_away_and_the_truth_says_so() -> None:
    facts = planted()
    facts = replace(facts, contraindicated=np.zeros_like(facts.contraindicated))
    facts.contraindicated[0] = ~facts.indicated[0]
    world = make_world(3, facts, 1.0, Dials(), 80)
    table = truth(world)
    code = int(np.flatnonzero(facts.family[0])[0])
    assert (table[code, facts.contraindicated[0]] < 0).all() and (table[code, facts.indicated[0]] > 0).all()
    made = generate(shape=SMALL, seed=3, facts=facts, dials=Dials(background=0.0, carry=0.0, noise=0.0))
    sick = made.codes["diagnosis"].dense(len(facts.diagnoses))[:, facts.family[0]].any(1)
    given = made.codes["medication"].dense(len(facts.medications))
    assert sick.sum() > 5
    assert given[sick][:, facts.contraindicated[0]].mean() < 0.5 * given[~sick][:, facts.contraindicated[0]].mean()


def test_the_same_seed_gives_the_same_cohort_with_hospitals() -> None:
    facts = planted()
    first, again = (generate(shape=SMALL, seed=5, facts=facts) for _ in range(2))
    assert first.fingerprint == again.fingerprint and first.patients == 300
    assert len(first.attributes["hospital"].levels) == Dials().hospitals
    of = first.attributes["hospital"].values
    assert all(len(set(of[first.visit_patient == p])) == 1 for p in range(0, 300, 30))
    with pytest.raises(UsageError, match="λ cannot be"):
        generate(shape=SMALL, follows=1.5, facts=facts)


def test_an_empty_knowledge_base_cannot_be_followed(database: Engine) -> None:
    with database.connect() as connection, pytest.raises(DataError, match="40 are needed"):
        read_facts(connection)


def test_the_oracle_of_a_dial_is_the_generators_links(database_environment: Engine) -> None:
    settings, facts = load_settings(), planted()
    name = make_cohort(1.0, 200, facts, settings)
    assert name == cohort_name(1.0, 200) and make_cohort(1.0, 200, facts, settings) == name
    assert load_cohort(name, settings).patients == 200
    kept = stored_truth(name, settings)
    assert kept is not None and stored_truth("another", settings) is None
    known = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    evidence = CodeEvidence((facts.diagnoses[5], "ICD10CM:none"), known, np.zeros((2, 2), np.float32))
    table = kept.beside(evidence, [facts.medications[1], "DRUG:none", facts.medications[0]])
    expected = truth(make_world(13, facts, 1.0, Dials(), 300))
    assert np.array_equal(table[:3], known[:3])
    assert np.allclose(table[3][0, [0, 2]], STATED * expected[5, [1, 0]])
    assert not table[3, 1].any() and not table[3, :, 1].any()
    study = dial_study(1.0, 200, ("50",), range(2), {})
    oracle = next(arm for arm in study.arms if arm.name == "oracle")
    with pytest.raises(DataError, match="the evidence that it replaces"):
        encoded = make_encoded()
        altered(make_knowledge(encoded), StudyJob("50", 0, oracle), encoded, truth=kept)


def test_a_share_of_the_oracles_gain_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(50)

    def arm(gain: float) -> object:
        noise = 0.02 * rng.standard_normal(50)
        return gather_units([(np.arange(50), (base + gain + noise)[:, None], np.ones(50))] * 3, 50)

    share, low, high = recovered(arm(0.08), arm(0.0), arm(0.1), 0)  # type: ignore[arg-type]
    assert 0.7 < low < share < high < 0.95
    _, low, high = recovered(arm(0.01), arm(0.0), arm(0.0), 0)  # type: ignore[arg-type]
    assert low < -1 or high > 1


def prauc(made: object, tables: np.ndarray | None) -> float:
    """The mean average precision of the pair model on test patients, from these tables of evidence or from none."""
    encoded = encode(made, patient_split(made, 0))  # type: ignore[arg-type]
    train, validation, test = sides(encoded)
    codes = (*encoded.vocabularies["diagnosis"].codes, *encoded.vocabularies["procedure"].codes)
    evidence = None
    if tables is not None:
        place = {code: row for row, code in enumerate(encoded.cohort.vocabularies["diagnosis"].codes)}
        columns = [encoded.cohort.vocabularies["medication"].index(code) for code in encoded.vocabularies["medication"].codes]
        rows = np.stack([tables[place[code]] if code in place else np.zeros(tables.shape[1]) for code in codes])
        evidence = CodeEvidence(codes, np.stack([STATED * rows[:, columns]] * 2).astype(np.float32), np.zeros((len(codes), 2), np.float32))
    knowledge = replace(no_knowledge(encoded.vocabularies["medication"].codes, Interactions(np.zeros((len(encoded.vocabularies["medication"]),) * 2, bool), "none")),
                        evidence=evidence)
    model = Pairs(train.sizes, knowledge, from_json({"recommender": "pairs", "titles": "off"}))
    model.fit(train, validation)
    scored = np.flatnonzero(test.scored)
    return float(average_precision(model.predict_proba(test)[scored], test.target(scored).astype(np.float32)).mean())


def test_what_is_known_gains_what_an_oracle_gains_at_one_and_nothing_at_zero() -> None:
    facts = planted()
    known = (facts.family / facts.family.sum(0)).T @ facts.indicated
    for follows in (0.0, 1.0):
        made = generate(shape=SMALL, follows=follows, facts=facts)
        null, ours, oracle = (prauc(made, tables) for tables in (None, known, truth(make_world(13, facts, follows, Dials(), 80))))
        assert oracle > null + 0.03
        share = (ours - null) / (oracle - null)
        assert share > 0.8 if follows else abs(share) < 0.2
