"""What goes wrong, as problem details (RFC 9457): `application/problem+json`, stable codes.

Nothing here repeats what was submitted, apart from a record's id and the letter at fault.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from converter.errors import GenaError

PROBLEM_JSON = "application/problem+json"
# nginx's status for a client that left before its answer; nobody receives it, the log shows it.
CLIENT_GONE = 499

_HTTP_CODES = {404: "route.not_found", 405: "route.method_not_allowed"}
_HTTP_DETAILS = {
    404: "There is nothing at this path. /docs lists what there is.",
    405: "This path takes another method; the header Allow names it.",
}

log = logging.getLogger("gena.errors")


class ApiError(Exception):
    """A failure that is told to the client.

    Args:
        status: of HTTP.
        code: stable and dotted, for programs.
        title: the kind of problem, the same for every occurrence of the code.
        detail: what happened this time and what to do about it.
        headers: for the answer, for example Retry-After.
        fields: further members of the answer, for example record, position, limit; None is
            left out.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.fields = {name: value for name, value in fields.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """The members of the problem document, without a request id."""
        return {
            "type": f"urn:gena:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.fields,
        }


def problem_response(error: ApiError, request_id: str | None = None) -> Response:
    """An `ApiError` as an answer."""
    document = error.as_dict()
    if request_id is not None:
        document["request_id"] = request_id
    return Response(
        orjson.dumps(document),
        status_code=error.status,
        headers=error.headers,
        media_type=PROBLEM_JSON,
    )


def validation_error(errors: Sequence[Any]) -> ApiError:
    """Pydantic's complaints as one problem that says where, and never what was sent."""
    unknown = [error for error in errors if error.get("type") == "extra_forbidden"]
    problems = [
        {"where": _location(error.get("loc", ())), "message": _complaint(error)}
        for error in [*unknown, *(error for error in errors if error not in unknown)][:20]
    ]
    first = problems[0] if problems else {"where": "request", "message": "is not valid"}
    return ApiError(
        422,
        "options.unknown" if unknown else "request.invalid",
        "Unknown field" if unknown else "The request does not fit its schema",
        f"{first['where']}{' ' if unknown else ': '}{first['message']}.",
        problems=problems,
    )


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of `app` a problem document."""
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(GenaError, _answer_gena_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unexpected)


def internal_error() -> ApiError:
    """What the client hears of a fault that nobody expected: nothing of the inside."""
    return ApiError(
        500,
        "internal",
        "Internal error",
        "The service failed in a way that it should not; its log says more.",
    )


def _answer_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return problem_response(error, _request_id(request))


def _answer_gena_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GenaError)
    log.error("%s: %s", error.code, error)
    return problem_response(internal_error(), _request_id(request))


def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(validation_error(error.errors()), _request_id(request))


def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    title = _phrase(status)
    problem = ApiError(
        status,
        _HTTP_CODES.get(status, f"http.{status}"),
        title,
        _HTTP_DETAILS.get(status) or str(error.detail or title),
        headers=error.headers,
    )
    return problem_response(problem, _request_id(request))


def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


def _answer_unexpected(request: Request, _error: Exception) -> Response:
    return problem_response(internal_error(), _request_id(request))


def _request_id(request: Request) -> str | None:
    request_id = request.scope.get("state", {}).get("request_id")
    return str(request_id) if request_id is not None else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _location(location: Sequence[Any]) -> str:
    parts = [str(part) for part in location if part not in ("body", "query")]
    # Keys can be anything that the client sent; they are shortened before they are repeated.
    return ".".join(part if len(part) <= 60 else part[:57] + "..." for part in parts) or "request"


def _complaint(error: Mapping[str, Any]) -> str:
    if error.get("type") == "extra_forbidden":
        return "is not a field of this request"
    message = str(error.get("msg", "is not valid"))
    return message.removeprefix("Value error, ").rstrip(".")
