"""Keeps a model process alive for a bundle: start, hand it to the queue, start it again."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

from app.metrics import Metrics
from app.model.prediction import ModelDiedError
from app.model.process import ModelLoadError, ModelProcess
from app.model.scheduler import Scheduler
from app.model.state import State
from app.model.wire import LoadedRuntime
from app.settings import Settings
from converter.bundle.opening import Bundle

logger = logging.getLogger("gena.lifecycle")

# Restarts of the model: at once, then after 0.5 s, 1 s, ... until it has lived for a minute.
_FIRST_BACK_OFF, _LONGEST_BACK_OFF, _STABLE_SECONDS = 0.5, 30.0, 60.0
# A model that dies this many times before it is ready will not get there by trying.
_LOAD_ATTEMPTS = 5


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
            ModelLoadError: the model cannot be loaded, or died of it too many times.
        """
        message = f"Loading {bundle.manifest.model}."
        deaths, loaded = 0, False
        while True:
            self._tell(State("loading", message))
            reason, ready_at = await self._live_once(bundle)
            loaded = loaded or ready_at < math.inf
            stable = time.monotonic() - ready_at > _STABLE_SECONDS
            deaths = 1 if stable else deaths + 1
            if not loaded and deaths >= _LOAD_ATTEMPTS:
                raise ModelLoadError(
                    "model.crashing",
                    f"The model was started {deaths} times and never got ready: {reason}.",
                )
            self.restarts += 1
            self._metrics.model_restarts.inc()
            message = f"Restarting the model: {reason}."
            logger.error("model restart: %s", reason, extra={"restarts": self.restarts})
            self._tell(State("loading", message))
            if deaths > 1:
                await asyncio.sleep(min(_FIRST_BACK_OFF * 2 ** (deaths - 2), _LONGEST_BACK_OFF))

    async def _live_once(self, bundle: Bundle) -> tuple[str, float]:
        """One process from its start to its end.

        Returns:
            Why it ended, and when it was ready (infinity: never).
        """
        manifest = bundle.manifest
        process = self.process = await ModelProcess.start(
            bundle, self._settings, self._model_command
        )
        ready_at = math.inf
        try:
            self.runtime = await process.ready(self._settings.load_timeout_seconds)
            ready_at = time.monotonic()
            self._tell(State("ready", f"{manifest.model} answers."))
            self._scheduler.attach(process, manifest.fingerprint)
            return await process.died(), ready_at
        except ModelDiedError as error:
            return str(error), ready_at
        finally:
            self._scheduler.detach()
            self.process = self.runtime = None
            await process.stop()
