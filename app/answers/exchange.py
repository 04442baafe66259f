"""From a request to its answer: in time, and whole or visibly broken.

A small answer is computed before its first byte is sent, so that whatever fails is a problem
document. A big one is sent while it is computed, once its first part is there; when it fails
later the connection is cut, which every client sees.
"""

import asyncio
import logging
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.answers.formats import WRITERS, Answer, Chunk, Writer, negotiate
from app.dependencies import Services, unavailable_problem
from app.inference.engine import Predictor, feature_blocks
from app.inference.prepare import Job, Limits, prepare
from app.model.flow import Flow
from app.model.lifecycle import ReadyModel
from app.model.state import ModelUnavailableError
from app.problems import ProblemError
from app.requests.bodies import open_decoded, receive_body
from app.requests.schemas import (
    Pooling,
    SubmittedSequences,
    check_format,
    choose,
    conflict,
    options_from_form,
)
from app.requests.sequences import read_submission

T = TypeVar("T")

log = logging.getLogger("gena.answers")

# An answer up to here is computed before it is sent.
_SMALL_BYTES = 8 * 2**20
_SMALL_WINDOWS = 16
# The most that is handed to the socket at a time: of more, it takes a part and the rest is copied.
_CHUNK_BYTES = 2**18
# Less is put together first, as every message on its way has its price.
_SMALL_CHUNK_BYTES = 2**14
# Bodies above this wait for each other, so that a single sequence always finds a thread.
_BULK_BYTES = 2**18


@dataclass
class Timings:
    """Seconds that the stages of this request took, for Server-Timing."""

    stages: dict[str, float] = field(default_factory=dict)

    def header(self) -> str:
        """As the browser's developer tools read it."""
        return ", ".join(f"{name};dur={1000 * s:.2f}" for name, s in self.stages.items())


class Exchange:
    """One request on its way to an answer."""

    def __init__(self, request: Request, model: ReadyModel, services: Services) -> None:
        self.request = request
        self.model = model
        self.settings = services.settings
        self.cache = services.cache
        self.metrics = services.metrics
        self._bulk_threads = services.bulk_threads
        self.timings = Timings()
        self._deadline = time.monotonic() + services.settings.deadline_seconds
        _refuse_repeated_options(request)

    @property
    def limits(self) -> Limits:
        """Bounds of this request."""
        settings = self.settings
        return Limits(settings.max_records, settings.max_record_bases, settings.max_request_tokens)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - time.monotonic())

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Bounds what is awaited inside by the deadline.

        Raises:
            ProblemError: 504 deadline.exceeded.
        """
        try:
            async with asyncio.timeout(self.remaining):
                yield
        except TimeoutError:
            raise self._too_late() from None

    async def in_thread(self, work: Callable[[threading.Event], T], size: int) -> T:
        """Run `work` in a thread; its argument is set when nobody waits any more."""
        stop = threading.Event()
        limiter = self._bulk_threads if size > _BULK_BYTES else None
        try:
            return await anyio.to_thread.run_sync(
                work, stop, abandon_on_cancel=True, limiter=limiter
            )
        finally:
            stop.set()

    def _too_late(self) -> ProblemError:
        seconds = self.settings.deadline_seconds
        return ProblemError(
            "deadline.exceeded",
            f"The answer was not ready after {seconds:g} s.",
            limit=seconds,
        )


def _refuse_repeated_options(request: Request) -> None:
    """FastAPI would take the last one in silence."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if names.count(name) > 1:
            raise conflict(f"{name} is given twice in the query.", name)


async def answer_sequences(
    exchange: Exchange,
    options: BaseModel,
    schema: type[SubmittedSequences],
    *,
    pooling: Pooling,
    always_list: bool,
) -> Response:
    """Features or vectors of what the request's body holds.

    Args:
        options: of the query string.
        schema: of the JSON body; the fields of a form are checked with the type of `options`.
        pooling: when the request does not say.
        always_list: answer records also for a single bare sequence.
    """
    model, settings = exchange.model, exchange.settings
    accept = exchange.request.headers.get("accept")

    def read(stop: threading.Event) -> tuple[Job, Writer]:
        places = [options]
        if received.fields:
            places.append(options_from_form(type(options), received.fields))
        with open_decoded(received, settings.max_decoded_bytes) as file:
            submission = read_submission(received, schema, file, settings.max_record_bases)
            if submission.body is not None:
                places.append(submission.body)
            choices = choose(*places, pooling=pooling)
            chosen = choices.format or negotiate(accept)
            check_format(choices, chosen)
            single = submission.single and not always_list
            job = prepare(
                submission.records,
                model.tokenizer,
                choices,
                exchange.limits,
                single=single,
                stop=stop,
                observe=partial(exchange.metrics.observe_stage, "tokenizing"),
            )
        manifest = model.manifest
        answer = Answer(
            model=manifest.model,
            fingerprint=manifest.fingerprint,
            hidden_size=manifest.hidden_size,
            tokenizer=model.tokenizer,
            job=job,
            as_list=not single,
        )
        return job, WRITERS[chosen](answer)

    async with AsyncExitStack() as resources, exchange.in_time():
        received = await receive_body(exchange.request)
        resources.callback(received.close)
        flow = await resources.enter_async_context(
            model.scheduler.open_flow(deadline=exchange.remaining)
        )
        job, writer = await exchange.in_thread(read, received.size)
        received.close()
        resources.callback(job.close)
        return await Computation(exchange, job, writer, flow).respond(resources)


