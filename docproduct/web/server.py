"""The service: routes, and how it starts and ends.

question -> Protection (token, rate, size) -> schemas (checked) -> Batcher (with other clients' questions) -> Engine
         -> GenerationQueue, if an answer is to be written -> JSON, or server-sent events
"""

import asyncio
import contextlib
import dataclasses
import importlib.resources
import ipaddress
import math
import pathlib
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import prometheus_client
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from docproduct.answering import answerer as answering
from docproduct.web import schemas
from docproduct.web.batching import OverloadedError
from docproduct.web.engine import Folders, Reloadable
from docproduct.web.measures import Measures
from docproduct.web.protection import HEADER_BYTES, Protection, error_body
from docproduct.web.service import ClientGoneError, InvalidRequestError, Service, ServiceSettings, explained, last

_FOLDER = pathlib.Path(__file__).parent
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MOST_CONNECTIONS = 800  # a process has 1,024 files as a rule
_RETRY_SECONDS = 1
_SWAGGER = {"js": "swagger-ui-bundle.js", "css": "swagger-ui.css", "favicon": "favicon-32x32.png"}


def create_app(source: Reloadable, settings: ServiceSettings = ServiceSettings()) -> FastAPI:
    """Returns the service.

    Args:
      source: has an `engine`, and can `reload` it.
      settings: how it works.
    """
    measures = Measures()
    service = Service(source, settings, measures)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        loop, reloads = asyncio.get_running_loop(), set()

        def reload() -> None:
            reloads.add(task := asyncio.ensure_future(service.reload()))
            task.add_done_callback(reloads.discard)

        if threading.current_thread() is threading.main_thread():  # no other one is told of signals
            loop.add_signal_handler(signal.SIGHUP, reload)
        yield
        await loop.run_in_executor(None, service.close)

    app = FastAPI(
        title="docproduct",
        description=f"Answers questions from stored answers. {answering.DISCLAIMER}",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # For the page of the API alone, so that it asks for the token; Protection checks it.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.limits.token else [],
    )
    app.state.service = service
    app.add_middleware(Protection, allowed=settings.limits, measures=measures)
    if settings.limits.cors_origins:  # before Protection: its refusals are read by other sites, too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.limits.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],  # OpenAI's client sends a dozen of its own
            expose_headers=["Retry-After"],
            allow_private_network=True,
        )
    _add_errors(app)
    _add_api(app, service, schemas.requests(settings.request_limits))
    _add_pages(app)
    return app


def _add_errors(app: FastAPI) -> None:
    def respond(status: int, kind: str, message: str) -> Response:
        headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else {}
        return Response(error_body(kind, message), status, headers, "application/json")

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        del request
        # The values that were sent are not sent back: they may be anything.
        errors = error.errors()
        if any(one["type"] == "json_invalid" for one in errors):
            return respond(422, "invalid_request", "The body is no JSON. Expected a JSON object.")
        if any(one["type"] == "model_attributes_type" for one in errors):
            message = "The body is no JSON object, or its header is not Content-Type: application/json."
            return respond(422, "invalid_request", message)
        # Without the parts that name types, such as list[constrained-str].
        named = ([part for part in map(str, one["loc"]) if part != "body" and "-str" not in part] for one in errors)
        places = (".".join(parts) or "body" for parts in named)
        said = "; ".join(f"{place}: {one['msg']}" for place, one in zip(places, errors, strict=True))
        return respond(422, "invalid_request", said.encode("utf-8", "replace").decode()[:1_000])

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
    for kind in (InvalidRequestError, TimeoutError, OverloadedError, ClientGoneError):
        app.add_exception_handler(kind, other)


