"""What the graph says a medication is given for: the nearest disease of each diagnosis, and its way into an answer."""

from __future__ import annotations

import numpy as np
from small_cohort import make_cohort, make_knowledge, sides

from recsys.answers.patient import Patient, Visit
from recsys.answers.recommend import NO_INDICATION, RecommenderService
from recsys.cohorts.cohort import KINDS, Cohort, Ragged, Vocabulary, encode
from recsys.cohorts.tasks import patient_split
from recsys.experiments.calibration import Platt
from recsys.experiments.checkpoint import Trained, load_recommender, save_recommender
from recsys.experiments.config import from_json
from recsys.experiments.decode import Decision
from recsys.knowledge.evidence import codes_below
from recsys.knowledge.indications import Indications, KnownIndication, Statement, nearest_diseases
from recsys.registry import RECOMMENDERS

HEART, LUNG, SKIN = np.eye(3, dtype=np.float32)


def found() -> Indications:
    near = (0.8 * HEART + 0.6 * SKIN).astype(np.float32)
    return nearest_diseases(
        ("ICD10CM:I50", "ICD10CM:J45", "ICD10CM:Z00"), np.stack([near, LUNG, np.zeros(3, np.float32)]),
        ("heart failure", "asthma"), np.stack([HEART, LUNG]),
        [Statement(1, "heart failure", ("CtD", "DrugCentral")), Statement(2, "asthma"), Statement(2, "heart failure")],
        ("ATC:C03C", "ATC:R03A", "ATC:X99X"), [(1, 2), (2,), (3,)], {1: "furosemide", 2: "salbutamol", 3: "water"}, {})


def test_the_nearest_disease_of_each_diagnosis_is_kept_with_its_drug() -> None:
    indications = found()
    assert indications.treating == {"ATC:C03C", "ATC:R03A"}
    near = indications.nearest("ATC:C03C", {"ICD10CM:I50", "ICD10CM:Z00"})
    assert near is not None and (near.drug, near.disease) == ("furosemide", "heart failure")
    assert near.sources == "CtD; DrugCentral"
    assert abs(near.likeness - 0.8) < 1e-6
    assert indications.nearest("ATC:R03A", {"ICD10CM:J45", "ICD10CM:I50"}).disease == "asthma"  # type: ignore[union-attr]
    assert indications.nearest("ATC:R03A", {"ICD10CM:Z00"}) is None
    assert not any(one.medication == "ATC:X99X" for one in indications.found)


def test_a_stated_code_reaches_the_codes_below_it_of_both_revisions_and_no_sibling() -> None:
    codes = ("ICD10CM:I509", "ICD9CM:4280", "ICD10CM:I10", "ICD10CM:I50", "EICU:cardiovascular|chf")
    below = codes_below(codes, {"I50"})
    assert below == {"I50": [0, 1, 3]}
    told = nearest_diseases(codes, np.zeros((5, 3), np.float32), ("failing heart",), HEART[None],
                            [Statement(1, "failing heart", ("DrugCentral",), ("I50",))], ("ATC:C03C",), [(1,)],
                            {1: "furosemide"}, below)
    assert {one.problem: (one.likeness, one.sources) for one in told.found} == dict.fromkeys(
        ("ICD10CM:I509", "ICD9CM:4280", "ICD10CM:I50"), (1.0, "DrugCentral"))


def test_only_what_a_model_may_name_is_stored_and_it_comes_back() -> None:
    kept = found().among(("ICD10CM:J45",), ("ATC:R03A",))
    assert [one.problem for one in kept.found] == ["ICD10CM:J45"] and kept.treating == {"ATC:R03A"}
    assert "I50" not in str(kept.as_json())
    again = Indications.from_json(kept.as_json())
    assert again == kept
    assert again.treating == kept.treating and again.nearest("ATC:R03A", {"ICD10CM:J45"}) is not None


