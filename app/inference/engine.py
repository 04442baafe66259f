"""Windows of ids -> predictions -> features: the second of a request's two passes.

Computes a few windows ahead, in order, and holds one record's accumulator at most.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.inference.cache import WindowCache
from app.inference.prepare import Job, ReadStrand, Record
from app.inference.windows import Window
from app.problems import ProblemError
from app.requests.schemas import Choices
from converter.tokenizer import MAX_TOKENS, DnaTokenizer

# The scheduler keeps the model busy with two windows; the others wait for this flow's next turn.
_AHEAD = 4
# Rows of one block at base resolution: a token can stand for thousands of bases (N).
_BASE_ROWS = 2048

Features = NDArray[np.float32] | NDArray[np.float16]


class Flow(Protocol):
    """What is needed of `app.model.scheduler.Flow`."""

    async def predict(self, window: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n,) ids with specials -> (n, H)."""
        ...


class Predictor:
    """Windows to rows, from the cache where they were computed before.

    Attributes:
        hits, misses: windows found, or not, in the cache.
    """

    def __init__(
        self, flow: Flow, cache: WindowCache, fingerprint: str, tokenizer: DnaTokenizer
    ) -> None:
        self._flow = flow
        self._cache = cache
        self._fingerprint = fingerprint
        self._tokenizer = tokenizer
        self.hits = 0
        self.misses = 0

    async def rows(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Features of a window.

        Args:
            ids: (n,) without specials.

        Returns:
            (n + 2, H), C order, read-only perhaps.

        Raises:
            ProblemError: 500 model.not_finite, and those of the flow.
        """
        window = self._tokenizer.window(ids)
        key = self._cache.key(self._fingerprint, window)
        known = self._cache.get(key)
        if known is not None:
            self.hits += 1
            return known
        self.misses += 1
        rows = np.ascontiguousarray(await self._flow.predict(window))
        if not np.isfinite(rows).all():
            raise ProblemError(
                "model.not_finite",
                "The features hold NaN or infinity.",
            )
        self._cache.put(key, rows)
        return rows


@dataclass(frozen=True)
class Block:
    """A part of a record's features, along their first axis.

    Attributes:
        values: token resolution: (n, H), a window's real rows; base: (n, H), some bases;
            pooled: (H,), all.
        padding: rows of zeros that follow the values.
        first, last: of the record.
    """

    record: Record
    values: Features
    padding: int
    first: bool
    last: bool


async def feature_blocks(job: Job, predictor: Predictor) -> AsyncIterator[Block]:
    """Second pass: compute, record by record, in order."""
    tasks = _window_tasks(job)
    predictions = _in_order(_ids_of(job), predictor.rows)
    make = _pooled if job.choices.pooled else _per_base if _is_base(job) else _per_token
    async with aclosing(predictions):  # type: ignore[type-var]
        async for rows in predictions:
            task = next(tasks)
            for block in make(job, task, rows):
                yield block


@dataclass
class _WindowTask:
    """One window to compute: whose, which, and what its record has gathered so far."""

    record: Record
    strand: ReadStrand
    window: Window
    first: bool
    last: bool
    gathered: list["_Gathered"]


@dataclass
class _Gathered:
    """A strand's merged vector in the making."""

    strand: ReadStrand
    total: NDArray[np.float64]


def _is_base(job: Job) -> bool:
    return job.choices.resolution == "base"


def _windows_of(job: Job) -> Iterator[tuple[Record, ReadStrand, Window, bool, bool]]:
    """Every window of the job in the order of the answer, first and last of its record marked."""
    for record in job.records:
        left = record.n_windows
        first = True
        for strand in record.strands:
            # Bases are answered in the submitted direction.
            windows = strand.windows
            turned = strand.reverse and _is_base(job)
            for window in reversed(windows) if turned else windows:
                left -= 1
                yield record, strand, window, first, left == 0
                first = False


def _ids_of(job: Job) -> Iterator[NDArray[np.int32]]:
    for _, strand, window, _, _ in _windows_of(job):
        yield strand.ids(job.store, window.first, window.end)


def _window_tasks(job: Job) -> Iterator[_WindowTask]:
    gathered: list[_Gathered] = []
    for record, strand, window, first, last in _windows_of(job):
        if first:
            gathered = []
        yield _WindowTask(record, strand, window, first, last, gathered)


async def _in_order(
    windows: Iterator[NDArray[np.int32]],
    predict: Callable[[NDArray[np.int32]], Any],
) -> AsyncIterator[NDArray[np.float32]]:
    """Predictions in the order of the windows, a few of them asked for ahead."""
    ahead: deque[asyncio.Task[NDArray[np.float32]]] = deque()
    try:
        while True:
            while len(ahead) < _AHEAD and (ids := next(windows, None)) is not None:
                ahead.append(asyncio.create_task(predict(ids)))
            if not ahead:
                return
            yield await ahead[0]
            ahead.popleft()
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


def _per_token(job: Job, task: _WindowTask, rows: NDArray[np.float32]) -> Iterator[Block]:
    values = _cast(rows, job.choices)
    yield Block(task.record, values, MAX_TOKENS + 2 - len(values), task.first, task.last)


def _per_base(job: Job, task: _WindowTask, rows: NDArray[np.float32]) -> Iterator[Block]:
    window, strand = task.window, task.strand
    own = _own_rows(rows, window)
    borders = strand.borders(job.store, window.own_first, window.own_end)
    lengths = np.diff(borders)
    if strand.reverse:
        own, lengths = own[::-1], lengths[::-1]
    token_of_base = np.repeat(np.arange(len(own)), lengths)
    values = _cast(own, job.choices)
    for start in range(0, len(token_of_base), _BASE_ROWS):
        end = start + _BASE_ROWS
        yield Block(
            task.record,
            values[token_of_base[start:end]],
            0,
            task.first and start == 0,
            task.last and end >= len(token_of_base),
        )


def _pooled(job: Job, task: _WindowTask, rows: NDArray[np.float32]) -> Iterator[Block]:
    choices, strand = job.choices, task.strand
    own = _own_rows(rows, task.window)
    if choices.pooling == "mean":
        part = own.sum(axis=0, dtype=np.float64) / strand.n_tokens
    elif choices.pooling == "max":
        part = own.max(axis=0).astype(np.float64)
    else:
        part = rows[0].astype(np.float64) / strand.n_windows
    gathered = task.gathered
    if not gathered or gathered[-1].strand is not strand:
        gathered.append(_Gathered(strand, part))
    elif choices.pooling == "max":
        gathered[-1].total = np.maximum(gathered[-1].total, part)
    else:
        gathered[-1].total = gathered[-1].total + part
    if not task.last:
        return
    vector = np.mean([strand.total for strand in gathered], axis=0)
    if choices.normalize:
        length = np.linalg.norm(vector)
        vector = vector / length if length > 0 else vector
    values = _cast(vector.astype(np.float32), choices)
    yield Block(task.record, values, 0, first=True, last=True)


def _own_rows(rows: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Rows of the tokens that the window answers for; row 0 is [CLS]."""
    shift = 1 - window.first
    return rows[window.own_first + shift : window.own_end + shift]


def _cast(values: NDArray[np.float32], choices: Choices) -> Features:
    if choices.dtype == "float32":
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ProblemError("dtype.overflow")
    return half
