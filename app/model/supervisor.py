"""Keeps a model process alive for a bundle: start, hand it to the queue, start it again."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.metrics import Metrics
from app.model.prediction import ModelDiedError
from app.model.process import ModelLoadError, ModelProcess, ModelStartError
from app.model.scheduler import Scheduler
from app.model.state import State
from app.model.wire import LoadedRuntime
from app.settings import Settings
from converter.bundle.opening import Bundle
from converter.runtime.protocol import computed_fingerprint

logger = logging.getLogger("gena.lifecycle")

# Restarts of the model: at once, then after 0.5 s, 1 s, ... until it has lived for a minute.
_FIRST_BACK_OFF, _LONGEST_BACK_OFF, _STABLE_SECONDS = 0.5, 30.0, 60.0
# A model that dies this many times in a row without an answer will not give one by trying.
_FRUITLESS_LIVES = 5


@dataclass(frozen=True)
class _Life:
    """One process of the model, afterwards.

    Attributes:
        reason: why it ended, as a clause.
        ready_seconds: how long the model was ready; None where it never was.
        answered: it answered a window.
        died_of_a_window: it ended while it had one.
        code: of the failure, where no other life ends better.
    """

    reason: str
    ready_seconds: float | None = None
    answered: bool = False
    died_of_a_window: bool = False
    code: str = "model.crashing"

    @property
    def stable(self) -> bool:
        return (self.ready_seconds or 0.0) > _STABLE_SECONDS

    @property
    def fruitless(self) -> bool:
        return not self.answered and (self.ready_seconds is None or self.died_of_a_window)

    def failure(self, count: int) -> ModelLoadError:
        """What it comes to after so many fruitless ones."""
        what = "got ready" if self.ready_seconds is None else "gave an answer"
        return ModelLoadError(
            self.code, f"The model was started {count} times and never {what}: {self.reason}."
        )


class Supervisor:
    """Runs one model process at a time.

    Args:
        scheduler: hands windows to the process while it is ready.
        tell: called with every change of the state.
        model_command: what the process is.

    Attributes:
        process: the one that runs; None between two.
        runtime: what executes the package; None until it is ready.
        restarts: starts after a death.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        scheduler: Scheduler,
        tell: Callable[[State], None],
        model_command: Sequence[str],
    ) -> None:
        self.process: ModelProcess | None = None
        self.runtime: LoadedRuntime | None = None
        self.restarts = 0
        self._settings = settings
        self._metrics = metrics
        self._scheduler = scheduler
        self._tell = tell
        self._model_command = model_command

    async def keep(self, bundle: Bundle) -> None:
        """Keep a process for this bundle. Ends by an exception only.

        Raises:
            ModelLoadError: the model cannot be loaded, or died too many times without an answer.
        """
        message = f"Loading {bundle.manifest.model}."
        deaths = fruitless = 0
        while True:
            self._tell(State("loading", message))
            life = await self._live_once(bundle)
            deaths = 1 if life.stable else deaths + 1
            # The end of one that had nothing to do says nothing.
            fruitless = 0 if life.answered else fruitless + life.fruitless
            if fruitless >= _FRUITLESS_LIVES:
                raise life.failure(fruitless)
            self.restarts += 1
            self._metrics.model_restarts.inc()
            message = f"Restarting the model: {life.reason}."
            logger.error("model restart: %s", life.reason, extra={"restarts": self.restarts})
            self._tell(State("loading", message))
            if deaths > 1:
                await asyncio.sleep(min(_FIRST_BACK_OFF * 2 ** (deaths - 2), _LONGEST_BACK_OFF))

    async def _live_once(self, bundle: Bundle) -> _Life:
        """One process from its start to its end."""
        manifest = bundle.manifest
        try:
            process = await ModelProcess.start(bundle, self._settings, self._model_command)
        except ModelStartError as error:
            return _Life(str(error), code=error.code)
        self.process = process
        ready_at: float | None = None
        try:
            self.runtime = await process.ready(
                self._settings.load_timeout_seconds,
                lambda step: self._tell(State("loading", f"Loading {manifest.model}: {step}.")),
            )
            ready_at = time.monotonic()
            self._tell(State("ready", f"{manifest.model} answers."))
            fingerprint = computed_fingerprint(manifest.fingerprint, self._settings.compute)
            self._scheduler.attach(process, fingerprint)
            reason = await process.died()
        except ModelDiedError as error:
            reason = str(error)
        finally:
            self._scheduler.detach()
            self.process = self.runtime = None
            await process.stop()
        ready_seconds = None if ready_at is None else time.monotonic() - ready_at
        return _Life(reason, ready_seconds, process.answered, process.died_of_a_window)
