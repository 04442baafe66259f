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
PLAIN_COMPLAINTS = frozenset({"greater_than_equal", "less_than_equal", "literal_error"})
_OWN_WORDS = {
    _UNKNOWN_FIELD: "is not a field of this request",
    "bool_type": "true or false is expected",
    "int_type": "a whole number is expected",
    "list_type": "a list is expected",
    "missing": "it is missing",
    "model_type": "an object is expected",
    "string_too_short": "it is empty",
    "string_type": "text is expected",
    "too_short": "it is empty",
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
        errors: as pydantic lists them, at least one, with `loc`, `type` and `msg`.
    """
    unknown = [error for error in errors if error.get("type") == _UNKNOWN_FIELD]
    others = [error for error in errors if error.get("type") != _UNKNOWN_FIELD]
    problems = [
        {"where": ".".join(map(str, _location(error))), "message": _complaint(error)}
        for error in [*unknown, *others][:_MOST_PROBLEMS]
    ]
    first = (unknown or others)[0]
    place = ", ".join(
        f"element {part}" if isinstance(part, int) else part for part in _location(first)
    )
    return ProblemError(
        "options.unknown" if unknown else "request.invalid",
        f"{place}{' ' if unknown else ': '}{_complaint(first)}.",
        problems=problems,
    )


def option_problem(name: str, complaint: str) -> ProblemError:
    """422 request.invalid for an option whose bounds are the model's, which no schema knows.

    Args:
        complaint: about its value, as a clause.
    """
    return validation_problem([{"loc": (name,), "type": OUR_COMPLAINT, "msg": complaint}])


def _location(error: Mapping[str, Any]) -> list[str | int]:
    """Names on the way to the fault, and numbers of elements, counted from 1."""
    loc = tuple(error.get("loc", ()))
    if len(loc) > 1 and loc[0] == "query":  # FastAPI begins with the place
        loc = loc[1:]
    *way, last = (part + 1 if isinstance(part, int) else part for part in loc or ("the body",))
    # Only the last part can be a name that the client made up; a label is never an unknown field.
    parts = [part for part in way if not _is_label(part)]
    if error.get("type") == _UNKNOWN_FIELD or not _is_label(last):
        parts.append(shown(last) if isinstance(last, str) and loc else last)
    return parts


def _is_label(part: int | str) -> bool:
    return isinstance(part, str) and part.startswith("(")


def _complaint(error: Mapping[str, Any]) -> str:
    kind = str(error.get("type"))
    if kind in _OWN_WORDS:
        return _OWN_WORDS[kind]
    if kind != OUR_COMPLAINT and kind not in PLAIN_COMPLAINTS:
        return "is not valid"
    return str(error["msg"]).replace("Input should be", "it has to be", 1)
