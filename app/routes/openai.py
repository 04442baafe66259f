"""/v1: what OpenAI's clients send and expect."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import media_types
from app.answers.exchange import Exchange
from app.answers.pipeline import answer
from app.answers.reading import OpenAIReader, check_model
from app.dependencies import ReadyModelDep, ServicesDep
from app.model.lifecycle import ServedModel
from app.requests.schemas import OpenAIEmbeddingsBody
from app.routes.openapi.answers import OPENAI_ANSWER
from app.routes.openapi.problems import problem_responses
from app.routes.openapi.requests import json_request

router = APIRouter(tags=["data"])

_MODELS_EXAMPLE = {
    "object": "list",
    "data": [
        {
            "id": "AIRI-Institute/gena-lm-bert-base",
            "object": "model",
            "created": 0,
            "owned_by": "AIRI-Institute",
        }
    ],
}


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
    return await answer(Exchange(request, model, services), OpenAIReader(), model)


@router.head("/v1/models", include_in_schema=False)
@router.get(
    "/v1/models",
    summary="The model, for OpenAI's clients",
    response_class=Response,
    responses={200: {"content": {media_types.JSON: {"example": _MODELS_EXAMPLE}}}},
)
async def openai_models(model: ReadyModelDep) -> Response:
    """The one model that is served.

    `curl http://127.0.0.1:8000/v1/models`
    """
    return _json({"object": "list", "data": [_described(model)]})


@router.head("/v1/models/{name:path}", include_in_schema=False)
@router.get("/v1/models/{name:path}", include_in_schema=False)
async def openai_model(name: str, model: ReadyModelDep) -> Response:
    """The model by its name, which may hold a slash."""
    check_model(name, model)
    return _json(_described(model))


def _described(model: ServedModel) -> dict[str, Any]:
    served = model.name
    owner = served.rpartition("/")[0] or "gena-coreml"
    # When it was made is not known: equal bundles are equal whenever they are built.
    return {"id": served, "object": "model", "created": 0, "owned_by": owner}


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type=media_types.JSON)
