"""The size of a body, as sent. Plain ASGI."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ProblemError
from app.host.refusal import refuse


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
            await refuse(self._too_large(), scope, receive, send)
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
            await refuse(self._too_large(), scope, receive, send)

    def _too_large(self) -> ProblemError:
        return ProblemError(
            "body.too_large",
            f"The limit is {self._max_bytes} bytes.",
            limit=self._max_bytes,
        )
