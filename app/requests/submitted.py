"""Records as they were sent."""

from dataclasses import dataclass

from app.problems import ProblemError


@dataclass(frozen=True)
class Submitted:
    """DNA as text. `problem` is set where it has no usable id."""

    id: str
    text: str
    problem: ProblemError | None = None


@dataclass(frozen=True)
class SubmittedIds:
    """Token ids, with or without the specials around them."""

    id: str
    ids: list[int]
    problem: ProblemError | None = None


def duplicate_id(record_id: str) -> ProblemError:
    """The same id twice in one request."""
    return ProblemError(
        "record.duplicate_id",
        f"The id {record_id!r} occurs more than once; answers could not be told apart.",
        record=record_id,
    )
