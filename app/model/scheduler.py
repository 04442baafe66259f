"""One queue in front of the model: bounded in tokens, fair between requests.

A request opens a flow and asks it for predictions. Flows take turns, one window each, so a
single sequence waits for a few predictions, not for the file that somebody else uploaded.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.problems import ProblemError
from app.settings import WINDOW_TOKENS

# Two windows are with the model: it computes one while the answer of the other travels.
_IN_FLIGHT = 2
# Tokens per second until the first measurement, and how much a new measurement counts.
_FIRST_GUESS, _SMOOTHING = 1000.0, 0.1
_LONGEST_RETRY_SECONDS = 60


class ModelDiedError(Exception):
    """The model's process ended. `started` says whether it was computing this window."""

    def __init__(self, reason: str, *, started: bool) -> None:
        super().__init__(reason)
        self.started = started


@dataclass(frozen=True)
class Prediction:
    """Features of one window, (n, hidden) float32, and how long the model took for them."""

    features: NDArray[np.float32]
    seconds: float


class Model(Protocol):
    """What the scheduler needs of a model."""

    async def predict(self, window: NDArray[np.int32]) -> Prediction:
        """Features of (n,) ids with both specials.

        Raises:
            ModelDiedError: the process ended before it answered.
            ProblemError: the model failed on this window; it is well otherwise.
        """
        ...


@dataclass(eq=False)
class _Job:
    window: NDArray[np.int32]
    answer: asyncio.Future[NDArray[np.float32]]
    queued_at: float


@dataclass(eq=False)
class Flow:
    """The predictions of one request. Made by `Scheduler.open_flow`.

    Attributes:
        predicting_seconds: time that the model took for its windows, added up.
    """

    _scheduler: "Scheduler"
    predicting_seconds: float = 0.0
    _jobs: deque[_Job] = field(default_factory=deque)
    _answers: set[asyncio.Future[NDArray[np.float32]]] = field(default_factory=set)
    _has_turn: bool = False
    _ended: Exception | None = None
    _waited_seconds: float = 0.0
    _waits_since: float = 0.0

    @property
    def queued_seconds(self) -> float:
        """Time that it waited for windows while the model computed none of them."""
        waited = self._waited_seconds
        if self._answers:
            waited += time.perf_counter() - self._waits_since
        return max(0.0, waited - self.predicting_seconds)

    async def predict(self, window: NDArray[np.int32]) -> NDArray[np.float32]:
        """Features of one window.

        Waits for room in the queue: an admitted flow is not refused later for want of room.

        Args:
            window: (n,) int32 unpadded ids with both specials, n <= 512.

        Returns:
            (n, hidden) float32, one row a token.

        Raises:
            ProblemError: 503 model.crashed or model.failed, 504 deadline.exceeded.
        """
        return await self._scheduler._predict(self, window)

    @property
    def _queued_tokens(self) -> int:
        return sum(len(job.window) for job in self._jobs)

    def _end(self, error: Exception) -> None:
        """Fail everything that it waits for and everything that it asks for later."""
        self._ended = self._ended or error
        self._jobs.clear()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(error)


