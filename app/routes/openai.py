"""POST /v1/embeddings: what OpenAI's clients send and expect."""

import base64
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import ClassVar

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.answers.exchange import Computation, Exchange
from app.dependencies import ReadyModelDep, ServicesDep
from app.inference.engine import Block
from app.inference.prepare import Job, prepare, prepare_ids
from app.model.lifecycle import ReadyModel
from app.problems import ProblemError
from app.requests.bodies import open_decoded, receive_body
from app.requests.schemas import OpenAIEmbeddingsBody, choose
from app.requests.sequences import Submitted, read_json
from app.routes.contract import OPENAI_ANSWER, json_request, problem_responses

router = APIRouter(tags=["data"])


@router.post(
    "/v1/embeddings",
    summary="DNA to vectors, for OpenAI's clients",
    response_class=Response,
    responses={**OPENAI_ANSWER, **problem_responses(406)},
    openapi_extra=json_request(
        OpenAIEmbeddingsBody,
        {"model": "AIRI-Institute/gena-lm-bert-base", "input": ["ATGGCGTACGTTAGC", "TTGACA"]},
    ),
)
async def openai_embeddings(
    request: Request, model: ReadyModelDep, services: ServicesDep
) -> Response:
    """Mean-pooled vectors; `pooling`, `overflow`, `stride`, `strand`, `normalize` in `extra_body`.

    Vectors are not scaled to length 1 unless `normalize` is asked for.

    ```python
    from openai import OpenAI

    client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
    client.embeddings.create(model="AIRI-Institute/gena-lm-bert-base", input=["ATGGCGTACGTTAGC"])
    ```
    """
    exchange = Exchange(request, model, services)

    def read(stop: threading.Event) -> tuple[Job, OpenAIWriter]:
        with open_decoded(received, services.settings.max_decoded_bytes) as file:
            body = read_json(received, OpenAIEmbeddingsBody, file)
        _check_model(body, model)
        choices = choose(body, pooling="mean")
        texts, lists = _inputs(body)
        if lists:
            job = prepare_ids(lists, model.tokenizer, choices, exchange.limits)
        else:
            job = prepare(
                (Submitted(str(number), text) for number, text in enumerate(texts, start=1)),
                model.tokenizer,
                choices,
                exchange.limits,
                single=False,
                stop=stop,
                observe=partial(exchange.metrics.observe_stage, "tokenizing"),
            )
        return job, OpenAIWriter(job, body, model.manifest.hidden_size)

    async with AsyncExitStack() as resources, exchange.in_time():
        received = await receive_body(request)
        resources.callback(received.close)
        flow = await resources.enter_async_context(
            model.scheduler.open_flow(deadline=exchange.remaining)
        )
        job, writer = await exchange.in_thread(read, received.size)
        resources.callback(job.close)
        return await Computation(exchange, job, writer, flow).respond(resources)


class OpenAIWriter:
    """The answer's JSON."""

    media_type: ClassVar[str] = "application/json"

    def __init__(self, job: Job, body: OpenAIEmbeddingsBody, hidden_size: int) -> None:
        self._job = job
        self._body = body
        self._index = 0
        self.estimate = len(job.records) * hidden_size * 11

    @property
    def length(self) -> None:
        return None

    def begin(self) -> Iterator[bytes]:
        yield b'{"object":"list","data":['

    def block(self, block: Block) -> Iterator[bytes]:
        values = block.values
        if self._body.encoding_format == "base64":
            embedding = b'"' + base64.b64encode(values.astype("<f4").tobytes()) + b'"'
        else:
            embedding = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
        separator = b"," if self._index else b""
        head = orjson.dumps({"object": "embedding", "index": self._index})[:-1]
        self._index += 1
        yield separator + head + b',"embedding":' + embedding + b"}"

    def end(self) -> Iterator[bytes]:
        n_tokens = self._job.n_rows
        tail = {
            "model": self._body.model,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
        yield b"]," + orjson.dumps(tail)[1:]

    def close(self) -> None:
        """Nothing is open."""


def _check_model(body: OpenAIEmbeddingsBody, model: ReadyModel) -> None:
    served = model.manifest.model
    if body.model not in (served, served.rpartition("/")[2]):
        raise ProblemError("model.unknown", f"Served is {served}.", param="model")
    hidden_size = model.manifest.hidden_size
    if body.dimensions not in (None, hidden_size):
        raise ProblemError(
            "request.invalid",
            f"dimensions: this model's vectors have {hidden_size}; they are not shortened.",
            param="dimensions",
            limit=hidden_size,
        )


def _inputs(body: OpenAIEmbeddingsBody) -> tuple[list[str], list[list[int]]]:
    """Texts or lists of token ids; the other one is empty."""
    if isinstance(body.input, str):
        return [body.input], []
    texts = [item for item in body.input if isinstance(item, str)]
    lists = [item for item in body.input if isinstance(item, list)]
    ids = [item for item in body.input if isinstance(item, int)]
    return texts, [ids] if ids else lists
