"""Answers on their way out: all there, or sent while they are computed."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.answers.writer import Chunk
from app.dependencies import unavailable_problem
from app.errors import ProblemError
from app.metrics import Metrics
from app.model.state import ModelUnavailableError

logger = logging.getLogger("gena.answers")

# The most that is handed to the socket at a time: of more, it takes a part and the rest is copied.
_CHUNK_BYTES = 2**18
# Less is put together first, as every message on its way has its price.
_SMALL_CHUNK_BYTES = 2**14


class ComputedAnswer(Response):
    """An answer that is all there, sent as it lies in memory.

    Args:
        chunks: at least one, none of them empty.
    """

    def __init__(
        self, chunks: Sequence[Chunk], *, headers: Mapping[str, str], media_type: str
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        length = sum(len(chunk) for chunk in chunks)
        self.init_headers({**headers, "Content-Length": str(length)})
        self._chunks = chunks

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        await _send_start(self, send)
        for chunk in self._chunks[:-1]:
            await _send_chunk(chunk, send)
        await _send_chunk(self._chunks[-1], send, more=False)


class StreamedAnswer(Response):
    """An answer that is sent while it is computed, for as long as it advances.

    It waits for the model, as long as its flow lets it, and for its client, as long as that does
    its part. When that fails, the response is left unfinished: the server then resets the
    connection, which every client sees (`app.host.protocol`).
    """

    def __init__(
        self,
        start: Sequence[Chunk],
        rest: AsyncIterator[Chunk],
        resources: AsyncExitStack,
        metrics: Metrics,
        *,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._metrics = metrics
        self._start = start
        self._rest = rest
        self._resources = resources

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send everything; returns without the last message when the answer fails."""
        async with self._resources:
            try:
                await self._send(send)
            except (ProblemError, ModelUnavailableError) as error:
                told = error if isinstance(error, ProblemError) else unavailable_problem(error)
                logger.warning("answer cut off: %s: %s", told.code, told.detail)
                self._metrics.answers_cut_off.labels(code=told.code).inc()
            except Exception:
                logger.exception("answer cut off")
                self._metrics.answers_cut_off.labels(code="internal").inc()

    async def _send(self, send: Send) -> None:
        await _send_start(self, send)
        for chunk in self._start:
            await _send_chunk(chunk, send)
        self._start = ()
        async for chunk in self._rest:
            await _send_chunk(chunk, send)
        await _send_chunk(b"", send, more=False)


async def _send_start(response: Response, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )


async def _send_chunk(chunk: Chunk, send: Send, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": more})


def sized(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The same bytes in pieces that the socket takes well; none of them is empty."""
    small: list[Chunk] = []
    for chunk in chunks:
        if len(chunk) < _SMALL_CHUNK_BYTES:
            small.append(chunk)
            continue
        if small:
            yield b"".join(small)
            small.clear()
        view = memoryview(chunk)
        for start in range(0, len(view), _CHUNK_BYTES):
            yield view[start : start + _CHUNK_BYTES]
    if any(small):
        yield b"".join(small)
