"""POST /features: a row a token, a row a base, or a vector."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.answers.exchange import Exchange
from app.answers.pipeline import answer
from app.answers.reading import SequencesReader
from app.dependencies import ReadyModelDep, ServicesDep
from app.requests.options import FeaturesOptions
from app.requests.schemas import FeaturesBody
from app.routes.openapi.answers import FEATURES_ANSWER
from app.routes.openapi.problems import problem_responses
from app.routes.openapi.requests import sequences_request

router = APIRouter(tags=["data"])


@router.post(
    "/features",
    summary="DNA to features",
    response_class=Response,
    responses={**FEATURES_ANSWER, **problem_responses(404)},
    openapi_extra=sequences_request(FeaturesBody, FeaturesOptions),
)
async def features(
    request: Request,
    options: Annotated[FeaturesOptions, Query()],
    model: ReadyModelDep,
    services: ServicesDep,
) -> Response:
    """The model's last hidden states, a row for each token of a window: [1, 512, hidden] with
    GENA-LM's BERT models, [1, 1024, hidden] with modernGENA. Rows of padding are zero.

    One bare sequence is answered by itself, several (`sequences`, FASTA, FASTQ, a form) as
    `records`, in the order of the request. Options are query parameters or fields of the JSON or
    of the form.

    ```
    curl http://127.0.0.1:8000/features -H 'Content-Type: application/json' \\
         -d '{"sequence": "ATGGCGTACGTTAGC", "pooling": "mean"}'
    curl 'http://127.0.0.1:8000/features?format=npy' -H 'Content-Type: text/plain' \\
         -d ATGGCGTACGTTAGC -o features.npy
    curl 'http://127.0.0.1:8000/features?overflow=window&format=npz' -F file=@genes.fa.gz \\
         -o features.npz
    ```
    """
    reader = SequencesReader(options, FeaturesBody)
    return await answer(Exchange(request, model, services), reader, model)
