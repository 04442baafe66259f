"""One request on its way to an answer: whose it is, what it may use, and how long it may wait."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from app.dependencies import Services
from app.errors import deadline_exceeded
from app.model.lifecycle import OpenedModel
from app.requests.limits import Limits
from app.requests.options import conflict
from app.requests.validation import shown

T = TypeVar("T")


class Exchange:
    """One request on its way to an answer.

    Attributes:
        stages: seconds that they took, for Server-Timing.

    Raises:
        ProblemError: 422 options.conflict, an option is given twice in the query.
    """

    def __init__(self, request: Request, model: OpenedModel, services: Services) -> None:
        self.request = request
        self.model = model
        self.settings = services.settings
        self.cache = services.cache
        self.metrics = services.metrics
        self._bulk_threads = services.bulk_threads
        self.stages: dict[str, float] = {}
        _refuse_repeated_options(request)

    @property
    def accept(self) -> str | None:
        """The Accept header."""
        return self.request.headers.get("accept")

    @property
    def limits(self) -> Limits:
        """Bounds of this request."""
        settings = self.settings
        return Limits(
            records=settings.max_records,
            record_bases=settings.max_record_bases,
            tokens=settings.max_request_tokens,
            json_bytes=settings.max_json_bytes,
        )

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Bounds what is awaited inside, until the answer begins, by the deadline.

        Raises:
            ProblemError: 504 deadline.exceeded.
        """
        seconds = self.settings.deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise deadline_exceeded("The answer did not begin", seconds) from None

    async def in_thread(self, work: Callable[[threading.Event], T], *, bulk: bool) -> T:
        """Run `work` in a thread; its argument is set when nobody waits any more.

        Args:
            bulk: it may take long, so it waits for others that may; a single sequence always finds
                a thread.
        """
        stop = threading.Event()
        limiter = self._bulk_threads if bulk else None
        try:
            return await anyio.to_thread.run_sync(
                work, stop, abandon_on_cancel=True, limiter=limiter
            )
        finally:
            stop.set()


def _refuse_repeated_options(request: Request) -> None:
    """Raise where an option has two values: FastAPI would take the last one in silence."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise conflict(f"{shown(name)} is given twice in the query.", shown(name))
        seen.add(name)
