"""The arithmetic of MIL operations, in PyTorch: one function each, with MIL's argument names.

Argument names, defaults and meaning are those of coremltools' operation definitions
(`coremltools.converters.mil.mil.ops.defs`). Floating tensors are float32 whatever their MIL
dtype; the executor rounds results where fp16 is asked for.

An argument that is annotated `Tensor` (or a sequence of them) is given as a tensor; any other
as plain Python values, also where the program computes them (shapes, bounds of slices).

Memory layout is free, values are not: operations keep the order of their input's memory, and
1x1 convolutions and einsums put channels (axis 1) innermost, so that a (B, C, 1, S) tensor is
a transposed view of contiguous tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Results = Tensor | tuple[Tensor, ...]
Number = int | float


@dataclass(frozen=True)
class Kernel:
    """How one type of operation is computed.

    Attributes:
        only_moves: the results hold only values of the inputs, so they need no rounding.
    """

    compute: Callable[..., Results]
    only_moves: bool


KERNELS: dict[str, Kernel] = {}
_C = TypeVar("_C", bound=Callable[..., Results])


def _kernel(type_: str = "", *, only_moves: bool = False) -> Callable[[_C], _C]:
    def register(compute: _C) -> _C:
        KERNELS[type_ or compute.__name__] = Kernel(compute, only_moves)
        return compute

    return register


# Elementwise


def _unary(compute: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(x: Tensor) -> Tensor:
        return compute(x)

    return apply


def _binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(x: Tensor, y: Tensor) -> Tensor:
        return compute(x, y)

    return apply


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "relu": torch.relu,
    "relu6": F.relu6,
    "round": torch.round,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": F.silu,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "equal": torch.eq,
    "floor_div": torch.floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": torch.pow,
    "sub": torch.sub,
}
for _type, _compute in _UNARY.items():
    _kernel(_type)(_unary(_compute))
for _type, _compute2 in _BINARY.items():
    _kernel(_type)(_binary(_compute2))


@_kernel()
def real_div(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


@_kernel()
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


@_kernel()
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return torch.log(x + epsilon)


@_kernel()
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    return torch.reciprocal(x + epsilon)


@_kernel()
def clip(x: Tensor, alpha: Number, beta: Number) -> Tensor:
    return torch.clamp(x, alpha, beta)


@_kernel()
def threshold(x: Tensor, alpha: Number) -> Tensor:
    return torch.clamp_min(x, alpha)


@_kernel()
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@_kernel()
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, alpha)


@_kernel()
def elu(x: Tensor, alpha: float) -> Tensor:
    return F.elu(x, alpha)


@_kernel()
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return F.prelu(x, alpha)


@_kernel()
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x * alpha + beta


@_kernel()
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


@_kernel()
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


@_kernel()
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


@_kernel()
def cast(x: Tensor, dtype: str) -> Tensor:
    if dtype in ("fp16", "fp32"):
        return x.to(torch.float32)
    if dtype == "uint16":
        return x.to(torch.int32) & 0xFFFF
    narrow = {"bool": torch.bool, "int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16}
    return x.to(narrow.get(dtype, torch.int32))


# Matrices


@_kernel()
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _project(x, weight, bias)


@_kernel()
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    if transpose_x and x.ndim > 1:
        x = x.transpose(-1, -2)
    if transpose_y and y.ndim > 1:
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


@_kernel()
def einsum(values: Sequence[Tensor], equation: str) -> Tensor:
    """MIL has one einsum: "bihc,bchj->bihj" (or the same without b), by whatever letters."""
    x, y = values
    if equation.replace(" ", "").find(",") == 3:
        return _batched_product(x[None], y[None])[0]
    return _batched_product(x, y)


def _batched_product(x: Tensor, y: Tensor) -> Tensor:
    """(B, I, H, C) and (B, C, H, J) -> (B, I, H, J), with axis 1 of the result innermost."""
    if x.shape[0] == x.shape[2] == y.shape[0] == y.shape[2] == 1:
        product = torch.mm(y[0, :, 0].t(), x[0, :, 0].t())
        return product.t()[None, :, None]
    return torch.matmul(y.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@_kernel()
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Tensor:
    spatial = x.ndim - 2
    strides = strides or [1] * spatial
    dilations = dilations or [1] * spatial
    padding = _padding(x.shape[2:], weight.shape[2:], strides, dilations, pad_type, pad)
    if prod(weight.shape[2:]) == prod(strides) == groups == 1 and not any(padding):
        return _project(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    if any(padding):
        # F.pad counts from the last axis.
        x = F.pad(x, [n for i in reversed(range(spatial)) for n in padding[2 * i : 2 * i + 2]])
    convolve = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    return convolve(x, weight, bias, tuple(strides), 0, tuple(dilations), groups)


def _padding(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pad_type: str,
    pad: Sequence[int] | None,
) -> list[int]:
    """Zeros before and after each spatial axis."""
    if pad_type == "valid":
        return [0] * (2 * len(size))
    if pad_type == "custom":
        return list(pad or [0] * (2 * len(size)))
    padding = []
    for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // stride) - 1) * stride + (k - 1) * dilation + 1 - n)
        small, large = total // 2, total - total // 2
        padding += [large, small] if pad_type == "same_lower" else [small, large]
    return padding


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., I), weight (O, I) -> (..., O), contiguous."""
    rows = x.reshape(-1, x.shape[-1])
    product = torch.mm(rows, weight.t()) if bias is None else torch.addmm(bias, rows, weight.t())
    return product.view(*x.shape[:-1], weight.shape[0])


