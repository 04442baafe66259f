"""modernGENA re-authored for the Neural Engine."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converter.network.moderngena.config import ModernGenaConfig
from converter.network.moderngena.reference import Attention, GatedFeedForward, ModernGenaEncoder
from converter.network.moderngena.reference import Layer as PublishedLayer
from converter.network.moderngena.rotary import out_of_reach, rotary_tables
from converter.network.neural_attention import (
    MASK_VALUE,
    Band,
    NearbyAttention,
    RotaryProjection,
    SplitHeadAttention,
    rotary_rows,
)
from converter.network.neural_engine import (
    ChannelNorm,
    EmbeddingStage,
    NeuralEngineEncoder,
    Normalise,
    PreNormBlock,
    Scales,
)
from converter.network.neural_engine import GatedFeedForward as NeuralFeedForward
from converter.network.surgery import (
    Affine,
    convolution,
    embedding_scale,
    fold_query_scale,
    scale_residual_read,
    scale_residual_write,
    scale_values,
)
from converter.options import BuildOptions

# Of the embedding stage: which of its masks a block adds.
_EVERYWHERE, _NEARBY = 0, 1


def re_author(
    reference: ModernGenaEncoder, length: int, options: BuildOptions, scales: Scales
) -> NeuralEngineEncoder:
    """The network for windows of one length.

    Args:
        reference: the network to re-author; it is not changed.
        length: L, at most `max_position_embeddings`.
        options: `embedding` and `ffn_chunks` shape the graph.

    Raises:
        ValueError: the intermediate size is not a multiple of `ffn_chunks`.
    """
    return NeuralEngineEncoder(
        _embedding_stage(reference, options, scales),
        [
            _block(reference, index, length, options, scales)
            for index in range(reference.config.num_hidden_layers)
        ],
        ChannelNorm.like(reference.final_norm, eps_scale=scales.residual),
        scales,
    ).eval()


def tables(
    reference: ModernGenaEncoder,
    length: int,
    options: BuildOptions,  # noqa: ARG001
    scales: Scales,  # noqa: ARG001
) -> list[NDArray[np.float32]]:
    """Cosines and sines for windows of up to so many tokens."""
    config = reference.config
    thetas = dict.fromkeys(map(config.rope_theta, range(config.num_hidden_layers)))
    return [
        rotary_rows(torch.from_numpy(table), config.num_attention_heads).numpy()
        for theta in thetas
        for table in rotary_tables(length, config.head_size, theta)
    ]


def sizes(config: ModernGenaConfig, tokens: int) -> tuple[int, ...]:
    """Of tensors in the graph for so many tokens: those, their blocks, and two blocks more."""
    blocks = tokens // config.block
    return tokens, blocks, blocks + 2


def published_tables(reference: ModernGenaEncoder) -> list[NDArray[np.float32]]:
    """The same, as coremltools arranges them in the published network; and a mask of nothing."""
    config = reference.config
    thetas = dict.fromkeys(map(config.rope_theta, range(config.num_hidden_layers)))
    turns = [t for th in thetas for t in rotary_tables(config.window, config.head_size, th)]
    no_padding = np.zeros((1, config.window), np.float32)
    far = out_of_reach(config.window, config.reach) * MASK_VALUE
    return [*(turn[None, :, None, :] for turn in turns), far, no_padding]


def _embedding_stage(
    reference: ModernGenaEncoder, options: BuildOptions, scales: Scales
) -> EmbeddingStage:
    config = reference.config
    words = reference.embeddings.tok_embeddings.weight
    scale = embedding_scale(words)
    return EmbeddingStage(
        words * scale,
        None,
        ChannelNorm.like(reference.embeddings.norm, eps_scale=scale, output_scale=scales.residual),
        pad_token_id=config.pad_token_id,
        on_host=options.embedding == "host",
        band=Band(config.reach, config.block),
    )


def _block(
    reference: ModernGenaEncoder, index: int, length: int, options: BuildOptions, scales: Scales
) -> PreNormBlock:
    config, layer = reference.config, reference.layers[index]
    assert isinstance(layer, PublishedLayer)
    norm = layer.attn_norm
    return PreNormBlock(
        None if norm is None else Normalise(norm.eps, scales.residual),
        _attention(
            layer.attn,
            length,
            scales,
            None if norm is None else norm.weight,
            None if config.is_global(index) else config.block,
        ),
        Normalise(layer.mlp_norm.eps, scales.residual),
        _feed_forward(layer.mlp, options, scales, layer.mlp_norm.weight),
        mask=_EVERYWHERE if config.is_global(index) else _NEARBY,
    )


def _attention(
    attention: Attention, length: int, scales: Scales, norm: Tensor | None, block: int | None
) -> SplitHeadAttention:
    """With the weight of the norm before it folded in; the first layer's reads the stream.

    Args:
        block: of attention that looks a short way; None for everywhere.
    """
    query, key, value = (_folded(part, norm, scales) for part in attention.Wqkv.weight.chunk(3))
    value, output = scale_values(value, (attention.Wo.weight, None), scales.value)
    heads = attention.num_heads
    head_size = len(query[0]) // heads
    cos, sin = map(torch.from_numpy, rotary_tables(length, head_size, attention.theta))
    parts = (
        RotaryProjection(fold_query_scale(query, head_size), cos, sin, heads),
        RotaryProjection(key, cos, sin, heads),
        convolution(value),
        convolution(scale_residual_write(output, scales.residual)),
        head_size,
    )
    return SplitHeadAttention(*parts) if block is None else NearbyAttention(*parts, block)


def _feed_forward(
    feed_forward: GatedFeedForward, options: BuildOptions, scales: Scales, norm: Tensor
) -> NeuralFeedForward:
    up, gate = (_folded(part, norm, scales) for part in feed_forward.Wi.weight.chunk(2))
    gate, down = scale_values(gate, (feed_forward.Wo.weight, None), scales.gate)
    return NeuralFeedForward(
        up, gate, scale_residual_write(down, scales.residual), options.ffn_chunks
    )


def _folded(weight: Tensor, norm: Tensor | None, scales: Scales) -> Affine:
    """Rows that read a norm of this weight, which is folded in, or the stream at its scale."""
    if norm is None:
        return scale_residual_read((weight, None), scales.residual)
    return weight * norm, None
