"""Windows of ids -> predictions -> features: the second of a request's two passes.

Computes a few windows ahead, in order, and holds one record's accumulator at most.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.errors import ProblemError
from app.inference.cache import WindowCache
from app.inference.merging import RecordMerger, finished, own_rows, pooling_of
from app.inference.records import PreparedRequest, Record, RecordStrand
from app.inference.windows import Window
from app.model.flow import Flow
from app.model.prediction import IN_FLIGHT
from app.requests.options import Choices
from converter.pooling import WindowPooling
from converter.tokenizer import DnaTokenizer

# Windows that are asked for ahead of the one whose features are used next: these many, and the
# tokens of these many batches. Two batches are with the model; the others wait for their turn.
_AHEAD_WINDOWS, _AHEAD_BATCHES = 4, IN_FLIGHT + 1
# Problems of what is computed of one record, for which the others are no reason.
_OF_A_RECORD = frozenset({"dtype.overflow", "model.crashed", "model.error", "model.not_finite"})
# Rows of one block at base resolution: a token can stand for thousands of bases (N).
_BASE_ROWS = 2048

Features: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.float64]


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

    @property
    def window(self) -> int:
        """Tokens that the model reads at a time, [CLS] and [SEP] included."""
        return self._tokenizer.model_max_length

    @property
    def ahead_tokens(self) -> int:
        """Tokens to ask for ahead, so that the model can take many windows at a time."""
        return _AHEAD_BATCHES * self._flow.batch_tokens

    async def rows(
        self, ids: NDArray[np.int32], pooling: WindowPooling | None = None
    ) -> NDArray[np.float32]:
        """Features of a window.

        Args:
            ids: (n,) without specials.
            pooling: what is wanted instead of all rows.

        Returns:
            (n + 2, H), or (1, H) where it is pooled; C order, read-only perhaps.

        Raises:
            ProblemError: 500 model.not_finite, and those of the flow.
        """
        window = self._tokenizer.window(ids)
        key = self._cache.key(self._fingerprint, window, pooling)
        known = self._cache.get(key)
        if known is not None:
            self.hits += 1
            return known
        self.misses += 1
        rows = np.ascontiguousarray(await self._flow.predict(window, pooling))
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
            pooled: (H,), all; a vector a window: (1, H).
        padding: rows of zeros that follow the values.
        first, last: of the record.
        window, strand: whose vector it is, where there is one a window.
    """

    record: Record
    values: Features
    padding: int
    first: bool
    last: bool
    window: Window | None = None
    strand: RecordStrand | None = None


@dataclass(frozen=True)
class _WindowTask:
    """One window to compute, and what of it; first and last of its record are marked."""

    record: Record
    strand: RecordStrand
    window: Window
    ids: NDArray[np.int32]
    pooling: WindowPooling | None
    first: bool
    last: bool


async def feature_blocks(
    prepared: PreparedRequest, predictor: Predictor
) -> AsyncGenerator[Block, None]:
    """Second pass: compute, record by record, in order.

    Raises:
        ProblemError: 422 dtype.overflow, and those of the predictor.
    """
    blocks = _block_maker(prepared, predictor.window)
    tasks = _window_tasks(prepared)
    async with aclosing(_in_order(tasks, predictor, prepared)) as computed:
        async for task, rows in computed:
            with _naming(task.record, prepared):
                for block in blocks(task, rows):
                    yield block


def _window_tasks(prepared: PreparedRequest) -> Iterator[_WindowTask]:
    """Every window in the order of the answer."""
    for record in prepared.records:
        left = record.n_windows
        first = True
        for strand in record.strands:
            windows = strand.windows
            # Bases are answered in the submitted direction.
            turned = strand.reverse and prepared.choices.resolution == "base"
            for window in reversed(windows) if turned else windows:
                left -= 1
                ids = strand.ids(prepared.store, window.first, window.end)
                pooling = pooling_of(window, prepared.choices)
                yield _WindowTask(record, strand, window, ids, pooling, first, left == 0)
                first = False