class Scheduler:
    """Hands windows to the model, one flow after the other.

    Args:
        queue_tokens: bound on the tokens that open flows hold. Each flow holds at least one
            window of 512, so that its next window always has a place.
        deadline_seconds: longest time for a flow that sets no deadline of its own.
        observe: called with "queued" or "predicting", and seconds, for every window.
    """

    def __init__(
        self,
        queue_tokens: int,
        deadline_seconds: float,
        observe: Callable[[str, float], None] = lambda _stage, _seconds: None,
    ) -> None:
        self._limit = queue_tokens
        self._deadline = deadline_seconds
        self._observe = observe
        self._flows: set[Flow] = set()
        self._turns: deque[Flow] = deque()
        self._model: Model | None = None
        self._in_flight: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._tokens_per_second = _FIRST_GUESS

    @property
    def queued_windows(self) -> int:
        """Windows that wait for the model."""
        return sum(len(flow._jobs) for flow in self._flows)

    @property
    def queued_tokens(self) -> int:
        """Tokens of the windows that wait for the model."""
        return sum(flow._queued_tokens for flow in self._flows)

    @property
    def open_flows(self) -> int:
        """Requests that are being answered."""
        return len(self._flows)

    @asynccontextmanager
    async def open_flow(self, *, deadline: float | None = None) -> AsyncIterator[Flow]:
        """A place in the queue for one request; what is still queued at its end is dropped.

        Args:
            deadline: seconds from now until everything asked for fails with 504.

        Raises:
            ProblemError: 429 queue.full on entry, with Retry-After.
        """
        held = self._held_tokens()
        if held + WINDOW_TOKENS > self._limit:
            raise self._full(held)
        flow = Flow(self)
        self._flows.add(flow)
        seconds = self._deadline if deadline is None else deadline
        timer = asyncio.get_running_loop().call_later(seconds, self._expire, flow, seconds)
        try:
            yield flow
        finally:
            timer.cancel()
            self._flows.discard(flow)
            flow._end(RuntimeError("this flow is closed"))
            self._wake()

    def attach(self, model: Model) -> None:
        """Begin to hand windows to a model that is ready."""
        self._model = model
        self._dispatch()

    def detach(self) -> None:
        """The model is gone: windows wait until the next one is attached."""
        self._model = None

    def fail_all(self, error: ProblemError) -> None:
        """No model will come: end every flow with this error."""
        for flow in self._flows:
            flow._end(error)
        self._wake()

    def _held_tokens(self) -> int:
        return sum(max(WINDOW_TOKENS, flow._queued_tokens) for flow in self._flows)

    def _full(self, held: int) -> ProblemError:
        seconds = math.ceil(held / self._tokens_per_second)
        retry = min(max(seconds, 1), _LONGEST_RETRY_SECONDS)
        return ProblemError(
            "queue.full",
            f"{len(self._flows)} requests hold the {self._limit} tokens that may wait for the "
            f"model. Try again in {retry} s.",
            retry_after=retry,
            limit=self._limit,
        )

    def _expire(self, flow: Flow, seconds: float) -> None:
        flow._end(
            ProblemError(
                "deadline.exceeded",
                f"The answer was not ready after {seconds:g} s.",
                limit=seconds,
            )
        )
        self._wake()

    async def _predict(self, flow: Flow, window: NDArray[np.int32]) -> NDArray[np.float32]:
        if not 0 < len(window) <= WINDOW_TOKENS:
            raise ValueError(f"a window has 1 to {WINDOW_TOKENS} ids, not {len(window)}")
        while True:
            if flow._ended is not None:
                raise flow._ended
            # The first window takes the place that its flow holds; more need room of their own.
            if not flow._jobs or self._held_tokens() + len(window) <= self._limit:
                break
            await self._room.wait()
        job = _Job(window, asyncio.get_running_loop().create_future(), time.perf_counter())
        flow._jobs.append(job)
        if not flow._answers:
            flow._waits_since = job.queued_at
        flow._answers.add(job.answer)
        self._take_turn(flow)
        self._dispatch()
        try:
            return await job.answer
        finally:
            flow._answers.discard(job.answer)
            if not flow._answers:
                flow._waited_seconds += time.perf_counter() - flow._waits_since
            if job in flow._jobs:
                flow._jobs.remove(job)
                self._wake()

    def _take_turn(self, flow: Flow) -> None:
        if flow._jobs and not flow._has_turn:
            flow._has_turn = True
            self._turns.append(flow)

    def _dispatch(self) -> None:
        while self._model is not None and self._turns and len(self._in_flight) < _IN_FLIGHT:
            flow = self._turns.popleft()
            flow._has_turn = False
            if not flow._jobs:
                continue
            job = flow._jobs.popleft()
            self._take_turn(flow)
            task = asyncio.create_task(self._compute(self._model, flow, job))
            self._in_flight.add(task)
            task.add_done_callback(self._finished)
            self._wake()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._dispatch()

    async def _compute(self, model: Model, flow: Flow, job: _Job) -> None:
        try:
            prediction = await model.predict(job.window)
        except ModelDiedError as error:
            if self._model is model:
                self._model = None
            if error.started:
                _refuse(job, _crashed(error))
            elif flow._ended is None and not job.answer.done():
                # It never reached the model: it is the next one's first.
                flow._jobs.appendleft(job)
                self._take_turn(flow)
            return
        except Exception as error:
            _refuse(job, error)
            return
        queued = max(0.0, time.perf_counter() - job.queued_at - prediction.seconds)
        flow.predicting_seconds += prediction.seconds
        self._observe("queued", queued)
        self._observe("predicting", prediction.seconds)
        measured = len(job.window) / max(prediction.seconds, 1e-6)
        self._tokens_per_second += _SMOOTHING * (measured - self._tokens_per_second)
        if not job.answer.done():
            job.answer.set_result(prediction.features)

    def _wake(self) -> None:
        self._room.set()
        self._room = asyncio.Event()


def _refuse(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


def _crashed(error: ModelDiedError) -> ProblemError:
    return ProblemError(
        "model.crashed",
        f"{error}.",
        retry_after=2,
    )
