"""From no bundle to a model that answers, and back again after a fault.

    converting -> loading -> ready -> (the process dies) loading -> ready
         \\____________\\____________________________________\\____-> failed

The socket is open throughout, and `state` tells the truth. A failure is not retried in a loop:
the next request for data tries again, once a pause has passed that doubles with every failure;
`retry` (POST /health/retry) does so at once.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.metrics import Metrics
from app.model.conversion import CONVERT_COMMAND, ConversionError, convert
from app.model.process import MODEL_COMMAND, ModelLoadError, ModelProcess, PackageShape
from app.model.scheduler import ModelDiedError, Scheduler
from app.problems import ProblemError
from app.settings import Settings
from converter.bundle.opening import Bundle, Manifest, default_bundle_folder, open_bundle
from converter.checkpoint.files import SHIPPED_MODELS, find_checkpoint
from converter.errors import BundleError, BundleMissingError, CheckpointError, GenaError
from converter.tokenizer import DnaTokenizer

logger = logging.getLogger("gena.lifecycle")

Status = Literal["converting", "loading", "ready", "failed", "stopping"]

# Restarts of the model: at once, then after 0.5 s, 1 s, ... until it has lived for a minute.
_FIRST_BACK_OFF, _LONGEST_BACK_OFF, _STABLE_SECONDS = 0.5, 30.0, 60.0
# A model that dies this many times before it is ready will not get there by trying.
_LOAD_ATTEMPTS = 5
# Pause after a failure until a request for data tries again.
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 900.0
_NOT_READY_SECONDS = 5

_SHIPPED = ", ".join(SHIPPED_MODELS)
# What to do, by the beginning of the code; the longest that fits.
_ADVICE = {
    "": "See the log of the server, and start it again when the cause is gone.",
    "checkpoint.unavailable": "Check the name and the network (HF_ENDPOINT, HF_HUB_OFFLINE), or "
    f"serve a model that is here: --model FOLDER, or --model {_SHIPPED}, which ships with the "
    "project.",
    "checkpoint": "Fetch the checkpoint again, or name another one with --model.",
    "package.refused": "Try gena convert --precision fp32, or report the figures in the message.",
    "bundle": "Remove the bundle folder, or build it again with gena convert.",
    "runtime": "Choose another with --runtime or --compute-units.",
    "model": "Try GENA_COMPUTE_UNITS=CPU_ONLY, and look at the log of the server.",
}


@dataclass(frozen=True)
class State:
    """What the service is doing.

    Attributes:
        message: a sentence for people.
        stage, fraction: of a conversion; the fraction of this stage, 0 to 1.
        code: of a failure, dotted and stable.
        advice: what to do about a failure.
    """

    status: Status
    message: str
    stage: str | None = None
    fraction: float | None = None
    code: str | None = None
    advice: str | None = None


@dataclass(frozen=True)
class ReadyModel:
    """What a request for data needs."""

    manifest: Manifest
    tokenizer: DnaTokenizer
    scheduler: Scheduler


class Lifecycle:
    """Owns the bundle, the model's process and the queue in front of it.

    Args:
        convert_command, model_command: what the children are; tests give stand-ins.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        convert_command: Sequence[str] = CONVERT_COMMAND,
        model_command: Sequence[str] = MODEL_COMMAND,
    ) -> None:
        self._settings = settings
        self.metrics = metrics
        self._convert_command = convert_command
        self._model_command = model_command
        self._state = State("loading", "Looking for the bundle.")
        self.scheduler = Scheduler(
            settings.queue_tokens, settings.deadline_seconds, metrics.observe_stage
        )
        self.restarts = 0
        self.runtime: dict[str, Any] | None = None
        self._bundle: Bundle | None = None
        self._tokenizer: DnaTokenizer | None = None
        self.process: ModelProcess | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._retry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        metrics.gauge("gena_queue_windows", "Windows that wait.", self._count_windows)
        metrics.gauge("gena_queue_tokens", "Tokens that wait.", self._count_tokens)
        metrics.gauge("gena_open_flows", "Requests with a place in the queue.", self._count_flows)
        metrics.gauge("gena_model_ready", "1 when data is answered.", self._is_ready)

    @property
    def state(self) -> State:
        """What the service is doing now."""
        return self._state

    @property
    def manifest(self) -> Manifest | None:
        """Of the bundle that is served or about to be; None while there is none."""
        return self._bundle.manifest if self._bundle is not None else None

    @property
    def retry_after(self) -> float:
        """Seconds until a request for data may start another attempt."""
        return max(0.0, self._retry_at - time.monotonic())

    def ready_model(self) -> ReadyModel:
        """What requests for data use.

        Raises:
            ProblemError: 503 server.stopping, model.failed or model.not_ready, with Retry-After.
        """
        status = self._state.status
        if status == "ready" and self._bundle is not None and self._tokenizer is not None:
            return ReadyModel(self._bundle.manifest, self._tokenizer, self.scheduler)
        if status == "stopping":
            raise stopping_error()
        if status == "failed" and self.retry_after == 0:
            self.retry()
        if self._state.status == "failed":
            raise self._failed_error()
        raise ProblemError(
            "model.not_ready",
            self._state.message,
            retry_after=_NOT_READY_SECONDS,
        )

    def retry(self) -> bool:
        """Try again after a failure; True where there was one."""
        if self._state.status != "failed":
            return False
        self._set(State("loading", "Trying again."))
        self._retry.set()
        return True

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run())

    def begin_stop(self) -> None:
        """Take no new work; what was accepted is still answered, within the grace period."""
        if self._state.status != "stopping":
            self._state = State("stopping", "The service is shutting down.")
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.grace_seconds, self.scheduler.fail_all, stopping_error())

    async def stop(self) -> None:
        """End the children."""
        self.begin_stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.scheduler.fail_all(stopping_error())

    async def _run(self) -> None:
        while True:
            try:
                await self._serve(await self._prepare())
            except (ConversionError, ModelLoadError, GenaError) as error:
                self._fail(error.code, str(error))
            except Exception as error:
                logger.exception("unexpected failure")
                self._fail("internal", f"{type(error).__name__}: {error}")
            await self._retry.wait()
            self._retry.clear()

    async def _prepare(self) -> Bundle:
        """The bundle, opened and checked; converted first where that is needed."""
        self._bundle = None
        folder = self._settings.bundle
        if folder is not None:
            return await asyncio.to_thread(open_bundle, folder.expanduser())
        self._set(State("loading", "Checking the bundle."))
        folder = self._folder()
        bundle = await asyncio.to_thread(self._open_current, folder)
        if bundle is not None:
            return bundle
        model = self._settings.model
        self._set(State("converting", f"Converting {model}.", stage="start", fraction=0.0))
        try:
            await convert(
                model, self._settings.revision, folder, self._progress, self._convert_command
            )
        except ConversionError:
            self.metrics.conversions.labels(result="failed").inc()
            raise
        self.metrics.conversions.labels(result="done").inc()
        self._set(State("loading", "Checking the bundle."))
        return await asyncio.to_thread(open_bundle, folder)

    def _folder(self) -> Path:
        folder = default_bundle_folder(self._settings.model, self._settings.revision)
        root = self._settings.bundles
        return folder if root is None else root.expanduser() / folder.name

    def _open_current(self, folder: Path) -> Bundle | None:
        """The bundle of the checkpoint as it is now; None where it has to be built."""
        model = self._settings.model
        try:
            bundle = open_bundle(folder)
        except BundleMissingError:
            return None
        except BundleError as error:
            logger.warning("%s It is built again.", error)
            return None
        # A hub id with its revision names its files; a folder's files may have been changed.
        if model not in SHIPPED_MODELS and not Path(model).expanduser().is_dir():
            return bundle
        try:
            files = find_checkpoint(model, self._settings.revision)
        except CheckpointError as error:
            logger.warning("%s The bundle that was built from it is served.", error)
            return bundle
        if bundle.manifest.matches(files):
            return bundle
        logger.warning("The checkpoint %s has changed. Its bundle is built again.", model)
        return None

    def _progress(self, stage: str, fraction: float, message: str) -> None:
        previous = self._state
        self._set(State("converting", message, stage=stage, fraction=fraction))
        if previous.stage != stage:
            logger.info("conversion: %s", message, extra={"stage": stage})

    async def _serve(self, bundle: Bundle) -> None:
        """Keep a model process for this bundle. Ends by an exception only."""
        self._bundle = bundle
        self._tokenizer = await asyncio.to_thread(DnaTokenizer, bundle.tokenizer_file)
        manifest = bundle.manifest
        shape = PackageShape(tuple(manifest.lengths), manifest.hidden_size, manifest.pad_token_id)
        message = f"Loading {manifest.model}."
        deaths, loaded = 0, False
        while True:
            self.runtime = None
            self._set(State("loading", message))
            process = await ModelProcess.start(
                bundle.path, shape, self._settings, self._model_command
            )
            self.process = process
            ready_at = math.inf
            try:
                self.runtime = await process.ready(self._settings.load_timeout_seconds)
                loaded, self._failures, ready_at = True, 0, time.monotonic()
                self._set(State("ready", f"{manifest.model} answers."))
                self.scheduler.attach(process)
                reason = await process.died()
            except ModelDiedError as error:
                reason = str(error)
                if not loaded and deaths + 1 >= _LOAD_ATTEMPTS:
                    raise ModelLoadError(
                        "model.crashing",
                        f"The model was started {deaths + 1} times and never got ready: {reason}.",
                    ) from error
            finally:
                self.scheduler.detach()
                self.process = None
                await process.stop()
            deaths = 1 if time.monotonic() - ready_at > _STABLE_SECONDS else deaths + 1
            self.restarts += 1
            self.metrics.model_restarts.inc()
            message = f"Restarting the model: {reason}."
            logger.error("model restart: %s", reason, extra={"restarts": self.restarts})
            self._set(State("loading", message))
            if deaths > 1:
                await asyncio.sleep(min(_FIRST_BACK_OFF * 2 ** (deaths - 2), _LONGEST_BACK_OFF))

    def _fail(self, code: str, message: str) -> None:
        pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures += 1
        self._retry_at = time.monotonic() + pause
        fitting = [prefix for prefix in _ADVICE if code.startswith(prefix)]
        self._set(State("failed", message, code=code, advice=_ADVICE[max(fitting, key=len)]))
        logger.error("failed: %s", message, extra={"code": code})
        self.scheduler.fail_all(self._failed_error())

    def _failed_error(self) -> ProblemError:
        seconds = max(1, round(self.retry_after))
        return ProblemError(
            "model.failed",
            f"{self._state.message} {self._state.advice} The next request after {seconds} s "
            "tries again; POST /health/retry does so at once.",
            retry_after=seconds,
            reason=self._state.code,
        )

    def _set(self, state: State) -> None:
        # Stopping is final: the steps that end meanwhile do not hide it.
        if self._state.status != "stopping":
            self._state = state

    def _count_windows(self) -> float:
        return self.scheduler.queued_windows

    def _count_tokens(self) -> float:
        return self.scheduler.queued_tokens

    def _count_flows(self) -> float:
        return self.scheduler.open_flows

    def _is_ready(self) -> float:
        return float(self._state.status == "ready")


def stopping_error() -> ProblemError:
    """What new requests hear while accepted ones are finished."""
    return ProblemError("server.stopping", retry_after=5)
