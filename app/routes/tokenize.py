"""POST /tokenize: ids, tokens and base positions, without the model."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.answers.exchange import Exchange, StreamedAnswer, job_headers, stamp_headers
from app.answers.formats import negotiate
from app.dependencies import ReadyModelDep, ServicesDep
from app.inference.prepare import Job, Record, prepare
from app.requests.bodies import open_decoded, receive_body
from app.requests.schemas import Choices, TokenizeBody, TokenizeOptions, choose, options_from_form
from app.requests.sequences import read_submission
from app.routes.contract import TOKENIZE_ANSWER, problem_responses, sequences_request
from converter.tokenizer import WINDOW, DnaTokenizer

router = APIRouter(tags=["data"])

# Tokens that are encoded at a time, so that the event loop is never held for long.
_SLICE = 4096
_SMALL_TOKENS = 2**17


@router.post(
    "/tokenize",
    summary="DNA to tokens",
    response_class=Response,
    responses={**TOKENIZE_ANSWER, **problem_responses(404, 429)},
    openapi_extra=sequences_request(TokenizeBody, TokenizeOptions),
)
async def tokenize(
    request: Request,
    options: Annotated[TokenizeOptions, Query()],
    model: ReadyModelDep,
    services: ServicesDep,
) -> Response:
    """Ids with [CLS] and [SEP], tokens, and the bases that each covers, of any length.

    ```
    curl http://127.0.0.1:8000/tokenize -H 'Content-Type: text/plain' -d ATGGCGTACGTTAGC
    ```
    """
    exchange = Exchange(request, model, services)
    negotiate(request.headers.get("accept"), ("json",))

    def read(stop: threading.Event) -> Job:
        places: list[Any] = [options]
        if received.fields:
            places.append(options_from_form(TokenizeOptions, received.fields))
        with open_decoded(received, services.settings.max_decoded_bytes) as file:
            submission = read_submission(
                received, TokenizeBody, file, services.settings.max_record_bases
            )
            if submission.body is not None:
                places.append(submission.body)
            # Any length is welcome: to count is what this is for.
            choices = Choices(on_error=choose(*places).on_error, overflow="window")
            return prepare(
                submission.records,
                model.tokenizer,
                choices,
                exchange.limits,
                single=submission.single,
                stop=stop,
                observe=partial(exchange.metrics.observe_stage, "tokenizing"),
            )

    async with AsyncExitStack() as resources, exchange.in_time():
        received = await receive_body(request)
        resources.callback(received.close)
        job = await exchange.in_thread(read, received.size)
        resources.callback(job.close)
        exchange.timings.stages["tokenize"] = job.tokenizing_seconds
        headers = {
            **stamp_headers(model),
            **job_headers(job),
            "Server-Timing": exchange.timings.header(),
        }
        stamp = {"model": model.manifest.model, "fingerprint": model.manifest.fingerprint}
        pieces = _encoded(job, stamp, model.tokenizer)
        if job.n_rows <= _SMALL_TOKENS:
            return Response(b"".join(pieces), headers=headers, media_type="application/json")
        return StreamedAnswer(
            exchange,
            (),
            _in_turns(pieces),
            resources.pop_all(),
            headers=headers,
            media_type="application/json",
        )


async def _in_turns(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


def _encoded(job: Job, stamp: dict[str, str], tokenizer: DnaTokenizer) -> Iterator[bytes]:
    if job.single:
        yield from _record(job, job.records[0], stamp, tokenizer)
        return
    yield orjson.dumps(stamp)[:-1] + b',"records":['
    for number, record in enumerate(job.records):
        if number:
            yield b","
        yield from _record(job, record, {"id": record.id}, tokenizer)
    yield b'],"skipped":' + orjson.dumps([each.as_dict() for each in job.skipped]) + b"}"


def _record(
    job: Job, record: Record, head: dict[str, str], tokenizer: DnaTokenizer
) -> Iterator[bytes]:
    strand = record.strands[0]
    described = {
        **head,
        "n_tokens": strand.n_tokens + 2,
        "n_unknown": record.n_unknown,
        "limit": WINDOW,
        "n_bases": record.n_bases,
        "changes": record.changes,
    }
    slices = [
        (start, min(start + _SLICE, strand.n_tokens)) for start in range(0, strand.n_tokens, _SLICE)
    ]
    cls, sep = np.array([tokenizer.cls_id], np.int32), np.array([tokenizer.sep_id], np.int32)
    yield orjson.dumps(described)[:-1] + b',"input_ids":[' + _items(cls)
    for start, end in slices:
        yield b"," + _items(strand.ids(job.store, start, end))
    yield b"," + _items(sep) + b'],"tokens":[' + _items(tokenizer.tokens(cls))
    for start, end in slices:
        yield b"," + _items(tokenizer.tokens(strand.ids(job.store, start, end)))
    yield b"," + _items(tokenizer.tokens(sep)) + b'],"offsets":[[0,0]'
    for start, end in slices:
        yield b"," + _items(strand.offsets(job.store, start, end))
    yield b",[0,0]]}"


def _items(values: Any) -> bytes:
    """JSON of the elements, without the brackets around them."""
    plain = values if isinstance(values, list) else np.ascontiguousarray(values)
    return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
