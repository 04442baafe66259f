"""An answer that came before the whole body was read: its client sees it, too. Plain ASGI."""

import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ProblemError
from app.host.refusal import drain


class ReadTheRest:
    """Reads what is left of a body, for a while, before an answer that closes the connection ends.

    Of HTTP/1.0, or where the client asks for it as Python's urllib always does: a client that still
    sends would find the connection reset, and the answer lost. One that is kept is read anyway.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        closes = scope["http_version"] == "1.0" or "close" in headers.get("connection", "").lower()
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        has_rest = has_body and closes
        # Who waits for "100 Continue", which the first look at the body sends, sends nothing yet.
        is_coming = "expect" not in headers

        async def noted_receive() -> Message:
            nonlocal has_rest, is_coming
            is_coming = True
            message = await receive()
            has_rest = has_rest and message.get("more_body", False)
            return message

        async def patient_send(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last and has_rest and is_coming:
                await send({**message, "more_body": True})
                # A body over its limit has its answer already.
                with contextlib.suppress(ProblemError):
                    await drain(noted_receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, noted_receive, patient_send)
