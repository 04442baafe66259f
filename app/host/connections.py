"""The connections of the server: as many as there are descriptors for, none that only waits.

asyncio's own loop accepts whatever comes. Without a descriptor left it logs and tries again, once
for each place of its backlog, and each of these tries does the same: megabytes of log a second.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from heapq import nsmallest

from app.errors import ProblemError
from app.host.protocol import HttpProtocol

logger = logging.getLogger("gena.server")

_AT_A_TIME = 128
# Connections beyond the most, which only hear that there is no place.
_REFUSED = 16
# Of the most, closed at a time to make room: looking for them takes a while when they are many.
_SHARE_CLOSED = 1 / 16
_LOOK_SECONDS = 0.5
# A client that has just come is about to send its request.
_ARRIVAL_SECONDS = 0.5
_RETRY_SECONDS = 1.0


class Connections:
    """Those of the listening sockets; for uvicorn it takes the place of asyncio's server.

    A new connection takes the place of those that have been idle longest. Where none is idle it
    hears so.

    Args:
        most: connections at a time.
        make: makes one; its argument is to be called when it is lost.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        most: int,
        make: Callable[[Callable[[HttpProtocol], None]], HttpProtocol],
    ) -> None:
        self._listeners = listeners
        self._most = most
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._open: set[HttpProtocol] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._retry: asyncio.TimerHandle | None = None
        for listener in listeners:
            listener.setblocking(False)
        self._go_on()
        self._look()

    def close(self) -> None:
        """Take those that have come so far, and no more."""
        for listener in self._listeners:
            self._accept(listener)
        self._pause()
        self._is_closed = True

    async def wait_closed(self) -> None:
        """Nothing to wait for; uvicorn asks."""

    def cut(self) -> None:
        """End all of them, in the middle of whatever they do."""
        for each in list(self._open):
            each.transport.abort()

    def _look(self) -> None:
        # First: whatever happens to one of them, the others are looked at again.
        self._loop.call_later(_LOOK_SECONDS, self._look)
        for each in list(self._open):
            try:
                each.look()
                if self._is_closed and self._is_settled(each):
                    each.close()
            except Exception:
                logger.exception("a connection is cut off: looking at it failed")
                each.transport.abort()

    def _go_on(self) -> None:
        if not self._is_closed:
            for listener in self._listeners:
                self._loop.add_reader(listener, self._accept, listener)

    def _pause(self, seconds: float | None = None) -> None:
        """Accept no more until a connection is lost, at the latest after so many seconds."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = None if seconds is None else self._loop.call_later(seconds, self._go_on)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_A_TIME):
            if self._is_full():
                self._pause(_ARRIVAL_SECONDS)
                return
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                logger.error("no connection can be accepted: %s", error.strerror)
                self._pause(_RETRY_SECONDS)
                return
            self._taken += 1
            task = self._loop.create_task(self._take_in(connection, self._taken > self._most))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_full(self) -> bool:
        """Whether the next one has to wait, be it for the moment in which idle ones are closed."""
        if self._taken < self._most:
            return False
        return self._make_room() or self._taken >= self._most + _REFUSED

    def _make_room(self) -> bool:
        """Close those that have been idle longest; False where none is idle or about to send."""
        settled = [each for each in self._open if self._is_settled(each)]
        if settled:
            logger.warning("all %d connections are taken: idle ones are closed", self._most)
        count = 1 + int(_SHARE_CLOSED * self._most)
        for each in nsmallest(count, settled, key=lambda connection: connection.still_since):
            each.close()
        return bool(settled or self._tasks) or any(each.is_idle for each in self._open)

    def _is_settled(self, connection: HttpProtocol) -> bool:
        """Whether it is idle, and not because it has only just come."""
        still_seconds = self._loop.time() - connection.still_since
        return connection.is_idle and (connection.has_served or still_seconds >= _ARRIVAL_SECONDS)

    async def _take_in(self, connection: socket.socket, is_too_much: bool) -> None:
        try:
            _, protocol = await self._loop.connect_accepted_socket(
                lambda: self._make(self._leave), connection
            )
        except OSError:
            # It was gone before it was looked at.
            connection.close()
            self._taken -= 1
            return
        if not protocol.transport.is_closing():
            self._open.add(protocol)
        if is_too_much:
            problem = f"All {self._most} connections that its limit of open files allows are busy."
            protocol.refuse(ProblemError("server.busy", problem, retry_after=1))

    def _leave(self, protocol: HttpProtocol) -> None:
        self._open.discard(protocol)
        self._taken -= 1
        self._go_on()