def _add_api(app: FastAPI, service: Service, requests: schemas.Requests) -> None:
    started = int(time.time())
    refusals = schemas.responses(400, 401, 408, 413, 422, 429, 500, 503, 504)

    @app.post("/v1/answer", response_model=schemas.AnswerResponse, responses=refusals)
    async def answer(asked: requests.answer, request: Request) -> Response:
        """Answers a question from the nearest stored answers; with `stream`, as server-sent events."""
        answers, deadline = service.answer(asked), service.deadline()
        if not asked.stream:
            return JSONResponse((await service.while_connected(request, last(answers), deadline)).as_json())
        # What goes wrong here still has a status.
        found = await service.while_connected(request, anext(answers), deadline)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            service.events(found, answers, deadline), media_type="text/event-stream", headers=headers
        )

    @app.post("/v1/retrieve", response_model=schemas.RetrieveResponse, responses=refusals)
    async def retrieve(asked: requests.retrieve, request: Request) -> Response:
        """Finds the nearest stored answers."""
        found = (await service.while_connected(request, service.retrieve(asked), service.deadline())).as_json()
        return JSONResponse({name: found[name] for name in schemas.RetrieveResponse.model_fields})

    @app.post("/v1/embeddings", responses=refusals)
    async def embeddings(asked: requests.embeddings, request: Request) -> schemas.EmbeddingsResponse:
        """Encodes texts, in the form of OpenAI's route of this name."""
        return await service.while_connected(request, service.embeddings(asked), service.deadline())

    @app.get("/v1/models", responses=schemas.responses(401, 429, 500))
    async def models() -> schemas.Models:
        """Lists the model of /v1/embeddings, in the form of OpenAI's route of this name."""
        return schemas.Models(data=[schemas.Model(id=schemas.MODEL_ID, created=started)])

    @app.get("/v1/models/{model_id:path}", responses=schemas.responses(401, 404, 429, 500))
    async def model(model_id: str) -> schemas.Model:
        """Tells of one model."""
        if model_id != schemas.MODEL_ID:
            raise HTTPException(404, f"There is no such model. Expected {schemas.MODEL_ID}.")
        return schemas.Model(id=schemas.MODEL_ID, created=started)

    @app.get("/v1/info", responses=schemas.responses(401, 429, 500))
    async def info() -> schemas.Info:
        """Tells what can be asked."""
        return service.info()

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Tells that the process lives."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Tells that questions are answered: until models and index are loaded, nothing is, this neither."""
        return {"status": "ready"}

    @app.get("/metrics", responses=schemas.responses(401))
    async def metrics() -> Response:
        """Tells what was counted, in Prometheus' format."""
        counted = prometheus_client.generate_latest(service.measures.registry)
        return Response(counted, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_FOLDER / "page.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: Literal["page.css", "page.js"]) -> FileResponse:
        return FileResponse(_FOLDER / name, headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        files = {f"swagger_{kind}_url": f"docs/{name}" for kind, name in _SWAGGER.items()}
        return get_swagger_ui_html(openapi_url="openapi.json", title="docproduct", **files)

    # The package holds Swagger's files, so that the page asks no other host for them.
    app.mount("/docs", StaticFiles(directory=str(importlib.resources.files("fastapi_swagger") / "resources")))


def serve(
    folders: Folders,
    host: str,
    port: int,
    settings: ServiceSettings = ServiceSettings(),
    trusted_proxies: Sequence[str] = (),
) -> None:
    """Serves until SIGTERM or SIGINT; what runs then is finished. SIGHUP loads models and index again.

    Args:
      folders: what answers.
      host: where to listen; other machines reach it only where this is not a loopback address.
      port: of the host; 0: any that is free.
      settings: how the service works. It answers to limits.hosts and its loopback names; without them, on a loopback
        address to these alone (no page of another site shall reach it under a name of its own), else to any.
      trusted_proxies: addresses whose X-Forwarded-For names the client.

    Raises:
      OSError: the port is taken, or a file cannot be read.
      ValueError: one of the folders is damaged, unfinished, or does not fit the others.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to load again
    if settings.limits.hosts or _is_loopback(host):
        names = (*settings.limits.hosts, *_LOOPBACK, f"[{host}]" if ":" in host else host)
        settings = dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, hosts=names))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, as asyncio sends small packets at once only where it is.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # before the models are loaded, which takes seconds: who asks now waits
        except OSError as error:
            said = f"Cannot listen on {host}:{port} ({error.strerror}). Give another --port or --host."
            raise OSError(said) from error
        config = uvicorn.Config(
            create_app(Reloadable(folders), settings),
            http="h11",  # it limits the size of headers
            h11_max_incomplete_event_size=HEADER_BYTES,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            limit_concurrency=_MOST_CONNECTIONS,
            access_log=False,  # Protection has one, without what stands in paths and bodies
            log_level="warning",
            timeout_graceful_shutdown=math.ceil(settings.limits.body_seconds + settings.timeout),
            server_header=False,
        )
        name = f"[{host}]" if family == socket.AF_INET6 else host
        print(f"Ready: http://{name}:{listening.getsockname()[1]}/ (page), /docs (API). Ctrl-C ends.", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended as it should
            uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    if host in _LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
