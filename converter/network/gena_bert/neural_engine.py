"""GENA-LM's BERT re-authored for the Neural Engine."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from converter.network.gena_bert.reference import (
    Attention,
    Dense,
    Embeddings,
    GenaEncoder,
    PostNormLayer,
    PreNormLayer,
)
from converter.network.neural_attention import SplitHeadAttention
from converter.network.neural_engine import (
    ChannelNorm,
    EmbeddingStage,
    FeedForward,
    NeuralEngineEncoder,
    Normalise,
    PostNormBlock,
    PreNormBlock,
    Scales,
)
from converter.network.surgery import (
    convolution,
    embedding_scale,
    fold_norm,
    fold_query_scale,
    scale_residual_read,
    scale_residual_write,
    scale_values,
)
from converter.options import BuildOptions


def re_author(
    reference: GenaEncoder, length: int, options: BuildOptions, scales: Scales
) -> NeuralEngineEncoder:
    """The network for windows of one length.

    Args:
        reference: the network to re-author; it is not changed.
        length: L, at most `max_position_embeddings`.
        options: `embedding` and `ffn_chunks` shape the graph.

    Raises:
        ValueError: the intermediate size is not a multiple of `ffn_chunks`.
    """
    config = reference.config
    last_norm = reference.encoder.last_layer_ln
    return NeuralEngineEncoder(
        embedding_stage(reference, length, options, scales),
        [_block(layer, config.head_size, options, scales) for layer in reference.encoder.layer],
        ChannelNorm.like(last_norm, eps_scale=scales.residual) if last_norm is not None else None,
        scales,
    ).eval()


def tables(
    reference: GenaEncoder, length: int, options: BuildOptions, scales: Scales
) -> list[NDArray[np.float32]]:
    """The positions of windows of up to so many tokens, as they stand in the graph."""
    stage = embedding_stage(reference, length, options, scales)
    return [stage.positions.numpy()] if stage.positions is not None else []


def published_tables(reference: GenaEncoder) -> list[NDArray[np.float32]]:
    """The position table as published, and the mask before anything is masked."""
    no_padding = np.zeros((1, reference.config.window), np.float32)
    return [reference.embeddings.position_embeddings.weight.numpy(), no_padding]


def fold_token_type(embeddings: Embeddings) -> tuple[Tensor, Tensor]:
    """Word table (V, H), and position table (P, H) with token type 0 added to every row."""
    positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    return embeddings.word_embeddings.weight, positions


def embedding_stage(
    reference: GenaEncoder, length: int, options: BuildOptions, scales: Scales
) -> EmbeddingStage:
    """What makes the first rows of the stream; arguments as `re_author`."""
    words, positions = fold_token_type(reference.embeddings)
    scale = embedding_scale(words, positions)
    return EmbeddingStage(
        words * scale,
        positions[:length] * scale,
        ChannelNorm.like(
            reference.embeddings.LayerNorm, eps_scale=scale, output_scale=scales.residual
        ),
        pad_token_id=reference.config.pad_token_id,
        on_host=options.embedding == "host",
    )


def _block(
    layer: nn.Module, head_size: int, options: BuildOptions, scales: Scales
) -> PreNormBlock | PostNormBlock:
    if isinstance(layer, PreNormLayer):
        return _pre_norm_block(layer, head_size, options, scales)
    assert isinstance(layer, PostNormLayer)
    return _post_norm_block(layer, head_size, options, scales)


def _pre_norm_block(
    layer: PreNormLayer, head_size: int, options: BuildOptions, scales: Scales
) -> PreNormBlock:
    stream = scales.residual
    return PreNormBlock(
        Normalise(layer.pre_attention_ln.eps, stream),
        _attention(layer.attention, head_size, scales, layer.pre_attention_ln),
        Normalise(layer.post_attention_ln.eps, stream),
        _feed_forward(layer.intermediate, layer.output, options, scales, layer.post_attention_ln),
    )


def _post_norm_block(
    layer: PostNormLayer, head_size: int, options: BuildOptions, scales: Scales
) -> PostNormBlock:
    stream = scales.residual
    return PostNormBlock(
        _attention(layer.attention, head_size, scales),
        ChannelNorm.like(layer.attention.output.LayerNorm, eps_scale=stream, output_scale=stream),
        _feed_forward(layer.intermediate, layer.output, options, scales),
        ChannelNorm.like(layer.output.LayerNorm, eps_scale=stream, output_scale=stream),
    )


def _attention(
    attention: Attention, head_size: int, scales: Scales, norm: nn.LayerNorm | None = None
) -> SplitHeadAttention:
    # Behind a norm, what comes in has the published size whatever the stream's is.
    stream = 1.0 if norm is not None else scales.residual
    query, key, value = (
        scale_residual_read(fold_norm(linear, norm), stream)
        for linear in (attention.self.query, attention.self.key, attention.self.value)
    )
    dense = attention.output.dense
    value, output = scale_values(value, (dense.weight, dense.bias), scales.value)
    return SplitHeadAttention(
        convolution(fold_query_scale(query, head_size)),
        convolution(key),
        convolution(value),
        convolution(scale_residual_write(output, scales.residual)),
        head_size,
    )


def _feed_forward(
    intermediate: Dense,
    output: Dense,
    options: BuildOptions,
    scales: Scales,
    norm: nn.LayerNorm | None = None,
) -> FeedForward:
    stream = 1.0 if norm is not None else scales.residual
    return FeedForward(
        scale_residual_read(fold_norm(intermediate.dense, norm), stream),
        scale_residual_write((output.dense.weight, output.dense.bias), scales.residual),
        options.ffn_chunks,
    )
