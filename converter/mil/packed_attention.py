"""Attention of windows that lie end to end, each for itself: everywhere, or a short way.

Written for what torch computes fast: on a CPU windows of one length at a time, and of those that
look a short way only the blocks that are in reach; on a GPU all windows in one call.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

# Up to so many tokens a CPU computes all scores of a window at once sooner than tile by tile.
_SHORT = 160


@dataclass(frozen=True)
class Attention:
    """Which rows belong to which window, for all layers of one pass.

    Attributes:
        lengths: of the windows, ascending.
        padding: where rows go on a GPU; None where no window is padded.
    """

    heads: int
    lengths: tuple[int, ...]
    padding: "Padding | None"

    def __call__(self, x: Tensor, reach: int | None) -> Tensor:
        """(N, H) of queries, keys and values (N, 3H), the queries scaled already.

        Args:
            reach: tokens that attention goes to either side; None for everywhere.
        """
        if self.padding is not None:
            return _attend_padded(x, self.heads, self.padding, reach)
        groups = [(n, len(list(same))) for n, same in itertools.groupby(self.lengths)]
        return _attend_in_groups(x, self.heads, groups, reach)


def _attend_in_groups(
    x: Tensor, heads: int, groups: Sequence[tuple[int, int]], reach: int | None
) -> Tensor:
    """Windows of one length at a time.

    Args:
        groups: lengths, ascending, and how many windows have them; the rows after those are
            nobody's, and get any numbers.
    """
    sizes = [n * count for n, count in groups]
    *parts, rest = torch.split(x, [*sizes, len(x) - sum(sizes)])
    attended = [
        _attend_near(part.view(count, n, -1), heads, reach)
        for part, (n, count) in zip(parts, groups, strict=True)
    ]
    if len(rest):
        attended.append(rest[:, : x.shape[1] // 3])
    return attended[0] if len(attended) == 1 else torch.cat(attended)


def _attend_near(x: Tensor, heads: int, reach: int | None) -> Tensor:
    """(B, n, 3H) to (B n, H)."""
    n = x.shape[1]
    if reach is None or n <= reach + 1:
        return _attend(x, heads)
    # Below that, the blocks at both ends would be mostly empty.
    if x.device.type != "cpu" or n <= 4 * reach:
        return _attend(x, heads, in_reach(n, reach, x.device))
    return _attend_in_blocks(x, heads, reach)


def _attend(x: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """(B, n, 3H) to (B n, H)."""
    batch, n, width = x.shape
    query, key, value = x.view(batch, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if mask is None and n <= _SHORT and x.device.type == "cpu" and x.dtype == torch.float32:
        scores = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
        attended = torch.bmm(scores.softmax(-1), value.flatten(0, 1)).view(query.shape)
        return attended.transpose(1, 2).reshape(batch * n, width // 3)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    return attended.transpose(1, 2).reshape(batch * n, width // 3)


def _attend_in_blocks(x: Tensor, heads: int, reach: int) -> Tensor:
    """(B, n, 3H) to (B n, H): blocks of 2 reach queries, each with the 4 reach keys around it."""
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
    return rows[:, :n].reshape(batch * n, width // 3)


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
    return _attend(padded.view(batch, n, -1), heads, mask)[padding.places]
