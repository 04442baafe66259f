"""The end of the grace period: whoever has no answer by then hears why. Plain ASGI."""

import asyncio

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.dependencies import stopping_problem
from app.host.refusal import refuse


class Unanswered:
    """The requests whose answer has not begun."""

    def __init__(self) -> None:
        self.timeouts: set[asyncio.Timeout] = set()

    def end(self) -> None:
        """End them; their clients hear that the service is shutting down."""
        now = asyncio.get_running_loop().time()
        for each in self.timeouts:
            each.reschedule(now)


class EndWithGrace:
    """Refuses what is still unanswered when `unanswered` is ended.

    What waits for the model ends by itself then; this is for a body that is still coming in, or
    takes long to read.
    """

    def __init__(self, app: ASGIApp, unanswered: Unanswered) -> None:
        self._app = app
        self._unanswered = unanswered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timeouts = self._unanswered.timeouts

        async def noted_send(message: Message) -> None:
            timeouts.discard(timeout)
            await send(message)

        try:
            async with asyncio.timeout(None) as timeout:
                timeouts.add(timeout)
                await self._app(scope, receive, noted_send)
        except TimeoutError:
            if not timeout.expired():
                raise
            await refuse(stopping_problem(), scope, receive, send)
        finally:
            timeouts.discard(timeout)


def unanswered_of(app: FastAPI) -> Unanswered:
    """What `create_app` gave the application."""
    unanswered: Unanswered = app.state.unanswered
    return unanswered
