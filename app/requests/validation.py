"""Pydantic's complaints -> one problem that says where, and never what was sent."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import ProblemError
from converter.tokenizer_file import LETTERS

_MOST_PROBLEMS = 20
_UNKNOWN_FIELD = "extra_forbidden"  # pydantic's name
# The type of what schemas here say in words of their own.
OUR_COMPLAINT = "gena"
# Pydantic's messages for these are made of the schema alone; others may hold what was sent.
PLAIN_COMPLAINTS = frozenset(
    {
        "bool_type",
        "greater_than_equal",
        "int_type",
        "less_than_equal",
        "list_type",
        "literal_error",
        "missing",
        "string_too_short",
        "string_type",
        "too_short",
    }
)
_OWN_WORDS = {
    _UNKNOWN_FIELD: "is not a field of this request",
    "model_type": "Input should be an object",
}
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+/-]{0,59}")
_LIKE_DNA = re.compile(rf"[{LETTERS}]{{8}}", re.IGNORECASE)


def shown(name: str) -> str:
    """A name that a client chose, for a message: described where it is long, odd, or may be DNA."""
    if _PLAIN_NAME.fullmatch(name) and not _LIKE_DNA.search(name):
        return name
    return f"(a name of {len(name)} characters)"


def label(kind: str) -> str:
    """Names a branch of a union: pydantic's paths hold it, ours leave it out."""
    return f"({kind})"


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
    """Names and indices on the way to the fault, with dots between them."""
    loc = tuple(error.get("loc", ()))
    if len(loc) > 1 and loc[0] == "query":  # FastAPI begins with the place
        loc = loc[1:]
    *way, last = loc or ("request",)
    # Only the last part can be a name that the client made up; a label is never an unknown field.
    parts = [str(part) for part in way if not _is_label(part)]
    if error.get("type") == _UNKNOWN_FIELD or not _is_label(last):
        parts.append(shown(str(last)) if isinstance(last, str) else str(last))
    return ".".join(parts)


def _is_label(part: int | str) -> bool:
    return isinstance(part, str) and part.startswith("(")


def _complaint(error: Mapping[str, Any]) -> str:
    kind = str(error.get("type"))
    if kind in _OWN_WORDS:
        return _OWN_WORDS[kind]
    if kind != OUR_COMPLAINT and kind not in PLAIN_COMPLAINTS:
        return "is not valid"
    return str(error["msg"])
