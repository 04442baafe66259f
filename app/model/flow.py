"""The windows of one request that wait for the model, and their answers."""

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from app.errors import ProblemError
from app.model.prediction import Rows, WindowIds
from converter.pooling import WindowPooling


class Turns(Protocol):
    """What a flow needs of the scheduler that it belongs to.

    Attributes:
        batch_tokens: see `Model`; of the model that was there last.
    """

    @property
    def batch_tokens(self) -> int: ...

    async def wait_for_room(self, flow: "Flow", tokens: int) -> None:
        """Returns when so many tokens more may wait; raises what the flow has ended with."""
        ...

    def take_turn(self, flow: "Flow") -> None:
        """The flow has a window for the model."""
        ...

    def make_room(self) -> None:
        """A window has left the queue."""
        ...


@dataclass(eq=False)
class QueuedWindow:
    """A window between the question and the answer.

    Attributes:
        turn: the number of its turn, once it had one; it is kept when it gets no answer.
        alone: it is predicted without company: a model died of it, or of what was with it.
    """

    window: WindowIds
    pooling: WindowPooling | None
    answer: asyncio.Future[Rows]
    queued_at: float = field(default_factory=time.perf_counter)
    turn: float = math.inf
    alone: bool = False

    def settle(self, answer: Rows | ProblemError) -> None:
        """Answer it, unless it is answered or nobody waits any more."""
        if isinstance(answer, Exception):
            self.fail(answer)
        elif not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless it is answered or nobody waits any more."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Flow:
    """The predictions of one request. Made by `Scheduler.open_flow`.

    Attributes:
        fingerprint: of the bundle whose model may compute them.
        window: tokens that this model reads at a time; the flow holds room for as many at least.
        predicting_seconds: time that the model took for its windows and those that were with
            them, added up.
        ended: the error that everything asked for now fails with; None while it is open.
    """

    def __init__(self, turns: Turns, fingerprint: str, window: int) -> None:
        self.fingerprint = fingerprint
        self.window = window
        self.predicting_seconds = 0.0
        self.ended: Exception | None = None
        self._turns = turns
        self._waiting: deque[QueuedWindow] = deque()
        # Those that wait and those that are with the model.
        self._unanswered: set[QueuedWindow] = set()
        self._unanswered_since = 0.0
        self._unanswered_seconds = 0.0
        self._answered_at = 0.0

    @property
    def queued_windows(self) -> int:
        """Windows that wait for the model."""
        return len(self._waiting)

    @property
    def queued_tokens(self) -> int:
        """Tokens of the windows that wait for the model."""
        return sum(len(queued.window) for queued in self._waiting)

    @property
    def held_tokens(self) -> int:
        """Room that it takes in the queue."""
        return max(self.window, self.queued_tokens)

    @property
    def batch_tokens(self) -> int:
        """Windows of so many tokens together are predicted at a time, and one at least."""
        return self._turns.batch_tokens

    @property
    def first_waiting(self) -> QueuedWindow | None:
        """The window that waits longest; None where none waits."""
        return self._waiting[0] if self._waiting else None

    @property
    def turn(self) -> float:
        """The number of the turn that its next window had already; infinity where it had none."""
        return self._waiting[0].turn if self._waiting else math.inf

    @property
    def queued_seconds(self) -> float:
        """Time that it waited for windows while the model computed none of them."""
        passed = self._unanswered_seconds
        if self._unanswered:
            passed += time.perf_counter() - self._unanswered_since
        return max(0.0, passed - self.predicting_seconds)

    @property
    def stuck_seconds(self) -> float:
        """Time that it has waited for an answer since the last one; 0 where it waits for none."""
        if not self._unanswered:
            return 0.0
        return time.perf_counter() - max(self._unanswered_since, self._answered_at)

    async def predict(self, window: WindowIds, pooling: WindowPooling | None = None) -> Rows:
        """Features of one window.

        Waits for room in the queue: an admitted flow is not refused later for want of room.

        Args:
            window: (n,) int32 unpadded ids with both specials, no more than `self.window`.
            pooling: what is wanted instead of all rows.

        Returns:
            (n, hidden) float32, one row a token; (1, hidden) where it is pooled.

        Raises:
            ProblemError: 503 model.crashed or model.replaced, 504 deadline.exceeded, or that of
                the model.
            ModelUnavailableError: no model will come.
        """
        if not 0 < len(window) <= self.window:
            raise ValueError(f"a window has 1 to {self.window} ids, not {len(window)}")
        await self._turns.wait_for_room(self, len(window))
        queued = QueuedWindow(window, pooling, asyncio.get_running_loop().create_future())
        if not self._unanswered:
            self._unanswered_since = queued.queued_at
        self._unanswered.add(queued)
        self._waiting.append(queued)
        try:
            self._turns.take_turn(self)
            return await queued.answer
        finally:
            self._leave(queued)

    def next_window(self) -> QueuedWindow:
        """Take the window that waits longest."""
        return self._waiting.popleft()

    def note_progress(self, seconds: float) -> None:
        """The model has answered some of its windows, together with others; it took so long."""
        self.predicting_seconds += seconds
        self._answered_at = time.perf_counter()

    def take_back(self, queued: QueuedWindow) -> bool:
        """Let a window that got no answer wait again, before those that had no turn.

        Returns:
            False where its answer is not waited for any more.
        """
        if self.ended is not None or queued.answer.done():
            return False
        self._waiting.append(queued)
        self._waiting = deque(sorted(self._waiting, key=lambda waiting: waiting.turn))
        return True

    def end(self, error: Exception) -> None:
        """Fail everything that it waits for and everything that it asks for later."""
        self.ended = self.ended or error
        self._waiting.clear()
        for queued in self._unanswered:
            queued.fail(error)

    def _leave(self, queued: QueuedWindow) -> None:
        self._unanswered.discard(queued)
        if not self._unanswered:
            self._unanswered_seconds += time.perf_counter() - self._unanswered_since
        if queued in self._waiting:
            self._waiting.remove(queued)
            self._turns.make_room()
