"""Records as they were sent."""

from dataclasses import dataclass

from app.errors import ProblemError


@dataclass(frozen=True)
class Submitted:
    """DNA as text.

    Attributes:
        problem: of its id, where that cannot be used.
    """

    id: str
    text: str
    problem: ProblemError | None = None


@dataclass(frozen=True)
class SubmittedIds:
    """Token ids, with or without the specials around them."""

    id: str
    ids: list[int]
