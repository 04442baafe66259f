"""One life of the process that holds the model, seen from the server.

It is spawned, never forked, answers over a socket and shared memory, and is killed when it
hangs. What follows its death is decided in `app.model.supervisor`.
"""

import asyncio
import logging
import mmap
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from app.errors import ProblemError
from app.model.children import gone, kill_child, log_lines, module_command, start_child
from app.model.prediction import ModelDiedError, Prediction, WindowIds
from app.model.shared_memory import shared_file
from app.model.wire import (
    LONGEST_REPLY,
    REPLY,
    SLOTS,
    Failure,
    GarbledReplyError,
    GaveUp,
    LoadedRuntime,
    Loading,
    NotLoaded,
    Predicted,
    Reply,
    decode_reply,
    encode_request,
    slot_bytes,
)
from app.problems import PROBLEMS
from app.settings import Settings
from converter.bundle.manifest import Manifest
from converter.bundle.opening import Bundle
from converter.errors import is_full_disk
from converter.pooling import Poolings, count_answered, of_each

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


class ModelStartError(Exception):
    """The system lacks what a process needs; there may be enough of it a little later.

    Attributes:
        code: dotted and stable.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class _Pending:
    answer: asyncio.Future[Prediction]
    slot: int
    rows: tuple[int, ...]


class ModelProcess:
    """A running model process. Made by `start`.

    Attributes:
        answered: it has answered a request.
        died_of_a_window: it ended while it had one.
        batch_tokens: windows of so many tokens together are predicted at a time, and one at least;
            1 until it is loaded.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        memory: mmap.mmap,
        manifest: Manifest,
        predict_timeout: float,
    ) -> None:
        self.answered = False
        self.died_of_a_window = False
        self.batch_tokens = 1
        self._process = process
        self._reader = reader
        self._writer = writer
        self._memory = memory
        self._hidden_size = manifest.hidden_size
        self._row_bytes = manifest.hidden_size * np.dtype(np.float32).itemsize
        self._slot_bytes = len(memory) // SLOTS
        self._timeout = predict_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[int, _Pending] = {}
        self._next_number = 0
        self._slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(SLOTS):
            self._slots.put_nowait(slot)
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[LoadedRuntime] = loop.create_future()
        self._on_step: Callable[[str], None] | None = None
        # Why it was ended, where it did not end by itself; and how it ended.
        self._fault: str | None = None
        self._reason: str | None = None
        # It ended between two requests.
        self._gave_up = False
        assert process.stderr is not None
        self._stderr = loop.create_task(log_lines(process.stderr, logger))
        self._life = loop.create_task(self._live())

    @classmethod
    async def start(
        cls, bundle: Bundle, settings: Settings, command: Sequence[str] = MODEL_COMMAND
    ) -> "ModelProcess":
        """Start the process; it loads the model meanwhile (see `ready`).

        Raises:
            ModelStartError: the system lacks room for its answers, memory or open files.
        """
        manifest = bundle.manifest
        # What is predicted at a time: windows of so many tokens together, or one full window.
        tokens = max(manifest.window, settings.batch_tokens)
        size = SLOTS * slot_bytes(manifest.hidden_size, tokens)
        try:
            return await cls._start(bundle, settings, command, size)
        except OSError as error:
            raise _start_error(error, size) from error

    @classmethod
    async def _start(
        cls, bundle: Bundle, settings: Settings, command: Sequence[str], size: int
    ) -> "ModelProcess":
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as undo:
            undo.enter_context(ours)
            with shared_file(size) as file:
                memory = undo.enter_context(mmap.mmap(file.fileno(), 0))
                descriptors = (theirs.fileno(), file.fileno())
                options = _options(bundle, settings, *descriptors)
                process = await start_child(
                    [*command, *options], stdout=asyncio.subprocess.DEVNULL, pass_fds=descriptors
                )
            undo.callback(kill_child, process)
            reader, writer = await asyncio.open_connection(sock=ours)
            undo.pop_all()
        logger.info("model process started", extra={"pid": process.pid})
        timeout = settings.predict_timeout_seconds
        return cls(process, reader, writer, memory, bundle.manifest, timeout)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ready(
        self, timeout: float, on_step: Callable[[str], None] = lambda _step: None
    ) -> LoadedRuntime:
        """Wait until the model is loaded.

        Args:
            timeout: seconds for each step of it.
            on_step: called with what is done next, as a clause.

        Raises:
            ModelLoadError: it cannot be loaded.
            ModelDiedError: the process ended, or was killed because that took longer.
        """
        try:
            async with asyncio.timeout(timeout) as limit:

                def go_on(step: str) -> None:
                    limit.reschedule(asyncio.get_running_loop().time() + timeout)
                    on_step(step)

                self._on_step = go_on
                return await asyncio.shield(self._ready)
        except TimeoutError:
            self._end(f"the model was not loaded after {timeout:g} s")
            return await self._ready
        finally:
            self._on_step = None

    async def predict(self, windows: Sequence[WindowIds], poolings: Poolings = None) -> Prediction:
        """See `Model`. A window's ProblemError is 500 model.not_finite or model.error.

        Raises:
            ModelDiedError: the process ended before it answered.
            ValueError: there is no room for their features, or no such rows to pool.
        """
        lengths = tuple(map(len, windows))
        wanted = of_each(poolings, lengths)
        rows = tuple(map(count_answered, lengths, wanted))
        if sum(rows) * self._row_bytes > self._slot_bytes:
            raise ValueError(f"{sum(rows)} rows are too many at a time")
        slot = await self._slots.get()
        if self._reason is not None:
            # Whoever waits for a place hears of it too.
            self._slots.put_nowait(slot)
            raise ModelDiedError(self._reason, started=False)
        number, self._next_number = self._next_number, (self._next_number + 1) % 2**32
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(answer, slot, rows)
        if self._timer is None:
            self._restart_timer()
        self._writer.write(encode_request(number, slot, windows, wanted))
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
            self._end("the model process did not end by itself")
            await self._life

    async def _live(self) -> None:
        """Take replies until the process is gone, and let nobody wait for one after that."""
        try:
            while True:
                self._receive(await self._next_reply())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # without its socket it is of no use, whatever it still does
        except Exception:
            logger.exception("not a reply of the model process")
            self._fault = "the model process sent what is no answer and was ended"
        # It computes in the order of the requests: the oldest is the one it died of.
        oldest = None if self._gave_up else next(iter(self._pending), None)
        kill_child(self._process)
        ended = await gone(self._process, self._stderr)
        self._writer.close()
        self._memory.close()
        self._bury(self._fault or f"the model process ended ({ended})", oldest)

    async def _next_reply(self) -> Reply:
        (size,) = REPLY.unpack(await self._reader.readexactly(REPLY.size))
        if size > LONGEST_REPLY:
            raise GarbledReplyError(f"it announced {size} bytes")
        return decode_reply(await self._reader.readexactly(size))

    def _receive(self, reply: Reply) -> None:
        """Hand a reply to who waits for it; raises where nobody does."""
        match reply:
            case Loading():
                if self._on_step is not None:
                    self._on_step(reply.step)
            case LoadedRuntime():
                self.batch_tokens = reply.batch_tokens
                self._ready.set_result(reply)
            case NotLoaded():
                self._ready.set_exception(ModelLoadError(reply.code, reply.message))
            case Predicted():
                pending = self._pending[reply.number]
                answer = self._answer(pending, reply)
                del self._pending[reply.number]
                self.answered = True
                self._restart_timer()
                _settle(pending, answer)
                self._slots.put_nowait(pending.slot)
            case GaveUp():
                self._gave_up = True
                self._end(reply.reason)

    def _answer(self, pending: _Pending, reply: Predicted) -> Prediction:
        failed = {failure.window: failure for failure in reply.failures}
        rows = sum(pending.rows)
        hidden_size = self._hidden_size if len(failed) < len(pending.rows) else 0
        if any(index >= len(pending.rows) for index in failed):
            raise GarbledReplyError("it failed for a window that it was not sent")
        if reply.shape != (rows, hidden_size):
            raise GarbledReplyError(f"its features have the shape {reply.shape}")
        offset = pending.slot * self._slot_bytes
        values = np.frombuffer(self._memory, np.float32, rows * hidden_size, offset)
        parts = np.split(values.reshape(reply.shape), np.cumsum(pending.rows)[:-1])
        answers = [
            _problem(failed[index]) if index in failed else part.copy()
            for index, part in enumerate(parts)
        ]
        return Prediction(answers, reply.seconds)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._pending:
            loop = asyncio.get_running_loop()
            reason = f"the model gave no answer in {self._timeout:g} s and was ended"
            self._timer = loop.call_later(self._timeout, self._end, reason)

    def _end(self, reason: str) -> None:
        """Listen no more; the process is killed then."""
        self._fault = self._fault or reason
        self._writer.transport.abort()

    def _bury(self, reason: str, died_of: int | None) -> None:
        self._reason = reason
        self.died_of_a_window = died_of is not None
        if self._timer is not None:
            self._timer.cancel()
        if not self._ready.done():
            self._ready.set_exception(ModelDiedError(reason, started=False))
            # Nobody may be waiting for it any more.
            self._ready.exception()
        for number, pending in self._pending.items():
            _settle(pending, ModelDiedError(reason, started=number == died_of))
            self._slots.put_nowait(pending.slot)
        self._pending.clear()


