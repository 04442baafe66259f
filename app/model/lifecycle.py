"""From no bundle to a model that answers, and back again after a fault.

    loading (the bundle) -> loading (the model) -> ready -> (the process dies) loading -> ready
      \\-> converting -> /
    any of them -> failed -> (retry) loading;    any of them -> stopping

A bundle that was replaced is read again as a whole: manifest, tokenizer and package are always
those of one bundle, and what was prepared for one is never answered by another.

The socket is open throughout, and `state` tells the truth. A failure is not retried in a loop:
the next request for data tries again, once a pause has passed that doubles with every failure;
`retry` does so at once. How the bundle comes about is told in
`app.model.bundle_source`, how its model is kept alive in `app.model.supervisor`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

from app.metrics import Metrics
from app.model.advice import advice_for, lasts
from app.model.bundle_source import AwaitedModel, BundleSource, ServedBundle
from app.model.conversion import CONVERT_COMMAND, ConversionError
from app.model.flow import Flow
from app.model.process import MODEL_COMMAND, ModelLoadError, ModelProcess
from app.model.scheduler import Scheduler
from app.model.state import ModelUnavailableError, State
from app.model.supervisor import Supervisor
from app.model.wire import LoadedRuntime
from app.settings import Settings
from converter.bundle.manifest import Manifest
from converter.errors import GenaError
from converter.runtime.protocol import computed_fingerprint
from converter.tokenizer import DnaTokenizer

logger = logging.getLogger("gena.lifecycle")

# Codes of the errors of a bundle that was opened.
_OF_BUNDLES = "bundle."
# A bundle that is replaced more often than this before a model of it is ready is a failure.
_MOST_REPLACEMENTS = 5
# Pause after a failure until a request for data tries again.
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 900.0


class QueueTooSmallError(GenaError):
    """No request would ever find a place in the queue."""

    code = "queue.too_small"


@dataclass(frozen=True)
class ServedModel:
    """What a request needs: of the bundle, and the queue in front of the model's process.

    Attributes:
        fingerprint: of its answers.
    """

    manifest: Manifest
    tokenizer: DnaTokenizer
    scheduler: Scheduler
    fingerprint: str

    @property
    def name(self) -> str:
        return self.manifest.model

    @property
    def hidden_size(self) -> int:
        return self.manifest.hidden_size

    def open_flow(self, deadline_seconds: float) -> AbstractAsyncContextManager[Flow]:
        """A place in the queue for what was prepared with this model (`Scheduler.open_flow`)."""
        return self.scheduler.open_flow(
            self.fingerprint, self.tokenizer.model_max_length, deadline_seconds
        )


# What a request needs that predicts nothing.
OpenedModel: TypeAlias = ServedModel | AwaitedModel


class Lifecycle:
    """Owns the bundle, the model's process and the queue in front of it.

    Args:
        convert_command, model_command: what the children are; tests give stand-ins.

    Attributes:
        metrics: where its parts count, and whose gauges read the queue.
        scheduler: the queue; it is there before the model and outlives it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        convert_command: Sequence[str] = CONVERT_COMMAND,
        model_command: Sequence[str] = MODEL_COMMAND,
    ) -> None:
        self.metrics = metrics
        self.scheduler = Scheduler(settings.queue_tokens, metrics.observe_stage)
        self._source = BundleSource(settings, metrics, self._set, convert_command)
        self._supervisor = Supervisor(settings, metrics, self.scheduler, self._set, model_command)
        self._grace_seconds = settings.grace_seconds
        self._compute = settings.compute
        self._queue_tokens = settings.queue_tokens
        self._state = State("loading", "Looking for the bundle.")
        self._served: ServedBundle | None = None
        self._failures = 0
        self._replacements = 0
        self._retry_at = 0.0
        self._retry = asyncio.Event()
        self._was_ready = False
        self._never_ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._register_gauges()

    @property
    def state(self) -> State:
        """What the service is doing now."""
        return self._state

    @property
    def manifest(self) -> Manifest | None:
        """Of the bundle that is served or about to be; None while there is none."""
        return self._served.bundle.manifest if self._served is not None else None

    @property
    def fingerprint(self) -> str | None:
        """Of its answers; None while there is no bundle."""
        if self.manifest is None:
            return None
        return computed_fingerprint(self.manifest.fingerprint, self._compute)

    @property
    def process(self) -> ModelProcess | None:
        """The model's process; None while there is none."""
        return self._supervisor.process

    @property
    def runtime(self) -> LoadedRuntime | None:
        """What executes the package; None while nothing does."""
        return self._supervisor.runtime

    @property
    def restarts(self) -> int:
        """Starts of the model's process after a death."""
        return self._supervisor.restarts

    @property
    def retry_after(self) -> float:
        """Seconds until a request for data may start another attempt."""
        return max(0.0, self._retry_at - time.monotonic())

    def ready_model(self) -> ServedModel:
        """What requests for data use; after a failure, once its pause is over, tries again.

        Raises:
            ModelUnavailableError: it is not ready now.
        """
        model = self._opened()
        if model is None or self._state.status != "ready":
            if self.retry_after == 0:
                self.retry()
            raise self._unavailable()
        return model

    def opened_model(self) -> OpenedModel:
        """What requests use that predict nothing. It is there as soon as the bundle is open, and
        while one is built as soon as the checkpoint's tokenizer is.

        Raises:
            ModelUnavailableError: neither is, or the service stops.
        """
        return self._tokenizing() or self.ready_model()

    @property
    def tokenizer(self) -> DnaTokenizer | None:
        """What says how many tokens a window has, and which letters there are; None while the
        bundle, or what a checkpoint says of itself, was not read."""
        model = self._opened() or self._source.awaited
        return None if model is None else model.tokenizer

    @property
    def tokenizes(self) -> bool:
        """Whether there is an `opened_model`."""
        return self._tokenizing() is not None

    def _tokenizing(self) -> OpenedModel | None:
        if self._state.status == "stopping":
            return None
        return self._opened() or self._source.awaited

    def _opened(self) -> ServedModel | None:
        served, fingerprint = self._served, self.fingerprint
        if served is None or fingerprint is None:
            return None
        return ServedModel(served.bundle.manifest, served.tokenizer, self.scheduler, fingerprint)

    def retry(self) -> bool:
        """Try again after a failure; True where there was one."""
        if self._state.status != "failed":
            return False
        self._set(State("loading", "Trying again."))
        self._retry.set()
        return True

    async def failed_to_begin(self) -> State:
        """Wait for a failure that lasts, where the model was never ready before; the failure."""
        await self._never_ready.wait()
        return self._state

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run())

    def begin_stop(self) -> None:
        """Take no new work; what was accepted is still answered, within the grace period."""
        if self._state.status != "stopping":
            self._state = State("stopping", "The service is shutting down.")
            loop = asyncio.get_running_loop()
            loop.call_later(self._grace_seconds, self.scheduler.fail_all, self._unavailable)

    async def stop(self) -> None:
        """End the children."""
        self.begin_stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.scheduler.fail_all(self._unavailable)

    async def _run(self) -> None:
        while True:
            try:
                self._served = None
                self._served = served = await self._source.prepare()
                manifest = served.bundle.manifest
                self._require_room(manifest)
                logger.info("%s serves %s", manifest.model, manifest.serves)
                await self._supervisor.keep(served.bundle)
            except (ConversionError, ModelLoadError, GenaError) as error:
                if self._may_read_again(error):
                    continue
                may_pass = not isinstance(error, ModelLoadError) and error.may_pass
                self._fail(error.code, str(error), lasting=lasts(error.code) and not may_pass)
            except Exception as error:
                logger.exception("unexpected failure")
                self._fail("internal", f"{type(error).__name__}: {error}")
            await self._retry.wait()
            self._retry.clear()

    def _require_room(self, manifest: Manifest) -> None:
        """Raises QueueTooSmallError: the queue does not hold a window of this model."""
        if self._queue_tokens < manifest.window:
            raise QueueTooSmallError(
                f"The queue has room for {self._queue_tokens} tokens, and a window of "
                f"{manifest.model} has {manifest.window}."
            )

    def _may_read_again(self, error: ConversionError | ModelLoadError | GenaError) -> bool:
        """Whether the bundle changed under its readers: then all of it is read again, at once."""
        # The source has tried what it can; the model's process finds a bundle as it is by now.
        changed = isinstance(error, ModelLoadError) and error.code.startswith(_OF_BUNDLES)
        if not changed or self._replacements >= _MOST_REPLACEMENTS:
            return False
        self._replacements += 1
        self._set(State("loading", "The bundle was replaced: reading it again."))
        logger.warning("%s It is read again.", error)
        return True

    def _fail(self, code: str, message: str, *, lasting: bool = False) -> None:
        pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures += 1
        self._retry_at = time.monotonic() + pause
        self._set(State("failed", message, code=code, advice=advice_for(code), lasting=lasting))
        logger.error("failed: %s", message, extra={"code": code})
        self.scheduler.fail_all(self._unavailable)
        if lasting and not self._was_ready:
            self._never_ready.set()

    def _unavailable(self) -> ModelUnavailableError:
        return ModelUnavailableError(self._state, self.retry_after)

    def _set(self, state: State) -> None:
        if state.status == "ready":
            self._failures = self._replacements = 0
            self._was_ready = True
        # Stopping is final: the steps that end meanwhile do not hide it.
        if self._state.status != "stopping":
            self._state = state

    def _register_gauges(self) -> None:
        gauge, queue = self.metrics.gauge, self.scheduler
        gauge("gena_queue_windows", "Windows that wait.", lambda: queue.queued_windows)
        gauge("gena_queue_tokens", "Tokens that wait.", lambda: queue.queued_tokens)
        gauge("gena_open_flows", "Requests with a place in the queue.", lambda: queue.open_flows)
        gauge(
            "gena_model_ready",
            "1 when data is answered.",
            lambda: float(self._state.status == "ready"),
        )
