"""Runs the application with uvicorn: one process, its socket first, an orderly end."""

import asyncio
import atexit
import contextlib
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.dependencies import services_of
from app.host.connections import Connections
from app.host.descriptors import most_connections, raise_limit
from app.host.grace import unanswered_of
from app.host.listening import urls_of
from app.host.protocol import HttpProtocol
from app.model.state import State
from app.settings import Settings

logger = logging.getLogger("gena.server")

# The end of a terminal, too; it tells whoever runs in it more than once.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Past the grace period every waiting request has been answered with 503; this is for the bytes.
_LAST_BYTES_SECONDS = 2


def serve(
    app: FastAPI,
    settings: Settings,
    listeners: Sequence[socket.socket],
    *,
    for_a_person: bool = False,
) -> State | None:
    """Answer until SIGTERM, SIGINT or SIGHUP; then finish what was accepted and return.

    Args:
        for_a_person: who sits before a terminal, and would wait for a model that was mistyped. The
            server ends by itself where there is none for a reason that lasts, and never was one.

    Returns:
        That failure, if it ended by itself.
    """
    config = uvicorn.Config(
        app,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        # One second more than the server takes by itself.
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds) + _LAST_BYTES_SECONDS + 1,
        h11_max_incomplete_event_size=settings.max_header_bytes,
    )
    most = most_connections(raise_limit())
    logger.info("listening on %s", urls_of(listeners))
    server = _Server(config, app, settings, listeners, most, for_a_person=for_a_person)
    asyncio.run(server.serve(sockets=list(listeners)))
    logger.info("stopped")
    return server.failure


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal, where uvicorn would end by the signal itself.

    It overrides methods of uvicorn that its documentation does not name: see `app.host.protocol`.

    Args:
        most: connections at a time.
        for_a_person: as `serve` takes it.

    Attributes:
        failure: what it ended with by itself.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        settings: Settings,
        listeners: Sequence[socket.socket],
        most: int,
        *,
        for_a_person: bool,
    ) -> None:
        super().__init__(config)
        self._lifecycle, self._unanswered = services_of(app).lifecycle, unanswered_of(app)
        self._settings = settings
        self._listeners = listeners
        self._most = most
        self._for_a_person = for_a_person
        self.failure: State | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # by `nohup`
                signal.signal(number, self.handle_exit)
        # They are not given back: a second signal would otherwise end the process by itself while
        # the loop, the threads and the interpreter come to their end.
        atexit.register(_ignore_signals)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.should_exit:
            if sig != signal.SIGHUP:
                # The second signal. The children end with their life lines.
                os._exit(128 + sig)
            return
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._begin_stop)

    def _begin_stop(self) -> None:
        self._lifecycle.begin_stop()
        grace = self._settings.grace_seconds
        self._loop.call_later(grace, self._unanswered.end)
        self._loop.call_later(grace + _LAST_BYTES_SECONDS, lambda: self._connections.cut())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        await super().startup(sockets=[])
        self._connections = Connections(self._listeners, self._most, self._make_connection)
        self.servers = [self._connections]  # type: ignore[list-item]
        if self._for_a_person:
            self._watch = asyncio.create_task(self._end_with_the_model())

    async def _end_with_the_model(self) -> None:
        self.failure = await self._lifecycle.failed_to_begin()
        self.should_exit = True
        self._begin_stop()

    def _make_connection(self, on_lost: Callable[[HttpProtocol], None]) -> HttpProtocol:
        return HttpProtocol(
            self.config,
            self.server_state,
            self.lifespan.state,
            stall_seconds=self._settings.stall_seconds,
            on_lost=on_lost,
        )


def _ignore_signals() -> None:
    """When the interpreter calls this it has waited for its threads: what is left is short."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
