"""The exception that a client is told about, raised by its code (see `app.problems`).

How it becomes an answer (RFC 9457) is the business of `app.host.problem_answers`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from app.headers import RETRY_AFTER
from app.problems import PROBLEMS, ProblemKind, in_parts


class ProblemError(Exception):
    """A failure that is told to the client.

    Args:
        code: a key of `PROBLEMS`, stable and dotted, for programs; or one of `http_code`.
        detail: what happened this time; the hint of the code is added to it.
        retry_after: whole seconds after which the request is worth another try.
        headers: for this answer, beside those of the code.
        members: further members of the answer, for example record, position, limit; None is
            left out.

    Raises:
        KeyError: there is no such code.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        self.code = code
        self._told = detail
        self.kind = _kind(code)
        self.detail = with_hint(detail, self.kind)
        super().__init__(self.detail)
        self.headers = {**self.kind.headers, **(headers or {})}
        if retry_after is not None:
            self.headers[RETRY_AFTER] = str(retry_after)
        self.members = {name: value for name, value in members.items() if value is not None}

    def of_record(self, record_id: str) -> "ProblemError":
        """The same problem, said of a record."""
        told = f"Record {record_id!r}: {self._told}".strip()
        members = {**self.members, "record": record_id}
        return ProblemError(self.code, told, headers=self.headers, **members)

    def as_dict(self) -> dict[str, Any]:
        """The members of the problem document, without a request id."""
        return problem_document(self.code, self.kind, self.detail, self.members)


def deadline_exceeded(what: str, seconds: float) -> ProblemError:
    """Time ran out, whether in the queue or elsewhere.

    Args:
        what: did not happen meanwhile, as the beginning of a sentence.
    """
    return ProblemError("deadline.exceeded", f"{what} for {seconds:g} s.", limit=seconds)


def too_many_records(limit: int, detail: str = "") -> ProblemError:
    """More than a request may have, with the command that makes requests of a file.

    Args:
        detail: what there is, where it is not known how many.
    """
    told = detail or f"A request may have {limit} records."
    return ProblemError("request.too_many_records", f"{told} {in_parts(limit)}", limit=limit)


def request_timeout(seconds: float, after: str = "") -> ProblemError:
    """The client has begun a request and goes on with it no more.

    Args:
        after: what came of its body, as `bytes_of_body` says it.
    """
    told = f"Nothing more of it came for {seconds:g} s" + (after and f", after {after}")
    return ProblemError("request.timeout", f"{told}.", limit=seconds)


def bytes_of_body(received: int, announced: str, unannounced: str = "") -> str:
    """How much came of a body that is not whole.

    Args:
        announced: its Content-Length; empty where there is none.
        unannounced: what is said then, in place of it.
    """
    if announced:
        return f"{received} of the {announced} bytes that its Content-Length announces"
    return f"{received} bytes{unannounced}"


def problem_document(
    code: str, kind: ProblemKind, detail: str, members: Mapping[str, Any]
) -> dict[str, Any]:
    """A problem as RFC 9457 writes it."""
    return {
        "type": f"urn:gena:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
        **members,
    }


def with_hint(detail: str, kind: ProblemKind) -> str:
    """What happened, and what to do."""
    return f"{detail} {kind.hint}".strip()


def http_code(status: int) -> str:
    """The code of an error that a library reports by its status alone, such as http.418."""
    return {404: "route.not_found", 405: "route.method_not_allowed"}.get(status, f"http.{status}")


def _kind(code: str) -> ProblemKind:
    if code.startswith("http."):
        status = int(code.removeprefix("http."))
        phrases = {each.value: each.phrase for each in HTTPStatus}
        return ProblemKind(status, phrases.get(status, "Error"))
    return PROBLEMS[code]
