"""Work in a thread that is over before what it works with is closed."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Threads:
    """Runs blocking work beside the event loop.

    Attributes:
        stop: set when a wait for some work is cancelled; the work looks at it, and gives up.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()

    async def run(self, work: Callable[[], Result]) -> Result:
        """The result of work that runs in a thread; when cancelled, returns after its end."""
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self.stop.set()
            await asyncio.gather(running, return_exceptions=True)
            raise
