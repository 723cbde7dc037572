"""The map that is stored with a model reads orders as the knowledge base's own does, and an answer needs no database."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_drug_knowledge import filled  # noqa: F401
from test_patient import serve

from recsys.answers.patient import parse_patient
from recsys.answers.recommend import RecommenderService
from recsys.experiments.checkpoint import load_recommender, save_recommender
from recsys.orders.medications import MedicationMap, read_map
from recsys.orders.order import Order
from recsys.orders.own_map import OwnMap
from recsys.orders.stored import order_of, pack, unpack

ORDERS = Path(__file__).parents[1] / "data" / "orders"


@pytest.fixture(scope="module", params=["3", "5", "ingredient"])
def medications(request: pytest.FixtureRequest, filled: object) -> MedicationMap:  # noqa: F811
    with filled.connect() as connection:  # type: ignore[attr-defined]
        return read_map(connection, request.param, own_map=OwnMap({"mrs canary's drops": "Aspirin"}))


def texts() -> list[str]:
    found = ["warfarin 5 mg po", "Coumadin", "ASA 81", "aspirin/warfarin", "insulin glargine", "insulin", "bag", "mrs canary's drops"]
    for path in ORDERS.glob("*.tsv"):
        with path.open(encoding="utf-8") as stream:
            for row in csv.reader((line for line in stream if not line.startswith("#")), delimiter="\t"):
                found += [cell for cell in row if cell][:3]
    return found


def test_the_stored_map_labels_every_order_alike(medications: MedicationMap) -> None:
    stored = unpack(pack(medications))
    assert len(texts()) > 300
    for text in texts():
        assert stored.label(order_of(text)) == medications.label(order_of(text)), text
    for order in (Order(atc=("B01AA03",)), Order(code="drugbank:DB00682"), Order(gsn="006562"), Order(ndc="00056017270")):
        assert stored.label(order) == medications.label(order)


def test_nothing_of_patients_is_stored_and_of_the_user_s_map_no_text(medications: MedicationMap) -> None:
    import zlib

    own = replace(medications, resolver=replace(medications.resolver, own_map=OwnMap({
        "mrs canary's drops": "Aspirin", "canary mix": "Warfarin + Canary's herb", "gsn:004711": "none",
        "canary cream": "ATC:D02AC01", "canary tea": "ATC:canary's own"})))
    own.resolver.learn([(Order(hicl="4711", name=("warfarin",)), 9)])
    packed = pack(own)
    document = zlib.decompress(packed).decode().lower()
    assert "warfarin" in document and "canary" not in document and "4711" not in document and packed == pack(own)
    stored = unpack(packed)
    for order in (Order(name=("mrs canary's drops",)), Order(name=("canary mix",)), Order(name=("canary cream",))):
        assert stored.label(order).pairs == own.label(order).pairs != (), order
    assert stored.label(Order(gsn="004711", name=("warfarin",))) == own.label(Order(gsn="004711", name=("warfarin",)))
    assert not stored.label(Order(name=("canary tea",))).pairs
    assert unpack(pack(stored)).label(Order(name=("canary mix",))) == stored.label(Order(name=("canary mix",)))


@pytest.mark.parametrize(("text", "code"), [
    ("NAME:aspirin", "NAME:aspirin"), ("atc:b01aa03", "ATC:B01AA03"), ("RxNorm/1191", "RXCUI:1191"), ("ndc:0002-8215-01", "NDC:00002821501"),
    ("Aspirin 81 mg/tab", "NAME:aspirin 81 mg/tab"), ("5 ML VIAL : DILTIAZEM", "NAME:5 ml vial : diltiazem"),
    ("DRUG:drugbank:DB00682", "CODE:drugbank:DB00682")])
def test_a_text_is_an_order(text: str, code: str) -> None:
    assert order_of(text).key == code


def test_an_answer_understands_names_brands_and_codes_without_a_database(filled: object, tmp_path: Path,  # noqa: F811
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    with filled.connect() as connection:  # type: ignore[attr-defined]
        packed = pack(read_map(connection, "3"))
    made = serve()[0].trained
    save_recommender(tmp_path / "best.pt", replace(made, orders=packed))
    monkeypatch.setenv("MKMED_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    service = RecommenderService(load_recommender(tmp_path / "best.pt"))
    names = service.vocabularies["medication"].codes
    understood = {text: [names[i] for i in service.numbers("medication", text)]
                  for text in ("Warfarin sodium 5 MG tablet", "Coumadin", "aspirin 325 mg", "ATC:B01AA03", "ATC:B01AC06",
                               "DRUG:drugbank:DB00682", "unobtainium", "")}
    assert understood["Warfarin sodium 5 MG tablet"] == understood["Coumadin"] == understood["ATC:B01AA03"] == ["ATC:B01A"]
    assert understood["DRUG:drugbank:DB00682"] == ["ATC:B01A"] and understood["ATC:B01AC06"] == ["ATC:B01A"]
    assert set(understood["aspirin 325 mg"]) <= {"ATC:B01A", "ATC:N02B"} and understood["aspirin 325 mg"]
    assert understood["unobtainium"] == understood[""] == []
    patient = parse_patient({"visits": [{"diagnoses": ["ICD10CM:I10"], "medications": ["Coumadin"]}, {"diagnoses": ["ICD10CM:I10"]}]})
    same = parse_patient({"visits": [{"diagnoses": ["ICD10CM:I10"], "medications": ["ATC:B01A"]}, {"diagnoses": ["ICD10CM:I10"]}]})
    one, two = service.histories([patient])[0], service.histories([same])[0]
    assert torch.equal(one.batch([0]).recent, two.batch([0]).recent) and service.recommend(patient).coverage.share == 1
    assert service.ingredients("Coumadin") == service.ingredients("Warfarin sodium 5 MG tablet") != ()
