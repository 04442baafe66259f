"""A run: input -> rows -> shards, each computed where it is not there yet."""

import shlex
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from app.embed.bed import Bed, read_bed
from app.embed.cluster.model import RayCluster
from app.embed.computing import compute_shards
from app.embed.embedder import Embedder, Model, options_of
from app.embed.errors import DONE, InputError, UsageError
from app.embed.estimate import Estimate, estimate, require_room
from app.embed.local import LocalModel, local_model
from app.embed.options import EmbedOptions, require_fitting
from app.embed.planning import Planner
from app.embed.progress import Progress
from app.embed.remote import RemoteService
from app.embed.sequences import STDIN, Input, open_input
from app.embed.shards import ShardStamp, is_there
from app.embed.threads import Threads
from app.embed.windows_table import REFUSED, TABLE, TableStamp, WindowsTable, write_table
from app.settings import Settings
from converter.errors import is_full_disk
from converter.measuring import peak_memory_mib
from converter.replacing import sweep_partials


async def embed(options: EmbedOptions, settings: Settings, progress: Progress) -> int:
    """Compute what is missing of a run; the exit status.

    Raises:
        EmbedError: why it cannot go on.
    """
    threads = Threads()
    _note_on_overlap(options, progress)
    table = None if options.dry_run else _table_there(options.output)
    if table is not None and not _shards_of(options, table):  # no model is started for nothing
        _tell_end(options, table, 0, 0, progress)
        return DONE
    async with AsyncExitStack() as resources:
        model = await _start(options, settings, resources, threads, progress)
        name = "standard input" if options.input == STDIN else options.input
        progress.step(f"Reading {name}.")
        opening = open_input(options.input, threads.stop)
        source = await threads.run(partial(resources.enter_context, opening))
        planner = _planner(options, settings, source, threads)
        stamp = _table_stamp(options, settings, source, planner.bed)
        if table is not None and not options.cut.tokens:
            stamp.require(table.stamp, options.output)  # before a model is waited for
        planner, stamp = await _with_model(planner, stamp, model, progress)
        require_fitting(options, model)
        model.sequences = source.sequences
        if options.dry_run:
            assert not isinstance(model, RayCluster)  # which the options do not have together
            return await _dry_run(options, planner, stamp, model, threads, progress)
        if table is None:
            progress.step("Listing the windows.")
            writing = partial(
                write_table, options.output, source.sequences.names, planner.rows(), stamp
            )
            table = await threads.run(writing)
        else:
            table.require_within(source.sequences.names, source.sequences.lengths)
        stamp.require(table.stamp, options.output)
        return await _compute(options, table, stamp, model, threads, progress)


def _note_on_overlap(options: EmbedOptions, progress: Progress) -> None:
    """Who wants windows of bases to overlap finds the option of that name, which changes little."""
    overlap, size = options.choices.stride, options.cut.bases
    if overlap and size is not None:
        progress.note(
            f"--overlap {overlap} is tokens that the model's own windows share within a long "
            f"stretch. Windows of bases overlap by --stride: --windows {size} "
            f"--stride {max(1, size // 2)}"
        )


