"""What surrounds every request: identity, limits, keys, the log and the counts. Plain ASGI."""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.host.problem_answers import CLIENT_GONE, problem_response
from app.metrics import Metrics
from app.problems import ProblemError

logger = logging.getLogger("gena.server")
access_logger = logging.getLogger("gena.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_UNMATCHED = "(no route)"

# The page and the documentation load from this origin only; answers load nothing.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OPEN_PATHS = frozenset({"/health", "/", "/docs", "/openapi.json", "/favicon.ico"})
_OPEN_PREFIX = "/static/"
_WHILE_STOPPING = frozenset({"/health", "/metrics"})

# After a refusal the rest of the body is read for a while, so that the client, which sends before
# it reads, sees the answer and not a reset connection.
_DRAIN_SECONDS, _DRAIN_BYTES = 5.0, 256 * 2**20


class Observe:
    """Request ids, security headers, one log line and the counts; unexpected faults end here.

    The log has the route's template, never the path or the query: both could hold DNA.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        seen: dict[str, int | None] = {"status": None, "received": 0, "sent": 0}
        complete = False

        async def counted_receive() -> Message:
            message = await receive()
            seen["received"] = (seen["received"] or 0) + len(message.get("body", b""))
            return message

        async def stamped_send(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                seen["sent"] = (seen["sent"] or 0) + len(message.get("body", b""))
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, counted_receive, stamped_send)
        except Exception:
            if seen["status"] is not None:
                # A broken connection is the only way left to say that the answer is not whole.
                raise
            logger.exception("unexpected failure", extra={"request_id": request_id})
            answer = problem_response(ProblemError("internal"), request_id)
            await answer(scope, counted_receive, stamped_send)
        finally:
            self._record(scope, seen, complete, time.perf_counter() - began)

    def _record(
        self, scope: Scope, seen: dict[str, int | None], complete: bool, seconds: float
    ) -> None:
        route = getattr(scope.get("route"), "path", _UNMATCHED)
        status = seen["status"] if seen["status"] is not None else CLIENT_GONE
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.requests.labels(route=route, method=method, status=status).inc()
        self._metrics.request_seconds.labels(route=route).observe(seconds)
        self._metrics.request_bytes.labels(route=route).inc(seen["received"] or 0)
        self._metrics.response_bytes.labels(route=route).inc(seen["sent"] or 0)
        fields: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            "bytes_in": seen["received"],
            "bytes_out": seen["sent"],
            "client": (scope.get("client") or ("-",))[0],
            "request_id": scope["state"]["request_id"],
        }
        if not complete:
            fields["incomplete"] = True
        # Asked for every few seconds by programs; the log is for the rest.
        level = logging.DEBUG if route in _WHILE_STOPPING else logging.INFO
        access_logger.log(level, "request", extra=fields)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def headers_too_large(limit: int) -> ProblemError:
    """431: the request line and the headers have more bytes than `limit`."""
    return ProblemError(
        "headers.too_large",
        f"The limit is {limit} bytes with the request line.",
        limit=limit,
    )


class Gate:
    """Refuses what has too large headers, is for another host or without the key, or comes late.

    Args:
        max_header_bytes: of the request line and the headers. The parser keeps to it as well, but
            only for what does not arrive at once.
        hosts: names accepted in the Host header; None accepts any. A web page elsewhere can point
            its own name at this machine (DNS rebinding) and would otherwise read the answers.
        api_key: None asks for none.
        stopping: the error for new work, None as long as it is taken.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_header_bytes: int,
        hosts: frozenset[str] | None,
        api_key: str | None,
        stopping: Callable[[], ProblemError | None],
    ) -> None:
        self._app = app
        self._max_header_bytes = max_header_bytes
        self._hosts = hosts
        self._api_key = api_key
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(refusal, scope, receive, send)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        line = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size = line + sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._max_header_bytes:
            return headers_too_large(self._max_header_bytes)
        headers = Headers(scope=scope)
        host = headers.get("host")
        if self._hosts is not None and host is not None and _host_name(host) not in self._hosts:
            return ProblemError("host.refused")
        path = scope["path"]
        if self._api_key is not None and not (path in _OPEN_PATHS or path.startswith(_OPEN_PREFIX)):
            # Starlette reads headers as Latin-1; this gives back the bytes that were sent.
            given = _given_key(headers).encode("latin-1")
            if not hmac.compare_digest(given, self._api_key.encode()):
                return ProblemError("auth.invalid")
        return None if path in _WHILE_STOPPING else self._stopping()


