"""POST /embeddings: one vector a record."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.answers.exchange import Exchange
from app.answers.pipeline import answer
from app.answers.reading import SequencesReader
from app.dependencies import ReadyModelDep, ServicesDep
from app.requests.options import EmbeddingsOptions
from app.requests.schemas import EmbeddingsBody
from app.routes.openapi.answers import EMBEDDINGS_ANSWER
from app.routes.openapi.problems import problem_responses
from app.routes.openapi.requests import sequences_request

router = APIRouter(tags=["data"])


@router.post(
    "/embeddings",
    summary="DNA to one vector a record",
    response_class=Response,
    responses={**EMBEDDINGS_ANSWER, **problem_responses(404)},
    openapi_extra=sequences_request(EmbeddingsBody, EmbeddingsOptions),
)
async def embeddings(
    request: Request,
    options: Annotated[EmbeddingsOptions, Query()],
    model: ReadyModelDep,
    services: ServicesDep,
) -> Response:
    """Pooled features, always as `records`, also for one sequence.

    ```
    curl 'http://127.0.0.1:8000/embeddings?format=tsv' --data-binary @genes.fa -o genes.tsv
    curl 'http://127.0.0.1:8000/embeddings?overflow=window&stride=128&strand=both' \\
         -F file=@genes.fa.gz
    ```
    """
    reader = SequencesReader(options, EmbeddingsBody, always_list=True)
    return await answer(Exchange(request, model, services), reader, model)
