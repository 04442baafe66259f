"""Rows of windows that lie end to end, pooled window by window.

What is not answered need not be computed: of the last layer, rows that nobody wants are left out,
and a mean is taken before the last product, which then has one row a window.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from converter.pooling import WindowPooling, count_answered

# Of windows next to each other: how many ids each has, how many windows, what is wanted of each.
Group = tuple[int, int, WindowPooling | None]


@dataclass(frozen=True)
class PackedPooling:
    """What is wanted of the windows of one pass.

    Attributes:
        groups: in the order of their rows; rows after those are nobody's.
    """

    groups: tuple[Group, ...]

    @classmethod
    def of(
        cls, lengths: Sequence[int], poolings: Sequence[WindowPooling | None]
    ) -> "PackedPooling":
        """Of each window its ids and what is wanted; windows that are alike go together."""
        alike = itertools.groupby(zip(lengths, poolings, strict=True))
        return cls(tuple((n, len(list(same)), pooling) for (n, pooling), same in alike))

    @property
    def rows(self) -> int:
        """How many are answered."""
        return sum(count * count_answered(n, pooling) for n, count, pooling in self.groups)

    @property
    def wants_less(self) -> bool:
        """Whether anything is pooled."""
        return any(pooling for _, _, pooling in self.groups)

    @property
    def picks(self) -> bool:
        """Whether each window is answered with one of its rows as it is."""
        return all(pooling and pooling.end - pooling.first == 1 for _, _, pooling in self.groups)

    @property
    def is_linear(self) -> bool:
        """Whether products and sums of all rows can be those of pooled rows as well."""
        return not any(pooling and pooling.how == "max" for _, _, pooling in self.groups)

    def __call__(self, x: Tensor, rows: int) -> Tensor:
        """(rows, W) of (N, W): those that are wanted, in the order of windows.

        Args:
            rows: at least as many as are answered and at most N; the others hold anything.
        """
        parts, start = [], 0
        for n, count, pooling in self.groups:
            block = x[start : start + n * count]
            parts.append(block if pooling is None else _pooled(block.view(count, n, -1), pooling))
            start += n * count
        parts.append(x[: rows - self.rows])
        return torch.cat(parts)


def _pooled(x: Tensor, pooling: WindowPooling) -> Tensor:
    """(B, W) of (B, n, W)."""
    rows = x[:, pooling.first : pooling.end]
    return rows.amax(1) if pooling.how == "max" else rows.mean(1)


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Cut:
    """Where a layer's rows become those that are wanted, if anywhere.

    Attributes:
        after_attention: all that follows goes row by row.
        before_down: before the last product and the sum with the stream, which are linear.
        at_end: after the last norm.
    """

    after_attention: Callable[[Tensor], Tensor] = _as_it_is
    before_down: Callable[[Tensor], Tensor] = _as_it_is
    at_end: Callable[[Tensor], Tensor] = _as_it_is
