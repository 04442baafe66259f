"""An answer before a request was read: seen by the client, which may still be sending."""

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.errors import ProblemError
from app.host.problem_answers import problem_response

# After such an answer the rest of the body is read for a while, so that the client, which sends
# before it reads, sees the answer and not a reset connection.
_DRAIN_SECONDS, _DRAIN_BYTES = 5.0, 256 * 2**20
_SILENCE_SECONDS = 1.0


async def refuse(error: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, then read what the client still sends, for a while, and close the connection."""
    headers = Headers(scope=scope)
    has_body = "content-length" in headers or "transfer-encoding" in headers
    # Who waits for "100 Continue" has sent nothing yet and will not.
    drains = has_body and "expect" not in headers
    if has_body:
        error.headers["Connection"] = "close"
    answer = problem_response(error, scope.get("state", {}).get("request_id"), scope["path"])
    await send(
        {"type": "http.response.start", "status": error.kind.status, "headers": answer.raw_headers}
    )
    await send({"type": "http.response.body", "body": answer.body, "more_body": drains})
    if drains:
        await drain(receive)
        await send({"type": "http.response.body", "body": b""})


async def drain(receive: Receive) -> None:
    """Read what the client still sends of its body, for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await _drain(receive)


async def _drain(receive: Receive) -> None:
    drained, more = 0, True
    while more and drained < _DRAIN_BYTES:
        async with asyncio.timeout(_SILENCE_SECONDS):
            message = await receive()
        drained += len(message.get("body", b""))
        more = message.get("more_body", False)
