"""The routes of the service: its API, its pages, and the form of its errors."""

import asyncio
import importlib.resources
import pathlib
import time
from collections.abc import Sequence
from typing import Literal

import prometheus_client
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from docproduct.index.live import pair_id_of
from docproduct.search.changes import NotStoredError
from docproduct.search.store import StoreError
from docproduct.web import pair_schemas, schemas
from docproduct.web.feedback import FeedbackResponse
from docproduct.web.protection import error_body
from docproduct.web.queue import OverloadedError
from docproduct.web.responses import ClientGoneError, InvalidRequestError, events, explained, last, while_connected
from docproduct.web.service import Service

_FOLDER = pathlib.Path(__file__).parent
_RETRY_SECONDS = 1
_SWAGGER = {"js": "swagger-ui-bundle.js", "css": "swagger-ui.css", "favicon": "favicon-32x32.png"}


def add_errors(app: FastAPI) -> None:
    """Adds the handlers that turn exceptions into responses."""

    def respond(status: int, kind: str, message: str) -> Response:
        headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else {}
        return Response(error_body(kind, message), status, headers, "application/json")

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        del request
        faults = error.errors()
        places = {fault["type"]: _place(fault["loc"]) for fault in faults}
        if "json_invalid" in places:
            return respond(422, "invalid_request", "The body is no JSON. Expected a JSON object.")
        if places.get("model_attributes_type") == "body":  # a field that is no object has its own message
            message = "The body is no JSON object, or its header is not Content-Type: application/json."
            return respond(422, "invalid_request", message)
        # The values are not sent back: they may be anything.
        message = "; ".join(f"{_place(fault['loc'])}: {fault['msg']}" for fault in faults)
        return respond(422, "invalid_request", message.encode("utf-8", "replace").decode()[:1_000])

    async def http(request: Request, error: HTTPException) -> Response:
        del request
        response = respond(error.status_code, "invalid_request", str(error.detail))
        response.headers.update(error.headers or {})
        return response

    async def other(request: Request, error: Exception) -> Response:
        del request
        if isinstance(error, ClientGoneError):
            return Response(status_code=499)
        return respond(*explained(error))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    for kind in (InvalidRequestError, NotStoredError, StoreError, TimeoutError, OverloadedError, ClientGoneError):
        app.add_exception_handler(kind, other)


def _place(parts: Sequence[str | int]) -> str:
    """Returns a place in a body without the parts that name types, such as list[constrained-str]."""
    types = ("body", "Range", *pair_schemas.TAGS)
    return ".".join(part for part in map(str, parts) if part not in types and "-str" not in part) or "body"


def add_api(app: FastAPI, service: Service, requests: schemas.Requests) -> None:
    """Adds the routes under /v1, and those for probes and counters."""
    started = int(time.time())
    refusals = schemas.responses(400, 401, 404, 408, 413, 422, 429, 500, 503, 504)

    @app.post("/v1/answer", response_model=schemas.AnswerResponse, responses=refusals)
    async def answer(body: requests.answer, request: Request) -> Response:
        """Answers a question from the nearest stored answers; with `stream`, as server-sent events."""
        answers, deadline = service.answer(body), service.deadline()
        if not body.stream:
            return JSONResponse((await while_connected(request, last(answers), deadline)).as_json())
        # Until the stream begins, an error still has a status.
        first = await while_connected(request, anext(answers), deadline)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events(first, answers, deadline), media_type="text/event-stream", headers=headers)

    @app.post("/v1/retrieve", response_model=schemas.RetrieveResponse, responses=refusals)
    async def retrieve(body: requests.retrieve, request: Request) -> Response:
        """Finds the nearest stored answers."""
        answer = (await while_connected(request, service.retrieve(body), service.deadline())).as_json()
        return JSONResponse({name: answer[name] for name in schemas.RetrieveResponse.model_fields})

    @app.post("/v1/embeddings", responses=refusals)
    async def embeddings(body: requests.embeddings, request: Request) -> schemas.EmbeddingsResponse:
        """Encodes texts, in the form of OpenAI's route of this name."""
        return await while_connected(request, service.embeddings(body), service.deadline())

    @app.post("/v1/triage", response_model=schemas.TriageResponse, responses=refusals)
    async def triage(body: requests.triage, request: Request) -> Response:
        """Names the likeliest departments of a patient's text, and drafts a reply if it is asked for."""
        result = await while_connected(request, service.triage(body), service.deadline())
        if result is None:
            raise HTTPException(404, "This service has no triage model. Start it with --triage_dir.")
        return JSONResponse(result.as_json())

    @app.post("/v1/choices", response_model=schemas.ChoicesResponse, responses=refusals)
    async def choices(body: requests.choices, request: Request) -> Response:
        """Chooses among the answers of a question."""
        answer = await while_connected(request, service.choices(body), service.deadline())
        if answer is None:
            raise HTTPException(404, "This service has no model that chooses. Start it with --choices_dir.")
        return JSONResponse(answer.as_json())

    @app.post("/v1/feedback", responses=schemas.responses(400, 401, 404, 408, 413, 422, 429, 500, 503, 507))
    async def feedback(body: requests.feedback) -> FeedbackResponse:
        """Keeps whether an answer helped."""
        if service.feedback is None:
            raise HTTPException(404, "This service keeps no ratings. Start it with --feedback_file.")
        if await asyncio.to_thread(service.answerer().index.texts, pair_id_of(body.id)) is None:
            raise InvalidRequestError(
                "The index has no pair with this id (any more) to be rated. Expected the id of a source of an answer."
            )
        await asyncio.to_thread(service.feedback.rating, body.question, body.id, body.helpful)
        return FeedbackResponse()

    @app.get("/v1/models", responses=schemas.responses(401, 429, 500))
    async def models() -> schemas.Models:
        """Lists the models of OpenAI's routes, in the form of OpenAI's route of this name."""
        return schemas.Models(data=[schemas.Model(id=name, created=started) for name in service.model_ids()])

    @app.get("/v1/models/{model_id:path}", responses=schemas.responses(401, 404, 429, 500))
    async def model(model_id: str) -> schemas.Model:
        """Describes a model."""
        if model_id not in service.model_ids():
            raise HTTPException(404, f"There is no such model. Expected {' or '.join(service.model_ids())}.")
        return schemas.Model(id=model_id, created=started)

    @app.get("/v1/info", responses=schemas.responses(401, 429, 500))
    async def info() -> schemas.Info:
        """Returns the facts that a page shows."""
        return service.info()

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Returns ok: the process is alive."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Returns ready: questions are answered. Until models and index are loaded, no route answers, this neither."""
        return {"status": "ready"}

    @app.get("/metrics", responses=schemas.responses(401))
    async def metrics() -> Response:
        """Returns the counters in Prometheus' format."""
        counters = prometheus_client.generate_latest(service.measures.registry)
        return Response(counters, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def add_pages(app: FastAPI) -> None:
    """Adds the page, and the page of the API."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_FOLDER / "page.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(
        name: Literal["page.css", "page.js", "panel.js", "talk.js", "triage.js", "choices.js"],
    ) -> FileResponse:
        return FileResponse(_FOLDER / name, headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        files = {f"swagger_{kind}_url": f"docs/{name}" for kind, name in _SWAGGER.items()}
        return get_swagger_ui_html(openapi_url="openapi.json", title="docproduct", **files)

    # The package fastapi_swagger holds Swagger's files, so that the page asks no other host for them.
    app.mount("/docs", StaticFiles(directory=str(importlib.resources.files("fastapi_swagger") / "resources")))
