"""Alerts: interactions of what is recommended, with severity and source, told for drugs and for classes apart."""

from dataclasses import replace

import numpy as np
import pytest
from test_patient import serve

from recsys.answers.alerts import AT_HOME, GIVEN, RECOMMENDED, Taken, alerts
from recsys.answers.listing import csv_rows
from recsys.answers.patient import parse_patient
from recsys.answers.recommend import RecommenderService
from recsys.experiments.decode import Decision
from recsys.orders.interactions import DrugInteractions, Interaction

ASPIRIN, WARFARIN, HEPARIN, CITALOPRAM = (f"DRUG:{name}" for name in ("aspirin", "warfarin", "heparin", "citalopram"))


def statement(first, second, severity, source, said=""):
    names = (first[5:].title(), second[5:].title())
    return Interaction(first, second, *names, severity, said, source, "CC0-1.0", " with ".join(names))


KNOWN = DrugInteractions((statement(ASPIRIN, WARFARIN, "moderate", "NDF-RT", "Significant"),
                          statement(ASPIRIN, WARFARIN, "high", "ONC-HighPriority"),
                          statement(CITALOPRAM, WARFARIN, "low", "mine"), statement(HEPARIN, WARFARIN, "high", "mine"),
                          statement(ASPIRIN, HEPARIN, "moderate", "mine")))


def test_the_gravest_statement_is_told_with_its_source():
    told, = alerts({"ATC:N02B": [ASPIRIN]}, [Taken("warfarin 5 mg", GIVEN, (WARFARIN,))], KNOWN)
    assert (told.code, told.other, told.where, told.severity, told.source) == (
        "ATC:N02B", "warfarin 5 mg", GIVEN, "high", "ONC-HighPriority")
    assert told.drugs == ("Aspirin", "Warfarin") and told.licence == "CC0-1.0" and not told.of_class and told.further == 0


def test_a_class_is_told_as_a_class_and_its_further_pairs_are_counted():
    told, = alerts({"ATC:N02B": [ASPIRIN]}, [Taken("ATC:B01A", AT_HOME, (WARFARIN, HEPARIN))], KNOWN)
    assert told.of_class and told.further == 1 and told.severity == "high"


def test_recommended_pairs_are_told_once_gravest_first_and_never_one_with_itself():
    chosen = {"DRUG:aspirin": [ASPIRIN], "DRUG:warfarin": [WARFARIN], "DRUG:citalopram": [CITALOPRAM]}
    told = alerts(chosen, [Taken("DRUG:warfarin", GIVEN, (WARFARIN,))], KNOWN)
    assert [(alert.code, alert.other, alert.where, alert.severity) for alert in told] == [
        ("DRUG:aspirin", "DRUG:warfarin", GIVEN, "high"), ("DRUG:aspirin", "DRUG:warfarin", RECOMMENDED, "high"),
        ("DRUG:citalopram", "DRUG:warfarin", GIVEN, "low"), ("DRUG:citalopram", "DRUG:warfarin", RECOMMENDED, "low")]
    assert alerts({"ATC:B01A": [WARFARIN, HEPARIN]}, [Taken("ATC:B01A", GIVEN, (WARFARIN, HEPARIN))], KNOWN) == []
    assert alerts({"ATC:B01A": [WARFARIN]}, [], DrugInteractions()) == []


@pytest.fixture
def service() -> RecommenderService:
    made = serve()[0]
    model = made.trained.recommender
    codes = model.knowledge.medications
    ingredients = {"ATC:B01A": (WARFARIN, HEPARIN), "ATC:N02B": (ASPIRIN,), "ATC:A10B": (CITALOPRAM,)}
    model.knowledge = replace(model.knowledge, ingredients=tuple(ingredients.get(code, ()) for code in codes),
                              drug_interactions=KNOWN)
    return RecommenderService(replace(made.trained, decision=Decision(0.0)))


def test_an_answer_tells_interactions_with_what_was_given_and_is_taken_at_home(service: RecommenderService) -> None:
    patient = parse_patient({"visits": [{"diagnoses": ["ICD10CM:I10"], "medications": ["ATC:B01AA03"]},
                                        {"diagnoses": ["ICD10CM:I10"], "home_medications": ["ATC:A10B"]}]})
    answer = service.recommend(patient)
    told = {(alert.code, alert.other, alert.where): alert for alert in answer.alerts}
    assert {("ATC:N02B", "ATC:B01AA03", GIVEN), ("ATC:B01A", "ATC:A10B", AT_HOME), ("ATC:B01A", "ATC:N02B", RECOMMENDED)} <= set(told)
    assert not any(code == other for code, other, _ in told)
    shown = answer.as_json()["alerts"]
    assert {item["severity"] for item in shown} == {"high", "low"} and all(item["source"] for item in shown)
    rows = [row for row in csv_rows(answer, []) if row["row"] == "alert"]
    assert len(rows) == len(shown) and rows[0]["severity"] == "high" and rows[0]["source"]
    severities = [alert.severity for alert in answer.alerts]
    assert severities == sorted(severities, key=("high", "moderate", "low").index)
    nothing = service.recommend(parse_patient({"visits": [{"diagnoses": ["X:1"]}]}))
    assert nothing.refused and not nothing.alerts
    assert np.isfinite([item.probability for item in answer.recommended]).all()
