"""Runs the application with uvicorn: one process, its socket first, an orderly end."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.dependencies import services_of
from app.errors import ProblemError
from app.host.gate import headers_too_large
from app.host.listening import url_of
from app.host.problem_answers import problem_response
from app.model.lifecycle import Lifecycle
from app.settings import Settings

logger = logging.getLogger("gena.server")

# Past the grace period every waiting request has been answered with 503; this is for the bytes.
_LAST_BYTES_SECONDS = 2
_DROP_SECONDS = 2


def serve(app: FastAPI, settings: Settings, listener: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT; then finish what was accepted and return."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds) + _LAST_BYTES_SECONDS,
        h11_max_incomplete_event_size=settings.max_header_bytes,
    )
    logger.info("listening on %s", url_of(listener))
    asyncio.run(_Server(config, services_of(app).lifecycle).serve(sockets=[listener]))
    logger.info("stopped")


# The two classes below override methods of uvicorn that its documentation does not name. They were
# read in uvicorn 0.54.0, with h11 0.16.0; pyproject.toml keeps uvicorn below the next version.


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal, where uvicorn would end by the signal itself."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.should_exit:
            # The second signal. The children end with their life lines.
            os._exit(128 + sig)
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._lifecycle.begin_stop)


class _Protocol(H11Protocol):
    """What is not HTTP, or has too much of a header, hears so like everything else."""

    _refused = False

    def data_received(self, data: bytes) -> None:
        # The rest of what was refused is read and dropped: a connection that is closed on it
        # would be reset, and the client would never see why.
        if not self._refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        self._refused = True
        fault = sys.exception()
        hint = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else 400
        if hint == 431:
            error = headers_too_large(self.config.h11_max_incomplete_event_size or 0)
        else:
            error = ProblemError("request.malformed", msg)
        answer = problem_response(error)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=error.kind.status, headers=headers, reason=b""),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write_eof()
        self.loop.call_later(_DROP_SECONDS, self.transport.close)
