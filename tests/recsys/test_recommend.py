"""Answers: JSON in, reasons out, nothing unsaid."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import make_encoded, make_knowledge, sides

from kb.errors import DataError, NotFound, UsageError
from recsys.answers.explain import draw, explain
from recsys.answers.patient import Patient, Visit, parse_patient, read_patient
from recsys.answers.recommend import WARNING, RecommenderService
from recsys.experiments.calibration import Platt
from recsys.experiments.checkpoint import Trained
from recsys.experiments.config import from_json
from recsys.experiments.decode import Decision, logit
from recsys.registry import RECOMMENDERS


@pytest.fixture(scope="module")
def trained() -> Trained:
    encoded = make_encoded()
    train, validation, _ = sides(encoded)
    config = from_json({"epochs": 12, "dim": 8, "batch": 8, "learning_rate": 0.02, "weight_decay": 0.01,
                        "code_dropout": 0.0})
    model = RECOMMENDERS["mkmed"](train.sizes, make_knowledge(encoded), config)
    model.fit(train, validation)
    vocabularies = {kind: encoded.vocabularies[kind].codes for kind in encoded.vocabularies}
    return Trained(model, vocabularies, Decision(0.3, 0.5), Platt(1.2, 0.1), {"run": "run-1", "task": "stay"})


@pytest.fixture(scope="module")
def service(trained: Trained) -> RecommenderService:
    return RecommenderService(trained)


def patient_of(trained: Trained, unknown: bool = False) -> Patient:
    names = trained.vocabularies
    first = Visit(names["diagnosis"][:4], names["procedure"][:2], names["medication"][:3])
    last = Visit((*names["diagnosis"][3:6], *(("ICD9CM:NOPE",) if unknown else ())), names["procedure"][1:3])
    return Patient((first, last))


def test_an_answer_equals_the_model_and_names_everything(service: RecommenderService, trained: Trained) -> None:
    patient = patient_of(trained, unknown=True)
    answer = service.recommend(patient)
    assert answer.warning == WARNING and answer.run == "run-1"
    assert answer.unknown == {"diagnosis": ["ICD9CM:NOPE"]}
    visits, _ = service.histories([patient])
    raw = trained.recommender.predict_proba(visits)[-1]
    said = {item.code: item for item in answer.recommended}
    above = {code for code, p in zip(trained.recommender.knowledge.medications, raw, strict=True) if p >= 0.3}
    assert set(said) | {item.code for item in answer.avoided} == above and said
    assert [i.probability for i in answer.recommended] == sorted((i.probability for i in answer.recommended), reverse=True)
    matrix, codes = trained.recommender.knowledge.interactions.matrix, trained.recommender.knowledge.medications
    for item in answer.recommended:
        row = codes.index(item.code)
        assert item.probability == pytest.approx(float(trained.platt.apply(raw[row])), abs=1e-6)
        assert item.accepted == tuple(c for c in sorted(said) if matrix[row, codes.index(c)])
        assert item.given_before == (item.code in trained.vocabularies["medication"][:3])
        assert bool(item.rests_on) == bool(trained.recommender.knowledge.known[row])
    assert all(item.because_of for item in answer.avoided)


def test_a_recommender_that_reads_no_vectors_rests_on_none(trained: Trained) -> None:
    def rests_on(name: str) -> set[tuple[str, ...]]:
        model = RECOMMENDERS[name](trained.recommender.sizes, trained.recommender.knowledge, from_json({"dim": 8}))
        other = RecommenderService(replace(trained, recommender=model))
        return set(other._modalities)

    assert rests_on("popularity") == rests_on("retain") == {()}
    assert rests_on("molerec") == {("molecule",), ()}
    assert max(len(names) for names in rests_on("mkmed")) > 2


def test_many_patients_at_once_get_the_same_answers(service: RecommenderService, trained: Trained) -> None:
    patients = [patient_of(trained), Patient((Visit(trained.vocabularies["diagnosis"][:1]),)), Patient((Visit(),))]
    together = service.recommend_many(patients)
    for patient, answer in zip(patients, together, strict=True):
        alone = service.recommend(patient)
        assert [i.code for i in alone.recommended] == [i.code for i in answer.recommended]
        np.testing.assert_allclose([i.probability for i in alone.recommended],
                                   [i.probability for i in answer.recommended], atol=1e-5)


def test_order_time_does_not_read_the_last_visit(trained: Trained) -> None:
    service = RecommenderService(replace(trained, meta={"task": "order-time"}))
    names = trained.vocabularies
    patient = patient_of(trained)
    other = Patient((patient.visits[0], Visit(names["diagnosis"][9:12], names["procedure"][5:7])))
    one, two = (service.probabilities(service.histories([p])[0]) for p in (patient, other))
    np.testing.assert_array_equal(one, two)


def test_code_shares_are_what_leaving_the_code_out_changes(service: RecommenderService, trained: Trained) -> None:
    patient = patient_of(trained, unknown=True)
    code = trained.vocabularies["medication"][5]
    explanation, = explain(service, patient, [code])
    places = {(item.visit, item.kind, item.code) for item in explanation.codes}
    assert len(places) == sum(len(getattr(v, k)) for v in patient.visits
                              for k in ("diagnosis", "procedure", "medication")) - 1
    strongest = explanation.codes[0]
    assert abs(strongest.change) == max(abs(item.change) for item in explanation.codes) > 0
    visits = list(patient.visits)
    changed = {strongest.kind: tuple(c for c in getattr(visits[strongest.visit - 1], strongest.kind)
                                     if c != strongest.code)}
    visits[strongest.visit - 1] = replace(visits[strongest.visit - 1], **changed)
    row = service.vocabularies["medication"].index(code)
    whole, without = (logit(service.probabilities(service.histories([p])[0]))[0, row]
                      for p in (patient, Patient(tuple(visits))))
    assert strongest.change == pytest.approx(whole - without, abs=1e-4)


def test_explaining_takes_one_thread_and_gives_the_others_back(service: RecommenderService, trained: Trained,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    plain = service.probabilities
    monkeypatch.setattr(service, "probabilities", lambda visits: (seen.append(torch.get_num_threads()), plain(visits))[1])
    torch.set_num_threads(2)
    try:
        explain(service, patient_of(trained))
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_modality_shares_are_zero_for_what_a_vector_does_not_rest_on(service: RecommenderService,
                                                                     trained: Trained) -> None:
    knowledge = trained.recommender.knowledge
    before = trained.recommender.network.drugs.vectors.clone()
    shares = explain(service, patient_of(trained), list(knowledge.medications))
    for row, explanation in enumerate(shares):
        assert set(explanation.modalities) == set(knowledge.modalities)
        for position, name in enumerate(knowledge.modalities):
            if not knowledge.rests_on[row, position]:
                assert explanation.modalities[name] == 0
    assert any(abs(change) > 1e-4 for e in shares for change in e.modalities.values())
    assert before.equal(trained.recommender.network.drugs.vectors)


def test_a_picture_and_fragments(service: RecommenderService, trained: Trained, tmp_path: Path) -> None:
    knowledge = trained.recommender.knowledge
    row = next(i for i, on in enumerate(knowledge.rests_on[:, 5]) if on and knowledge.smiles[i])
    change = knowledge.modality_vectors[5, row] * -1  # without the fragment nothing is left of the molecule's vector
    explanation, = explain(service, patient_of(trained), [knowledge.medications[row]],
                           lambda smiles: [("nothing", 0 * change[None]), (smiles[0], change[None])])
    (strongest, share), (name, none) = explanation.fragments
    assert (strongest, name) == (knowledge.smiles[row][0], "nothing")
    assert abs(share) > 1e-3 and none == pytest.approx(0, abs=1e-5)
    draw(explanation, tmp_path / "reasons.svg")
    text = (tmp_path / "reasons.svg").read_text()
    assert text.startswith("<?xml") and len(text) > 5000
    assert json.loads(json.dumps(explanation.as_json()))["warning"] == WARNING
    assert any("fragment" in row["because of"] for row in explanation.rows())


def test_an_unknown_medication_cannot_be_explained(service: RecommenderService, trained: Trained) -> None:
    with pytest.raises(NotFound, match="ATC:Z99Z"):
        explain(service, patient_of(trained), ["ATC:Z99Z"])


@pytest.mark.parametrize(("document", "said"), [
    ([], "list of visits"), ({"visits": []}, "list of visits"), ({"visits": [3]}, "visit 1"),
    ({"visits": [{"diagnosis": []}]}, "unknown fields"), ({"visits": [{"diagnoses": "401"}]}, "list of texts"),
    ({"visits": [{"diagnoses": [401]}]}, "list of texts"), ({"visits": [{"medications": ["ATC:N02B"]}]}, "already has"),
])
def test_a_wrong_request_says_what_is_wrong(document: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        parse_patient(document)


def test_visits_with_times_are_sorted_and_files_are_read(tmp_path: Path) -> None:
    document = {"visits": [{"time": "2020-02-01", "diagnoses": ["B"]},
                           {"time": "2019-01-01", "diagnoses": ["A"], "medications": ["M"]}]}
    path = tmp_path / "patient.json"
    path.write_text(json.dumps(document))
    assert [visit.diagnosis for visit in read_patient(path).visits] == [("A",), ("B",)]
    path.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_patient(path)
    with pytest.raises(UsageError, match="does not exist"):
        read_patient(tmp_path / "none.json")


class CountingEncoder:
    """Encodes a molecule as (carbons, other atoms), so that what a deletion takes away can be counted."""

    def smiles(self, texts: list[str]) -> np.ndarray:
        from rdkit import Chem

        atoms = [[atom.GetSymbol() == "C" for atom in Chem.MolFromSmiles(text).GetAtoms()] for text in texts]
        return np.array([[sum(carbon), len(carbon) - sum(carbon)] for carbon in atoms], np.float32)


def test_a_fragment_is_what_the_molecule_loses_without_it(tmp_path: Path) -> None:
    from kb.settings import Settings
    from recsys.answers.fragments import fragment_changes, fragment_reader

    found = dict(fragment_changes(CountingEncoder(), ["CC(=O)Oc1ccccc1C(=O)O", "CC", "no molecule"]))
    assert found and all(change.shape == (3, 2) and (change <= 0).all() for change in found.values())
    lost = sum(change for change in found.values())
    assert lost[0].sum() == -13 and not lost[1:].any()  # all of aspirin's atoms; ethane is one piece
    assert fragment_reader(Settings(home=tmp_path), "0f1e2d3c-0000-4000-8000-000000000000") is None
