"""Who may ask, and when: size of the headers, host, origin, key, shutdown. Plain ASGI."""

import hmac
import logging
from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.authority import is_loopback, read_authority, same_origin
from app.dependencies import stopping_problem
from app.errors import ProblemError
from app.headers import API_KEY, AUTHORIZATION
from app.host.refusal import refuse
from app.settings import Settings

logger = logging.getLogger("gena.server")

_OPEN_PATHS = frozenset({"/health", "/", "/docs", "/openapi.json", "/favicon.ico", "/example.fa"})
_OPEN_PREFIX = "/static/"
_WHILE_STOPPING = frozenset({"/health", "/metrics"})
# Methods that change nothing and cost nothing: what they answer, another origin cannot read.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """Refuses too large headers, other hosts, foreign web pages, a wrong key, and the late.

    Args:
        max_header_bytes: of the request line and the headers. The parser keeps to it as well, but
            only for what does not arrive at once.
        hosts: names accepted in the Host header; None accepts any. A web page elsewhere can point
            its own name at this machine (DNS rebinding) and would otherwise read the answers.
        origins: of web pages that may post; `*` is any.
        api_key: None asks for none.
        is_stopping: whether new work is refused, because accepted work is being finished.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_header_bytes: int,
        hosts: frozenset[str] | None,
        origins: Collection[str],
        api_key: str | None,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self._max_header_bytes = max_header_bytes
        self._hosts = hosts
        self._origins = origins
        self._keys = _as_sent(api_key) if api_key is not None else ()
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
        path = scope["path"]
        if not self._answers_to(headers):
            return ProblemError("host.refused")
        if scope["method"] not in _SAFE_METHODS and not self._is_own_or_listed(headers):
            return ProblemError("origin.refused")
        if self._keys and not (path in _OPEN_PATHS or path.startswith(_OPEN_PREFIX)):
            given = _given_key(headers)
            if not any(hmac.compare_digest(given, key) for key in self._keys):
                return ProblemError("auth.invalid")
        if self._is_stopping() and path not in _WHILE_STOPPING:
            return stopping_problem()
        return None

    def _answers_to(self, headers: Headers) -> bool:
        """Whether Host, which HTTP/1.0 may leave out, is well formed and an accepted name."""
        given = headers.get("host")
        if given is None:
            return True
        host = read_authority(given)
        return host is not None and (self._hosts is None or host.name in self._hosts)

    def _is_own_or_listed(self, headers: Headers) -> bool:
        """Whether no web page sent this, or one of this origin, or one that is listed.

        Browsers say of every post where it comes from, and no page can make them say otherwise;
        other programs say nothing. The order of the questions is that of CrossOriginProtection
        in Go's net/http.
        """
        origin = ", ".join(headers.getlist("origin"))
        if "*" in self._origins or origin in self._origins:
            return True
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        host = read_authority(headers.get("host", ""))
        return not origin or (host is not None and same_origin(origin, host))


def accepted_hosts(listening_on: str, allowed: tuple[str, ...]) -> frozenset[str] | None:
    """Names for the Host header: those allowed, else this machine's on a loopback address."""
    if "*" in allowed or not (allowed or is_loopback(listening_on)):
        return None
    names = allowed or ("localhost", "127.0.0.1", "::1", listening_on)
    return frozenset(host.name for host in map(read_authority, names) if host is not None)


def warn_if_open(address: str, settings: Settings) -> None:
    """Log that other machines may ask, where no key keeps them out."""
    if settings.api_key is None and not is_loopback(address):
        logger.warning(
            "other machines reach this server, and no key is asked for: set GENA_API_KEY, or "
            "listen on 127.0.0.1",
            extra={"address": address},
        )


def _as_sent(key: str) -> list[bytes]:
    """A key as clients send it: curl in UTF-8, browsers and Python's libraries in Latin-1."""
    encodings = ("utf-8",) if any(ord(letter) > 255 for letter in key) else ("utf-8", "latin-1")
    return [key.encode(encoding) for encoding in encodings]


def _given_key(headers: Headers) -> bytes:
    scheme, _, value = headers.get(AUTHORIZATION, "").partition(" ")
    key = value.strip(" \t") if scheme.lower() == "bearer" else headers.get(API_KEY, "")
    # Starlette reads headers as Latin-1; this gives back the bytes that were sent.
    return key.encode("latin-1")


def headers_too_large(limit: int) -> ProblemError:
    """431: the request line and the headers have more bytes than `limit`."""
    return ProblemError(
        "headers.too_large",
        f"The limit is {limit} bytes with the request line.",
        limit=limit,
    )
