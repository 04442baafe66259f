"""A run: input -> rows -> shards, each computed where it is not there yet."""

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import Any

from app.embed.bed import Bed, read_bed
from app.embed.computing import compute_shards, shard_size
from app.embed.embedder import Embedder, options_of
from app.embed.errors import DONE, InputError, UsageError
from app.embed.estimate import Estimate, estimate, require_room
from app.embed.local import LocalModel, local_model
from app.embed.options import EmbedOptions
from app.embed.planning import Planner
from app.embed.progress import Progress
from app.embed.remote import RemoteService
from app.embed.sequences import Input, open_input
from app.embed.shards import ShardStamp, is_there
from app.embed.windows_table import REFUSED, TABLE, TableStamp, WindowsTable, write_table
from app.settings import Settings
from converter.tokenizer import DnaTokenizer


async def embed(options: EmbedOptions, settings: Settings, progress: Progress) -> int:
    """Compute what is missing of a run; the exit status.

    Raises:
        EmbedError: why it cannot go on. AbandonedError never: what was cancelled is cancelled.
    """
    stop = threading.Event()
    async with AsyncExitStack() as resources:
        resources.callback(stop.set)
        model = await _start(options, settings, resources, stop)
        progress.step(f"Reading {options.input}.")
        source = await asyncio.to_thread(resources.enter_context, open_input(options.input, stop))
        tokenizer = await _ready(model, progress)
        model.sequences = source.sequences
        planner = await asyncio.to_thread(_planner, options, settings, source, tokenizer, stop)
        stamp = _table_stamp(options, settings, source, planner, tokenizer, model)
        if options.dry_run:
            return await _dry_run(options, planner, stamp, model, progress)
        progress.step("Listing the windows.")
        table = await asyncio.to_thread(_table, options, source, planner, stamp)
        return await _compute(options, table, stamp, model, progress)


async def _start(
    options: EmbedOptions, settings: Settings, resources: AsyncExitStack, stop: threading.Event
) -> LocalModel | RemoteService:
    """What computes; a model of this machine is loaded while the input is read."""
    if options.url is not None:
        key = settings.api_key.get_secret_value() if settings.api_key else None
        return RemoteService(options.url, options.choices, key)
    return await resources.enter_async_context(local_model(settings, options.choices, stop))


async def _ready(model: LocalModel | RemoteService, progress: Progress) -> DnaTokenizer | None:
    if isinstance(model, RemoteService):
        await model.ready()
        return None
    return await model.ready(progress.step)


def _planner(
    options: EmbedOptions,
    settings: Settings,
    source: Input,
    tokenizer: DnaTokenizer | None,
    stop: threading.Event,
) -> Planner:
    bed: Bed | None = read_bed(options.bed) if options.bed is not None else None
    return Planner(
        source.sequences,
        options.cut,
        options.choices,
        settings.max_record_bases,
        stop,
        bed,
        tokenizer,
    )


def _table_stamp(
    options: EmbedOptions,
    settings: Settings,
    source: Input,
    planner: Planner,
    tokenizer: DnaTokenizer | None,
    model: Embedder,
) -> TableStamp:
    cut: dict[str, Any] = options.cut.as_dict()
    cut |= {"ambiguous": options.choices.ambiguous, "most_bases": settings.max_record_bases}
    if planner.bed is not None:
        cut["bed_sha256"] = planner.bed.sha256
    if tokenizer is not None and options.cut.tokens is not None:
        cut["fingerprint"] = model.fingerprint  # where tokens end is the tokenizer's affair
    return TableStamp(source.sha256, cut, options.shard_windows)


def _table(
    options: EmbedOptions, source: Input, planner: Planner, stamp: TableStamp
) -> WindowsTable:
    """The table that is there, or a new one.

    Raises:
        UsageError: the folder was begun with something else.
    """
    folder = options.output
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; -o takes a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / TABLE).exists():
        table = WindowsTable(folder)
        stamp.require(table.stamp, folder)
        return table
    return write_table(folder, source.sequences.names, planner.rows(), stamp)


async def _compute(
    options: EmbedOptions,
    table: WindowsTable,
    stamp: TableStamp,
    model: Embedder,
    progress: Progress,
) -> int:
    made_by = shard_stamp(options, table, stamp, model)
    mine = range(options.part - 1, table.n_shards, options.parts)
    there = await asyncio.to_thread(_those_there, options, mine, made_by, table)
    missing = [number for number in mine if number not in there]
    sizes = {number: shard_size(table, number) for number in mine}
    todo = sum(sizes[number][1] for number in missing)
    if not options.yes:
        require_room(options.output, made_by, sum(sizes[n][0] for n in missing), todo)
    n_mine, n_there = (sum(sizes[n][0] for n in numbers) for numbers in (mine, there))
    if table.n_refused:
        progress.note(f"{table.n_refused} stretches get no vector: see {options.output / REFUSED}.")
    progress.begin(n_mine, n_there, todo)
    n_problems = await compute_shards(options.output, table, missing, made_by, model, progress)
    _tell_end(options, table, n_mine, n_problems, progress)
    return DONE


def shard_stamp(
    options: EmbedOptions, table: WindowsTable, stamp: TableStamp, model: Embedder
) -> ShardStamp:
    """What every shard of the run says of itself."""
    return ShardStamp(
        model.model,
        model.fingerprint,
        model.hidden_size,
        options_of(options.choices),
        stamp.input_sha256,
        table.sha256,
    )


def _those_there(
    options: EmbedOptions, mine: range, stamp: ShardStamp, table: WindowsTable
) -> set[int]:
    return {number for number in mine if is_there(options.output, number, stamp, table)}


def _tell_end(
    options: EmbedOptions, table: WindowsTable, n_mine: int, n_problems: int, progress: Progress
) -> None:
    if n_problems:
        progress.note(
            f"{n_problems} windows have no vector, and a code in the column problem in its place."
        )
    progress.event("done", windows=n_mine, refused=table.n_refused, problems=n_problems)
    part = f" of part {options.part}/{options.parts}" if options.parts > 1 else ""
    progress.note(
        f"{n_mine} windows{part} are in {options.output}. One file of all: "
        f"gena embed --merge {options.output} -o vectors.parquet"
    )


async def _dry_run(
    options: EmbedOptions,
    planner: Planner,
    stamp: TableStamp,
    model: Embedder,
    progress: Progress,
) -> int:
    progress.step("Listing the windows, and measuring.")
    found: Estimate = await estimate(planner, model, options)
    if not found.n_windows:
        raise InputError(f"All {found.n_refused} stretches of the input are refused.")
    progress.event("plan", **found.as_dict(), input_sha256=stamp.input_sha256)
    if not options.json:
        print(found.as_text())
    return DONE
