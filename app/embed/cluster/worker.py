"""An actor of Ray: it holds a model, and makes the shards whose windows Ray Data hands to it."""

import asyncio
import logging
import socket
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from app.embed.cluster.task import MESSAGE, Failed, Made, Message, Task
from app.embed.computing import compute_shards
from app.embed.embedder import Job, OnAnswers
from app.embed.errors import FAILED, TRY_AGAIN, EmbedError, InputError
from app.embed.local import LocalModel, PreparedJob, local_model
from app.embed.sequences import Sequences, open_input
from app.embed.shards import Answer, ShardStamp
from app.embed.threads import Threads
from app.embed.windows_table import TABLE, Shard, WindowsTable
from converter.errors import GenaError, brief
from converter.versions import own_version

logger = logging.getLogger("gena.ray")

# Shards an actor has at a time: one is computed while the other is tokenized.
AT_ONCE = 2

_Returned = TypeVar("_Returned")


class ShardWorker:
    """Called by Ray Data with the rows of a shard; the answer is a row, `message`.

    What goes wrong is an answer too: Ray would wrap an exception in pages of its own.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._open_for_good = AsyncExitStack()
        self._threads = Threads()
        self._failure: Failed | None = None
        try:
            self._table, self._model = self._run(self._open())
        except Exception as error:
            self._failure = _failed(error)

    def __call__(self, rows: pa.Table) -> pa.Table:
        message = self._failure or self._made(rows)
        return pa.table({"message": [MESSAGE.dump_json(message).decode()]})

    def _made(self, rows: pa.Table) -> Message:
        task = self._task
        try:
            shard = _shard_of(rows, self._table)
            computing = compute_shards(
                task.options.output,
                lambda _number: shard,
                [shard.number],
                task.stamp,
                self._model,
                self._threads,
                _Unwatched(),
            )
            return Made(shard.number, self._run(computing))
        except Exception as error:
            return _failed(error)

    def _run(self, work: Coroutine[Any, Any, _Returned]) -> _Returned:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> tuple[WindowsTable, "_InTurn"]:
        """What stays open as long as the actor lives; the files first, as they cost less."""
        task, resources = self._task, self._open_for_good
        if own_version() != task.version:
            raise InputError(
                f"gena-coreml {own_version()} is installed here, and {task.version} where the run "
                "was begun. Install the same version on every node."
            )
        table = _shared_table(task.options.output, task.stamp)
        sequences = _shared_input(task, resources)
        model = await resources.enter_async_context(
            local_model(task.settings, task.options.choices, self._threads)
        )
        model.sequences = sequences
        await model.ready(lambda _text: None)
        if model.fingerprint != task.stamp.fingerprint:
            raise InputError(
                f"The model here has the fingerprint {model.fingerprint}, and that of the run "
                f"{task.stamp.fingerprint}. Give every node the same bundle: GENA_BUNDLE."
            )
        return table, _InTurn(model)


def _shard_of(rows: pa.Table, table: WindowsTable) -> Shard:
    """Rows that Ray handed over, as the shard that they are.

    Raises:
        EmbedError: they are none.
    """
    ids = rows.column("window_id").to_pylist()
    number = ids[0] // table.stamp.shard_windows
    if ids != [*table.ids(number)]:
        raise EmbedError(f"Ray handed over {len(ids)} windows that are no shard, from {ids[0]} on.")
    return Shard(number, rows)


class _InTurn:
    """The model, which prepares one job and computes one at a time; see `Embedder`.

    As on one machine: the input is read by one thread, and what is computed together is the same,
    and with it every bit.
    """

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self._reading, self._computing = asyncio.Lock(), asyncio.Lock()
        self.model = model.model
        self.fingerprint = model.fingerprint
        self.hidden_size = model.hidden_size
        self.window = model.window

    async def prepare(self, job: Job) -> PreparedJob:
        async with self._reading:
            return await self._model.prepare(job)

    async def compute(self, prepared: PreparedJob, on_answers: OnAnswers) -> list[Answer]:
        async with self._computing:
            return await self._model.compute(prepared, on_answers)


class _Unwatched:
    """See `Watcher`: shards are told as a whole, by the answers of the actor."""

    def answered(self, n_windows: int, n_bases: int) -> None: ...

    def event(self, name: str, **members: Any) -> None: ...


def _shared_table(folder: Path, stamp: ShardStamp) -> WindowsTable:
    if not (folder / TABLE).is_file():
        raise InputError(
            f"{folder / TABLE} is not there. The output has to lie on a file system that all nodes "
            "share, at the same path."
        )
    table = WindowsTable(folder)
    if table.sha256 != stamp.windows_sha256:
        raise InputError(f"{folder / TABLE} is not that of the run: another one lies at its path.")
    return table


def _shared_input(task: Task, resources: AsyncExitStack) -> Sequences:
    path = Path(task.options.input)
    if not path.is_file():
        raise InputError(
            f"{path} is not there. The input has to lie on a file system that all nodes share, at "
            "the same path."
        )
    source = resources.enter_context(open_input(str(path), threading.Event()))
    if source.sha256 != task.stamp.input_sha256:
        raise InputError(
            f"{path} is not the input of the run: its SHA-256 is {source.sha256}, not "
            f"{task.stamp.input_sha256}."
        )
    return source.sequences


def _failed(error: Exception) -> Failed:
    node = f"On the node {socket.gethostname()}"
    if isinstance(error, EmbedError):
        return Failed(error.status, f"{node}: {error}")
    if isinstance(error, GenaError):
        return Failed(TRY_AGAIN if error.may_pass else FAILED, f"{node}: {error}")
    logger.error("unexpected failure", exc_info=error)  # in the log of the actor
    return Failed(FAILED, f"{node}: {brief(error)} ({type(error).__name__}).")
