"""Attention of windows that lie end to end, each for itself: everywhere, or a short way.

Written for what torch computes fast: on a CPU windows one by one, tiny and long ones of one length
together, and of those that look a short way only the blocks that are in reach; by oneDNN those of
almost 512 tokens; on a GPU all windows in one call.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from converter.mil import onednn

# Up to so many tokens a CPU computes all scores of a window at once sooner than tile by tile: from
# so many on in place, one window after the other; of fewer for all windows of one length, whose
# queries, keys and values are copied together for that.
_SHORT, _TINY = 160, 24
# Numbers of tokens that oneDNN has programs for (`onednn.attend`). A window gains the more the
# longer it is; these are 16 numbers of rows: few enough that hardly a program is made twice.
_BY_PROGRAM = range(385, 513)


@dataclass(frozen=True)
class Attention:
    """Which rows belong to which window, for all layers of one pass.

    Attributes:
        lengths: of the windows, ascending.
        padding: where rows go on a GPU; None where no window is padded.
        by_onednn: whether oneDNN computes windows of almost 512 tokens.
    """

    heads: int
    lengths: tuple[int, ...]
    padding: "Padding | None"
    by_onednn: bool = False

    @property
    def rows_read(self) -> int:
        """How many it reads of (N, 3H): those after the last window's have no effect."""
        *before, longest = self.lengths
        return sum(before) + (_rows_of_program(longest) if self._has_program(longest) else longest)

    def _has_program(self, n: int) -> bool:
        return self.by_onednn and n in _BY_PROGRAM

    def __call__(self, x: Tensor, reach: int | None) -> Tensor:
        """(N, H) of queries, keys and values (N, 3H), the queries scaled already.

        Args:
            reach: tokens that attention goes to either side; None for everywhere.
        """
        if self.padding is not None:
            return _attend_padded(x, self.heads, self.padding, reach)
        rows = x.new_empty(len(x), x.shape[1] // 3)
        self._attend_in_turn(x, rows, reach)
        return rows

    def _attend_in_turn(self, x: Tensor, rows: Tensor, reach: int | None) -> None:
        """Windows of one length at a time; the rows after all are nobody's, and get zeros."""
        start = 0
        for n, count in self._counts:
            stop = start + n * count
            looks_everywhere = reach is None or n <= reach + 1
            if looks_everywhere and self._has_program(n):
                for first in range(start, stop, n):
                    read = x[first : first + _rows_of_program(n)]
                    attended = onednn.attend(read, self.heads, n)
                    rows[first : first + n].view(attended.shape).copy_(attended)
            elif looks_everywhere and _is_alone(x, n, count):
                for first in range(start, stop, n):
                    _attend_alone(x[first : first + n], rows[first : first + n], self.heads)
            else:
                together, place = (each[start:stop].view(count, n, -1) for each in (x, rows))
                _attend_near(together, place, self.heads, reach)
            start = stop
        if start < len(rows):
            rows[start:] = 0

    @functools.cached_property
    def _counts(self) -> list[tuple[int, int]]:
        """The windows' lengths, and how many have each."""
        return [(n, len(list(same))) for n, same in itertools.groupby(self.lengths)]


def _rows_of_program(n: int) -> int:
    return n + -n % onednn.ROW_STEP


def _attend_near(x: Tensor, rows: Tensor, heads: int, reach: int | None) -> None:
    """(B, n, 3H) into (B, n, H)."""
    n = x.shape[1]
    if reach is None or n <= reach + 1:
        _attend(x, rows, heads)
    # Below that, the blocks at both ends would be mostly empty.
    elif x.device.type != "cpu" or n <= 4 * reach:
        _attend(x, rows, heads, in_reach(n, reach, x.device))
    else:
        rows.copy_(_attend_in_blocks(x, heads, reach))


def _attend(x: Tensor, rows: Tensor, heads: int, mask: Tensor | None = None) -> None:
    """(B, n, 3H) into (B, n, H)."""
    batch, n, _ = x.shape
    query, key, value = onednn.apart(x, heads)
    attended = rows.view(batch, n, heads, -1).transpose(1, 2)
    if mask is None and n < _TINY and _is_short(x, n):
        scores = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
        attended.copy_(torch.bmm(scores.softmax(-1), value.flatten(0, 1)).view(query.shape))
    else:
        attended.copy_(F.scaled_dot_product_attention(query, key, value, mask, scale=1.0))


def _is_short(x: Tensor, n: int) -> bool:
    return n <= _SHORT and x.device.type == "cpu" and x.dtype == torch.float32


def _is_alone(x: Tensor, n: int, count: int) -> bool:
    """Whether windows of n tokens are computed one after the other, all scores of one at once."""
    return _is_short(x, n) and (n >= _TINY or count == 1)


def _attend_alone(x: Tensor, rows: Tensor, heads: int) -> None:
    """(n, 3H) into (n, H), by few calls: with 20 tokens they take longer than their arithmetic."""
    n = len(x)
    query, key, value = x.view(n, 3, heads, -1).permute(1, 2, 0, 3).unbind()
    attended = torch.bmm(torch.bmm(query, key.mT).softmax(-1), value)
    rows.view(n, heads, -1).copy_(attended.transpose(0, 1))


def _attend_in_blocks(x: Tensor, heads: int, reach: int) -> Tensor:
    """(B, n, 3H) to (B, n, H): blocks of 2 reach queries, each with the 4 reach keys around it."""
    batch, n, width = x.shape
    block = 2 * reach
    blocks = -(-n // block)
    x = F.pad(x, (0, 0, reach, reach + blocks * block - n))
    query, key, value = x.view(batch, -1, 3, heads, width // 3 // heads).unbind(2)
    inside = query[:, reach : reach + blocks * block]
    queries = inside.reshape(batch * blocks, block, heads, -1)
    keys, values = (
        part.unfold(1, 2 * block, block).flatten(0, 1).permute(0, 1, 3, 2) for part in (key, value)
    )
    mask = _in_reach_of_blocks(n, reach, x.dtype)[None].expand(batch, -1, -1, -1, -1).flatten(0, 1)
    attended = F.scaled_dot_product_attention(
        queries.transpose(1, 2), keys, values, attn_mask=mask, scale=1.0
    )
    rows = attended.transpose(1, 2).reshape(batch, blocks * block, width // 3)
    return rows[:, :n]


@functools.lru_cache(maxsize=4)
def in_reach(n: int, reach: int, device: torch.device) -> Tensor:
    """(n, n): true where two tokens are at most `reach` apart."""
    places = torch.arange(n, device=device)
    return (places[:, None] - places).abs() <= reach


@functools.lru_cache(maxsize=8)
def _in_reach_of_blocks(n: int, reach: int, dtype: torch.dtype) -> Tensor:
    """(blocks, 1, queries, keys): 0 where a query may look, else -inf; never a row without a key.

    A key of block b is token b * 2 reach - reach + its place, where there is such a token.
    """
    block = 2 * reach
    starts = torch.arange(-(-n // block))[:, None] * block
    queries = (starts + torch.arange(block))[:, :, None]
    keys = (starts - reach + torch.arange(2 * block))[:, None, :]
    is_near = (queries - keys).abs() <= reach
    # Queries behind the end are nobody's; they look at whatever is near, which is zero.
    may_look = is_near & ((keys >= 0) & (keys < n) | (queries >= n))
    return torch.zeros(may_look.shape, dtype=dtype).masked_fill(~may_look, -torch.inf)[:, None]


@dataclass(frozen=True)
class Padding:
    """Where the rows of windows of several lengths go when each gets as many as the longest.

    Attributes:
        places: (N,) of each row in (B n).
        mask: (B, 1, 1, n), true for tokens.
    """

    places: Tensor
    mask: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Padding":
        is_token = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        places = is_token.flatten().nonzero().flatten()
        return cls(places.to(device), is_token[:, None, None].to(device))


def _attend_padded(x: Tensor, heads: int, padding: Padding, reach: int | None) -> Tensor:
    """All windows in one call: a GPU would wait for a call for each length."""
    batch, _, _, n = padding.mask.shape
    mask = padding.mask
    if reach is not None and n > reach + 1:
        # A row of padding may have no key at all; what it gets, nobody reads.
        mask = mask & in_reach(n, reach, x.device)
    padded = x.new_zeros(batch * n, x.shape[1])
    padded[padding.places] = x
    rows = x.new_empty(batch, n, x.shape[1] // 3)
    _attend(padded.view(batch, n, -1), rows, heads, mask)
    return rows.flatten(0, 1)[padding.places]
