"""The service: every route by its own description, its limits, and CDS Hooks with a bundle of Synthea's."""


from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from kb.db.address import bare
from kb.errors import DatabaseError, UsageError
from mkmed.explorer import files
from mkmed.serve import cds
from mkmed.serve.answers import Answers
from mkmed.serve.app import create_app
from mkmed.serve.commands import serve
from mkmed.serve.limits import RequestLimits
from tests.few_drugs import DRUGS, few_answers

SYNTHEA = Path(__file__).parent / "data" / "ehr_fhir_synthea"


@pytest.fixture(scope="module")
def answers(database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """A service's answers on the few drugs, with vectors and a small recommender."""
    return few_answers(database, tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def client(answers: Answers) -> Iterator[TestClient]:
    with TestClient(create_app(answers, research_only=True)) as opened:
        yield opened


def test_a_name_that_leads_here_from_elsewhere_is_refused(answers: Answers) -> None:
    """A page of another origin can make a name of its own mean this machine; without a token only its own names do."""
    with TestClient(create_app(answers, limits=RequestLimits(hosts=("localhost", "127.0.0.1", "[::1]")))) as opened:
        said = {host: opened.get("/healthz", headers={"host": host}).status_code
                for host in ("localhost", "LOCALHOST:8099", "127.0.0.1:8099", "[::1]:1", "evil.example", "evil.example:8099",
                             "127.0.0.1.evil.example", "localhost:x")}
    assert said == dict.fromkeys(said, 421) | dict.fromkeys(list(said)[:4], 200)


def test_every_route_keeps_to_its_description(answers: Answers) -> None:
    """What schemathesis makes of the description, right and wrong, is answered as described and never with 500."""
    api = schemathesis.openapi.from_asgi("/openapi.json", create_app(answers, research_only=True))
    tried = 0
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.path == "/api/encode":  # loads a run's models, which the small knowledge base has not
            continue
        tried += 1

        @given(case=operation.as_strategy())
        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # no schema says what a SMILES is

        check()
    assert tried == 18


def test_answers_are_those_of_the_api(client: TestClient) -> None:
    assert client.get("/healthz").json()["drugs"] == len(DRUGS)
    drug = client.get("/api/drug", params={"name": "metformin"}).json()
    assert drug["name"] == "Metformin" and drug["inchikey"] if "inchikey" in drug else drug["identity"].startswith("inchikey:")
    found = client.get("/api/resolve", params={"name": ["aspirin", "nonsense"]}).json()
    assert [len(one["candidates"]) for one in found] == [1, 0]
    assert client.get("/api/search", params={"q": "metf"}).json()[0]["name"] == "Metformin"
    assert client.get("/api/similar", params={"smiles": "CN(C)C(=N)NC(=N)N", "k": 1}).json()[0]["similarity"] == 1
    assert [r["name"] for r in client.get("/api/substructure", params={"smarts": "C(=O)[NH2]"}).json()] == ["Salicylamide"]
    assert len(client.get("/api/neighbours", params={"drug": "aspirin", "k": 3}).json()) == 3
    assert client.get("/api/interactions", params={"drug": ["aspirin", "heparin"]}).json()[0]["severity"] == "major"
    assert client.get("/api/interactions", params={"drug": ["aspirin", "benzene"]}).json() == []


@pytest.mark.parametrize(("path", "status"), [
    ("/api/drug?name=nonsense", 404), ("/api/search?q=", 422), ("/api/search?q=%00", 422), ("/api/search?q=x&k=0", 422),
    ("/api/similar?smiles=nonsense", 400), ("/api/substructure?smarts=((", 400), ("/api/neighbours?drug=aspirin&has=txt", 400),
    ("/api/neighbours?drug=aspirin&modality=text", 404), ("/nowhere", 404)])
def test_what_cannot_be_answered_says_why(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status and ("error" in answer.json() or path == "/nowhere")


def test_recommendations(client: TestClient, answers: Answers) -> None:
    diagnosis = answers.recommender.vocabularies["diagnosis"].codes[0]
    patient = {"visits": [{"diagnoses": [diagnosis]}]}
    found = client.post("/api/recommend", json={"patients": [patient, {"visits": [{"diagnoses": ["X:1"]}]}]}).json()
    assert "not a medical device" in found["warning"]
    assert found["answers"][0]["recommended"] and found["answers"][1]["refused"]
    assert client.post("/api/recommend", json={"patients": [{"visits": []}]}).status_code == 400
    assert client.post("/api/recommend", json={"patients": [patient] * 101}).status_code == 422
    assert client.post("/api/encode", json={}).status_code == 400


def test_the_explorer_asks_this_service_alone(client: TestClient, answers: Answers) -> None:
    for path, (name, kind) in files.FILES.items():
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"] == kind
        assert answer.headers["content-security-policy"] == files.POLICY and answer.headers["x-content-type-options"] == "nosniff"
        if not name.startswith("vendor/"):
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg\b)", answer.text), name  # but for the name of SVG
    for name, sha256 in files.VENDORED.items():
        assert hashlib.sha256((files.FOLDER / name).read_bytes()).hexdigest() == sha256
    page, script = client.get("/").text, client.get("/explorer/explorer.js").text
    assert "<script>" not in page and " onclick" not in page, "the policy permits no script within the page"
    ids = set(re.findall(r'id="([\w-]+)"', page))
    assert set(re.findall(r'\$\("([\w-]+)"\)', script)) <= ids
    asked = {path.split("?")[0] for path in re.findall(r'"(/api/[\w-]+)"', script)}
    assert asked <= set(client.get("/openapi.json").json()["paths"])


def test_what_the_explorer_shows(client: TestClient, answers: Answers) -> None:
    metformin = client.get("/api/search", params={"q": "metformin"}).json()[0]["drug_id"]
    card = client.get("/api/card", params={"id": metformin}).json()
    assert card["picture"].startswith("<svg") and card["texts"][0]["provider"] == "Hand book"
    assert {cell["state"] for cell in card["availability"]} == {"present"}
    assert client.get("/api/neighbours", params={"drug": card["handle"], "k": 1}).status_code == 200
    assert client.get("/api/card", params={"id": 10**9}).status_code == 404
    points = client.get("/api/map").json()
    assert len(points) == len(DRUGS) and all(0 <= x <= 1 and 0 <= y <= 1 for _, _, x, y, *_ in points)
    assert sum(row["drugs"] for row in client.get("/api/buckets").json()) == len(DRUGS)
    code = answers.recommender.vocabularies["diagnosis"].codes[0]
    assert client.get("/api/codes", params={"q": code, "k": 1}).json()[0]["code"] == code


def test_limits(answers: Answers) -> None:
    guarded = TestClient(create_app(answers, limits=RequestLimits(body=2000, token="s3cret")))
    assert guarded.get("/api/search?q=x").status_code == 401
    assert guarded.get("/api/search?q=x", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get("/healthz").status_code == 200
    known = {"Authorization": "Bearer s3cret"}
    assert guarded.get("/api/search?q=metf", headers=known).status_code == 200
    assert guarded.post("/api/recommend", headers=known, content=b"x" * 2001).status_code == 413
    assert guarded.post("/api/recommend", headers=known, content=iter([b"x" * 1500] * 3)).status_code == 413
    assert guarded.get("/cds-services", headers=known).status_code == 404, "CDS Hooks answer only when asked for"
    slow = answers.__class__(answers.engine, answers.settings)
    slow.health = lambda: time.sleep(0.6) or {}  # type: ignore[method-assign,func-returns-value]
    assert TestClient(create_app(slow, limits=RequestLimits(seconds=0.1))).get("/healthz").status_code == 504
    metrics = guarded.get("/metrics", headers=known).text
    assert 'mkmed_requests_total{method="GET",route="/api/search",status="200"} 1.0' in metrics
    assert "s3cret" not in metrics
    with pytest.raises(UsageError, match="no token"):
        serve(host="0.0.0.0")


def test_the_database_is_only_read(answers: Answers) -> None:
    with answers.engine.connect() as connection, pytest.raises((DBAPIError, DatabaseError)):
        connection.execute(text("DELETE FROM mkmed.text"))
    with answers.engine.connect() as connection:
        assert connection.scalar(text("SELECT current_setting('statement_timeout')")) == "5s"


def call(bundle: dict[str, Any], rxcui: str, name: str) -> dict[str, Any]:
    """A call of the hook: the bundle's resources as prefetched searches, and one selected order."""
    kinds = {"patient": "Patient", "encounters": "Encounter", "conditions": "Condition", "procedures": "Procedure",
             "medications": "MedicationRequest"}
    every = [entry["resource"] for entry in bundle["entry"]]
    prefetch = {key: {"resourceType": "Bundle", "type": "searchset",
                      "entry": [{"resource": r} for r in every if r["resourceType"] == kind]} for key, kind in kinds.items()}
    draft = {"resourceType": "MedicationRequest", "id": "draft-1", "status": "draft", "intent": "order",
             "subject": {"reference": "Patient/1"}, "medicationCodeableConcept": {"coding": [
                 {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": rxcui, "display": name}]}}
    return {"hook": "order-select", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "prefetch": prefetch, "context": {
        "patientId": "1", "userId": "Practitioner/1", "selections": ["MedicationRequest/draft-1"],
        "draftOrders": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": draft}]}}}


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(sorted(SYNTHEA.rglob("*.json.gz"))[0].read_bytes()))
    return found


def test_cds_hooks(client: TestClient, bundle: dict[str, Any]) -> None:
    (service,) = client.get("/cds-services").json()["services"]
    assert service["hook"] == "order-select" and set(service["prefetch"]) == set(cds.PREFETCH)
    answer = client.post(f"/cds-services/{service['id']}", json=call(bundle, "855332", "Warfarin Sodium 5 MG Oral Tablet"))
    assert answer.status_code == 200, answer.text
    cards = answer.json()["cards"]
    assert cards
    for card in cards:
        assert card["summary"].startswith("Research: ") and len(card["summary"]) < 140
        assert card["indicator"] in ("info", "warning", "critical") and "not a medical device" in card["detail"]
    bundle_names = re.findall(r'"family": ?"(\w+)"', json.dumps(bundle))
    assert not any(name in answer.text for name in bundle_names), "nothing of who the patient is comes back"


def test_cds_hooks_refuse_what_is_no_fhir(client: TestClient, bundle: dict[str, Any]) -> None:
    url = f"/cds-services/{cds.NAME}"
    wrong = call(bundle, "855332", "Warfarin")
    wrong["prefetch"]["conditions"]["entry"].append({"resource": {"resourceType": "Condition", "id": "7", "clinicalStatus": 3}})
    answer = client.post(url, json=wrong)
    assert answer.status_code == 400 and "Condition 7" in answer.json()["error"]
    assert client.post(url, json={"hook": "patient-view"}).status_code == 422
    empty = client.post(url, json={"hook": "order-select", "hookInstance": "1", "context": {"patientId": "1"}})
    assert empty.status_code == 200 and "does not know enough" in empty.json()["cards"][0]["summary"]


def test_a_patient_of_fhir_has_visits_in_time_order(answers: Answers, bundle: dict[str, Any]) -> None:
    asked = call(bundle, "855332", "Warfarin")
    patient = cds.patient_of(asked["prefetch"], None, answers.recommender)
    encounters = asked["prefetch"]["encounters"]["entry"]
    assert len(patient.visits) == len(encounters) and not patient.visits[-1].medication
    last = max(encounters, key=lambda e: e["resource"]["period"]["start"])["resource"]["id"]
    chosen = cds.patient_of(asked["prefetch"], encounters[0]["resource"]["id"], answers.recommender)
    assert len(chosen.visits) == len(patient.visits)
    assert cds.patient_of(asked["prefetch"], last, answers.recommender) == patient


@pytest.mark.slow
def test_the_program_serves_and_stops(answers: Answers, tmp_path: Path) -> None:
    import os
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MKMED_DATABASE_URL": bare(answers.engine.url), "MKMED_HOME": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-m", "cli", "serve", "--port", str(port)], env=environment,
                               stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    try:
        for _ in range(200):
            try:
                found = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert found.json()["drugs"] == len(DRUGS)
    finally:
        process.terminate()
        process.wait(20)
