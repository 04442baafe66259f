"""HTTP/1.1 on one connection: uvicorn's protocol, and what it leaves open.

It overrides methods of uvicorn that its documentation does not name. They were read in uvicorn
0.54.0, with h11 0.16.0; pyproject.toml keeps uvicorn below the next version.
"""

import asyncio
import contextlib
import logging
import re
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from app.errors import ProblemError, bytes_of_body, request_timeout
from app.host.gate import headers_too_large
from app.host.problem_answers import problem_response

logger = logging.getLogger("gena.server")

_DROP_SECONDS = 2
# Of an answer, what the kernel takes before it has sent it. By default that is megabytes on Linux,
# which tells of room when a third is free: a slow reader would seem to stand still for minutes.
_UNSENT_BYTES = 2**17
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.IGNORECASE)


class HttpProtocol(H11Protocol):
    """Bounds what a silent client holds; problems are told even before there is a request.

    Args:
        stall_seconds: a client that has its turn and does nothing for so long is cut off.
        on_lost: called when the connection is.

    Attributes:
        still_since: time of the event loop since which the client has had its turn and done
            nothing.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        stall_seconds: float,
        on_lost: Callable[["HttpProtocol"], None],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.conn = self._exchanges = _Exchanges(
            config.h11_max_incomplete_event_size or 0, self._on_send
        )
        self.still_since = self.loop.time()
        self._stall_seconds = stall_seconds
        self._on_lost = on_lost
        self._refused = False
        self._sends_no_more = self._has_probed = False
        self._unsent = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress, nor an answer on its way."""
        waits = self.cycle is None or self.cycle.response_complete
        gone = self._refused or self.transport.is_closing()
        return waits and not gone and not self.transport.get_write_buffer_size()

    @property
    def has_served(self) -> bool:
        """Whether it has had a request."""
        return self.cycle is not None

    def close(self) -> None:
        """Close it, idle as it is."""
        self.timeout_keep_alive_handler()

    def look(self) -> None:
        """Notice whether the client does its part. Called every second or so."""
        if self._sends_no_more:
            self._look_for_client()
        unsent = self.transport.get_write_buffer_size()
        # While the application works or waits for a body, time is others' business.
        has_turn = 0 < self._unsent <= unsent if unsent else self.is_idle
        self._unsent = unsent
        if not has_turn:
            self.still_since = self.loop.time()
        elif self.loop.time() - self.still_since >= self._stall_seconds:
            self._give_up()

    def _give_up(self) -> None:
        if self._unsent:
            logger.warning("an answer that is not taken is cut off")
            self.transport.abort()
        elif self._has_begun():
            self.refuse(request_timeout(self._stall_seconds))
        else:
            self.close()

    def _look_for_client(self) -> None:
        """Tell whether a client that sends no more still waits for its answer.

        Where it has closed the connection, its system resets it when something is sent; a client
        of HTTP/1.1 skips an interim answer that it did not ask for (RFC 9110, 15.2).
        """
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        elif self.conn.our_state is h11.SEND_RESPONSE and not self._has_probed:
            self._has_probed = True
            if self.scope["http_version"] == "1.1":
                probe = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                self.transport.write(self.conn.send(probe) or b"")

    def _has_begun(self) -> bool:
        """Whether a part of a header is there."""
        return self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])

    def refuse(self, error: ProblemError) -> None:
        """Answer, where no answer has begun, and close the connection.

        What still comes is read and dropped for a while: a connection that is closed on it would
        be reset, and the client would never see why.
        """
        self._refused = True
        if self.cycle is not None:
            # The application, where it is at work, finds that the client has left.
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        error.headers["Connection"] = "close"
        answer = problem_response(error)
        is_head = self.conn.our_state is h11.SEND_RESPONSE and self.scope["method"] == "HEAD"
        for event in (
            h11.Response(status_code=error.kind.status, headers=answer.raw_headers, reason=b""),
            h11.Data(data=b"" if is_head else bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        # A client that has just reset the connection waits for no end.
        with contextlib.suppress(OSError):
            self.transport.write_eof()
        self.loop.call_later(_DROP_SECONDS, self.transport.close)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # An error means that it is gone again: what follows notices.
        with contextlib.suppress(AttributeError, OSError):
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES
            )
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.conn.their_state is h11.IDLE and not self._has_begun():
            self.still_since = self.loop.time()
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays: a client may end asking and still wait for answers.

        Whether it has left altogether shows when something is sent to it.
        """
        self._sends_no_more = True
        if self._refused:
            return False
        is_answered = self.cycle is None or self.cycle.response_complete
        if self._has_begun() if is_answered else self.conn.their_state is h11.SEND_BODY:
            # The rest will not come.
            self.refuse(self._cut_short())
        return not (is_answered or self._refused)

    def _cut_short(self) -> ProblemError:
        if self.conn.their_state is h11.IDLE:
            n_bytes = len(self.conn.trailing_data[0])
            told = f"It ended within its headers, after {n_bytes} bytes."
            return ProblemError("request.cut_short", told, count=n_bytes)
        received = self._exchanges.received
        announced = dict(self.headers).get(b"content-length", b"").decode()
        told = bytes_of_body(received, announced, ", before its last chunk")
        return ProblemError("request.cut_short", f"Its body ended after {told}.", count=received)

    def resume_writing(self) -> None:
        self.still_since = self.loop.time()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_lost(self)

    # What uvicorn calls.

    def _on_send(self, event: h11.Event) -> None:
        """While an answer of unknown length is on its way, its end is no orderly one.

        Whatever ends it then, be it the end of this process, resets the connection: HTTP/1.0, which
        proxies speak, takes a connection that is closed for the end of the answer.
        """
        if isinstance(event, h11.Response):
            names = {name for name, _ in event.headers}
            if b"content-length" not in names and self.scope["method"] != "HEAD":
                self._reset_at_close(True)
        elif isinstance(event, h11.EndOfMessage):
            self._reset_at_close(False)

    def _reset_at_close(self, on: bool) -> None:
        # Gone already, where it fails.
        with contextlib.suppress(AttributeError, OSError):
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0)
            )

    def _should_upgrade(self) -> bool:
        """Nothing is offered to upgrade to, and nobody needs to be advised to install it."""
        return False

    def shutdown(self) -> None:
        # Who has just come is about to ask, and hears that the service is shutting down.
        if self.has_served:
            super().shutdown()

    def on_response_complete(self) -> None:
        self.still_since = self.loop.time()
        super().on_response_complete()
        # With nothing more to answer after this one, or only a part of a request.
        if self._sends_no_more and not self.eof_received():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002, it may change with the version
        fault = sys.exception()
        hint = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else 400
        if hint == 431:
            self.refuse(headers_too_large(self.config.h11_max_incomplete_event_size or 0))
        else:
            self.refuse(ProblemError("request.malformed"))


class _Exchanges(h11.Connection):
    """Requests in the one form that the application knows, whichever they came in.

    Args:
        max_size: bytes of what is no whole event yet.
        on_send: called with every event before it is sent.

    Attributes:
        received: bytes of the body of the last request, so far.
    """

    def __init__(self, max_size: int, on_send: Callable[[h11.Event], None]) -> None:
        super().__init__(h11.SERVER, max_size)
        self._on_send = on_send
        self.received = 0

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        self._on_send(event)
        return super().send(event)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.received = 0
            return _normal(event)
        if isinstance(event, h11.Data):
            self.received += len(event.data)
        return event


def _normal(request: h11.Request) -> h11.Request:
    target, headers = request.target, list(request.headers)
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute:
        # The authority counts, not the Host header (RFC 9112, 3.2.2).
        authority, rest = absolute.groups(b"")
        target = rest if rest.startswith(b"/") else b"/" + rest
        headers = [each for each in headers if each[0] != b"host"] + [(b"host", authority)]
    has_two_ends = {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}
    if has_two_ends:
        # Whoever stands between may have seen the other end of the body: what follows it is not to
        # be trusted (RFC 9112, 6.1).
        headers = [each for each in headers if each[0] != b"content-length"] + [CLOSE_HEADER]
    if not absolute and not has_two_ends:
        return request
    return h11.Request(
        method=request.method, target=target, headers=headers, http_version=request.http_version
    )
