"""The same network re-authored for the Neural Engine.

Follows Apple's published rules ("Deploying Transformers on the Apple Neural Engine", 2022) and
what docs/architecture.md lists under "What is known about the Neural Engine": activations are
(B, C, 1, S), linear layers are 1x1 convolutions, attention runs head by head so that one head's
score matrix is alive at a time, and the only mask is a small additive one of -1e4.
"""

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
from converter.network.surgery import (
    convolution,
    effective_eps,
    embedding_scale,
    fold_norm,
    fold_query_scale,
    fold_token_type,
    scale_residual_read,
    scale_residual_write,
    scale_values,
)
from converter.options import BuildOptions

# Added to the scores of padding. exp(-1e4) is 0 in fp16, and unlike -inf it cannot make NaN.
MASK_VALUE = -1e4
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
    """

    residual_log2: int = 0
    value_log2: int = VALUE_SCALE_LOG2

    @property
    def residual(self) -> float:
        return 2.0**self.residual_log2

    @property
    def value(self) -> float:
        return 2.0**self.value_log2


class NeuralEngineEncoder(nn.Module):
    """Token ids of one fixed length to last hidden states, B = 1."""

    def __init__(
        self,
        reference: GenaEncoder,
        length: int,
        options: BuildOptions,
        scales: Scales = Scales(),
    ) -> None:
        """
        Args:
            reference: the network to re-author; it is not changed.
            length: L, at most `max_position_embeddings`.
            options: `embedding` and `ffn_chunks` shape the graph.

        Raises:
            ValueError: the intermediate size is not a multiple of `ffn_chunks`.
        """
        super().__init__()
        config = reference.config
        if config.intermediate_size % options.ffn_chunks:
            raise ValueError(
                f"intermediate_size {config.intermediate_size} is not a multiple of "
                f"ffn_chunks {options.ffn_chunks}"
            )
        self.embedding_stage = EmbeddingStage(reference.embeddings, config, length, options, scales)
        block: Any = PreNormBlock if config.pre_layer_norm else PostNormBlock
        self.blocks = nn.ModuleList(
            block(layer, config, options, scales) for layer in reference.encoder.layer
        )
        self.last_norm = (
            ChannelNorm.like(reference.encoder.last_layer_ln, eps_scale=scales.residual)
            if reference.encoder.last_layer_ln is not None
            else None
        )
        self.output_scale = 1.0 if self.last_norm else 1 / scales.residual

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
        self,
        embeddings: Embeddings,
        config: EncoderConfig,
        length: int,
        options: BuildOptions,
        scales: Scales,
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
            embeddings.LayerNorm, eps_scale=scale, output_scale=scales.residual
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
    """x + attention(norm(x)), then x + feed_forward(norm(x)); both norms folded forward.

    Its parts are registered in the order in which they compute.
    """

    def __init__(
        self, layer: PreNormLayer, config: EncoderConfig, options: BuildOptions, scales: Scales
    ) -> None:
        super().__init__()
        self.attention_norm = Normalise(layer.pre_attention_ln.eps, scales.residual)
        self.attention = SplitHeadAttention(
            layer.attention, config, scales, norm=layer.pre_attention_ln
        )
        self.attention_residual = Residual()
        self.feed_forward_norm = Normalise(layer.post_attention_ln.eps, scales.residual)
        self.feed_forward = FeedForward(
            layer.intermediate, layer.output, options, scales, norm=layer.post_attention_ln
        )
        self.feed_forward_residual = Residual()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_residual(x, self.attention(self.attention_norm(x), mask))
        result: Tensor = self.feed_forward_residual(x, self.feed_forward(self.feed_forward_norm(x)))
        return result


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)); the norms stay where they are.

    Its parts are registered in the order in which they compute.
    """

    def __init__(
        self, layer: PostNormLayer, config: EncoderConfig, options: BuildOptions, scales: Scales
    ) -> None:
        super().__init__()
        self.attention = SplitHeadAttention(layer.attention, config, scales)
        self.attention_residual = Residual()
        stream = scales.residual
        self.attention_norm = ChannelNorm.like(
            layer.attention.output.LayerNorm, eps_scale=stream, output_scale=stream
        )
        self.feed_forward = FeedForward(layer.intermediate, layer.output, options, scales)
        self.feed_forward_residual = Residual()
        self.feed_forward_norm = ChannelNorm.like(
            layer.output.LayerNorm, eps_scale=stream, output_scale=stream
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_norm(self.attention_residual(x, self.attention(x, mask)))
        result: Tensor = self.feed_forward_norm(self.feed_forward_residual(x, self.feed_forward(x)))
        return result


class Residual(nn.Module):
    """What a sub-layer adds to the residual stream: a part whose precision can be chosen."""

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        return x + update


class SplitHeadAttention(nn.Module):
    """Attention head by head: scores, softmax and values of one, then the next.

    Keys are split on channels and transposed per head: a slice of the last axis with an offset
    clamps values beyond 4094 on some engines.
    """

    def __init__(
        self,
        attention: Attention,
        config: EncoderConfig,
        scales: Scales,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.head_size = config.head_size
        # Behind a norm, what comes in has the published size whatever the stream's is.
        stream = 1.0 if norm is not None else scales.residual
        query, key, value = (
            scale_residual_read(fold_norm(linear, norm), stream)
            for linear in (attention.self.query, attention.self.key, attention.self.value)
        )
        value, output = scale_values(
            value, (attention.output.dense.weight, attention.output.dense.bias), scales.value
        )
        self.query = convolution(*fold_query_scale(query, config.head_size))
        self.key = convolution(*key)
        self.value = convolution(*value)
        self.output = convolution(*scale_residual_write(output, scales.residual))

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
        options: BuildOptions,
        scales: Scales,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        super().__init__()
        stream = 1.0 if norm is not None else scales.residual
        up_weight, up_bias = scale_residual_read(fold_norm(intermediate.dense, norm), stream)
        down_weight, down_bias = scale_residual_write(
            (output.dense.weight, output.dense.bias), scales.residual
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
