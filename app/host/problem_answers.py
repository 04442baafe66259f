"""Problems as answers: `application/problem+json` (RFC 9457), whatever went wrong.

Nothing here repeats what was submitted, apart from a record's id and the letter at fault.
"""

import logging
import tempfile

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app import media_types
from app.dependencies import unavailable_problem
from app.errors import ProblemError, http_code
from app.model.state import ModelUnavailableError
from app.requests.validation import validation_problem
from converter.errors import GenaError, is_full_disk

# nginx's status for a client that left before its answer; nobody receives it, the log shows it.
CLIENT_GONE = 499

_OPENAI_PATHS = "/v1/"
# OpenAI's names of kinds; of other statuses below 500 it is the request's fault.
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

logger = logging.getLogger("gena.errors")


def problem_response(
    problem: ProblemError, request_id: str | None = None, path: str = ""
) -> Response:
    """A problem as an answer.

    Args:
        path: of the request. Under /v1 the clients are OpenAI's, which show people the message of
            a member `error` and nothing else.
    """
    document = problem.as_dict()
    if path.startswith(_OPENAI_PATHS):
        document["error"] = _openai_error(problem)
    if request_id is not None:
        document["request_id"] = request_id
    return Response(
        orjson.dumps(document),
        status_code=problem.kind.status,
        headers=problem.headers,
        media_type=media_types.PROBLEM,
    )


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of `app` a problem document."""
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(ModelUnavailableError, _answer_unavailable)
    app.add_exception_handler(GenaError, _answer_gena_error)
    app.add_exception_handler(OSError, _answer_os_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unexpected)


def _openai_error(problem: ProblemError) -> dict[str, str | None]:
    status = problem.kind.status
    usual = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "message": problem.detail or problem.kind.title,
        "type": _OPENAI_TYPES.get(status, usual),
        "code": problem.code,
        "param": problem.members.get("param"),
    }


def _answer(request: Request, problem: ProblemError) -> Response:
    return problem_response(problem, _request_id(request), request.url.path)


def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    if error.kind.status == 500:
        logger.error("%s: %s", error.code, error.detail)
    return _answer(request, error)


def _answer_unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, ModelUnavailableError)
    return _answer(request, unavailable_problem(error))


def _answer_gena_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GenaError)
    logger.error("%s: %s", error.code, error)
    return _answer(request, ProblemError("internal"))


def _answer_os_error(request: Request, error: Exception) -> Response:
    """What a request keeps beside memory lies in temporary files; other errors are unexpected."""
    if not (isinstance(error, OSError) and is_full_disk(error)):
        raise error
    problem = ProblemError("disk.full")
    logger.error("%s: %s", problem.code, error.strerror, extra={"folder": tempfile.gettempdir()})
    return _answer(request, problem)


def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(request, validation_problem(error.errors()))


def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = http_code(error.status_code)
    detail = str(error.detail) if code.startswith("http.") else ""
    if (error.headers or {}).get("Allow") == "POST":
        # A browser, curl without a body, or curl -T. Of a path that has a route nothing is secret.
        detail = _how_to_post(request)
    return _answer(request, ProblemError(code, detail, headers=error.headers))


def _how_to_post(request: Request) -> str:
    """A line that works, with the server's own address: nothing that was sent comes back."""
    host, port = request.scope["server"]
    path, whose = request.url.path, ""
    if path.startswith(_OPENAI_PATHS):  # which takes JSON with a model's name
        path, whose = path.removeprefix("/v1"), " by OpenAI's clients. Without them"
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"It wants a POST{whose}: curl --data-binary @genes.fa http://{address}{path}."


def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


def _answer_unexpected(request: Request, _error: Exception) -> Response:
    return _answer(request, ProblemError("internal"))


def _request_id(request: Request) -> str | None:
    request_id = request.scope.get("state", {}).get("request_id")
    return str(request_id) if request_id is not None else None