async def _in_order(
    tasks: Iterator[_WindowTask], predictor: Predictor, prepared: PreparedRequest
) -> AsyncGenerator[tuple[_WindowTask, NDArray[np.float32]], None]:
    """Tasks with their predicted rows; a few are predicted ahead."""
    ahead: deque[tuple[_WindowTask, asyncio.Task[NDArray[np.float32]]]] = deque()
    tokens = 0
    try:
        while True:
            while len(ahead) < _AHEAD_WINDOWS or tokens < predictor.ahead_tokens:
                if (task := next(tasks, None)) is None:
                    break
                ahead.append((task, asyncio.create_task(predictor.rows(task.ids, task.pooling))))
                tokens += len(task.ids)
            if not ahead:
                return
            task, rows = ahead[0]
            with _naming(task.record, prepared):
                computed = await rows
            yield task, computed
            ahead.popleft()
            tokens -= len(task.ids)
    finally:
        for _, rows in ahead:
            rows.cancel()
        await asyncio.gather(*(rows for _, rows in ahead), return_exceptions=True)


@contextmanager
def _naming(record: Record, prepared: PreparedRequest) -> Iterator[None]:
    """Says of which record a problem is; a single sequence has no id that its sender knows."""
    try:
        yield
    except ProblemError as error:
        if prepared.single or error.code not in _OF_A_RECORD:
            raise
        raise error.of_record(record.id) from error


_BlockMaker: TypeAlias = Callable[[_WindowTask, NDArray[np.float32]], Iterator[Block]]


def _block_maker(prepared: PreparedRequest, window: int) -> _BlockMaker:
    """What turns computed windows, one after the other, into blocks."""
    if prepared.choices.by_window:
        return _WindowVectorBlocks(prepared.choices)
    if prepared.choices.pooled:
        return _PooledBlocks(prepared.choices)
    if prepared.choices.resolution == "base":
        return _BaseBlocks(prepared)
    return _TokenBlocks(prepared.choices, window)


@dataclass(frozen=True)
class _TokenBlocks:
    """A block a window, padded to the tokens of a full one."""

    choices: Choices
    window: int

    def __call__(self, task: _WindowTask, rows: NDArray[np.float32]) -> Iterator[Block]:
        values = _cast(rows, self.choices)
        yield Block(task.record, values, self.window - len(values), task.first, task.last)


@dataclass(frozen=True)
class _BaseBlocks:
    """A row a base, in blocks of bounded size."""

    prepared: PreparedRequest

    def __call__(self, task: _WindowTask, rows: NDArray[np.float32]) -> Iterator[Block]:
        window, strand = task.window, task.strand
        own = own_rows(rows, window)
        borders = strand.borders(self.prepared.store, window.own_first, window.own_end)
        lengths = np.diff(borders)
        if strand.reverse:
            own, lengths = own[::-1], lengths[::-1]
        token_of_base = np.repeat(np.arange(len(own)), lengths)
        values = _cast(own, self.prepared.choices)
        for start in range(0, len(token_of_base), _BASE_ROWS):
            end = start + _BASE_ROWS
            yield Block(
                task.record,
                values[token_of_base[start:end]],
                0,
                task.first and start == 0,
                task.last and end >= len(token_of_base),
            )


@dataclass(frozen=True)
class _WindowVectorBlocks:
    """A block a window, with its vector."""

    choices: Choices

    def __call__(self, task: _WindowTask, rows: NDArray[np.float32]) -> Iterator[Block]:
        values = _cast(finished(rows[0], self.choices), self.choices)[None]
        yield Block(task.record, values, 0, task.first, task.last, task.window, task.strand)


class _PooledBlocks:
    """A block a record, once all its windows are there."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._merger = RecordMerger(choices)

    def __call__(self, task: _WindowTask, rows: NDArray[np.float32]) -> Iterator[Block]:
        self._merger.add(task.strand, task.window, rows[0])
        if task.last:
            values = _cast(self._merger.vector(), self._choices)
            self._merger = RecordMerger(self._choices)
            yield Block(task.record, values, 0, first=True, last=True)


def _cast(values: NDArray[np.float32], choices: Choices) -> Features:
    if choices.dtype == "float32":
        return values
    if choices.dtype == "float64":
        return values.astype(np.float64)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ProblemError("dtype.overflow")
    return half