@dataclass
class Computation:
    """A job in the model's queue, and the writer of its answer."""

    exchange: Exchange
    job: Job
    writer: Writer
    flow: Flow

    async def respond(self, resources: AsyncExitStack) -> Response:
        """Compute the answer, or its beginning.

        Args:
            resources: closed when the answer is finished; a big answer takes them over.
        """
        progress = _Progress()
        chunks = self._chunks(progress)
        resources.push_async_callback(chunks.aclose)
        timings = self.exchange.timings.stages
        timings["tokenize"] = self.job.tokenizing_seconds
        small = self.job.n_windows <= _SMALL_WINDOWS and self.writer.estimate <= _SMALL_BYTES
        start: list[Chunk] = []
        async for chunk in chunks:
            start.append(chunk)
            if progress.n_blocks and not small:
                break
        timings["queue"] = self.flow.queued_seconds
        if small:
            timings["predict"] = self.flow.predicting_seconds
            timings["encode"] = progress.encoding_seconds
            return ComputedAnswer(start, headers=self._headers(), media_type=self.writer.media_type)
        headers = self._headers()
        if self.writer.length is not None:
            headers["Content-Length"] = str(self.writer.length)
        return StreamedAnswer(
            self.exchange,
            start,
            chunks,
            resources.pop_all(),
            headers=headers,
            media_type=self.writer.media_type,
        )

    async def _chunks(self, progress: "_Progress") -> AsyncGenerator[Chunk, None]:
        model, writer, metrics = self.exchange.model, self.writer, self.exchange.metrics
        predictor = Predictor(
            self.flow, self.exchange.cache, model.manifest.fingerprint, model.tokenizer
        )
        try:
            for chunk in _sized(writer.begin()):
                yield chunk
            async with aclosing(feature_blocks(self.job, predictor)) as blocks:  # type: ignore[type-var]
                async for block in blocks:
                    progress.n_blocks += 1
                    for chunk in _sized(progress.timed(writer.block(block))):
                        yield chunk
                        # Others take their turn between two pieces.
                        await asyncio.sleep(0)
            for chunk in _sized(progress.timed(writer.end())):
                yield chunk
            metrics.tokens.inc(self.job.n_rows)
            metrics.records.inc(len(self.job.records))
            metrics.observe_stage("encoding", progress.encoding_seconds)
        finally:
            writer.close()
            metrics.cache_hits.inc(predictor.hits)
            metrics.cache_misses.inc(predictor.misses)

    def _headers(self) -> dict[str, str]:
        return {
            **stamp_headers(self.exchange.model),
            **job_headers(self.job),
            "Server-Timing": self.exchange.timings.header(),
        }


def stamp_headers(model: ReadyModel) -> dict[str, str]:
    """Which weights, tokenizer and package made an answer."""
    return {
        "X-Gena-Model": quote(model.manifest.model, safe="/:@ "),
        "X-Gena-Fingerprint": model.manifest.fingerprint,
        "Vary": "Accept",
    }


def job_headers(job: Job) -> dict[str, str]:
    """Counts that arrays cannot carry."""
    headers = {
        "X-Gena-Tokens": str(job.n_rows),
        "X-Gena-Unknown": str(job.n_unknown),
        "X-Gena-Windows": str(job.n_windows),
    }
    if not job.single:
        headers["X-Gena-Records"] = str(len(job.records))
    if job.skipped:
        headers["X-Gena-Skipped"] = str(len(job.skipped))
    truncated = sum(record.truncation is not None for record in job.records)
    if truncated:
        headers["X-Gena-Truncated"] = str(truncated)
    return headers


class _Progress:
    def __init__(self) -> None:
        self.n_blocks = 0
        self.encoding_seconds = 0.0

    def timed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same chunks; the time that making them took is added up."""
        iterator = iter(chunks)
        while True:
            before = time.perf_counter()
            chunk = next(iterator, None)
            self.encoding_seconds += time.perf_counter() - before
            if chunk is None:
                return
            yield chunk


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
    """An answer that is sent while it is computed.

    When that fails, the response is left unfinished: the server then closes the connection.
    """

    def __init__(
        self,
        exchange: Exchange,
        start: Sequence[Chunk],
        rest: AsyncIterator[Chunk],
        resources: AsyncExitStack,
        *,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._exchange = exchange
        self._start = start
        self._rest = rest
        self._resources = resources

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send everything; returns without the last message when the answer fails."""
        async with self._resources:
            try:
                async with self._exchange.in_time():
                    await self._send(send)
            except (ProblemError, ModelUnavailableError) as error:
                told = error if isinstance(error, ProblemError) else unavailable_problem(error)
                log.warning("answer cut off: %s: %s", told.code, told.detail)
            except Exception:
                log.exception("answer cut off")

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


def _sized(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
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
