"""One queue in front of the model: bounded in tokens, fair between requests.

A request opens a flow and asks it for predictions. Flows take turns, one window each, so a
single sequence waits for a few predictions, not for the file that somebody else uploaded. The
windows of successive turns are predicted together, as many as the model gains by.
A flow owns its windows and their answers; the scheduler owns the turns, the room and the model.
"""

import asyncio
import itertools
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from app.errors import ProblemError, deadline_exceeded
from app.metrics import Stage
from app.model.flow import Flow, QueuedWindow
from app.model.prediction import IN_FLIGHT, Model, ModelDiedError, Prediction

# Tokens per second until the first measurement, and how much a new measurement counts.
_FIRST_GUESS, _SMOOTHING = 1000.0, 0.1
_LONGEST_RETRY_SECONDS = 60
# A batch that takes long is followed by the next one late in its time, so that who comes meanwhile
# goes with that; a short one at once, so that the model never waits.
_LONG_SECONDS, _LATE = 0.05, 0.8

# Whose window has its turn, and the window.
_Turn: TypeAlias = tuple[Flow, QueuedWindow]


class Scheduler:
    """Hands windows to the model, one flow after the other.

    Args:
        queue_tokens: bound on the tokens that open flows hold. Each flow holds at least one
            window of its model, so that its next window always has a place.
        observe: called with the seconds of every window, queued and predicting.
    """

    def __init__(
        self,
        queue_tokens: int,
        observe: Callable[[Stage, float], None] = lambda _stage, _seconds: None,
    ) -> None:
        self._limit = queue_tokens
        self._observe = observe
        self._flows: set[Flow] = set()
        # In the order of their turns; the values mean nothing.
        self._turns: OrderedDict[Flow, None] = OrderedDict()
        self._turn_numbers = itertools.count()
        self.batch_tokens = 1
        self._model: Model | None = None
        # Of the bundle whose model was attached last.
        self._fingerprint: str | None = None
        # What is said instead of opening a flow, once no model will come.
        self._refusal: Callable[[], Exception] | None = None
        # The batches that are with the model, and their tokens.
        self._in_flight: dict[asyncio.Task[None], int] = {}
        # When the model is done with the one that it computes, nearly; and who looks then.
        self._nearly_done = 0.0
        self._later: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._tokens_per_second = _FIRST_GUESS

    @property
    def queued_windows(self) -> int:
        """Windows that wait for the model."""
        return sum(flow.queued_windows for flow in self._flows)

    @property
    def queued_tokens(self) -> int:
        """Tokens of the windows that wait for the model."""
        return sum(flow.queued_tokens for flow in self._flows)

    @property
    def open_flows(self) -> int:
        """Requests that are being answered."""
        return len(self._flows)

    @asynccontextmanager
    async def open_flow(
        self, fingerprint: str, window: int, deadline_seconds: float
    ) -> AsyncIterator[Flow]:
        """A place in the queue for one request; what is still queued at its end is dropped.

        Args:
            fingerprint: of the bundle that the request was prepared for: no other answers it.
            window: tokens that its model reads at a time, at most `queue_tokens`.
            deadline_seconds: that it may wait without an answer from the model until everything
                asked for fails with 504. Who is answered, slowly or not, goes on.

        Raises:
            ProblemError: on entry 429 queue.full, with Retry-After, and 503 model.replaced.
            ModelUnavailableError: no model will come.
        """
        if self._refusal is not None:
            raise self._refusal()
        if self._fingerprint not in (None, fingerprint):
            raise _replaced()
        held = self._held_tokens()
        if held + window > self._limit:
            raise self._full(held)
        flow = Flow(self, fingerprint, window)
        self._flows.add(flow)
        watch = asyncio.create_task(self._end_when_stuck(flow, deadline_seconds))
        try:
            yield flow
        finally:
            watch.cancel()
            self._flows.discard(flow)
            flow.end(RuntimeError("this flow is closed"))
            self.make_room()

    def attach(self, model: Model, fingerprint: str) -> None:
        """Begin to hand windows to a model that is ready.

        Args:
            fingerprint: of its bundle. What was prepared for another one is ended with 503
                model.replaced.
        """
        self._model, self._fingerprint, self._refusal = model, fingerprint, None
        self.batch_tokens = model.batch_tokens
        for flow in self._flows:
            if flow.fingerprint != fingerprint:
                flow.end(_replaced())
        self.make_room()
        self._dispatch()

    def detach(self) -> None:
        """The model is gone: windows wait until the next one is attached."""
        self._model = None

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """No model will come: end every flow, and open none until there is one after all.

        Args:
            error: makes what they hear.
        """
        self._refusal = error
        for flow in self._flows:
            flow.end(error())
        self.make_room()

    async def wait_for_room(self, flow: Flow, tokens: int) -> None:
        """See `Turns`."""
        while flow.ended is None:
            # The first window takes the place that its flow holds; more need room of their own.
            if not flow.queued_windows or self._held_tokens() + tokens <= self._limit:
                return
            await self._room.wait()
        raise flow.ended

    def take_turn(self, flow: Flow) -> None:
        """See `Turns`."""
        self._line_up(flow)
        # A little later: what asks meanwhile, as one request does for many windows, goes together.
        asyncio.get_running_loop().call_soon(self._dispatch)

    def make_room(self) -> None:
        """See `Turns`."""
        self._room.set()
        self._room = asyncio.Event()

    def _held_tokens(self) -> int:
        return sum(flow.held_tokens for flow in self._flows)

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

    async def _end_when_stuck(self, flow: Flow, seconds: float) -> None:
        while (left := seconds - flow.stuck_seconds) > 0:
            await asyncio.sleep(left)
        flow.end(deadline_exceeded("The model answered nothing", seconds))
        self.make_room()

    def _line_up(self, flow: Flow) -> None:
        """Give a flow with windows a turn, at the end, unless it has one."""
        if flow.queued_windows:
            self._turns.setdefault(flow)

    def _line_up_again(self, flow: Flow) -> None:
        """Its window had a turn that no model used: those go first, in their old order."""
        self._line_up(flow)
        self._turns = OrderedDict.fromkeys(sorted(self._turns, key=lambda flow: flow.turn))

    def _dispatch(self) -> None:
        while self._model is not None and self._turns and len(self._in_flight) < IN_FLIGHT:
            if self._in_flight and self._wait_until_nearly_done():
                return
            batch = self._next_batch(self._model.batch_tokens)
            if not batch:
                return
            task = asyncio.create_task(self._compute(self._model, batch))
            self._in_flight[task] = sum(len(queued.window) for _, queued in batch)
            if len(self._in_flight) == 1:
                self._note_begin(task)
            task.add_done_callback(self._finished)
            self.make_room()

    def _note_begin(self, task: asyncio.Task[None]) -> None:
        """The model begins with this batch now."""
        seconds = self._in_flight[task] / self._tokens_per_second
        patience = _LATE * seconds if seconds > _LONG_SECONDS else 0.0
        self._nearly_done = time.perf_counter() + patience

    def _wait_until_nearly_done(self) -> bool:
        """Whether it is too early for the next batch; it is looked for later then."""
        if self._later is not None:
            self._later.cancel()
        left = self._nearly_done - time.perf_counter()
        if left > 0:
            self._later = asyncio.get_running_loop().call_later(left, self._dispatch)
        return left > 0

    def _next_batch(self, most_tokens: int) -> list[_Turn]:
        """The windows whose turn it is, one of each flow, then again, as many as go together."""
        batch: list[_Turn] = []
        tokens = 0
        while self._turns:
            flow = next(iter(self._turns))
            queued = flow.first_waiting
            if queued is not None:
                tokens += len(queued.window)
                has_company = bool(batch)
                if has_company and (tokens > most_tokens or queued.alone):
                    break
                if math.isinf(queued.turn):
                    queued.turn = next(self._turn_numbers)
                batch.append((flow, flow.next_window()))
            del self._turns[flow]
            self._line_up(flow)
            if queued is not None and queued.alone:
                break
        return batch

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        for begun in self._in_flight:
            self._note_begin(begun)
        self._dispatch()

    async def _compute(self, model: Model, batch: list[_Turn]) -> None:
        try:
            prediction = await model.predict(
                [queued.window for _, queued in batch], [queued.pooling for _, queued in batch]
            )
        except ModelDiedError as error:
            if self._model is model:
                self._model = None
            self._after_death(error, batch)
            return
        except Exception as error:
            for _, queued in batch:
                queued.fail(error)
            return
        self._measure(prediction, batch)
        for flow in {flow for flow, _ in batch}:
            flow.note_progress(prediction.seconds)
        for (_, queued), answer in zip(batch, prediction.answers, strict=True):
            queued.settle(answer)

    def _after_death(self, error: ModelDiedError, batch: list[_Turn]) -> None:
        """One of several may have been too much for the model: each is tried once more, alone."""
        for flow, queued in batch:
            if error.started and len(batch) == 1:
                queued.fail(ProblemError("model.crashed", f"{error}.", retry_after=2))
                continue
            queued.alone = queued.alone or error.started
            if flow.take_back(queued):
                self._line_up_again(flow)

    def _measure(self, prediction: Prediction, batch: list[_Turn]) -> None:
        now, tokens = time.perf_counter(), 0
        for _, queued in batch:
            self._observe("queued", max(0.0, now - queued.queued_at - prediction.seconds))
            self._observe("predicting", prediction.seconds)
            tokens += len(queued.window)
        measured = tokens / max(prediction.seconds, 1e-6)
        self._tokens_per_second += _SMOOTHING * (measured - self._tokens_per_second)


def _replaced() -> ProblemError:
    return ProblemError("model.replaced", retry_after=1)
