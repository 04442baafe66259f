"""The format of an answer, by the Accept header."""

from collections.abc import Iterable

from app.answers.registry import WRITERS
from app.errors import ProblemError
from app.requests.options import Format


def negotiate(accept: str | None, offered: Iterable[Format] = tuple(WRITERS)) -> Format:
    """The format that an Accept header likes best; JSON where it does not say.

    Raises:
        ProblemError: 406, nothing that it likes is offered.
    """
    offers = tuple(offered)
    ranges = [_media_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best: tuple[float, int] = (0.0, 0)
    chosen: Format | None = None
    for rank, offer in enumerate(offers):
        quality = _quality(WRITERS[offer].media_type, ranges)
        # Ties go to the first that is offered.
        if (quality, -rank) > best and quality > 0:
            best, chosen = (quality, -rank), offer
    if chosen is None:
        types = ", ".join(WRITERS[offer].media_type for offer in offers)
        raise ProblemError(
            "format.not_acceptable",
            f"The Accept header names nothing that is offered here: {types}.",
        )
    return chosen


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return name, quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Of the most specific range that covers the type."""
    family = media_type.partition("/")[0] + "/*"
    for candidate in (media_type, family, "*/*"):
        qualities = [quality for name, quality in ranges if name == candidate]
        if qualities:
            return max(qualities)
    return 0.0
