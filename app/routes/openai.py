"""POST /v1/embeddings: what OpenAI's clients send and expect."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.answers.exchange import Exchange
from app.answers.pipeline import answer
from app.answers.reading import OpenAIReader
from app.dependencies import ReadyModelDep, ServicesDep
from app.requests.schemas import OpenAIEmbeddingsBody
from app.routes.openapi.answers import OPENAI_ANSWER
from app.routes.openapi.problems import problem_responses
from app.routes.openapi.requests import json_request

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
    return await answer(Exchange(request, model, services), OpenAIReader())