def accepted_hosts(listening_on: str, allowed: tuple[str, ...]) -> frozenset[str] | None:
    """Names for the Host header: those allowed, else this machine's on a loopback address."""
    if "*" in allowed:
        return None
    if allowed:
        return frozenset(_host_name(name) for name in allowed)
    if listening_on != "localhost":
        try:
            if not ipaddress.ip_address(listening_on).is_loopback:
                return None
        except ValueError:
            return None
    return frozenset({"localhost", "127.0.0.1", "::1", listening_on})


def _host_name(host: str) -> str:
    """`[::1]:8000` -> `::1`, `Localhost:8000` -> `localhost`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    # More than one colon without brackets is an IPv6 address and nothing else.
    name = host.partition(":")[0] if host.count(":") == 1 else host
    return name.lower().rstrip(".")


def _given_key(headers: Headers) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


class LimitBody:
    """Refuses a body that is too large: at its announcement, else while it is counted."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            await _refuse(self._too_large(), scope, receive, send)
            return
        received = 0
        over = started = False

        async def counted_receive() -> Message:
            nonlocal received, over
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                over = True
                raise self._too_large()
            return message

        async def honest_send(message: Message) -> None:
            nonlocal started
            if over and not started:
                # Whatever the application makes of its broken input, this is the answer.
                raise self._too_large()
            started = True
            await send(message)

        try:
            await self._app(scope, counted_receive, honest_send)
        except Exception:
            if not over or started:
                raise
            await _refuse(self._too_large(), scope, receive, send)

    def _too_large(self) -> ProblemError:
        return ProblemError(
            "body.too_large",
            f"The limit is {self._max_bytes} bytes.",
            limit=self._max_bytes,
        )


async def _refuse(error: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, then read what the client still sends, for a while, and close the connection."""
    headers = Headers(scope=scope)
    has_body = "content-length" in headers or "transfer-encoding" in headers
    # Who waits for "100 Continue" has sent nothing yet and will not.
    drains = has_body and "expect" not in headers
    if has_body:
        error.headers["Connection"] = "close"
    answer = problem_response(error, scope.get("state", {}).get("request_id"))
    await send(
        {"type": "http.response.start", "status": error.kind.status, "headers": answer.raw_headers}
    )
    await send({"type": "http.response.body", "body": answer.body, "more_body": drains})
    if drains:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await _drain(receive)
        await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    drained, more = 0, True
    while more and drained < _DRAIN_BYTES:
        message = await receive()
        drained += len(message.get("body", b""))
        more = message.get("more_body", False)


class CancelWhenGone:
    """Cancels the work for a client that has left, so that its windows leave the queue.

    A plain handler would compute to the end for nobody.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        work = asyncio.current_task()
        assert work is not None
        gone = asyncio.Event()
        complete = cancelled = False
        watcher: asyncio.Task[None] | None = None

        async def watch() -> None:
            nonlocal cancelled
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            if not complete:
                cancelled = True
                work.cancel()

        async def shared_receive() -> Message:
            nonlocal watcher
            if watcher is not None:
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                watcher = asyncio.create_task(watch())
            return message

        async def noted_send(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                complete = True
            await send(message)

        try:
            await self._app(scope, shared_receive, noted_send)
        except asyncio.CancelledError:
            if not cancelled:
                raise
            work.uncancel()
        finally:
            if watcher is not None:
                watcher.cancel()
