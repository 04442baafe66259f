"""What networks re-authored for the Neural Engine are made of, whatever their family.

Follows Apple's published rules ("Deploying Transformers on the Apple Neural Engine", 2022) and
what docs/architecture.md lists under "What is known about the Neural Engine": activations are
(B, C, 1, S), linear layers are 1x1 convolutions, attention runs head by head so that one head's
score matrix is alive at a time, and masks are small additive ones of -1e4.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from converter.network.neural_attention import MASK_VALUE, Band, SplitHeadAttention
from converter.network.surgery import Affine, column_chunks, effective_eps, row_chunks

# Values travel through attention 2^4 times larger: newer engines accumulate in fixed point
# (Q15.16), where very small products vanish.
VALUE_SCALE_LOG2 = 4


@dataclass(frozen=True)
class Scales:
    """Powers of two by which parts of the network run at another size, measured per checkpoint.

    They change no result; they keep activations inside fp16 and the engine's accumulators.

    Attributes:
        residual_log2: the residual stream runs 2^k times the published size, so that it fits fp16,
            and so do the squares that its norms take; 0 leaves it alone.
        value_log2: attention values run 2^k times the published size.
        gate_log2: so does what a gated feed-forward multiplies its activation with.
    """

    residual_log2: int = 0
    value_log2: int = VALUE_SCALE_LOG2
    gate_log2: int = 0

    @property
    def residual(self) -> float:
        return 2.0**self.residual_log2

    @property
    def value(self) -> float:
        return 2.0**self.value_log2

    @property
    def gate(self) -> float:
        return 2.0**self.gate_log2


class NeuralEngineEncoder(nn.Module):
    """Token ids of one fixed length to last hidden states, B = 1.

    Its parts are registered in the order in which they compute.

    Args:
        embedding_stage: gives x (1, H, 1, L) and the additive masks that blocks choose from.
        blocks: of `PreNormBlock` or `PostNormBlock`.
        last_norm: None where the last layer's output is what is asked for.
        scales: those that the parts were made with.
    """

    def __init__(
        self,
        embedding_stage: "EmbeddingStage",
        blocks: Sequence[nn.Module],
        last_norm: "ChannelNorm | None",
        scales: Scales,
    ) -> None:
        super().__init__()
        self.embedding_stage = embedding_stage
        self.blocks = nn.ModuleList(blocks)
        self.last_norm = last_norm
        self.output_scale = 1.0 if last_norm else 1 / scales.residual

    def forward(self, *inputs: Tensor) -> Tensor:
        """Last hidden states (1, L, H).

        Args:
            inputs: `input_ids` (1, L) int32; or, with the embedding on the host, `embeddings`
                (1, H, 1, L), rows of `host_table()`, and `padding_mask` (1, L), 1 for tokens.
        """
        x, *masks = self.embedding_stage(*inputs)
        for block in self.blocks:
            x = block(x, *masks)
        if self.last_norm is not None:
            x = self.last_norm(x)
        rows: Tensor = x.squeeze(2).transpose(1, 2)
        return rows if self.output_scale == 1 else rows * self.output_scale

    def host_table(self) -> Tensor:
        """The word table (V, H) as the graph wants its rows, for `embedding="host"`."""
        return self.embedding_stage.word_embeddings.weight


class EmbeddingStage(nn.Module):
    """Look-up, positions where there are any, and norm; and the additive key mask.

    Args:
        words: (V, H), 2^k times larger than published. The norm undoes the factor exactly, and
            eps, which fp16 cannot hold below 2^-24, becomes 4^k times smaller in effect, so rows
            of tiny variance stay right.
        positions: (L, H), as much larger; None where the family has none.
        norm: of the sum.
        on_host: rows are looked up outside.
        band: of blocks of the network that look a short way; None where all look everywhere.
    """

    def __init__(
        self,
        words: Tensor,
        positions: Tensor | None,
        norm: "ChannelNorm",
        *,
        pad_token_id: int,
        on_host: bool,
        band: Band | None = None,
    ) -> None:
        super().__init__()
        self.pad_token_id = pad_token_id
        self.word_embeddings = nn.Embedding(words.shape[0], words.shape[1], _weight=words)
        self.word_embeddings.requires_grad_(False)
        self.on_host = on_host
        self.positions: Tensor | None
        rows = None if positions is None else positions.T[None, :, None, :]
        self.register_buffer("positions", rows)
        self.norm = norm
        self.band = band

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """x (1, H, 1, L); the key mask (1, L, 1, 1): 0 for tokens, -1e4 for padding; and

        where some blocks look a short way, the mask of those (see `Band`).
        """
        if self.on_host:
            words, tokens = inputs
            padding = (tokens - 1) * -MASK_VALUE
        else:
            (input_ids,) = inputs
            words = self.word_embeddings(input_ids).transpose(1, 2)[:, :, None, :]
            padding = (input_ids == self.pad_token_id).float() * MASK_VALUE
        everywhere = padding[:, :, None, None]
        x = self.norm(words if self.positions is None else words + self.positions)
        return (x, everywhere) if self.band is None else (x, everywhere, self.band(padding))


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); both norms folded forward.

    Args:
        attention_norm: None where attention reads the stream as it is.
        mask: which of the embedding stage's masks its attention adds.
    """

    def __init__(
        self,
        attention_norm: "Normalise | None",
        attention: SplitHeadAttention,
        feed_forward_norm: "Normalise",
        feed_forward: nn.Module,
        mask: int = 0,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.attention_residual = Residual()
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.feed_forward_residual = Residual()
        self.mask = mask

    def forward(self, x: Tensor, *masks: Tensor) -> Tensor:
        normed = x if self.attention_norm is None else self.attention_norm(x)
        x = self.attention_residual(x, self.attention(normed, masks[self.mask]))
        result: Tensor = self.feed_forward_residual(x, self.feed_forward(self.feed_forward_norm(x)))
        return result


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)); the norms stay where they are."""

    def __init__(
        self,
        attention: SplitHeadAttention,
        attention_norm: "ChannelNorm",
        feed_forward: nn.Module,
        feed_forward_norm: "ChannelNorm",
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attention_residual = Residual()
        self.attention_norm = attention_norm
        self.feed_forward = feed_forward
        self.feed_forward_residual = Residual()
        self.feed_forward_norm = feed_forward_norm

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_norm(self.attention_residual(x, self.attention(x, mask)))
        result: Tensor = self.feed_forward_norm(self.feed_forward_residual(x, self.feed_forward(x)))
        return result


class Residual(nn.Module):
    """What a sub-layer adds to the residual stream: a part whose precision can be chosen."""

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        return x + update


class FeedForward(nn.Module):
    """Convolution, exact GELU, convolution; in chunks of the intermediate channels.

    Raises:
        ValueError: the channels do not divide into so many chunks.
    """

    def __init__(self, up: Affine, down: Affine, chunks: int) -> None:
        super().__init__()
        self.up = nn.ModuleList(row_chunks(up, chunks))
        self.down = nn.ModuleList(column_chunks(down, chunks))

    def forward(self, x: Tensor) -> Tensor:
        """(1, H, 1, S) to (1, H, 1, S)."""
        parts = (down(F.gelu(up(x))) for up, down in zip(self.up, self.down, strict=True))
        total: Tensor = functools.reduce(torch.add, parts)
        return total


class GatedFeedForward(nn.Module):
    """down(gelu(up(x)) * gate(x)), three convolutions; in chunks of the intermediate channels.

    Raises:
        ValueError: the channels do not divide into so many chunks.
    """

    def __init__(self, up: Affine, gate: Affine, down: Affine, chunks: int) -> None:
        super().__init__()
        self.up = nn.ModuleList(row_chunks(up, chunks))
        self.gate = nn.ModuleList(row_chunks(gate, chunks))
        self.down = nn.ModuleList(column_chunks(down, chunks))

    def forward(self, x: Tensor) -> Tensor:
        """(1, H, 1, S) to (1, H, 1, S)."""
        chunks = zip(self.up, self.gate, self.down, strict=True)
        total: Tensor = functools.reduce(
            torch.add, (down(F.gelu(up(x)) * gate(x)) for up, gate, down in chunks)
        )
        return total


class Normalise(nn.Module):
    """Layer normalisation over the channels without scale and shift.

    Written as the sequence that coremltools fuses into one `layer_norm` over axis 1.
    """

    def __init__(self, eps: float, input_scale: float = 1.0) -> None:
        super().__init__()
        self.eps = effective_eps(eps, input_scale)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        return centred * torch.rsqrt(variance + self.eps)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels with its scale and, where it has one, shift."""

    def __init__(self, weight: Tensor, bias: Tensor | None, eps: float, input_scale: float) -> None:
        super().__init__()
        self.normalise = Normalise(eps, input_scale)
        self.weight: Tensor
        self.bias: Tensor | None
        self.register_buffer("weight", weight[None, :, None, None].clone())
        self.register_buffer("bias", None if bias is None else bias[None, :, None, None].clone())

    @classmethod
    def like(
        cls, norm: nn.LayerNorm, *, eps_scale: float = 1.0, output_scale: float = 1.0
    ) -> "ChannelNorm":
        """The same norm for input that is `eps_scale` times larger, its output scaled."""
        # What torch says of a norm's bias forgets that it may have none.
        bias: Tensor | None = norm.bias
        shift = None if bias is None else bias * output_scale
        return cls(norm.weight * output_scale, shift, norm.eps, eps_scale)

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = self.normalise(x) * self.weight
        return scaled if self.bias is None else scaled + self.bias
