"""The same network re-authored for the Neural Engine, and the weight surgery that feeds it.

Follows Apple's published rules ("Deploying Transformers on the Apple Neural Engine", 2022) and
the measurements listed in the project's design: activations are (B, C, 1, S), linear layers are
1x1 convolutions, attention runs head by head so that one head's score matrix is alive at a time,
and the only mask is a small additive one of -1e4.

The surgery is exact in real arithmetic; each `fold_...` and `scale_...` function says why.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from converter.network.config import EncoderConfig
from converter.network.reference import (
    Attention,
    Dense,
    Embeddings,
    GenaEncoder,
    PostNormLayer,
    PreNormLayer,
)

# Added to the scores of padding. exp(-1e4) is 0 in fp16, and unlike -inf it cannot make NaN.
MASK_VALUE = -1e4
# The smallest positive fp16; coremltools raises a smaller eps to it, silently.
SMALLEST_FP16 = 2.0**-24
# Values travel through attention 2^4 times larger: newer engines accumulate in fixed point
# (Q15.16), where very small products vanish.
VALUE_SCALE_LOG2 = 4


@dataclass(frozen=True)
class GraphOptions:
    """Choices that change the graph and not its mathematics.

    Attributes:
        embedding: "graph" looks tokens up inside; "host" takes the looked-up rows as input.
        ffn_chunks: the feed-forward in this many chunks of its intermediate channels, so that
            its activations fit the engine's memory.
        residual_scale_log2: the residual stream runs 2^k times the published size. Negative
            values cure an overflow of pre-LN models; 0 leaves it alone.
        value_scale_log2: attention values run 2^k times the published size.
    """

    embedding: str = "graph"
    ffn_chunks: int = 1
    residual_scale_log2: int = 0
    value_scale_log2: int = VALUE_SCALE_LOG2


class NeuralEngineEncoder(nn.Module):
    """Token ids of one fixed length to last hidden states, B = 1."""

    def __init__(self, reference: GenaEncoder, length: int, options: GraphOptions) -> None:
        """
        Args:
            reference: the network to re-author; it is not changed.
            length: L, at most `max_position_embeddings`.

        Raises:
            ValueError: the intermediate size is not a multiple of `ffn_chunks`, or a post-LN
                network is given a residual scale.
        """
        super().__init__()
        config = reference.config
        if config.intermediate_size % options.ffn_chunks:
            raise ValueError(
                f"intermediate_size {config.intermediate_size} is not a multiple of "
                f"ffn_chunks {options.ffn_chunks}"
            )
        if options.residual_scale_log2 and not config.pre_layer_norm:
            raise ValueError("a post-LN network normalises its residual; it takes no scale")
        self.embedding_stage = EmbeddingStage(reference.embeddings, config, length, options)
        block: Any = PreNormBlock if config.pre_layer_norm else PostNormBlock
        self.blocks = nn.ModuleList(
            block(layer, config, options) for layer in reference.encoder.layer
        )
        self.last_norm = (
            ChannelNorm.like(reference.encoder.last_layer_ln, eps_scale=_residual_scale(options))
            if reference.encoder.last_layer_ln is not None
            else None
        )
        self.output_scale = 1.0 if self.last_norm else 1 / _residual_scale(options)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Last hidden states (1, L, H).

        Args:
            inputs: `input_ids` (1, L) int32; or, with the embedding on the host, `embeddings`
                (1, H, 1, L), rows of `host_table()`, and `padding_mask` (1, L), 1 for tokens.
        """
        x, mask = self.embedding_stage(*inputs)
        for block in self.blocks:
            x = block(x, mask)
        if self.last_norm is not None:
            x = self.last_norm(x)
        rows: Tensor = x.squeeze(2).transpose(1, 2)
        return rows if self.output_scale == 1 else rows * self.output_scale

    def host_table(self) -> Tensor:
        """The word table (V, H) as the graph wants its rows, for `embedding="host"`."""
        return self.embedding_stage.word_embeddings.weight


