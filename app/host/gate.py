"""Who may ask, and when: size of the headers, host, key, shutdown. Plain ASGI."""

import hmac
import ipaddress
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.dependencies import stopping_problem
from app.errors import ProblemError
from app.headers import API_KEY, AUTHORIZATION
from app.host.refusal import refuse

_OPEN_PATHS = frozenset({"/health", "/", "/docs", "/openapi.json", "/favicon.ico"})
_OPEN_PREFIX = "/static/"
_WHILE_STOPPING = frozenset({"/health", "/metrics"})


class Gate:
    """Refuses what has too large headers, is for another host or without the key, or comes late.

    Args:
        max_header_bytes: of the request line and the headers. The parser keeps to it as well, but
            only for what does not arrive at once.
        hosts: names accepted in the Host header; None accepts any. A web page elsewhere can point
            its own name at this machine (DNS rebinding) and would otherwise read the answers.
        api_key: None asks for none.
        is_stopping: whether new work is refused, because accepted work is being finished.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_header_bytes: int,
        hosts: frozenset[str] | None,
        api_key: str | None,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self._max_header_bytes = max_header_bytes
        self._hosts = hosts
        self._api_key = api_key
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refuse(refusal, scope, receive, send)

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
        if self._is_stopping() and path not in _WHILE_STOPPING:
            return stopping_problem()
        return None


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
    scheme, _, value = headers.get(AUTHORIZATION, "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else headers.get(API_KEY, "")


def headers_too_large(limit: int) -> ProblemError:
    """431: the request line and the headers have more bytes than `limit`."""
    return ProblemError(
        "headers.too_large",
        f"The limit is {limit} bytes with the request line.",
        limit=limit,
    )
