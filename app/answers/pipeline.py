"""From a request to its answer: receive -> read -> prepare -> compute -> write.

A small answer is computed before its first byte is sent, so that whatever fails is a problem
document. A big one is sent while it is computed, once its first part is there; when it fails
later the connection is cut, which every client sees.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from urllib.parse import quote

from starlette.responses import Response

from app import headers
from app.answers.exchange import Exchange
from app.answers.reading import Reader
from app.answers.sending import ComputedAnswer, StreamedAnswer, sized
from app.answers.writer import AnswerPlan, Chunk, Writer
from app.inference.engine import Predictor, feature_blocks
from app.inference.prepare import prepare
from app.inference.records import PreparedRequest
from app.model.flow import Flow
from app.model.lifecycle import ServedModel
from app.requests.bodies import ReceivedBody, open_decoded, receive_body
from app.requests.options import conflict

# Of a header: Python's clients and others take 64 KiB, proxies often less.
_MOST_BYTES_OF_IDS = 2**14


async def answer(
    exchange: Exchange, reader: Reader, predicting: ServedModel | None = None
) -> Response:
    """The answer to a request, or its beginning.

    Args:
        predicting: the exchange's model; None where nothing is predicted.

    Raises:
        ProblemError: what is wrong with the request; 429 queue.full; 504 deadline.exceeded; what
            fails while the beginning is computed.
        ModelUnavailableError: the model failed since the request began.
    """
    async with AsyncExitStack() as resources, exchange.in_time():
        received = await receive_body(exchange.request)
        resources.callback(received.close)
        flow = None
        if predicting is not None:
            place = predicting.open_flow(exchange.settings.deadline_seconds)
            flow = await resources.enter_async_context(place)
        writer = await exchange.in_thread(
            partial(_read_and_prepare, exchange, reader, received), bulk=received.is_bulk
        )
        received.close()
        resources.callback(writer.plan.prepared.close)
        return await _Computation(exchange, writer, flow).respond(resources)


def _read_and_prepare(
    exchange: Exchange, reader: Reader, received: ReceivedBody, stop: threading.Event
) -> Writer:
    model = exchange.model
    with open_decoded(received, exchange.settings.max_decoded_bytes, stop) as file:
        reading = reader.read(exchange, received, file)
        prepared = prepare(
            reading.records,
            model.tokenizer,
            reading.choices,
            exchange.limits,
            single=reading.single,
            stop=stop,
            observe=partial(exchange.metrics.observe_stage, "tokenizing"),
        )
    exchange.stages["tokenize"] = prepared.tokenizing_seconds
    plan = AnswerPlan(model.name, model.fingerprint, model.hidden_size, model.tokenizer, prepared)
    return reading.writer(plan)


class _Computation:
    """A prepared request on its way through the model, and the writer of its answer.

    Args:
        flow: its place in the model's queue; None where nothing is predicted.
    """

    def __init__(self, exchange: Exchange, writer: Writer, flow: Flow | None) -> None:
        self._exchange = exchange
        self._writer = writer
        self._flow = flow
        self._ids = _ids(writer.plan.prepared)
        self._n_blocks = 0
        self._encoding_seconds = 0.0

    async def respond(self, resources: AsyncExitStack) -> Response:
        """Compute the answer, or its beginning.

        Args:
            resources: closed when the answer is finished; a big answer takes them over.
        """
        writer = self._writer
        chunks = self._chunks()
        resources.push_async_callback(chunks.aclose)
        start: list[Chunk] = []
        async for chunk in chunks:
            start.append(chunk)
            if not writer.is_small and (self._n_blocks or self._flow is None):
                break
        self._note_timings()
        stamp = _headers(self._exchange, writer.plan, self._ids)
        if writer.is_small:
            return ComputedAnswer(start, headers=stamp, media_type=writer.media_type)
        if writer.length is not None:
            stamp["Content-Length"] = str(writer.length)
        return StreamedAnswer(
            start,
            chunks,
            resources.pop_all(),
            self._exchange.metrics,
            headers=stamp,
            media_type=writer.media_type,
        )

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces for the socket; others take their turn between two of them."""
        try:
            async with aclosing(self._parts()) as parts:
                async for part in parts:
                    for chunk in sized(part):
                        yield chunk
                        await asyncio.sleep(0)
            if self._flow is not None:
                self._count_answered()
        finally:
            self._writer.close()

    async def _parts(self) -> AsyncGenerator[Iterable[Chunk], None]:
        writer, plan, metrics = self._writer, self._writer.plan, self._exchange.metrics
        yield writer.begin()
        if self._flow is not None:
            predictor = Predictor(
                self._flow, self._exchange.cache, self._flow.fingerprint, plan.tokenizer
            )
            try:
                async with aclosing(feature_blocks(plan.prepared, predictor)) as blocks:
                    async for block in blocks:
                        self._n_blocks += 1
                        yield self._timed(writer.block(block))
            finally:
                metrics.cache_hits.inc(predictor.hits)
                metrics.cache_misses.inc(predictor.misses)
        yield self._timed(writer.end())

    def _timed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same chunks; the time that making them took is added up."""
        iterator = iter(chunks)
        while True:
            before = time.perf_counter()
            chunk = next(iterator, None)
            self._encoding_seconds += time.perf_counter() - before
            if chunk is None:
                return
            yield chunk

    def _note_timings(self) -> None:
        if self._flow is None:
            return
        stages = self._exchange.stages
        stages["queue"] = self._flow.queued_seconds
        if self._writer.is_small:
            stages["predict"] = self._flow.predicting_seconds
            stages["encode"] = self._encoding_seconds

    def _count_answered(self) -> None:
        prepared, metrics = self._writer.plan.prepared, self._exchange.metrics
        metrics.tokens.inc(prepared.n_tokens)
        metrics.records.inc(len(prepared.records))
        metrics.observe_stage("encoding", self._encoding_seconds)


def _ids(prepared: PreparedRequest) -> str | None:
    if prepared.choices.ids == "none":
        return None
    ids = ",".join(quote(record.id, safe="") for record in prepared.records)
    if len(ids) > _MOST_BYTES_OF_IDS:
        raise conflict(
            f"The ids have {len(ids)} bytes; a header may have {_MOST_BYTES_OF_IDS}. Choose npz, "
            "which has them as record_ids, or send fewer records.",
            "ids",
        )
    return ids


def _headers(exchange: Exchange, plan: AnswerPlan, ids: str | None) -> dict[str, str]:
    """What made the answer, counts that arrays cannot carry, and how long the stages took."""
    prepared = plan.prepared
    stamp = {
        headers.MODEL: quote(plan.model, safe="/:@ "),
        "Vary": "Accept",
        headers.TOKENS: str(prepared.n_tokens),
        headers.UNKNOWN: str(prepared.n_unknown),
        headers.WINDOWS: str(prepared.n_windows),
    }
    if plan.fingerprint is not None:
        stamp[headers.FINGERPRINT] = plan.fingerprint
    if not prepared.single:
        stamp[headers.RECORDS] = str(len(prepared.records))
    if prepared.skipped:
        stamp[headers.SKIPPED] = str(len(prepared.skipped))
    if ids is not None:
        stamp[headers.IDS] = ids
    if prepared.warning is not None:
        stamp[headers.WARNING] = prepared.warning
    if prepared.n_truncated:
        stamp[headers.TRUNCATED] = str(prepared.n_truncated)
    stages = (f"{name};dur={1000 * seconds:.2f}" for name, seconds in exchange.stages.items())
    return {**stamp, headers.SERVER_TIMING: ", ".join(stages)}
