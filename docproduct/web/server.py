"""The service: how it is put together, how it starts and ends.

question -> Protection (token, rate, size) -> schemas (checked) -> WorkQueue (with other clients' questions) -> Answerer
         -> WorkQueue of the generator, if an answer is to be written -> JSON, or server-sent events
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import math
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer

from docproduct.answering import DISCLAIMER, Folders
from docproduct.web import pair_schemas, schemas, talk_schemas
from docproduct.web.measures import Measures
from docproduct.web.pair_routes import add_pairs
from docproduct.web.protection import HEADER_BYTES, Protection
from docproduct.web.reloading import Reloadable
from docproduct.web.routes import add_api, add_errors, add_pages
from docproduct.web.service import Service
from docproduct.web.settings import ServiceSettings
from docproduct.web.talk_routes import add_talk
from docproduct.web.talking import Talking

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MOST_CONNECTIONS = 800  # a process may usually open 1,024 files


def create_app(source: Reloadable, settings: ServiceSettings = ServiceSettings()) -> FastAPI:
    """Returns the service.

    Args:
      source: The answerer, which it can reload.
      settings: How the service works.
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

        if threading.current_thread() is threading.main_thread():  # only this thread receives signals
            loop.add_signal_handler(signal.SIGHUP, reload)
        yield
        await loop.run_in_executor(None, service.close)

    app = FastAPI(
        title="docproduct",
        description=f"Answers questions from stored answers. {DISCLAIMER}",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # Makes the page of the API ask for the token; Protection checks it.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.limits.token else [],
    )
    app.add_middleware(Protection, allowed=settings.limits, measures=measures)
    if settings.limits.cors_origins:  # before Protection, so that other sites can read its refusals
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.limits.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["*"],  # OpenAI's client sends a dozen of its own
            expose_headers=["Retry-After"],
            allow_private_network=True,
        )
    add_errors(app)
    add_api(app, service, schemas.requests(settings.request_limits))
    add_pairs(app, service, pair_schemas.requests(settings.request_limits))
    add_talk(app, Talking(service, source, settings), talk_schemas.requests(settings.request_limits))
    add_pages(app)
    return app


def serve(
    folders: Folders,
    host: str,
    port: int,
    settings: ServiceSettings = ServiceSettings(),
    trusted_proxies: Sequence[str] = (),
) -> None:
    """Serves until SIGTERM or SIGINT, and then finishes the requests that it has. SIGHUP loads models and index again.

    Args:
      folders: What the answerer loads.
      host: Where to listen; other machines reach the service only if this is not a loopback address.
      port: Port of the host; 0: any free port.
      settings: How the service works. It answers to limits.hosts and its loopback names. If limits.hosts is empty, it
        answers on a loopback address to these alone, so that no page of another site reaches it under a name of that
        site; elsewhere it answers to any name.
      trusted_proxies: Addresses whose X-Forwarded-For names the client.

    Raises:
      OSError: the port is taken, or a file cannot be read.
      ValueError: one of the folders is damaged, unfinished, or does not fit the others.
    """
    if folders.live and settings.limits.write_token is None:
        raise ValueError(
            "--live lets clients change the pairs, which needs a token: --write_token_file, or DOCPRODUCT_WRITE_TOKEN."
        )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the folders are loaded
    if settings.limits.hosts or _is_loopback(host):
        names = (*settings.limits.hosts, *_LOOPBACK, f"[{host}]" if ":" in host else host)
        settings = dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, hosts=names))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sends small packets at once only then.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # before the models are loaded, which takes seconds: requests wait meanwhile
        except OSError as error:
            message = f"Cannot listen on {host}:{port} ({error.strerror}). Give another --port or --host."
            raise OSError(message) from error
        config = uvicorn.Config(
            create_app(Reloadable(folders), settings),
            http="h11",  # it limits the size of headers
            h11_max_incomplete_event_size=HEADER_BYTES,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            limit_concurrency=_MOST_CONNECTIONS,
            access_log=False,  # Protection logs, without paths and bodies
            log_level="warning",
            timeout_graceful_shutdown=math.ceil(settings.limits.body_seconds + settings.timeout),
            server_header=False,
        )
        name = f"[{host}]" if family == socket.AF_INET6 else host
        print(f"Ready: http://{name}:{listening.getsockname()[1]}/ (page), /docs (API). Ctrl-C ends.", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):  # raised after uvicorn has ended properly
            uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    if host in _LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