@_kernel()
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask)


# Normalisation and reduction


@_kernel()
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    order = _memory_order(x)
    result = torch.softmax(x.permute(order), order.index(axis % x.ndim))
    return result.permute(_inverse(order))


@_kernel()
def layer_norm(
    x: Tensor,
    axes: Sequence[int] | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    axes = range(x.ndim) if axes is None else sorted(axis % x.ndim for axis in axes)
    order = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
    shape = [x.shape[axis] for axis in axes]
    result = F.layer_norm(x.permute(order), shape, gamma, beta, epsilon)
    return result.permute(_inverse(order))


def _layer_norm_in_halves(
    x: Tensor,
    axes: Sequence[int] | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """`layer_norm` with every step rounded to fp16, and a subnormal epsilon flushed to zero."""
    axes = range(x.ndim) if axes is None else sorted(axis % x.ndim for axis in axes)
    sizes = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    centred = _half(x - _half(x.mean(tuple(axes), keepdim=True)))
    variance = _half(_half(centred * centred).mean(tuple(axes), keepdim=True))
    kept = epsilon if epsilon >= torch.finfo(torch.float16).smallest_normal else 0.0
    result = _half(centred * _half(torch.rsqrt(_half(variance + kept))))
    if gamma is not None:
        result = _half(result * gamma.reshape(sizes))
    return result if beta is None else _half(result + beta.reshape(sizes))


# What an engine may compute in fp16 inside one operation.
KERNELS_IN_HALVES: dict[str, Callable[..., Results]] = {"layer_norm": _layer_norm_in_halves}


def _half(x: Tensor) -> Tensor:
    return x.half().float()


@_kernel()
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    scale = torch.rsqrt(variance + epsilon)
    if gamma is not None:
        scale = scale * gamma
    shift = -mean * scale if beta is None else beta - mean * scale
    sizes = [1, -1] + [1] * (x.ndim - 2)
    # Elementwise, so that the order of x in memory stays.
    return torch.addcmul(shift.reshape(sizes), x, scale.reshape(sizes))


@_kernel()
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


@_kernel()
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    axes = tuple(range(max(0, x.ndim - 3), x.ndim))
    return x * torch.rsqrt(x.square().sum(axes, keepdim=True) + epsilon)


def _reduction(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(x: Tensor, axes: Sequence[int] | None = None, keep_dims: bool = False) -> Tensor:
        axes = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
        result = compute(x, axes, keep_dims)
        return result if result.dtype == x.dtype else result.to(x.dtype)

    return apply


def _product(x: Tensor, axes: tuple[int, ...], keep_dims: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keep_dims)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    "reduce_l1_norm": lambda x, axes, keep: torch.sum(x.abs(), axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: torch.sum(x.square(), axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: torch.sum(x, axes, keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x.float(), axes, keep),
    "reduce_max": torch.amax,
    "reduce_mean": lambda x, axes, keep: torch.mean(x.float(), axes, keep),
    "reduce_min": torch.amin,
    "reduce_prod": _product,
    "reduce_sum": torch.sum,
    "reduce_sum_square": lambda x, axes, keep: torch.sum(x.square(), axes, keep),
}
for _type, _compute3 in _REDUCTIONS.items():
    _kernel(_type)(_reduction(_compute3))


@_kernel()
def reduce_argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return cast(torch.argmax(x, axis, keep_dims), output_dtype)


@_kernel()
def reduce_argmin(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return cast(torch.argmin(x, axis, keep_dims), output_dtype)


@_kernel()
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    if reverse:
        x = x.flip(axis)
    total = torch.cumsum(x, axis, dtype=x.dtype)
    if exclusive:
        total = total - x
    return total.flip(axis) if reverse else total


@_kernel()
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Results:
    count = x.shape[axis] if k == -1 else k
    values, indices = torch.topk(x, count, axis, largest=not ascending, sorted=sort)
    return (values, cast(indices, output_indices_dtype)) if return_indices else values


# Shape


@_kernel(only_moves=True)
def identity(x: Tensor) -> Tensor:
    return x


@_kernel(only_moves=True)
def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    # A 0 takes the size of the input's axis, counted from the right (from iOS 17; before that
    # ranks have to be equal, which is the same).
    missing = len(shape) - x.ndim
    sizes = [(1 if i < missing else x.shape[i - missing]) if n == 0 else n
             for i, n in enumerate(shape)]  # fmt: skip
    return x.reshape(sizes)


@_kernel(only_moves=True)
def reshape_like(
    x: Tensor,
    ref_tensors: Sequence[Tensor],
    begins: int | Sequence[int],
    ends: int | Sequence[int],
    end_masks: bool | Sequence[bool],
) -> Tensor:
    sizes: list[int] = []
    # With one reference the three bounds come as scalars.
    bounds = [[bound] if isinstance(bound, int) else bound for bound in (begins, ends, end_masks)]
    for tensor, begin, end, to_the_end in zip(ref_tensors, *bounds, strict=True):
        sizes += tensor.shape[begin : None if to_the_end else end]
    return x.reshape(sizes)


@_kernel(only_moves=True)
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    return x.reshape(prod(x.shape[: axis % x.ndim]), -1)


@_kernel(only_moves=True)
def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    return x.permute(tuple(perm))


@_kernel(only_moves=True)
def expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@_kernel(only_moves=True)
def squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


@_kernel(only_moves=True)
def split(
    x: Tensor,
    num_splits: int | None = None,
    split_sizes: Sequence[int] | None = None,
    axis: int = 0,
) -> tuple[Tensor, ...]:
    if split_sizes is None:
        split_sizes = [x.shape[axis] // (num_splits or 1)] * (num_splits or 1)
    return torch.split(x, list(split_sizes), axis)


@_kernel(only_moves=True)
def concat(values: Sequence[Tensor], axis: int, interleave: bool = False) -> Tensor:
    values = [value.reshape(1) if value.ndim == 0 else value for value in values]
    axis %= values[0].ndim
    if interleave:
        return torch.stack(list(values), axis + 1).flatten(axis, axis + 1)
    order = _memory_order(values[0])
    joined = torch.cat([value.permute(order) for value in values], order.index(axis))
    return joined.permute(_inverse(order))


@_kernel(only_moves=True)
def stack(values: Sequence[Tensor], axis: int) -> Tensor:
    return torch.stack(list(values), axis)


@_kernel(only_moves=True)
def slice_by_size(x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
    for axis, (start, count) in enumerate(zip(begin, size, strict=True)):
        start %= x.shape[axis]
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


@_kernel(only_moves=True)
def slice_by_index(
    x: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    squeezed = [axis for axis in range(x.ndim) if squeeze_mask and squeeze_mask[axis]]
    for axis, size in enumerate(x.shape):
        if axis in squeezed:
            x = x.narrow(axis, begin[axis] % size, 1)
            continue
        first = None if begin_mask and begin_mask[axis] else begin[axis]
        last = None if end_mask and end_mask[axis] else end[axis]
        picked = range(size)[first : last : stride[axis] if stride else 1]
        if picked.step == 1:
            x = x.narrow(axis, picked.start, len(picked))
        else:
            x = x.index_select(axis, torch.tensor(list(picked), dtype=torch.int64))
    return x.squeeze(squeezed) if squeezed else x


@_kernel(only_moves=True)
def gather(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - PyTorch always does
) -> Tensor:
    axis %= x.ndim
    places = torch.where(indices < 0, indices + x.shape[axis], indices).to(torch.int64)
    if batch_dims == 0:
        picked = x.index_select(axis, places.reshape(-1))
        return picked.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))
    batch = prod(x.shape[:batch_dims])
    rows = [
        gather(values, wanted, axis - batch_dims)
        for values, wanted in zip(
            x.reshape((batch, *x.shape[batch_dims:])),
            places.reshape((batch, *places.shape[batch_dims:])),
            strict=True,
        )
    ]
    result = torch.stack(rows)
    return result.reshape((*x.shape[:batch_dims], *result.shape[1:]))


@_kernel(only_moves=True)
def gather_along_axis(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - PyTorch always does
) -> Tensor:
    places = torch.where(indices < 0, indices + x.shape[axis], indices)
    return torch.take_along_dim(x, places.to(torch.int64), axis)


@_kernel(only_moves=True)
def gather_nd(
    x: Tensor,
    indices: Tensor,
    batch_dims: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - PyTorch always does
) -> Tensor:
    batch = prod(x.shape[:batch_dims])
    values = x.reshape((batch, *x.shape[batch_dims:]))
    wanted = indices.reshape((batch, *indices.shape[batch_dims:])).to(torch.int64)
    result = torch.stack([v[w.unbind(-1)] for v, w in zip(values, wanted, strict=True)])
    return result.reshape((*x.shape[:batch_dims], *result.shape[1:]))


@_kernel(only_moves=True)
def tile(x: Tensor, reps: Sequence[int]) -> Tensor:
    return x.repeat(tuple(reps))


@_kernel(only_moves=True)
def reverse(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return x.flip(tuple(range(x.ndim)) if axes is None else tuple(axes))


@_kernel(only_moves=True)
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    if upper >= 0:
        x = x.tril(upper)
    return x.triu(-lower) if lower >= 0 else x


@_kernel(only_moves=True)
def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: Number = 0) -> Tensor:
    first = x.ndim - len(pad) // 2
    if mode == "constant":
        # MIL lists the last axes in their order, PyTorch from the last one backwards.
        sizes = [n for i in reversed(range(len(pad) // 2)) for n in pad[2 * i : 2 * i + 2]]
        return F.pad(x, sizes, value=constant_val)
    for axis in range(first, x.ndim):
        before, after = pad[2 * (axis - first) : 2 * (axis - first) + 2]
        last = x.shape[axis] - 1
        places = torch.arange(-before, x.shape[axis] + after)
        if mode == "reflect":
            places = last - (last - places.abs()).abs()
        x = x.index_select(axis, places.clamp(0, last))
    return x


@_kernel("shape")
def shape_(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


@_kernel()
def fill(shape: Sequence[int], value: Number | bool = 0.0) -> Tensor:
    return torch.full(tuple(shape), value, dtype=_dtype_of(value))


@_kernel()
def fill_like(ref_tensor: Tensor, value: Number | bool = 0.0) -> Tensor:
    return torch.full(ref_tensor.shape, value, dtype=_dtype_of(value))


@_kernel()
def range_1d(end: Number, start: Number, step: Number) -> Tensor:
    return torch.arange(start, end, step, dtype=_dtype_of(start))


@_kernel()
def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Number | bool = 1,
    off_value: Number | bool = 0,
) -> Tensor:
    places = torch.where(indices < 0, indices + one_hot_vector_size, indices)
    hot = places.unsqueeze(-1) == torch.arange(one_hot_vector_size)
    dtype = _dtype_of(on_value)
    on, off = torch.tensor(on_value, dtype=dtype), torch.tensor(off_value, dtype=dtype)
    return torch.where(hot, on, off).movedim(-1, axis)


@_kernel()
def non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x).to(torch.int32)


def _dtype_of(value: Any) -> torch.dtype:
    if isinstance(value, bool):
        return torch.bool
    return torch.float32 if isinstance(value, float) else torch.int32


# Quantised activations (iOS 17)


@_kernel()
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    scaled = torch.round(input / _along(scale, input, axis))
    if zero_point is not None:
        scaled = scaled + _along(zero_point, input, axis)
    low, high = (0, 255) if output_dtype == "uint8" else (-128, 127)
    return cast(scaled.clamp(low, high), output_dtype)


@_kernel()
def dequantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    values = input.to(torch.float32)
    if zero_point is not None:
        values = values - _along(zero_point, input, axis)
    return values * _along(scale, input, axis)


def _along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """A scalar or a vector along `axis`, ready to broadcast against x."""
    if axis is None or parameter.ndim == 0:
        return parameter.to(torch.float32)
    sizes = [1] * x.ndim
    sizes[axis] = -1
    return parameter.to(torch.float32).reshape(sizes)


def _memory_order(x: Tensor) -> list[int]:
    """Axes from the outermost in memory to the innermost."""
    stride = x.stride()
    return sorted(range(x.ndim), key=lambda axis: -stride[axis])


def _inverse(order: Sequence[int]) -> list[int]:
    inverse_order = [0] * len(order)
    for place, axis in enumerate(order):
        inverse_order[axis] = place
    return inverse_order