class EmbeddingStage(nn.Module):
    """Look-up, positions and norm; and the additive key mask.

    Word rows and positions are stored 2^k times larger than published. The norm undoes the
    factor exactly, and eps, which fp16 cannot hold below 2^-24, becomes 4^k times smaller in
    effect, so rows of tiny variance stay right.
    """

    def __init__(
        self, embeddings: Embeddings, config: EncoderConfig, length: int, options: GraphOptions
    ) -> None:
        super().__init__()
        self.pad_token_id = config.pad_token_id
        words, positions = fold_token_type(embeddings)
        scale = embedding_scale(words, positions)
        self.word_embeddings = nn.Embedding(words.shape[0], words.shape[1], _weight=words * scale)
        self.word_embeddings.requires_grad_(False)
        self.on_host = options.embedding == "host"
        self.positions: Tensor
        self.register_buffer("positions", (positions[:length] * scale).T[None, :, None, :])
        self.norm = ChannelNorm.like(
            embeddings.LayerNorm, eps_scale=scale, output_scale=_residual_scale(options)
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """x (1, H, 1, L) and the key mask (1, L, 1, 1): 0 for tokens, -1e4 for padding."""
        if self.on_host:
            words, tokens = inputs
            mask = ((tokens - 1) * -MASK_VALUE)[:, :, None, None]
        else:
            (input_ids,) = inputs
            words = self.word_embeddings(input_ids).transpose(1, 2)[:, :, None, :]
            mask = ((input_ids == self.pad_token_id).float() * MASK_VALUE)[:, :, None, None]
        return self.norm(words + self.positions), mask


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); both norms folded forward."""

    def __init__(self, layer: PreNormLayer, config: EncoderConfig, options: GraphOptions) -> None:
        super().__init__()
        scale = _residual_scale(options)
        self.attention_norm = Normalise(layer.pre_attention_ln.eps, scale)
        self.attention = SplitHeadAttention(
            layer.attention, config, options, norm=layer.pre_attention_ln
        )
        self.feed_forward_norm = Normalise(layer.post_attention_ln.eps, scale)
        self.feed_forward = FeedForward(
            layer.intermediate, layer.output, options, norm=layer.post_attention_ln
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask)
        result: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return result


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)); the norms stay where they are."""

    def __init__(self, layer: PostNormLayer, config: EncoderConfig, options: GraphOptions) -> None:
        super().__init__()
        self.attention = SplitHeadAttention(layer.attention, config, options)
        self.attention_norm = ChannelNorm.like(layer.attention.output.LayerNorm)
        self.feed_forward = FeedForward(layer.intermediate, layer.output, options)
        self.feed_forward_norm = ChannelNorm.like(layer.output.LayerNorm)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask))
        result: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return result


