"""The middleware before the routes: headers, token, rate, size of bodies, counters, log.

Plain ASGI: it holds no streamed answer back, and logs nothing of a request's body.
"""

import asyncio
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
from docproduct.web.settings import Limits

PUBLIC = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")  # need no token
_PAIRS = "/v1/pairs"  # changes below this path need the token for changes
_GONE = 499  # the status in the log of a client that left before it was answered
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


class RefusedError(Exception):
    """A request that is refused."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None):
        """Takes an HTTP status, a type, a message for people, and further headers."""
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers or {}


def error_body(kind: str, message: str) -> bytes:
    """Returns the body of an error, the same for every route."""
    return json.dumps({"error": {"message": message, "type": kind}}).encode()


class Protection:
    """Refuses requests beyond the limits, and counts all."""

    def __init__(self, app: ASGIApp, allowed: Limits, measures: Measures):
        """Wraps an app."""
        self._app, self._allowed, self._measures = app, allowed, measures
        self._rate = limits.parse(allowed.rate) if allowed.rate else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), _GONE
        origin = Headers(scope=scope).get("origin")

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if self._allows(origin):
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = _DOCS_POLICY if scope["path"] == "/docs" else _PAGE_POLICY
            async with asyncio.timeout(self._allowed.read_seconds):
                await send(message)

        async def refuse(error: RefusedError) -> None:
            # The rest of a body that is too large is not read.
            headers = error.headers | {"Connection": "close"}
            body = error_body(error.kind, error.message)
            await Response(body, error.status, headers, "application/json")(scope, receive, sending)

        try:
            try:
                headers = Headers(scope=scope)
                if sum(map(len, itertools.chain(*scope["headers"]))) > HEADER_BYTES:
                    raise RefusedError(431, "too_large", f"The headers are longer than {HEADER_BYTES} bytes.")
                self._check_host(headers)
                self._check_rate(scope)  # before the token, so that it cannot be guessed by many attempts
                self._check_token(scope, headers)
                receive = await self._receive_body(headers, receive)
            except RefusedError as error:
                await refuse(error)
                return
            await self._app(scope, receive, sending)
        except TimeoutError:
            logging.warning("A client read nothing for %.0f seconds; it was disconnected.", self._allowed.read_seconds)
        except Exception:
            logging.exception("%s %s failed.", scope["method"], _route(scope))
            if status != _GONE:  # the answer has begun: the server closes the connection
                raise
            await refuse(RefusedError(500, "internal", "Something went wrong here; the service's log says more."))
        finally:
            seconds = time.perf_counter() - start
            route = _route(scope)
            self._measures.requests.labels(route, str(status)).inc()
            self._measures.seconds.labels(route).observe(seconds)
            logging.info("%s %s %d %.0f ms", scope["method"], route, status, 1_000 * seconds)

    def _allows(self, origin: str | None) -> bool:
        """Returns whether a page of this origin may read the answer; Starlette's CORSMiddleware tells its browser."""
        return origin is not None and bool({origin, origins.EVERY} & {*self._allowed.cors_origins})

    def _check_host(self, headers: Headers) -> None:
        """Refuses other names: the owner of another site could let its name point to this address."""
        if self._allowed.hosts and _name(headers.get("host", "")) not in map(_name, self._allowed.hosts):
            raise RefusedError(400, "invalid_request", "The service is not called by this name; see --allowed_hosts.")

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        path, allowed = scope["path"], self._allowed
        changes = path.startswith(_PAIRS) and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if path in PUBLIC or path.startswith(("/static/", "/docs/")) or not (allowed.token or changes):
            return
        if changes and allowed.write_token is None:
            message = "The pairs of this service cannot be changed. Start it with --live and a token for changes."
            raise RefusedError(403, "forbidden", message)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        expected = {allowed.write_token} if changes else {allowed.token, allowed.write_token}
        # In constant time, so that the time does not tell how much of the token is right.
        sent = given.strip().encode("latin-1", "replace")
        matches = [hmac.compare_digest(sent, token.encode()) for token in expected - {None}]
        if not any(matches) or scheme.lower() != "bearer":
            which = "the token for changes" if changes else "a token"
            message = f"This service wants {which}: Authorization: Bearer TOKEN. It is missing or wrong."
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
        """Reads the whole body; returns a function that gives it again, then waits until the client leaves."""
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
    """Returns the route of a request, or none. An unknown path is not counted by its name: it could be any."""
    return getattr(scope.get("route"), "path", None) or "none"
