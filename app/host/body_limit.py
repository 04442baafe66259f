"""The bounds of a body: its size, as sent, and how long it may stand still. Plain ASGI."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ProblemError, bytes_of_body, request_timeout
from app.host.refusal import refuse


class LimitBody:
    """Refuses a body that is too large, at its announcement or while it is counted, or that stalls.

    Only time counts in which the application waits for more of it.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, stall_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            await refuse(self._too_large(), scope, receive, send)
            return
        received = 0
        complete = started = False
        refusal: ProblemError | None = None

        async def bounded_receive() -> Message:
            nonlocal received, complete, refusal
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    message = await receive()
            except TimeoutError:
                after = bytes_of_body(received, length if length.isdecimal() else "")
                refusal = request_timeout(self._stall_seconds, after)
                raise refusal from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._max_bytes:
                refusal = self._too_large()
                raise refusal
            return message

        async def honest_send(message: Message) -> None:
            nonlocal started
            if refusal is not None and not started:
                # Whatever the application makes of its broken input, this is the answer.
                raise refusal
            started = True
            await send(message)

        try:
            await self._app(scope, bounded_receive, honest_send)
        except Exception:
            if refusal is None or started:
                raise
            await refuse(refusal, scope, receive, send)

    def _too_large(self) -> ProblemError:
        return ProblemError(
            "body.too_large",
            f"The limit is {self._max_bytes} bytes.",
            limit=self._max_bytes,
        )
