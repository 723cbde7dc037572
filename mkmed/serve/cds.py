"""CDS Hooks 2.0 (cds-hooks.hl7.org): discovery, and one service for the hook ``order-select``.

Prefetched FHIR R4 is parsed and checked by fhir.resources. Cards say what interacts with the selected orders and what
the recommender would have listed; each is marked as research. Nothing of a request is kept or logged.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Body, FastAPI
from pydantic import BaseModel, Field, JsonValue, ValidationError

from kb.errors import DataError
from mkmed.serve.answers import Answers
from recsys.answers.alerts import GIVEN, Taken, alerts
from recsys.answers.patient import Patient, Visit
from recsys.answers.recommend import WARNING
from recsys.formats import fhir
from recsys.orders.codes import DIAGNOSIS, PROCEDURE
from recsys.orders.order import Order

if TYPE_CHECKING:
    from recsys.answers.alerts import Alert
    from recsys.answers.recommend import RecommenderService

NAME = "mkmed-order-select"
PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "encounters": "Encounter?patient={{context.patientId}}",
    "conditions": "Condition?patient={{context.patientId}}",
    "procedures": "Procedure?patient={{context.patientId}}",
    "medications": "MedicationRequest?patient={{context.patientId}}",
}
SERVICE = {"hook": "order-select", "id": NAME, "title": "mkmed (research)", "prefetch": PREFETCH,
           "description": f"Interactions of selected orders, and a recommender's list. {WARNING}"}
SHOWN = 8
"""Medications that a card lists."""
CARDS = 10
SEVERE = ("contraindicated", "major")


class Context(BaseModel):
    """What the hook is called with."""

    patientId: str = Field(max_length=200)  # noqa: N815 - the specification's name
    userId: str = Field("", max_length=200)  # noqa: N815
    encounterId: str | None = Field(None, max_length=200)  # noqa: N815
    selections: list[str] = Field([], max_length=100)
    draftOrders: dict[str, JsonValue] = {}  # noqa: N815


class Call(BaseModel):
    """A call of the hook."""

    hook: str = Field(pattern="^order-select$")
    hookInstance: str = Field(max_length=200)  # noqa: N815
    context: Context
    prefetch: dict[str, JsonValue] = {}


def add(app: FastAPI, answers: Answers) -> None:
    """Add discovery and the service to an application."""

    @app.get("/cds-services", tags=["CDS Hooks"])
    def discovery() -> dict[str, Any]:
        """The services that there are."""
        return {"services": [SERVICE]}

    @app.post(f"/cds-services/{NAME}", tags=["CDS Hooks"])
    def order_select(call: Annotated[Call, Body()]) -> dict[str, Any]:
        """Cards for the selected orders of a patient."""
        return {"cards": list(cards(call, answers))}


def cards(call: Call, answers: Answers) -> Iterator[dict[str, Any]]:
    """The cards of one call: interactions, gravest first, then what the recommender lists or why it does not."""
    service = answers.recommender
    orders = _orders(call, service)
    patient = patient_of(call.prefetch, call.context.encounterId, service)
    given = dict.fromkeys(text for visit in patient.visits for text in (*visit.medication, *visit.home))
    beside = [Taken(text, GIVEN, service.ingredients(text)) for text in given]
    asked = {text: service.ingredients(text) for text in orders}
    for alert in alerts(asked, beside, service.knowledge.drug_interactions)[:CARDS]:
        yield _interaction(alert)
    answer = answers.recommend([patient], 0.5)[0]
    if answer.refused:
        yield _card("The recommender does not know enough of this patient", answer.refused)
        return
    listed = [item.name or item.code for item in answer.recommended[:SHOWN]]
    yield _card(f"The recommender lists {len(answer.recommended)} medications for this visit",
                "\n".join(f"* {name}" for name in listed))


def _interaction(alert: Alert) -> dict[str, Any]:
    indicator = "critical" if alert.severity in SEVERE else "warning"
    return _card(f"{alert.drugs[0]} with {alert.drugs[1]}: {alert.severity}",
                 f"{alert.text or alert.said} ({alert.source}, {alert.licence})", indicator)


def _card(summary: str, detail: str, indicator: str = "info") -> dict[str, Any]:
    return {"uuid": str(uuid.uuid4()), "summary": f"Research: {summary}"[:139], "detail": f"{detail}\n\n_{WARNING}_",
            "indicator": indicator, "source": {"label": "mkmed, research software"}}


def _orders(call: Call, service: RecommenderService) -> list[str]:
    """The selected draft orders as texts; all of them where none is selected."""
    found: dict[str, None] = {}
    for resource in resources(call.context.draftOrders):
        named = f"{resource.get('resourceType')}/{resource.get('id')}"
        if resource.get("resourceType") == "MedicationRequest" and (
                not call.context.selections or named in call.context.selections):
            found[order_of_hook(resource, service)] = None
    return [text for text in found if text]


def order_of_hook(resource: Mapping[str, Any], service: RecommenderService) -> str:
    """An order as the recommender reads one: its name, where that is known, or the first of its codes that is."""
    order = Order.parse(fhir.medication_key(resource.get("medicationCodeableConcept")))
    texts = [*order.name[:2], *(f"RXCUI:{code}" for code in order.rxcui), *(f"ATC:{code}" for code in order.atc),
             *([f"NDC:{order.ndc}"] if order.ndc else [])]
    return next((text for text in texts if service.ingredients(text)), texts[0] if texts else "")


def resources(bundle: Any) -> list[Mapping[str, Any]]:
    """The resources of a bundle, of an operation outcome none; raises DataError for what is no FHIR R4.

    Each resource that is read here is checked alone, so that a strange one among many is named.
    """
    from fhir.resources.R4B import get_fhir_model_class

    if not bundle:
        return []
    if not isinstance(bundle, Mapping):
        raise DataError("a prefetched value is no FHIR resource")
    entries = bundle.get("entry", []) if bundle.get("resourceType") == "Bundle" else [{"resource": bundle}]
    if not isinstance(entries, list):
        raise DataError("a bundle's entry is no list")
    found = []
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if not isinstance(resource, Mapping):
            continue
        kind = resource.get("resourceType")
        if kind in ("Patient", "Encounter", "Condition", "Procedure", "MedicationRequest"):
            try:
                get_fhir_model_class(kind).model_validate(resource)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"])
                raise DataError(f"{kind} {resource.get('id', '')} is not FHIR R4: {place}: {first['msg']}") from None
            found.append(resource)
    return found


def patient_of(prefetch: Mapping[str, Any], encounter: str | None, service: RecommenderService) -> Patient:
    """The patient of the prefetched resources: a visit an encounter, in the order of time, the current one last.

    What has no encounter belongs to the current visit. Medications of earlier visits are inputs, those of the current
    one are taken beside the selected orders.
    """
    facts: dict[str, list[Mapping[str, Any]]] = {}
    for name in PREFETCH:
        for resource in resources(prefetch.get(name)):
            facts.setdefault(str(resource.get("resourceType")), []).append(resource)
    current = f"Encounter/{encounter}" if encounter else ""
    begun = {f"Encounter/{e.get('id')}": fhir.seconds((e.get("period") or {}).get("start")) or 0
             for e in facts.get("Encounter", []) if not fhir.why_left_out("Encounter", e)}
    order = sorted((name for name in begun if name != current), key=lambda name: (begun[name], name))
    if not current and order:
        current = order.pop()
    place = {name: number for number, name in enumerate([*order, current])}
    codes: dict[str, list[list[str]]] = {kind: [[] for _ in place] for kind in ("diagnosis", "procedure", "medication")}
    for kind, resource_type in (("diagnosis", "Condition"), ("procedure", "Procedure"),
                                ("medication", "MedicationRequest")):
        for resource in facts.get(resource_type, []):
            if fhir.why_left_out(resource_type, resource):
                continue
            where = place.get(fhir.reference(resource.get("encounter")), len(place) - 1)
            if kind == "medication":
                key = order_of_hook(resource, service)
            else:
                key = fhir.code_of(resource.get("code"), DIAGNOSIS if kind == "diagnosis" else PROCEDURE)
            if key:
                codes[kind][where].append(key)

    def distinct(kind: str, number: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(codes[kind][number]))

    visits = [Visit(distinct("diagnosis", n), distinct("procedure", n), distinct("medication", n))
              for n in range(len(place))]
    last = visits[-1]
    return Patient((*visits[:-1], Visit(last.diagnosis, last.procedure, (), last.medication)))
