"""The service's routes, each a shell over one method of ``Answers``; OpenAPI at ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field, JsonValue
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from kb.db.failures import first_line, translate
from kb.errors import Ambiguous, DatabaseUnavailable, DataError, MkmedError, NotFound, UnknownName, UsageError
from kb.ledger.entries import program_version
from kb.output import plain
from mkmed.explorer import files
from mkmed.serve import cds
from mkmed.serve.answers import Answers
from mkmed.serve.limits import Figures, Guard, RequestLimits
from recsys.answers.patient import parse_patient
from recsys.answers.recommend import WARNING

MOST = 200
Text = Annotated[str, Query(min_length=1, max_length=2000, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Count = Annotated[int, Query(ge=1, le=MOST, description="How many at most.")]
Rows = list[dict[str, Any]]


class Problem(BaseModel):
    """An error in words, with the next step."""

    error: str
    hint: str | None = None
    candidates: Rows | None = None


class ToEncode(BaseModel):
    """Molecules as SMILES, or texts; one of the two."""

    smiles: list[Name] = Field([], max_length=64)
    texts: list[Name] = Field([], max_length=64)


class Patients(BaseModel):
    """Patients as ``mkmed recsys recommend --visit`` takes one."""

    patients: list[dict[str, JsonValue]] = Field(min_length=1, max_length=100)
    min_coverage: float = Field(0.5, ge=0, le=1)


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words} for status, words in {
        400: "the request cannot be answered as it is", 401: "no token, or another one", 404: "not there",
        409: "several drugs are meant", 413: "the body is too long", 422: "a value of the wrong form",
        503: "the database is not there", 504: "no answer in time"}.items()}


def create_app(answers: Answers, *, limits: RequestLimits | None = None, research_only: bool = False) -> Guard:
    """The ASGI application; with ``research_only`` CDS Hooks answer too, every card marked as research."""
    app = FastAPI(title="mkmed", version=program_version(), responses=PROBLEMS, description=WARNING,
                  docs_url=None, redoc_url=None)
    figures = Figures()
    _errors(app)
    _knowledge(app, answers)
    _patients(app, answers)
    _explorer(app, answers)
    if research_only:
        cds.add(app, answers)

    @app.get("/healthz", tags=["service"])
    def healthz() -> dict[str, Any]:
        """Whether the database answers, and what is there."""
        return answers.health()

    @app.get("/metrics", tags=["service"], response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Requests and their times, as Prometheus reads them."""
        return PlainTextResponse(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    return Guard(app, limits or RequestLimits(), figures)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(MkmedError)
    def told(_: Request, error: MkmedError) -> JSONResponse:
        status = next((code for kind, code in (
            (Ambiguous, 409), (NotFound, 404), (UnknownName, 404), (DatabaseUnavailable, 503), (UsageError, 400),
            (DataError, 400)) if isinstance(error, kind)), 400)
        more = {"candidates": plain(error.candidates)} if isinstance(error, Ambiguous) else {}
        return JSONResponse({"error": error.message, "hint": error.hint, **more}, status)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{place}: {first['msg']}", "hint": "/openapi.json"}, 422)

    @app.exception_handler(SQLAlchemyError)
    def database(_: Request, error: SQLAlchemyError) -> JSONResponse:
        if isinstance(error, NoConnection):
            return JSONResponse({"error": "all connections are busy", "hint": "ask again"}, 503)
        mapped = translate(error)
        if isinstance(mapped, MkmedError):
            return JSONResponse({"error": mapped.message, "hint": mapped.hint}, 503)
        return JSONResponse({"error": f"PostgreSQL refused: {first_line(error)}", "hint": None}, 400)


def _knowledge(app: FastAPI, answers: Answers) -> None:
    @app.get("/api/drug", tags=["knowledge"])
    def drug(name: Text) -> dict[str, Any]:
        """Everything known of a drug, by name, synonym, InChIKey or namespace:value, each fact with its source."""
        found: dict[str, Any] = plain(answers.drug(name))
        return found

    @app.get("/api/resolve", tags=["knowledge"])
    def resolve(name: Annotated[list[Name], Query(min_length=1, max_length=100)]) -> Rows:
        """What each name may mean."""
        return answers.resolve(name)

    @app.get("/api/search", tags=["search"])
    def search(q: Text, k: Count = 20) -> Rows:
        """Drugs by words in their names and texts."""
        return answers.search(q, k)

    @app.get("/api/similar", tags=["search"])
    def similar(smiles: Text, k: Count = 10, at_least: Annotated[float, Query(ge=0, le=1)] = 0) -> Rows:
        """Drugs with the structure most like a molecule's."""
        return answers.similar(smiles, k, at_least)

    @app.get("/api/substructure", tags=["search"])
    def substructure(smarts: Text, k: Count = 20) -> Rows:
        """Drugs whose structure has a part."""
        return answers.substructure(smarts, k)

    @app.get("/api/neighbours", tags=["search"])
    def neighbours(drug: Text, k: Count = 10, modality: Text = "fused", to: Text | None = None,
                   atc: Text | None = None, has: Annotated[list[Name] | None, Query(max_length=5)] = None) -> Rows:
        """The drugs most like a drug by the published vectors, and what each answer rests on."""
        return answers.neighbours(drug, k, modality=modality, to=to, atc=atc, has=has)

    @app.get("/api/interactions", tags=["knowledge"])
    def interactions(drug: Annotated[list[Name], Query(min_length=1, max_length=50)]) -> Rows:
        """What is said of pairs of these drugs; of all pairs of a single one."""
        found: Rows = plain(answers.interactions(drug))
        return found

    @app.post("/api/encode", tags=["search"])
    def encode(asked: Annotated[ToEncode, Body()]) -> dict[str, Any]:
        """The published run's vectors of molecules or texts from outside."""
        if bool(asked.smiles) == bool(asked.texts):
            raise UsageError("give smiles or texts", hint='{"smiles": ["CCO"]}')
        return answers.encode(asked.smiles, asked.texts)


def _explorer(app: FastAPI, answers: Answers) -> None:
    @app.get("/api/card", tags=["explorer"])
    def card(id: Annotated[int, Query(ge=1, le=2**62)]) -> dict[str, Any]:
        """What the explorer shows of a drug."""
        found: dict[str, Any] = plain(answers.card(id))
        return found

    @app.get("/api/buckets", tags=["explorer"])
    def buckets() -> Rows:
        """How many drugs have which combination of modalities."""
        return answers.buckets()

    @app.get("/api/codes", tags=["explorer"])
    def codes(q: Text, k: Count = 20) -> Rows:
        """Diagnoses that the recommender knows, by words of their titles."""
        return answers.codes(q, k)

    @app.get("/api/map", tags=["explorer"])
    def drug_map() -> list[list[Any]]:
        """Every drug with a vector: id, name, x and y from 0 to 1, ATC level 1, how many modalities, and which."""
        return answers.map

    @app.get("/api/runs", tags=["explorer"])
    def runs() -> Rows:
        """The runs on this disk, newest first."""
        return answers.runs()

    @app.get("/api/curves", tags=["explorer"])
    def curves(run: Text) -> Rows:
        """The metrics of a run by epoch."""
        found: Rows = plain(answers.curves(run))
        return found

    for path in files.FILES:
        app.add_api_route(path, _file(path), methods=["GET"], include_in_schema=False)


def _file(path: str) -> Callable[[], Response]:
    body, kind = files.read(path)

    def answer() -> Response:
        return Response(body, media_type=kind, headers={"content-security-policy": files.POLICY})

    return answer


def _patients(app: FastAPI, answers: Answers) -> None:
    @app.post("/api/recommend", tags=["patients"])
    def recommend(asked: Annotated[Patients, Body()]) -> dict[str, Any]:
        """Medications for the last visit of each patient; research software, not a medical device."""
        patients = [parse_patient(document) for document in asked.patients]
        found = answers.recommend(patients, asked.min_coverage)
        return {"warning": WARNING, "answers": [plain(answer.as_json()) for answer in found]}
