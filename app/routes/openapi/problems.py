"""Every problem that a data route can answer with, from the table of problems."""

from typing import Any

from app import media_types
from app.errors import problem_document, with_hint
from app.headers import RETRY_AFTER
from app.problems import PROBLEMS, STATUSES, ProblemKind
from app.routes.openapi.answers import header_documents

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened and what to do."},
        "code": {"type": "string", "description": "Stable, for programs."},
        "request_id": {"type": "string"},
        "record": {"type": "string", "description": "Id of the record at fault."},
        "position": {
            "type": "integer",
            "description": "Of the letter at fault, counted from 1 in the submitted sequence.",
        },
        "letter": {"type": "string"},
        "limit": {"type": "number"},
        "count": {"type": "number"},
    },
}

_WITH_RETRY = (429, 503)


def problem_responses(*left_out: int) -> dict[int | str, dict[str, Any]]:
    """Every problem that a data route can answer with, an example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status, meaning in STATUSES.items():
        if status in left_out:
            continue
        kinds = {
            code: kind for code, kind in PROBLEMS.items() if kind.of_data and kind.status == status
        }
        responses[status] = {
            "description": f"{meaning} Codes: {', '.join(kinds)}.",
            "content": {
                media_types.PROBLEM: {
                    "schema": _PROBLEM_SCHEMA,
                    "examples": {code: _example(code, kind) for code, kind in kinds.items()},
                }
            },
            **({"headers": header_documents(RETRY_AFTER)} if status in _WITH_RETRY else {}),
        }
    return responses


def _example(code: str, kind: ProblemKind) -> dict[str, Any]:
    document = problem_document(code, kind, with_hint(kind.example, kind), kind.members)
    return {"summary": kind.title, "value": document}
