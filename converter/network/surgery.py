"""Weight surgery: changes of a network's weights that are exact in real arithmetic.

Each `fold_...` and `scale_...` function says why. The Neural Engine's networks are built from them.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

# 2^-24; coremltools raises a smaller eps to it, silently.
SMALLEST_FP16 = float(np.finfo(np.float16).smallest_subnormal)

# Weight (O, I) and bias (O,) of a linear layer; None where it has no bias.
Affine = tuple[Tensor, Tensor | None]


def fold_norm(linear: nn.Linear, norm: nn.LayerNorm | None) -> Affine:
    """Weight (O, I) and bias (O,) that take the norm's scale and shift with them.

    W (g * n + b) + c = (W g) n + (W b + c).
    """
    weight: Tensor = linear.weight
    bias: Tensor | None = linear.bias
    if norm is None:
        return weight, bias
    shift: Tensor | None = norm.bias  # torch's types forget that there may be none
    if shift is not None:
        moved = weight.double() @ shift.double()
        bias = (moved if bias is None else bias.double() + moved).float()
    return weight * norm.weight, bias


def fold_query_scale(query: Affine, head_size: int) -> Affine:
    """Attention's 1/sqrt(head size), applied to the query's projection instead."""
    weight, bias = query
    return weight / math.sqrt(head_size), None if bias is None else bias / math.sqrt(head_size)


def scale_values(value: Affine, output: Affine, factor: float) -> tuple[Affine, Affine]:
    """Values `factor` times larger, the output projection's weight as much smaller.

    Exact where the factor is a power of two.
    """
    return _larger(value, factor), (output[0] / factor, output[1])


def scale_residual_write(output: Affine, factor: float) -> Affine:
    """What a sub-layer adds to the residual stream, at the stream's scale."""
    return _larger(output, factor)


def scale_residual_read(reader: Affine, factor: float) -> Affine:
    """A layer that reads the residual stream, at the stream's scale."""
    return reader[0] / factor, reader[1]


def _larger(linear: Affine, factor: float) -> Affine:
    weight, bias = linear
    return weight * factor, None if bias is None else bias * factor


def halves_of_heads(linear: Affine, num_heads: int) -> tuple[Affine, Affine]:
    """The first half of each head's rows, and the second; heads in their order."""
    weight, bias = linear
    parts = weight.view(num_heads, 2, -1, weight.shape[1])
    shifts = None if bias is None else bias.view(num_heads, 2, -1)
    first, second = (
        (parts[:, half].flatten(0, 1), None if shifts is None else shifts[:, half].flatten())
        for half in (0, 1)
    )
    return first, second


def embedding_scale(*tables: Tensor) -> float:
    """The power of two that brings the largest possible embedding sum into (32, 64].

    Squares up to 4096 and their mean stay far inside fp16.

    Args:
        tables: of rows (., H), one of each of which is in the sum.
    """
    largest = float(sum(table.abs().amax(0) for table in tables).max())  # type: ignore[union-attr]
    return 1.0 if largest == 0 else 2.0 ** math.floor(math.log2(64 / largest))


def effective_eps(eps: float, input_scale: float) -> float:
    """eps for a norm whose input is `input_scale` times the published one, as fp16 can hold it."""
    return max(eps * input_scale**2, SMALLEST_FP16)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, traced as one and computed as the matrix product that it is.

    PyTorch's convolutions add up in another order than its products, which the reference is made
    of: a comparison would see that too, where outliers make much of it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, O, 1, S) of (B, I, 1, S)."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return super().forward(x)
        weight = self.weight.flatten(1).expand(len(x), -1, -1)
        if self.bias is None:
            return torch.bmm(weight, x.squeeze(2)).unsqueeze(2)
        return torch.baddbmm(self.bias[:, None], weight, x.squeeze(2)).unsqueeze(2)


def convolution(linear: Affine) -> Pointwise:
    """A 1x1 convolution with this (O, I) matrix."""
    weight, bias = linear
    layer = Pointwise(weight.shape[1], weight.shape[0], 1, bias=bias is not None, device="meta")
    state = {"weight": weight[:, :, None, None].contiguous()}
    if bias is not None:
        state["bias"] = bias.clone()
    layer.load_state_dict(state, assign=True)
    return layer.requires_grad_(False)


def row_chunks(linear: Affine, chunks: int) -> list[Pointwise]:
    """Convolutions that give the output's channels in so many equal parts.

    Raises:
        ValueError: they do not divide into so many.
    """
    weight, bias = linear
    if len(weight) % chunks:
        raise ValueError(f"{len(weight)} channels do not divide into {chunks} chunks")
    shifts = [None] * chunks if bias is None else bias.chunk(chunks)
    return [convolution(part) for part in zip(weight.chunk(chunks), shifts, strict=True)]


def column_chunks(linear: Affine, chunks: int) -> list[Pointwise]:
    """Convolutions of so many equal parts of the input's channels, to be summed."""
    weight, bias = linear
    parts = weight.chunk(chunks, dim=1)
    return [convolution((part, bias if place == 0 else None)) for place, part in enumerate(parts)]