def _options(bundle: Bundle, settings: Settings, channel: int, memory: int) -> list[str]:
    """The command line of `app.model.child`.

    Args:
        channel, memory: descriptors of the socket and of the shared file.
    """
    # With "=", a value that begins with a dash stays a value.
    options = [
        f"--bundle={bundle.path}",
        f"--fingerprint={bundle.manifest.fingerprint}",
        f"--socket={channel}",
        f"--memory={memory}",
        f"--runtime={settings.runtime}",
        f"--compute-units={settings.compute_units}",
        f"--step-seconds={settings.load_timeout_seconds}",
        f"--predict-seconds={settings.predict_timeout_seconds}",
        f"--device={settings.device}",
        f"--compute={settings.compute}",
        f"--batch-tokens={settings.batch_tokens}",
    ]
    if settings.threads is not None:
        options.append(f"--threads={settings.threads}")
    return options


def _start_error(error: OSError, size: int) -> ModelStartError:
    if is_full_disk(error):
        return ModelStartError(
            "disk.full",
            f"the temporary folder {tempfile.gettempdir()} is full, and the model's answers need "
            f"{size / 2**20:.2f} MiB in it",
        )
    return ModelStartError("model.start", f"its process cannot be started ({error.strerror})")


def _problem(failure: Failure) -> ProblemError:
    code = failure.code if failure.code in PROBLEMS else "model.error"
    return ProblemError(code, f"{failure.message.rstrip('.')}.")


def _settle(pending: _Pending, answer: Prediction | Exception) -> None:
    if pending.answer.done():
        return
    if isinstance(answer, Exception):
        pending.answer.set_exception(answer)
    else:
        pending.answer.set_result(answer)
