"""POST /tokenize: ids, tokens and base positions, without the model."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.answers.exchange import Exchange
from app.answers.negotiation import negotiate
from app.answers.pipeline import answer
from app.answers.reading import TokenizeReader
from app.dependencies import OpenedModelDep, ServicesDep
from app.requests.options import TokenizeOptions
from app.requests.schemas import TokenizeBody
from app.routes.openapi.answers import TOKENIZE_ANSWER
from app.routes.openapi.problems import problem_responses
from app.routes.openapi.requests import sequences_request

router = APIRouter(tags=["data"])


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
    model: OpenedModelDep,
    services: ServicesDep,
) -> Response:
    """Ids with [CLS] and [SEP], tokens, and the bases that each covers, of any length.

    It answers as soon as the tokenizer is at hand, also while the model is converted or loaded.
    Until it is converted there is no `fingerprint`.

    ```
    curl http://127.0.0.1:8000/tokenize -H 'Content-Type: text/plain' -d ATGGCGTACGTTAGC
    ```
    """
    exchange = Exchange(request, model, services)
    negotiate(exchange.accept, ("json",))
    return await answer(exchange, TokenizeReader(options))
