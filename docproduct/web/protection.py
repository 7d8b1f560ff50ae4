"""What stands before the routes: headers, token, rate, size of bodies, counters, log.

Plain ASGI: a streamed answer passes without being held back, and nothing of a request's body is logged.
"""

import asyncio
import dataclasses
import hmac
import itertools
import json
import math
import re
import time

import limits
from absl import logging
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from docproduct.web import origins
from docproduct.web.measures import Measures

PUBLIC = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")  # without a token
_GONE = 499  # is logged where a client has gone before it was answered
HEADER_BYTES = 16 * 1024
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger's page starts with a script of its own and sets styles.
_DOCS_POLICY = _PAGE_POLICY.replace("-src 'self';", "-src 'self' 'unsafe-inline';", 2)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may do.

    Attributes:
      token: what it must send as `Authorization: Bearer TOKEN`; None: nothing.
      rate: requests of one address, such as "60/minute"; None: any number.
      body_bytes: longest body.
      body_seconds: longest time to send it.
      read_seconds: longest time in which a client reads nothing of an answer.
      hosts: names by which the service may be called; empty: any.
      cors_origins: other sites whose pages may call the service, such as https://a.example; ("*",): all of them.
    """

    token: str | None = None
    rate: str | None = None
    body_bytes: int = 256 * 1024
    body_seconds: float = 10.0
    read_seconds: float = 30.0
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises a ValueError for a rate or an origin that is none, or a token that no header can carry."""
        if self.rate is not None:
            try:
                limits.parse(self.rate)
            except ValueError as error:
                raise ValueError(f"rate is {self.rate!r}; expected for example 60/minute or 5/second.") from error
        object.__setattr__(self, "cors_origins", origins.normal(self.cors_origins))
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ValueError("The token is empty, or has characters that no header can carry. Expected ASCII letters.")


class RefusedError(Exception):
    """A request that is not passed on."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None):
        """Says why: an HTTP status, a type and words for people, perhaps headers."""
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers or {}


def error_body(kind: str, message: str) -> bytes:
    """Returns the body of an error, as every route gives it."""
    return json.dumps({"error": {"message": message, "type": kind}}).encode()


class Protection:
    """Lets through what may pass, and counts it."""

    def __init__(self, app: ASGIApp, allowed: Limits, measures: Measures):
        """Stands before an app."""
        self._app, self._allowed, self._measures = app, allowed, measures
        self._rate = limits.parse(allowed.rate) if allowed.rate else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), _GONE
        asked_from = Headers(scope=scope).get("origin")

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if self._allows(asked_from):
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = _DOCS_POLICY if scope["path"] == "/docs" else _PAGE_POLICY
            async with asyncio.timeout(self._allowed.read_seconds):
                await send(message)

        async def refuse(error: RefusedError) -> None:
            # What is left of a body that is too large is not read.
            headers = error.headers | {"Connection": "close"}
            body = error_body(error.kind, error.message)
            await Response(body, error.status, headers, "application/json")(scope, receive, sending)

        try:
            try:
                headers = Headers(scope=scope)
                if sum(map(len, itertools.chain(*scope["headers"]))) > HEADER_BYTES:
                    raise RefusedError(431, "too_large", f"The headers are longer than {HEADER_BYTES} bytes.")
                self._check_host(headers)
                self._check_rate(scope)  # before the token, which is not to be guessed
                self._check_token(scope["path"], headers)
                receive = await self._receive_body(headers, receive)
            except RefusedError as error:
                await refuse(error)
                return
            await self._app(scope, receive, sending)
        except TimeoutError:
            logging.warning("A client read nothing for %.0f seconds; it was hung up on.", self._allowed.read_seconds)
        except Exception:
            logging.exception("%s %s failed.", scope["method"], _route(scope))
            if status != _GONE:  # it has begun to answer: the connection is closed
                raise
            await refuse(RefusedError(500, "internal", "Something went wrong here; the service's log says more."))
        finally:
            seconds = time.perf_counter() - start
            route = _route(scope)
            self._measures.requests.labels(route, str(status)).inc()
            self._measures.seconds.labels(route).observe(seconds)
            logging.info("%s %s %d %.0f ms", scope["method"], route, status, 1_000 * seconds)

    def _allows(self, origin: str | None) -> bool:
        """Returns whether another site's page may read the answer; Starlette's CORSMiddleware tells its browser so."""
        return origin is not None and bool({origin, origins.EVERY} & {*self._allowed.cors_origins})

    def _check_host(self, headers: Headers) -> None:
        """Refuses other names: a page of another site could give its own name this address."""
        if self._allowed.hosts and _name(headers.get("host", "")) not in map(_name, self._allowed.hosts):
            raise RefusedError(400, "invalid_request", "The service is not called by this name; see --allowed_hosts.")

    def _check_token(self, path: str, headers: Headers) -> None:
        if self._allowed.token is None or path in PUBLIC or path.startswith(("/static/", "/docs/")):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        expected = self._allowed.token.encode()
        # In constant time: how long it takes does not tell how much of the token is right.
        if not hmac.compare_digest(given.strip().encode("latin-1", "replace"), expected) or scheme.lower() != "bearer":
            message = "This service wants a token: Authorization: Bearer TOKEN. It is missing or wrong."
            raise RefusedError(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})

    def _check_rate(self, scope: Scope) -> None:
        if self._rate is None or not scope["path"].startswith("/v1/"):
            return
        client = scope["client"][0] if scope.get("client") else "unknown"
        if not self._limiter.hit(self._rate, client):
            reset = self._limiter.get_window_stats(self._rate, client).reset_time
            wait = max(1, math.ceil(reset - time.time()))
            message = f"More than {self._allowed.rate} requests of one client. Try again in {wait} seconds."
            raise RefusedError(429, "rate_limited", message, {"Retry-After": str(wait)})

    async def _receive_body(self, headers: Headers, receive: Receive) -> Receive:
        """Reads the whole body, and returns what gives it once more; then it tells when the client goes."""
        message = f"The body is longer than {self._allowed.body_bytes} bytes. Send less at once."
        if headers.get("content-length", "").isdecimal() and int(headers["content-length"]) > self._allowed.body_bytes:
            raise RefusedError(413, "too_large", message)
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(self._allowed.body_seconds):
                while more:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        break
                    parts.append(event.get("body", b""))
                    size, more = size + len(parts[-1]), event.get("more_body", False)
                    if size > self._allowed.body_bytes:
                        raise RefusedError(413, "too_large", message)
        except TimeoutError:
            raise RefusedError(408, "timeout", "The body did not arrive in time.") from None
        events = iter([{"type": "http.request", "body": b"".join(parts), "more_body": False}])

        async def again() -> Message:
            return next(events, None) or await receive()

        return again


def _name(host: str) -> str:
    """Returns a host without its port."""
    return re.sub(r":\d*$", "", host.strip()).lower()


def _route(scope: Scope) -> str:
    """Returns the route of a request; one that there is not could have any name, and would be a series of its own."""
    return getattr(scope.get("route"), "path", None) or "none"