def _table_there(folder: Path) -> WindowsTable | None:
    """The table of a folder, which is made where it is not there.

    Raises:
        UsageError: it is none, or cannot be made. InputError: the table is damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} is a file; -o takes a folder.") from None
    except OSError as error:
        if is_full_disk(error):
            raise
        raise UsageError(f"{folder} cannot be made ({error.strerror}).") from error
    for name in (TABLE, REFUSED):
        sweep_partials(folder / name)
    return WindowsTable(folder) if (folder / TABLE).exists() else None


async def _start(
    options: EmbedOptions,
    settings: Settings,
    resources: AsyncExitStack,
    threads: Threads,
    progress: Progress,
) -> LocalModel | RemoteService | RayCluster:
    """What computes; a model of this machine is loaded while the input is read."""
    if options.url is not None:
        key = settings.api_key.get_secret_value() if settings.api_key else None
        return RemoteService(options.url, options.choices, key, threads, progress.note)
    if options.ray is not None:
        return RayCluster(options, settings)
    return await resources.enter_async_context(local_model(settings, options.choices, threads))


def _planner(options: EmbedOptions, settings: Settings, source: Input, threads: Threads) -> Planner:
    bed: Bed | None = read_bed(options.bed, threads.stop) if options.bed is not None else None
    return Planner(
        source.sequences,
        options.cut,
        options.choices,
        settings.max_record_bases,
        threads.stop,
        bed,
    )


def _table_stamp(
    options: EmbedOptions, settings: Settings, source: Input, bed: Bed | None
) -> TableStamp:
    cut: dict[str, Any] = options.cut.as_dict()
    cut |= {"ambiguous": options.choices.ambiguous, "most_bases": settings.max_record_bases}
    if bed is not None:
        cut["bed_sha256"] = bed.sha256
    return TableStamp(source.sha256, cut, options.shard_windows)


async def _with_model(
    planner: Planner,
    stamp: TableStamp,
    model: LocalModel | RemoteService | RayCluster,
    progress: Progress,
) -> tuple[Planner, TableStamp]:
    """The plan once the model is ready, whose tokenizer windows of tokens depend on."""
    if isinstance(model, RemoteService):
        await model.ready()
        return planner, stamp
    tokenizer = await model.ready(progress.step)
    if planner.cut.tokens is None:
        return planner, stamp
    cut = {**stamp.cut, "fingerprint": model.fingerprint}
    return replace(planner, tokenizer=tokenizer), replace(stamp, cut=cut)


async def _compute(
    options: EmbedOptions,
    table: WindowsTable,
    stamp: TableStamp,
    model: Embedder | RayCluster,
    threads: Threads,
    progress: Progress,
) -> int:
    made_by = shard_stamp(options, table, stamp, model)
    mine = _shards_of(options, table)
    there = await threads.run(partial(_those_there, options, mine, made_by, table))
    missing = [number for number in mine if number not in there]
    todo = sum(table.shard(number).n_bases for number in missing)
    n_mine, n_there, n_missing = (
        sum(len(table.ids(number)) for number in numbers) for numbers in (mine, there, missing)
    )
    if not options.yes:
        require_room(options.output, made_by, n_missing, todo)
    if table.n_refused:
        what = "1 stretch gets" if table.n_refused == 1 else f"{table.n_refused} stretches get"
        progress.note(f"{what} no vector: see {options.output / REFUSED}.")
    if table.n_mostly_ambiguous:
        progress.note(
            f"Windows that are mostly letters other than A, C, G, T: {table.n_mostly_ambiguous}; "
            "see the column n_ambiguous."
        )
    progress.begin(n_mine, n_there, todo)
    if isinstance(model, RayCluster):
        n_problems = await model.compute_shards(table, missing, made_by, progress)
    else:
        n_problems = await compute_shards(
            options.output, table.shard, missing, made_by, model, threads, progress
        )
    _tell_end(options, table, n_mine, n_problems, progress)
    return DONE


def _shards_of(options: EmbedOptions, table: WindowsTable) -> range:
    """The shards of this part."""
    return range(options.part - 1, table.n_shards, options.parts)


def shard_stamp(
    options: EmbedOptions, table: WindowsTable, stamp: TableStamp, model: Model
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
        what = "1 window has" if n_problems == 1 else f"{n_problems} windows have"
        progress.note(f"{what} no vector, and a code in the column problem in its place.")
    if not _shards_of(options, table):
        progress.note(
            f"Part {options.part} of {options.parts} has no shard: there are {table.n_shards}."
        )
    progress.event(
        "done",
        windows=n_mine,
        refused=table.n_refused,
        mostly_ambiguous=table.n_mostly_ambiguous,
        problems=n_problems,
        seconds=round(progress.seconds, 3),
        peak_mib=round(peak_memory_mib(), 1),
    )
    what = "1 window is" if n_mine == 1 else f"{n_mine} windows are"
    part, when = "", "One file of all:"
    if options.parts > 1:
        part = f"Part {options.part}/{options.parts}: "
        when = "When all parts are done, one file:"
    progress.note(
        f"{part}{what} in {options.output}. {when} "
        f"gena embed --merge {shlex.quote(str(options.output))} -o vectors.parquet"
    )


async def _dry_run(
    options: EmbedOptions,
    planner: Planner,
    stamp: TableStamp,
    model: Embedder,
    threads: Threads,
    progress: Progress,
) -> int:
    progress.step("Listing the windows, and measuring.")
    found: Estimate = await estimate(planner, model, options, threads)
    if not found.n_windows:
        raise InputError(
            f"All {found.n_refused} stretches of the input are refused; without --dry-run, "
            f"{REFUSED} says why."
        )
    progress.event("plan", **found.as_dict(), input_sha256=stamp.input_sha256)
    if not options.json:
        print(found.as_text())
    return DONE