class SplitHeadAttention(nn.Module):
    """Attention head by head: scores, softmax and values of one, then the next.

    Keys are split on channels and transposed per head: a slice of the last axis with an offset
    clamps values beyond 4094 on some engines.
    """

    def __init__(
        self,
        attention: Attention,
        config: EncoderConfig,
        options: GraphOptions,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.head_size = config.head_size
        query, key, value = (
            fold_norm(linear, norm)
            for linear in (attention.self.query, attention.self.key, attention.self.value)
        )
        value, output = scale_values(
            value, (attention.output.dense.weight, attention.output.dense.bias), options
        )
        self.query = convolution(*fold_query_scale(query, config.head_size))
        self.key = convolution(*key)
        self.value = convolution(*value)
        self.output = convolution(*scale_residual_write(output, options))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(1, H, 1, S), with a key mask (1, S, 1, 1), to (1, H, 1, S)."""
        queries = self.query(x).split(self.head_size, dim=1)
        keys = self.key(x).split(self.head_size, dim=1)
        values = self.value(x).split(self.head_size, dim=1)
        heads = []
        for query, key, value in zip(queries, keys, values, strict=True):
            scores = torch.einsum("bchq,bkhc->bkhq", query, key.transpose(1, 3)) + mask
            heads.append(torch.einsum("bkhq,bchk->bchq", scores.softmax(dim=1), value))
        result: Tensor = self.output(torch.cat(heads, dim=1))
        return result


class FeedForward(nn.Module):
    """Convolution, exact GELU, convolution; in chunks of the intermediate channels."""

    def __init__(
        self,
        intermediate: Dense,
        output: Dense,
        options: GraphOptions,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        super().__init__()
        up_weight, up_bias = fold_norm(intermediate.dense, norm)
        down_weight, down_bias = scale_residual_write(
            (output.dense.weight, output.dense.bias), options
        )
        chunks = options.ffn_chunks
        self.up = nn.ModuleList(
            convolution(weight, bias)
            for weight, bias in zip(up_weight.chunk(chunks), up_bias.chunk(chunks), strict=True)
        )
        self.down = nn.ModuleList(
            convolution(weight, down_bias if index == 0 else None)
            for index, weight in enumerate(down_weight.chunk(chunks, dim=1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(1, H, 1, S) to (1, H, 1, S)."""
        total = self.down[0](F.gelu(self.up[0](x)))
        for up, down in zip(self.up[1:], self.down[1:], strict=True):
            total = total + down(F.gelu(up(x)))
        result: Tensor = total
        return result


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
    """Layer normalisation over the channels with its scale and shift."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float, input_scale: float) -> None:
        super().__init__()
        self.normalise = Normalise(eps, input_scale)
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", weight[None, :, None, None].clone())
        self.register_buffer("bias", bias[None, :, None, None].clone())

    @classmethod
    def like(
        cls, norm: nn.LayerNorm, *, eps_scale: float = 1.0, output_scale: float = 1.0
    ) -> "ChannelNorm":
        """The same norm for input that is `eps_scale` times larger, its output scaled."""
        return cls(norm.weight * output_scale, norm.bias * output_scale, norm.eps, eps_scale)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.normalise(x) * self.weight + self.bias
        return result


Affine = tuple[Tensor, Tensor]


def fold_norm(linear: nn.Linear, norm: nn.LayerNorm | None) -> Affine:
    """Weight (O, I) and bias (O,) that take the norm's scale and shift with them.

    W (g * n + b) + c = (W g) n + (W b + c).
    """
    if norm is None:
        return linear.weight, linear.bias
    weight, bias = linear.weight.double(), linear.bias.double()
    folded = weight * norm.weight.double()
    return folded.float(), (bias + weight @ norm.bias.double()).float()


def fold_query_scale(query: Affine, head_size: int) -> Affine:
    """Attention's 1/sqrt(head size), applied to the query's projection instead."""
    weight, bias = query
    return weight / math.sqrt(head_size), bias / math.sqrt(head_size)


def scale_values(value: Affine, output: Affine, options: GraphOptions) -> tuple[Affine, Affine]:
    """Values 2^k times larger, the output projection's weight 2^k times smaller: exact."""
    factor = 2.0**options.value_scale_log2
    return (value[0] * factor, value[1] * factor), (output[0] / factor, output[1])


def scale_residual_write(output: Affine, options: GraphOptions) -> Affine:
    """What a sub-layer adds to the residual stream, at the stream's scale."""
    factor = _residual_scale(options)
    return output[0] * factor, output[1] * factor


def fold_token_type(embeddings: Embeddings) -> Affine:
    """Word table (V, H), and position table (P, H) with token type 0 added to every row."""
    positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    return embeddings.word_embeddings.weight, positions


def embedding_scale(words: Tensor, positions: Tensor) -> float:
    """The power of two that brings the largest possible embedding sum into (32, 64].

    Squares up to 4096 and their mean stay far inside fp16.
    """
    largest = float((words.abs().amax(0) + positions.abs().amax(0)).max())
    return 1.0 if largest == 0 else 2.0 ** math.floor(math.log2(64 / largest))


def effective_eps(eps: float, input_scale: float) -> float:
    """eps for a norm whose input is `input_scale` times the published one, as fp16 can hold it."""
    return max(eps * input_scale**2, SMALLEST_FP16)


def convolution(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A 1x1 convolution with this (O, I) matrix."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None, device="meta")
    state = {"weight": weight[:, :, None, None].contiguous()}
    if bias is not None:
        state["bias"] = bias.clone()
    layer.load_state_dict(state, assign=True)
    return layer.requires_grad_(False)


def _residual_scale(options: GraphOptions) -> float:
    return 2.0**options.residual_scale_log2
