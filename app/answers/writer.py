"""What an answer will hold, and what its format's writer must do.

Shapes are known before anything is computed, so every format can be sent while the model works,
and npy with its exact length.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np

from app.inference.engine import Block
from app.inference.records import PreparedRequest, Record
from app.requests.submitted import Submitted
from converter.tokenizer import DnaTokenizer

# A piece of an answer: bytes, or a look at the array that holds them. A megabyte and a half that is
# copied into fresh memory costs half a millisecond, most of it for the kernel's empty pages.
Chunk: TypeAlias = bytes | memoryview

# An answer up to here is computed before it is sent: one window is, also as text (1,024 tokens of
# 1,024 numbers).
_SMALL_BYTES = 12 * 2**20
_SMALL_WINDOWS = 16
# About what a float32 takes as text.
_BYTES_OF_TEXT = 11


@dataclass(frozen=True)
class AnswerPlan:
    """What an answer will hold, and what it says of itself beside the features.

    Attributes:
        fingerprint: None of a model that is being converted, which tells no features.
    """

    model: str
    fingerprint: str | None
    hidden_size: int
    tokenizer: DnaTokenizer
    prepared: PreparedRequest

    @property
    def stamp(self) -> dict[str, str]:
        """Which weights, tokenizer and package make it, as far as they are there."""
        stamp = {"model": self.model}
        if self.fingerprint is not None:
            stamp["fingerprint"] = self.fingerprint
        return stamp

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the features, little-endian."""
        return np.dtype(self.prepared.choices.dtype).newbyteorder("<")

    @property
    def window(self) -> int:
        """Tokens that the model reads at a time, [CLS] and [SEP] included."""
        return self.tokenizer.model_max_length

    @property
    def is_base(self) -> bool:
        """Whether there is a row a base."""
        return self.prepared.choices.resolution == "base"

    @property
    def by_window(self) -> bool:
        """Whether there is a vector a window."""
        return self.prepared.choices.by_window

    def record_shape(self, record: Record) -> tuple[int, ...]:
        """Shape of one record's features."""
        if self.by_window:
            return (record.n_windows, self.hidden_size)
        if self.prepared.choices.pooled:
            return (self.hidden_size,)
        if self.is_base:
            first, end = record.base_range
            return (end - first, self.hidden_size)
        return (record.n_windows, self.window, self.hidden_size)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of all features as one array, records along its first axis."""
        records = self.prepared.records
        if self.prepared.single:
            return self.record_shape(records[0])
        if self.prepared.choices.pooled and not self.by_window:
            return (len(records), self.hidden_size)
        rest = self.record_shape(records[0])[1:]
        return (sum(self.record_shape(record)[0] for record in records), *rest)

    def bases(self, block: Block) -> tuple[int, int]:
        """What the window of a block covers, 0-based, half-open; of token ids nothing is known."""
        assert block.window is not None
        assert block.strand is not None
        if not block.strand.n_bases:
            return 0, 0
        return block.strand.bases(self.prepared.store, block.window.first, block.window.end)

    @property
    def n_values(self) -> int:
        """Numbers in all features."""
        return math.prod(self.shape)


class Writer(ABC):
    """Encodes one answer: `begin`, `block` for each block of the engine, `end`; `close` always.

    Attributes:
        media_type: of the answer.
        is_text: the whole content is text, not bytes; the OpenAPI document says so.
        needs_pooling: it holds vectors only.
    """

    media_type: ClassVar[str]
    is_text: ClassVar[bool] = False
    needs_pooling: ClassVar[bool] = False

    def __init__(self, plan: AnswerPlan) -> None:
        self.plan = plan

    @property
    def length(self) -> int | None:
        """Bytes of the whole answer, where they are known before."""
        return None

    @property
    def estimate(self) -> int:
        """About how many bytes the answer has."""
        a_value = _BYTES_OF_TEXT if self.is_text else self.plan.dtype.itemsize
        return self.plan.n_values * a_value

    @property
    def is_small(self) -> bool:
        """Whether the answer is computed before its first byte is sent."""
        return self.plan.prepared.n_windows <= _SMALL_WINDOWS and self.estimate <= _SMALL_BYTES

    @classmethod
    def checked(cls, records: Iterable[Submitted]) -> Iterable[Submitted]:
        """The records, with a problem where this format cannot hold what they are called."""
        return records

    def begin(self) -> Iterable[Chunk]:
        """Everything before the first block."""
        return ()

    @abstractmethod
    def block(self, block: Block) -> Iterable[Chunk]:
        """A part of a record."""

    def end(self) -> Iterable[Chunk]:
        """Everything after the last block."""
        return ()

    def close(self) -> None:
        """Give up what is open; also when the answer was not finished."""
        return
