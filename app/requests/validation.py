"""Pydantic's complaints -> one problem that says where, and never what was sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import ProblemError

_MOST_PROBLEMS = 20
_UNKNOWN_FIELD = "extra_forbidden"  # pydantic's name


def validation_problem(errors: Sequence[Mapping[str, Any]]) -> ProblemError:
    """422 options.unknown where a field is unknown, else request.invalid.

    Args:
        errors: as pydantic lists them, with `loc`, `type` and `msg`.
    """
    unknown = [error for error in errors if error.get("type") == _UNKNOWN_FIELD]
    others = [error for error in errors if error.get("type") != _UNKNOWN_FIELD]
    problems = [
        {"where": _location(error), "message": _complaint(error)}
        for error in [*unknown, *others][:_MOST_PROBLEMS]
    ]
    first = problems[0] if problems else {"where": "request", "message": "is not valid"}
    return ProblemError(
        "options.unknown" if unknown else "request.invalid",
        f"{first['where']}{' ' if unknown else ': '}{first['message']}.",
        problems=problems,
    )


def _location(error: Mapping[str, Any]) -> str:
    parts = [str(part) for part in error.get("loc", ()) if part not in ("body", "query")]
    if error.get("type") != _UNKNOWN_FIELD:
        # pydantic's labels of the branches of a union, with names of functions in here.
        parts = [part for part in parts if "function-" not in part]
    # Keys can be anything that the client sent; they are shortened before they are repeated.
    return ".".join(part if len(part) <= 60 else part[:57] + "..." for part in parts) or "request"


def _complaint(error: Mapping[str, Any]) -> str:
    if error.get("type") == _UNKNOWN_FIELD:
        return "is not a field of this request"
    message = str(error.get("msg", "is not valid"))
    return message.removeprefix("Value error, ").rstrip(".")