def test_a_code_that_no_training_patient_had_is_read_as_the_nearest_of_its_category_and_the_answer_says_so() -> None:
    codes = ("EICU:pulmonary|asthma|mild", "ICD10CM:E119", "ICD10CM:I5022", "ICD10CM:I509")
    diagnosis = Ragged.from_lists([[0, 2], [1], [2, 3], [0, 3]] * 15)
    medication = Ragged.from_lists([[0], [1], [0, 1], [1]] * 15)
    procedure = Ragged.from_lists([[0]] * 60)
    cohort = Cohort("codes", np.arange(60, dtype=np.int32), np.arange(60, dtype=np.int64),
                    {"diagnosis": diagnosis, "procedure": procedure, "medication": medication},
                    {"diagnosis": Vocabulary(codes), "procedure": Vocabulary(("ICD9PROC:0040",)),
                     "medication": Vocabulary(("ATC:A10B", "ATC:C03C"))})
    encoded = encode(cohort, patient_split(cohort, 0))
    train, validation, _ = sides(encoded)
    model = RECOMMENDERS["popularity"](train.sizes, make_knowledge(encoded), from_json({"recommender": "popularity"}))
    model.fit(train, validation)
    names = {kind: encoded.vocabularies[kind].codes for kind in KINDS}
    service = RecommenderService(Trained(model, names, Decision(0.0), Platt(), {"task": "stay"}))
    asked = {"I5023": ("ICD10CM:I5023", "ICD10CM:I5022"), "ICD9": ("ICD9CM:25000", "ICD10CM:E119"),
             "path": ("EICU:pulmonary|asthma|severe", "EICU:pulmonary|asthma|mild")}
    answer = service.recommend(Patient((Visit(diagnosis=tuple(code for code, _ in asked.values())),)))
    assert dict(answer.coverage.read_as) == dict(asked.values()) and not answer.coverage.not_understood
    assert answer.coverage.understood == 3 and answer.as_json()["coverage"]["read_as"] == dict(asked.values())
    others = ("ICD10CM:I10", "ICD10CM:I5099", "EICU:pulmonary|embolism")
    refused = service.recommend(Patient((Visit(diagnosis=others),)))
    assert refused.refused and refused.coverage.not_understood == {"diagnosis": list(others)} and not refused.coverage.read_as


def test_an_answer_says_what_a_medication_is_for_or_that_nothing_is_known(tmp_path: object) -> None:
    cohort = make_cohort(patients=60)
    encoded = encode(cohort, patient_split(cohort, 0))
    train, validation, _ = sides(encoded)
    model = RECOMMENDERS["popularity"](train.sizes, make_knowledge(encoded), from_json({"recommender": "popularity"}))
    model.fit(train, validation)
    names = {kind: encoded.vocabularies[kind].codes for kind in KINDS}
    first, second = np.argsort(-model.predict_proba(train)[0])[:2].tolist()
    medications, problem = names["medication"], names["diagnosis"][0]
    known = Indications((KnownIndication(medications[first], problem, "a drug", "a disease", 0.9),),
                        frozenset((medications[first], medications[second])))
    path = tmp_path / "best.pt"  # type: ignore[operator]
    save_recommender(path, Trained(model, names, Decision(0.0), Platt(), {"task": "stay",
                                                                          "indications": known.as_json(),
                                                                          "sets": [[0.9, 0.0], [0.8, 2.0]]}))
    service = RecommenderService(load_recommender(path))
    answer = service.recommend(Patient((Visit(diagnosis=(problem,)),)))
    paths = {one.code: one.path for one in answer.indications}
    assert paths == {medications[first]: f"a drug treats a disease, as {problem} (), 0.90",
                     medications[second]: NO_INDICATION}
    without = service.recommend(Patient((Visit(diagnosis=(names["diagnosis"][1],)),)))
    assert {one.path for one in without.indications} == {NO_INDICATION}
    assert [len(one.codes) for one in answer.sets] == [len(medications), 0]
    assert answer.sets[0].codes[0] == medications[first]
    told = answer.as_json()
    assert told["indications"][0]["path"] and told["sets"][0]["coverage"] == 0.9
