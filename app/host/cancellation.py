"""The end of work whose client has left. Plain ASGI."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CancelWhenGone:
    """Cancels the work for a client that has left, so that its windows leave the queue.

    A plain handler would compute to the end for nobody.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        work = asyncio.current_task()
        assert work is not None
        gone = asyncio.Event()
        complete = cancelled = False
        watcher: asyncio.Task[None] | None = None

        async def watch() -> None:
            nonlocal cancelled
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            if not complete:
                cancelled = True
                work.cancel()

        async def shared_receive() -> Message:
            nonlocal watcher
            if watcher is not None:
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                watcher = asyncio.create_task(watch())
            return message

        async def noted_send(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                complete = True
            await send(message)

        try:
            await self._app(scope, shared_receive, noted_send)
        except asyncio.CancelledError:
            if not cancelled:
                raise
            work.uncancel()
        finally:
            if watcher is not None:
                watcher.cancel()
