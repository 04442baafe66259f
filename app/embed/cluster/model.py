"""The models of a Ray cluster, as the command sees them."""

import asyncio
import importlib.util
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from app.embed.cluster.task import MESSAGE, TASK, Begun, Failed, Made, Message, Task
from app.embed.embedder import OnStep
from app.embed.errors import InputError, TryAgainError, UsageError
from app.embed.options import EmbedOptions
from app.embed.progress import Progress
from app.embed.sequences import Sequences
from app.embed.shards import ShardStamp, shard_path
from app.embed.windows_table import WindowsTable
from app.metrics import Metrics
from app.model.advice import advice_for, lasts
from app.model.bundle_source import BundleSource
from app.model.children import gone, kill_child, lines, log_lines, module_command, start_child
from app.model.conversion import CONVERT_COMMAND, ConversionError
from app.settings import Settings
from converter.errors import GenaError
from converter.paths import existing_folder
from converter.runtime.protocol import computed_fingerprint
from converter.tokenizer import DnaTokenizer
from converter.versions import own_version

logger = logging.getLogger("gena.ray")

_DRIVER = module_command("app.embed.cluster.driver")


class RayCluster:
    """Makes shards on a Ray cluster. This machine only reads the bundle, to know the model.

    Attributes:
        model, fingerprint, hidden_size, window: known once it is ready.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, options: EmbedOptions, settings: Settings) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("ray", "pandas")):
            raise UsageError("Ray is not installed: pip install 'gena-coreml[ray]'")
        self.sequences: Sequences | None = None
        self.model = self.fingerprint = ""
        self.hidden_size = self.window = 0
        self._options = options
        self._settings = _for_all_nodes(settings)

    async def ready(self, on_step: OnStep) -> DnaTokenizer:
        """Find the bundle, which is converted first where that is needed; its tokenizer.

        Raises:
            TryAgainError, InputError: there is none.
        """
        source = BundleSource(
            self._settings, Metrics(), lambda state: on_step(state.message), CONVERT_COMMAND
        )
        try:
            served = await source.prepare()
        except (ConversionError, GenaError) as error:
            lasting = lasts(error.code) and not error.may_pass
            message = f"{error} {advice_for(error.code)}"
            raise (InputError if lasting else TryAgainError)(message) from error
        manifest = served.bundle.manifest
        self.model, self.hidden_size = manifest.model, manifest.hidden_size
        self.window = manifest.window
        self.fingerprint = computed_fingerprint(manifest.fingerprint, self._settings.compute)
        return served.tokenizer

    async def compute_shards(
        self, table: WindowsTable, missing: Sequence[int], stamp: ShardStamp, progress: Progress
    ) -> int:
        """Make shards, in whatever order; how many windows got no vector.

        Raises:
            EmbedError: why it cannot go on.
        """
        if not missing:
            return 0
        left, n_problems = set(missing), 0
        async with aclosing(_messages(self._task(stamp, missing))) as messages:
            async for message in messages:
                match message:
                    case Begun():
                        _tell_begun(message, progress)
                    case Made():
                        left.discard(message.shard)
                        n_problems += message.n_problems
                        _tell_made(message, table, progress)
                    case Failed():
                        raise message.error()
        if left:
            raise TryAgainError("Ray's driver ended early. The same command goes on from here.")
        return n_problems

    def _task(self, stamp: ShardStamp, shards: Sequence[int]) -> Task:
        options = replace(
            self._options,
            input=str(Path(self._options.input).absolute()),
            output=self._options.output.absolute(),
        )
        address = options.ray
        assert address is not None
        return Task(address, options, self._settings, stamp, tuple(shards), own_version())


def _for_all_nodes(settings: Settings) -> Settings:
    """Settings without what is this machine's own: its key, and the folder that paths begin in."""
    folder = existing_folder(settings.model)
    paths = {name: getattr(settings, name) for name in ("bundle", "bundles")}
    return settings.model_copy(
        update={
            "api_key": None,
            "model": settings.model if folder is None else str(folder.absolute()),
            **{name: path and path.absolute() for name, path in paths.items()},
        }
    )


async def _messages(task: Task) -> AsyncGenerator[Message, None]:
    """What the driver tells, until it ends; it is ended with this."""
    process = await start_child(_DRIVER, stdout=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    log = asyncio.create_task(log_lines(process.stderr, logger))
    try:
        process.stdin.write(TASK.dump_json(task) + b"\n")
        await process.stdin.drain()
        async for line in lines(process.stdout):
            yield MESSAGE.validate_json(line)
    finally:
        kill_child(process)
        await gone(process, log)


def _tell_begun(message: Begun, progress: Progress) -> None:
    progress.note(
        f"Models on the Ray cluster: {message.models}, each with {message.resources}; "
        f"nodes: {message.nodes}."
    )


def _tell_made(message: Made, table: WindowsTable, progress: Progress) -> None:
    shard = table.shard(message.shard)
    progress.answered(len(shard.rows), shard.n_bases)
    name = shard_path(table.folder, message.shard).name
    progress.event("shard", number=message.shard, file=name)
