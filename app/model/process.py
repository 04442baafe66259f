"""One life of the process that holds the model, seen from the server.

It is spawned, never forked, answers over a socket and shared memory, and is killed when it
hangs. What follows its death is decided in `app.model.supervisor`.
"""

import asyncio
import contextlib
import json
import logging
import mmap
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import ProblemError
from app.model.children import describe_exit, kill_child, log_lines, module_command, start_child
from app.model.prediction import ModelDiedError, Prediction, WindowIds
from app.model.wire import REPLY, REQUEST, SLOTS, LoadedRuntime, slot_bytes
from app.problems import PROBLEMS
from app.settings import Settings
from converter.bundle.manifest import Manifest
from converter.bundle.opening import Bundle

logger = logging.getLogger("gena.model")

MODEL_COMMAND = module_command("app.model.child")
_STOP_SECONDS = 5.0


class ModelLoadError(Exception):
    """The model cannot be loaded, and trying again would not help.

    Attributes:
        code: dotted and stable, from the converter where it comes from there.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class _Pending:
    answer: asyncio.Future[Prediction]
    slot: int
    rows: int


class ModelProcess:
    """A running model process. Made by `start`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        memory: mmap.mmap,
        manifest: Manifest,
        predict_timeout: float,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._memory = memory
        self._manifest = manifest
        self._timeout = predict_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[int, _Pending] = {}
        self._next_number = 0
        self._slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(SLOTS):
            self._slots.put_nowait(slot)
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[LoadedRuntime] = loop.create_future()
        self._hang: str | None = None
        self._reason: str | None = None
        assert process.stderr is not None
        self._stderr = loop.create_task(log_lines(process.stderr, logger))
        self._life = loop.create_task(self._live())

    @classmethod
    async def start(
        cls,
        bundle: Bundle,
        settings: Settings,
        command: Sequence[str] = MODEL_COMMAND,
    ) -> "ModelProcess":
        """Start the process; it loads the model meanwhile (see `ready`)."""
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as file:
            file.truncate(SLOTS * slot_bytes(bundle.manifest.hidden_size))
            memory = mmap.mmap(file.fileno(), 0)
            # With "=", a value that begins with a dash stays a value.
            options = [
                f"--bundle={bundle.path}",
                f"--fingerprint={bundle.manifest.fingerprint}",
                f"--socket={theirs.fileno()}",
                f"--memory={file.fileno()}",
                f"--runtime={settings.runtime}",
                f"--compute-units={settings.compute_units}",
            ]
            if settings.threads is not None:
                options.append(f"--threads={settings.threads}")
            process = await start_child(
                [*command, *options],
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), file.fileno()),
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        logger.info("model process started", extra={"pid": process.pid})
        timeout = settings.predict_timeout_seconds
        return cls(process, reader, writer, memory, bundle.manifest, timeout)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ready(self, timeout: float) -> LoadedRuntime:
        """Wait until the model is loaded, for `timeout` seconds.

        Raises:
            ModelLoadError: it cannot be loaded.
            ModelDiedError: the process ended, or was killed because that took longer.
        """
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            self._end(f"the model was not loaded after {timeout:g} s")
            return await self._ready

    async def predict(self, window: WindowIds) -> Prediction:
        """Features of (n,) ids, computed by the shortest length of package that holds them.

        Raises:
            ModelDiedError: the process ended before it answered.
            ProblemError: 500 model.not_finite or model.error; the process lives on.
        """
        slot = await self._slots.get()
        if self._reason is not None:
            raise ModelDiedError(self._reason, started=False)
        length = next(length for length in self._manifest.lengths if length >= len(window))
        padded = np.full(length, self._manifest.pad_token_id, dtype=np.int32)
        padded[: len(window)] = window
        number, self._next_number = self._next_number, (self._next_number + 1) % 2**32
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(answer, slot, len(window))
        if self._timer is None:
            self._restart_timer()
        self._writer.write(REQUEST.pack(number, slot, length) + padded.tobytes())
        return await answer

    async def died(self) -> str:
        """Wait for the end of the process.

        Returns:
            Why it ended, as a clause.
        """
        await asyncio.shield(self._life)
        assert self._reason is not None
        return self._reason

    async def stop(self) -> None:
        """Ask the process to end; kill it where it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.shield(self._life)
        except TimeoutError:
            self.kill()
            await self._life

    def kill(self) -> None:
        """End the process now."""
        kill_child(self._process)

    async def _live(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = REPLY.unpack(await self._reader.readexactly(REPLY.size))
                self._receive(json.loads(await self._reader.readexactly(size)))
        # Without its socket it is of no use, whatever it still does.
        self.kill()
        returncode = await self._process.wait()
        await self._stderr
        self._writer.close()
        self._bury(self._hang or f"the model process ended ({describe_exit(returncode)})")

    def _receive(self, message: dict[str, Any]) -> None:
        if "runtime" in message:
            self._ready.set_result(LoadedRuntime(**message["runtime"]))
            return
        if "failed" in message:
            failed = message["failed"]
            self._ready.set_exception(ModelLoadError(failed["code"], failed["message"]))
            return
        pending = self._pending.pop(message["number"])
        self._restart_timer()
        if "error" in message:
            _fail(pending, _model_error(message["error"], message["message"]))
        elif not pending.answer.done():
            pending.answer.set_result(self._take(pending, message["shape"], message["seconds"]))
        self._slots.put_nowait(pending.slot)

    def _take(self, pending: _Pending, shape: list[int], seconds: float) -> Prediction:
        offset = pending.slot * slot_bytes(self._manifest.hidden_size)
        rows = np.frombuffer(self._memory, np.float32, pending.rows * shape[1], offset)
        return Prediction(rows.reshape(pending.rows, shape[1]).copy(), seconds)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._pending:
            loop = asyncio.get_running_loop()
            reason = f"the model gave no answer in {self._timeout:g} s and was ended"
            self._timer = loop.call_later(self._timeout, self._end, reason)

    def _end(self, reason: str) -> None:
        self._hang = reason
        self.kill()

    def _bury(self, reason: str) -> None:
        self._reason = reason
        if self._timer is not None:
            self._timer.cancel()
        if not self._ready.done():
            self._ready.set_exception(ModelDiedError(reason, started=False))
            # Nobody may be waiting for it any more.
            self._ready.exception()
        # It computes in the order of the requests: the oldest is the one it died of.
        for position, pending in enumerate(self._pending.values()):
            _fail(pending, ModelDiedError(reason, started=position == 0))
            self._slots.put_nowait(pending.slot)
        self._pending.clear()


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)


def _model_error(code: str, message: str) -> ProblemError:
    return ProblemError(code if code in PROBLEMS else "model.error", f"{message.rstrip('.')}.")
