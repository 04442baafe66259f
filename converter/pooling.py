"""One vector out of a window's rows: of which rows, and what of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, order=True)
class WindowPooling:
    """What is wanted of a window instead of all its rows.

    Attributes:
        how: over the rows, channel by channel.
        first, end: the rows, half-open; row 0 is [CLS]'s.

    Raises:
        ValueError: those are no rows.
    """

    how: Literal["mean", "max"]
    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end:
            raise ValueError(f"rows {self.first} to {self.end} are none")

    def of(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, H) of a window's (n, H)."""
        wanted = rows[self.first : self.end]
        vector: NDArray[np.float32]
        if self.how == "max":
            vector = wanted.max(axis=0, keepdims=True)
        else:
            vector = wanted.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return vector


# Of each window that is predicted; None: all its rows. None instead of it: all rows of all.
Poolings: TypeAlias = Sequence[WindowPooling | None] | None


def of_each(poolings: Poolings, lengths: Sequence[int]) -> Sequence[WindowPooling | None]:
    """The poolings of windows of so many ids.

    Raises:
        ValueError: there are more or fewer of them, or one has rows that its window has not.
    """
    each = [None] * len(lengths) if poolings is None else poolings
    for pooling, n in zip(each, lengths, strict=True):
        if pooling is not None and pooling.end > n:
            raise ValueError(f"a window of {n} ids has no row {pooling.end - 1}")
    return each


def pooled(rows: NDArray[np.float32], pooling: WindowPooling | None) -> NDArray[np.float32]:
    """What is wanted of a window's rows."""
    return rows if pooling is None else pooling.of(rows)


def count_answered(n: int, pooling: WindowPooling | None) -> int:
    """How many rows are answered for a window of n ids."""
    return n if pooling is None else 1
