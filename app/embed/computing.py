"""Shards, one after the other: rows -> vectors -> a file each."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from app.embed.embedder import Embedder, Job
from app.embed.shards import Answer, ShardStamp, shard_path, shard_writer
from app.embed.threads import Threads
from app.embed.windows import Row
from app.embed.windows_table import Shard

# Bases that are computed together where every token's row is kept in memory meanwhile.
_BASES_PER_TOKEN_JOB = 100_000


class Watcher(Protocol):
    """Is told what was computed; a `Progress` is one."""

    def answered(self, n_windows: int, n_bases: int) -> None:
        """Windows got their answers."""
        ...

    def event(self, name: str, **members: Any) -> None:
        """A shard is there."""
        ...


@dataclass(frozen=True)
class _Piece:
    """A job, and where its answers go.

    Attributes:
        windows: its rows of the windows table.
        last: of its shard.
    """

    shard: int
    job: Job
    windows: pa.Table
    last: bool


async def compute_shards(
    folder: Path,
    read: Callable[[int], Shard],
    missing: Sequence[int],
    stamp: ShardStamp,
    model: Embedder,
    threads: Threads,
    watcher: Watcher,
) -> int:
    """Compute shards, one after the other; how many windows got no vector.

    Args:
        read: gives the windows of a shard, such as `WindowsTable.shard`.
        missing: numbers of the shards.
    """
    n_problems = 0
    pieces = _pieces(map(read, missing), per_token=stamp.per_token)
    async with aclosing(_answered(pieces, model, watcher)) as answered:
        for number in missing:
            with shard_writer(folder, number, stamp) as writer:
                async for piece, answers in answered:
                    await threads.run(partial(writer.write, piece.windows, answers))
                    n_problems += sum(answer.values is None for answer in answers)
                    if piece.last:
                        break
            watcher.event("shard", number=number, file=shard_path(folder, number).name)
    return n_problems


async def _answered(
    pieces: Iterator[_Piece], model: Embedder, watcher: Watcher
) -> AsyncGenerator[tuple[_Piece, list[Answer]], None]:
    """Pieces with their answers; the next one is prepared while one is computed."""
    piece = next(pieces, None)
    if piece is None:
        return
    coming = asyncio.create_task(model.prepare(piece.job))
    try:
        while piece is not None:
            prepared = await coming
            following = next(pieces, None)
            if following is not None:
                coming = asyncio.create_task(model.prepare(following.job))
            yield piece, await model.compute(prepared, watcher.answered)
            piece = following
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _pieces(shards: Iterable[Shard], *, per_token: bool) -> Iterator[_Piece]:
    """What is computed together: a shard; of rows a token as much of it as memory may hold."""
    for shard in shards:
        rows, windows = shard.rows, shard.windows
        start = 0
        for end in _ends(rows) if per_token else [len(rows)]:
            job = Job(rows[start:end])
            piece = windows.slice(start, end - start)
            yield _Piece(shard.number, job, piece, end == len(rows))
            start = end


def _ends(rows: list[Row]) -> Iterator[int]:
    n_bases = 0
    for index, row in enumerate(rows):
        if n_bases and n_bases + row.n_bases > _BASES_PER_TOKEN_JOB:
            yield index
            n_bases = 0
        n_bases += row.n_bases
    yield len(rows)
