"""Attention for the Neural Engine, of which whole networks are made in `neural_engine`.

Head by head, over channels in (B, C, 1, S), with masks of -1e4 that are added to the scores.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from converter.network.surgery import Affine, convolution, halves_of_heads

# Added to the scores of padding. exp(-1e4) is 0 in fp16, and unlike -inf it cannot make NaN.
MASK_VALUE = -1e4
# Of attention that looks a short way: more would be alive than a head's scores are elsewhere.
HEADS_TOGETHER = 4


class SplitHeadAttention(nn.Module):
    """Attention head by head: scores, softmax and values of one, then the next.

    Keys are split on channels and transposed per head: a slice of the last axis with an offset
    clamps values beyond 4094 on some engines.

    Args:
        query, key: make (1, H, 1, S) of it, heads one after the other; 1/sqrt(head size) is in one.
        value, output: convolutions.
    """

    def __init__(
        self, query: nn.Module, key: nn.Module, value: nn.Conv2d, output: nn.Conv2d, head_size: int
    ) -> None:
        super().__init__()
        self.head_size = head_size
        self.query = query
        self.key = key
        self.value = value
        self.output = output

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(1, H, 1, S), with a key mask (1, S, 1, 1), to (1, H, 1, S)."""
        heads = self._heads(self.query(x), self.key(x), self.value(x), mask)
        result: Tensor = self.output(torch.cat(heads, dim=1))
        return result

    def keys_of_a_query(self, length: int) -> int:
        """How many scores each query has in a window of this length."""
        return length

    def _heads(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> list[Tensor]:
        """Heads of queries (1, H, B, S), keys and values (1, H, B, K), B times for themselves.

        Args:
            mask: (1, K, B or 1, S or 1), added to the scores.
        """
        parts = (torch.split(each, self.head_size, dim=1) for each in (query, key, value))
        heads = []
        for query, key, value in zip(*parts, strict=True):
            scores = torch.einsum("bchq,bkhc->bkhq", query, key.transpose(1, 3)) + mask
            heads.append(torch.einsum("bkhq,bchk->bchq", scores.softmax(dim=1), value))
        return heads


class NearbyAttention(SplitHeadAttention):
    """Attention that looks a short way: blocks of queries, each with the keys around it.

    Keys and values are three times as many then, so that is made for a few heads at a time. A
    block's keys are its own and those of its two neighbours, so it reaches at least a block to
    either side; the mask cuts what is further. Scores are 3 blocks wide instead of a window.

    Args:
        block: tokens of one, by which windows are divisible.
    """

    def __init__(
        self,
        query: nn.Module,
        key: nn.Module,
        value: nn.Conv2d,
        output: nn.Conv2d,
        head_size: int,
        block: int,
    ) -> None:
        super().__init__(query, key, value, output, head_size)
        self.block = block

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(1, H, 1, S), with the mask of a `Band`, to (1, H, 1, S)."""
        _, channels, _, length = x.shape
        blocks = (1, channels, length // self.block, self.block)
        together = min(HEADS_TOGETHER * self.head_size, channels)
        parts = (
            torch.split(make(x).reshape(blocks), together, dim=1)
            for make in (self.query, self.key, self.value)
        )
        heads: list[Tensor] = []
        for query, key, value in zip(*parts, strict=True):
            heads += self._heads(query, with_neighbours(key), with_neighbours(value), mask)
        result: Tensor = self.output(torch.cat(heads, dim=1).reshape(x.shape))
        return result

    def keys_of_a_query(self, length: int) -> int:  # noqa: ARG002
        """See `SplitHeadAttention`."""
        return 3 * self.block


def with_neighbours(blocks: Tensor, outside: float = 0.0) -> Tensor:
    """(1, C, B, n) to (1, C, B, 3 n): each block between the one before it and the one behind it.

    Args:
        outside: stands where there is no neighbour.
    """
    padded = F.pad(blocks, (0, 0, 1, 1), value=outside)
    return torch.cat((padded[:, :, :-2], blocks, padded[:, :, 2:]), dim=3)


class Band(nn.Module):
    """The mask of `NearbyAttention`.

    Args:
        reach: how many tokens to either side are looked at, at most `block`.
    """

    def __init__(self, reach: int, block: int) -> None:
        super().__init__()
        self.block = block
        keys, queries = torch.arange(3 * block)[:, None] - block, torch.arange(block)
        too_far = ((keys - queries).abs() > reach).float() * MASK_VALUE
        self.too_far: Tensor
        self.register_buffer("too_far", too_far[None, :, None, :])

    def forward(self, padding: Tensor) -> Tensor:
        """(1, 3 block, L / block, block), 0 or -1e4: keys of each block, by its queries.

        Args:
            padding: (1, L), 0 for tokens and -1e4 for padding.
        """
        blocks = padding.reshape(1, 1, padding.shape[1] // self.block, self.block)
        keys = with_neighbours(blocks, outside=MASK_VALUE).transpose(1, 3)
        # Not their sum: -2e4 would be nearer to the end of the engine's accumulators.
        return torch.minimum(keys, self.too_far)


class RotaryProjection(nn.Module):
    """A projection whose channels turn with the place of their token.

    Channels turn in pairs. All first ones of all heads are one convolution, all second ones
    another: then a turn is a few products of large tensors. Behind it the two of a pair stand one
    after the other, heads in their order; queries and keys alike, so that no score changes.

    Args:
        linear: rows of each head: the first ones of its pairs, then the second ones.
        cos, sin: (L, head size / 2).
    """

    def __init__(self, linear: Affine, cos: Tensor, sin: Tensor, num_heads: int) -> None:
        super().__init__()
        first, second = halves_of_heads(linear, num_heads)
        self.first, self.second = convolution(first), convolution(second)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", rotary_rows(cos, num_heads))
        self.register_buffer("sin", rotary_rows(sin, num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """(1, H, 1, S) to (1, H, 1, S)."""
        first, second = self.first(x), self.second(x)
        turned = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        pairs = torch.cat(turned, dim=2)
        return pairs.reshape(1, 2 * pairs.shape[1], 1, pairs.shape[3])


def rotary_rows(table: Tensor, num_heads: int) -> Tensor:
    """A cosine or sine for each pair of channels and place (1, H / 2, 1, L), of (L, pairs)."""
    return table.T.repeat(num_heads, 1)[None, :, None, :].contiguous()
