"""Identity, log and counts of every request, whatever becomes of it. Plain ASGI.

What is no HTTP never gets here: `app.host.server` answers it.
"""

import logging
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ProblemError
from app.headers import REQUEST_ID
from app.host.log_flood import ACCESS_LOGGER
from app.host.problem_answers import CLIENT_GONE, problem_response
from app.metrics import Metrics

logger = logging.getLogger("gena.server")
access_logger = logging.getLogger(ACCESS_LOGGER)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_USABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_UNMATCHED = "(no route)"
# Asked for every few seconds by programs; the log is for the rest.
_POLLED = frozenset({"/health", "/metrics"})

# The page and the documentation load from this origin only; answers load nothing.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class _Seen:
    """What passed of a request and its answer; bytes of the bodies."""

    status: int | None = None
    received: int = 0
    sent: int = 0
    complete: bool = False


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
        seen = _Seen()

        async def counted_receive() -> Message:
            message = await receive()
            seen.received += len(message.get("body", b""))
            return message

        async def stamped_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                seen.sent += len(message.get("body", b""))
                seen.complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, counted_receive, stamped_send)
        except Exception:
            if seen.status is not None:
                # A broken connection is the only way left to say that the answer is not whole.
                raise
            logger.exception("unexpected failure", extra={"request_id": request_id})
            answer = problem_response(ProblemError("internal"), request_id, scope["path"])
            await answer(scope, counted_receive, stamped_send)
        finally:
            self._record(scope, seen, time.perf_counter() - began)

    def _record(self, scope: Scope, seen: _Seen, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", _UNMATCHED)
        status = CLIENT_GONE if seen.status is None else seen.status
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.requests.labels(route=route, method=method, status=status).inc()
        self._metrics.request_seconds.labels(route=route).observe(seconds)
        self._metrics.request_bytes.labels(route=route).inc(seen.received)
        self._metrics.response_bytes.labels(route=route).inc(seen.sent)
        fields: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            "bytes_in": seen.received,
            "bytes_out": seen.sent,
            "client": (scope.get("client") or ("-",))[0],
            "request_id": scope["state"]["request_id"],
        }
        if not seen.complete:
            fields["incomplete"] = True
        level = logging.DEBUG if route in _POLLED else logging.INFO
        access_logger.log(level, "request", extra=fields)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex
