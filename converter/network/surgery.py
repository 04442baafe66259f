"""Weight surgery: changes of a network's weights that are exact in real arithmetic.

Each `fold_...` and `scale_...` function says why. The Neural Engine's network is built from them.
"""

import math

import numpy as np
from torch import Tensor, nn

from converter.network.reference import Embeddings

# 2^-24; coremltools raises a smaller eps to it, silently.
SMALLEST_FP16 = float(np.finfo(np.float16).smallest_subnormal)

# Weight (O, I) and bias (O,) of a linear layer.
Affine = tuple[Tensor, Tensor]


def fold_norm(linear: nn.Linear, norm: nn.LayerNorm | None) -> Affine:
    """Weight (O, I) and bias (O,) that take the norm's scale and shift with them.

    W (g * n + b) + c = (W g) n + (W b + c).
    """
    if norm is None:
        return linear.weight, linear.bias
    bias = linear.bias.double() + linear.weight.double() @ norm.bias.double()
    return linear.weight * norm.weight, bias.float()


def fold_query_scale(query: Affine, head_size: int) -> Affine:
    """Attention's 1/sqrt(head size), applied to the query's projection instead."""
    weight, bias = query
    return weight / math.sqrt(head_size), bias / math.sqrt(head_size)


def scale_values(value: Affine, output: Affine, factor: float) -> tuple[Affine, Affine]:
    """Values `factor` times larger, the output projection's weight as much smaller.

    Exact where the factor is a power of two.
    """
    return (value[0] * factor, value[1] * factor), (output[0] / factor, output[1])


def scale_residual_write(output: Affine, factor: float) -> Affine:
    """What a sub-layer adds to the residual stream, at the stream's scale."""
    return output[0] * factor, output[1] * factor


def scale_residual_read(reader: Affine, factor: float) -> Affine:
    """A layer that reads the residual stream, at the stream's scale."""
    return reader[0] / factor, reader[1]


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
