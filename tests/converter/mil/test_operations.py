"""Each operation against coremltools' own value inference, or PyTorch where that has none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from coremltools.converters.mil import Builder as mb  # noqa: N813
from numpy.typing import NDArray

from converter.mil.executor import PackageExecutor
from tests.support.mil_packages import Body, inferred_value, save_program

_RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> NDArray[np.float32]:
    return _RANDOM.normal(size=shape).astype(np.float32)


def integers(low: int, high: int, *shape: int) -> NDArray[np.int32]:
    return _RANDOM.integers(low, high, shape).astype(np.int32)


def execute(
    folder: Path, arrays: tuple[NDArray[Any], ...], body: Body, target: ct.target
) -> list[NDArray[Any]]:
    inputs = {f"input_{place}": array for place, array in enumerate(arrays)}
    package = save_program(folder, inputs, body, target)
    return list(PackageExecutor(package).predict(inputs).values())


X = floats(2, 3, 4)
POSITIVE = np.abs(X) + 0.1
UNIT = np.clip(X, -0.9, 0.9)
I = integers(-5, 6, 2, 3, 4)  # noqa: E741
J = np.where(I == 0, 3, I)[:, ::-1].copy()

UNARY = {
    **dict.fromkeys(("abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor"), X),
    **dict.fromkeys(("relu", "relu6", "round", "sigmoid", "sign", "sin", "sinh"), X),
    **dict.fromkeys(("softplus", "softsign", "square", "tan", "tanh"), X),
    **dict.fromkeys(("sqrt", "rsqrt", "log", "inverse"), POSITIVE),
    **dict.fromkeys(("acos", "asin", "atanh"), UNIT),
}
BINARY = ("add", "sub", "mul", "real_div", "maximum", "minimum", "floor_div", "mod", "equal")
BINARY += ("not_equal", "greater", "greater_equal", "less", "less_equal")
REDUCTIONS = ("mean", "sum", "max", "min", "prod", "l1_norm", "l2_norm", "log_sum_exp")
REDUCTIONS += ("sum_square",)


# What coremltools infers itself: the inputs, and the operation on them.
def _call(name: str) -> Body:
    parameters = ("x", "y")
    operation = getattr(mb, name)
    return lambda *values, **options: operation(
        **dict(zip(parameters, values, strict=False)), **options
    )


INFERRED: dict[str, tuple[tuple[NDArray[Any], ...], Body]] = {
    **{name: ((x,), _call(name)) for name, x in UNARY.items()},
    **{name: ((X, floats(3, 1)), _call(name)) for name in BINARY},
    **{
        f"{name} of integers": ((I, J), _call(name))
        for name in ("add", "sub", "mul", "floor_div", "mod", "equal", "less", "maximum")
    },
    **{
        f"reduce_{name}{' keeping' if keep else ''}": (
            (X,),
            partial(_call(f"reduce_{name}"), axes=[-1, 0], keep_dims=keep),
        )
        for name in REDUCTIONS
        for keep in (False, True)
    },
    "reduce_log_sum": ((POSITIVE,), lambda x: mb.reduce_log_sum(x=x, axes=[1])),
    "reduce_mean of everything": ((X,), lambda x: mb.reduce_mean(x=x)),
    "reduce_argmax": ((X,), lambda x: mb.reduce_argmax(x=x, axis=1)),
    "reduce_argmin": ((X,), lambda x: mb.reduce_argmin(x=x, axis=-1, keep_dims=True)),
    "pow": ((POSITIVE, X), lambda x, y: mb.pow(x=x, y=y)),
    "rsqrt with epsilon": ((POSITIVE,), lambda x: mb.rsqrt(x=x, epsilon=0.5)),
    "log with epsilon": ((POSITIVE,), lambda x: mb.log(x=x, epsilon=0.5)),
    "clip": ((X,), lambda x: mb.clip(x=x, alpha=-0.5, beta=0.25)),
    "threshold": ((X,), lambda x: mb.threshold(x=x, alpha=0.1)),
    "gelu": ((X,), lambda x: mb.gelu(x=x, mode="EXACT")),
    "gelu by default": ((X,), lambda x: mb.gelu(x=x)),
    "gelu by tanh": ((X,), lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION")),
    "gelu by sigmoid": ((X,), lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION")),
    "leaky_relu": ((X,), lambda x: mb.leaky_relu(x=x, alpha=0.1)),
    "elu": ((X,), lambda x: mb.elu(x=x, alpha=0.3)),
    "prelu": ((floats(1, 3, 2, 2),), lambda x: mb.prelu(x=x, alpha=np.float32([0.1, 0.2, 0.3]))),
    "linear_activation": ((X,), lambda x: mb.linear_activation(x=x, alpha=2.0, beta=0.5)),
    "scaled_tanh": ((X,), lambda x: mb.scaled_tanh(x=x, alpha=2.0, beta=0.5)),
    "sigmoid_hard": ((X,), lambda x: mb.sigmoid_hard(x=x, alpha=0.3, beta=0.5)),
    "logical operations": (
        (I, J),
        lambda x, y: mb.logical_xor(
            x=mb.logical_and(x=mb.greater(x=x, y=0), y=mb.greater(x=y, y=-2)),
            y=mb.logical_not(x=mb.logical_or(x=mb.less(x=x, y=3), y=mb.less(x=y, y=1))),
        ),
    ),
    "select": ((I, X), lambda i, x: mb.select(cond=mb.greater(x=i, y=0), a=x, b=np.float32(-7))),
    "cast to int32": ((X * 3,), lambda x: mb.cast(x=x, dtype="int32")),
    "cast to bool": ((I,), lambda x: mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="fp32")),
    "cast to int16": ((I,), lambda x: mb.cast(x=mb.cast(x=x, dtype="int16"), dtype="int32")),
    "cast to uint16": ((I,), lambda x: mb.cast(x=mb.cast(x=x, dtype="uint16"), dtype="int32")),
    "linear": (
        (floats(2, 5, 4),),
        lambda x: mb.linear(x=x, weight=_LINEAR, bias=np.float32([1, 2, 3])),
    ),
    "matmul": ((floats(2, 3, 4), floats(2, 4, 5)), lambda x, y: mb.matmul(x=x, y=y)),
    "matmul transposed": (
        (floats(4, 3), floats(2, 5, 4)),
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True),
    ),
    "einsum": (
        (floats(2, 5, 3, 4), floats(2, 4, 3, 6)),
        lambda x, y: mb.einsum(values=(x, y), equation="bkhc,bchq->bkhq"),
    ),
    "einsum of one head": (
        (floats(1, 5, 1, 4), floats(1, 4, 1, 6)),
        lambda x, y: mb.einsum(values=(x, y), equation="bchk,bkhq->bchq"),
    ),
    "einsum of broadcast heads": (
        (floats(1, 5, 3, 4), floats(2, 4, 1, 6)),
        lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
    ),
    "einsum of rank 3": (
        (floats(5, 3, 4), floats(4, 3, 6)),
        lambda x, y: mb.einsum(values=(x, y), equation="chw,whr->chr"),
    ),
    "softmax": ((X,), lambda x: mb.softmax(x=x)),
    "softmax of axis 1": ((X,), lambda x: mb.softmax(x=x, axis=1)),
    "softmax of a transposed tensor": (
        (X,),
        lambda x: mb.softmax(x=mb.transpose(x=x, perm=[2, 0, 1]), axis=-2),
    ),
    "layer_norm": (
        (X,),
        lambda x: mb.layer_norm(
            x=x, axes=[-1], gamma=_GAMMA[0], beta=_GAMMA[1], epsilon=np.float32(0.1)
        ),
    ),
    "layer_norm of channels": (
        (floats(1, 3, 1, 5),),
        lambda x: mb.layer_norm(x=x, axes=[1], epsilon=np.float32(1e-3)),
    ),
    "cumsum": ((X,), lambda x: mb.cumsum(x=x, axis=1)),
    "cumsum backwards": ((X,), lambda x: mb.cumsum(x=x, axis=1, reverse=True)),
    "band_part": ((floats(2, 4, 5),), lambda x: mb.band_part(x=x, lower=1, upper=2)),
    "upper triangle": ((floats(4, 5),), lambda x: mb.band_part(x=x, lower=0, upper=-1)),
    "reshape": ((X,), lambda x: mb.reshape(x=x, shape=[4, -1])),
    "reshape with a zero": ((X,), lambda x: mb.reshape(x=x, shape=[6, 1, 0])),
    "flatten2d": ((X,), lambda x: mb.flatten2d(x=x, axis=-1)),
    "transpose": ((X,), lambda x: mb.transpose(x=x, perm=[2, 0, -2])),
    "expand_dims": ((X,), lambda x: mb.expand_dims(x=x, axes=[-1, 1])),
    "squeeze": ((floats(1, 3, 1),), lambda x: mb.squeeze(x=x)),
    "squeeze of an axis": ((floats(1, 3, 1),), lambda x: mb.squeeze(x=x, axes=[-1])),
    "concat": ((X, floats(2, 1, 4)), lambda x, y: mb.concat(values=(x, y), axis=-2)),
    "concat of transposed tensors": (
        (floats(1, 2, 3, 5), floats(1, 2, 3, 5)),
        lambda x, y: mb.concat(
            values=(mb.transpose(x=x, perm=[0, 2, 1, 3]), mb.transpose(x=y, perm=[0, 2, 1, 3])),
            axis=1,
        ),
    ),
    "stack": ((X, floats(2, 3, 4)), lambda x, y: mb.stack(values=(x, y), axis=1)),
    "slice_by_size": ((X,), lambda x: mb.slice_by_size(x=x, begin=[0, 1, -2], size=[2, -1, 1])),
    "slice_by_index": (
        (X,),
        lambda x: mb.slice_by_index(x=x, begin=[0, 1, -3], end=[2, 3, -1]),
    ),
    "slice_by_index with masks": (
        (X,),
        lambda x: mb.slice_by_index(
            x=x,
            begin=[1, 9, 1],
            end=[9, 2, 9],
            begin_mask=[False, True, False],
            end_mask=[True, False, True],
            squeeze_mask=[True, False, False],
        ),
    ),
    "slice_by_index with strides": (
        (floats(2, 7, 6),),
        lambda x: mb.slice_by_index(
            x=x, begin=[0, 1, 5], end=[2, 7, 0], stride=[1, 2, -2], end_mask=[False, False, True]
        ),
    ),
    "gather": ((X, integers(-3, 3, 2, 2)), lambda x, i: mb.gather(x=x, indices=i, axis=1)),
    "gather of one": ((floats(5),), lambda x: mb.gather(x=x, indices=np.int32(3), axis=0)),
    "gather in batches": (
        (X, integers(-3, 3, 2, 2)),
        lambda x, i: mb.gather(x=x, indices=i, axis=1, batch_dims=1),
    ),
    "gather_along_axis": (
        (X, integers(0, 3, 2, 5, 4)),
        lambda x, i: mb.gather_along_axis(x=x, indices=i, axis=1),
    ),
    "tile": ((X,), lambda x: mb.tile(x=x, reps=[1, 2, 3])),
    "reverse": ((X,), lambda x: mb.reverse(x=x, axes=[0, -1])),
    "pad": ((X,), lambda x: mb.pad(x=x, pad=[1, 2, 0, 3], constant_val=0.5)),
    "pad reflected": ((X,), lambda x: mb.pad(x=x, pad=[1, 2, 0, 3], mode="reflect")),
    "pad replicated": ((X,), lambda x: mb.pad(x=x, pad=[0, 0, 1, 2, 0, 0], mode="replicate")),
    "shape": ((X,), lambda x: mb.shape(x=x)),
    "fill": ((X,), lambda x: mb.add(x=x, y=mb.fill(shape=mb.shape(x=x), value=0.5))),
    "range_1d": ((floats(1),), lambda x: mb.add(x=x, y=mb.range_1d(start=1.0, end=7.0, step=2.0))),
    "non_zero": ((I,), lambda x: mb.non_zero(x=x)),
    "identity": ((X,), lambda x: mb.identity(x=x)),
}
_LINEAR = floats(3, 4)
_GAMMA = floats(2, 4)


@pytest.mark.parametrize("name", INFERRED)
def test_equals_coremltools_own_value(name: str, tmp_path: Path) -> None:
    arrays, body = INFERRED[name]
    expected = inferred_value(arrays, body)
    (actual,) = execute(tmp_path, arrays, body, ct.target.iOS18)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


_WEIGHT = floats(6, 2, 3, 3)
_BIAS = floats(6)
_VECTOR = np.abs(floats(4, 3)) + 0.1
_SEQUENCE = floats(1, 4, 1, 7)


def _conv(x: NDArray[np.float32], **options: Any) -> torch.Tensor:
    return F.conv2d(torch.from_numpy(x), torch.from_numpy(_WEIGHT), **options)


def _sdpa(mask: NDArray[Any] | None) -> Callable[..., torch.Tensor]:
    def attend(*qkv: NDArray[Any]) -> torch.Tensor:
        query, key, value = (torch.from_numpy(array) for array in qkv)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores + torch.from_numpy(mask)
        return scores.softmax(-1) @ value

    return attend


_MASK = np.where(floats(1, 1, 3, 5) > 0, 0, -1e4).astype(np.float32)
_QKV = (floats(1, 2, 3, 4), floats(1, 2, 5, 4), floats(1, 2, 5, 6))
_IMAGE = floats(1, 2, 8, 9)

# What it does not infer: the inputs, the operation on them, and the same by other means.
OTHERS: dict[str, tuple[tuple[NDArray[Any], ...], Body, Callable[..., Any]]] = {
    "silu": ((X,), lambda x: mb.silu(x=x), lambda x: x / (1 + np.exp(-x))),
    "conv": (
        (_IMAGE,),
        lambda x: mb.conv(x=x, weight=_WEIGHT, bias=_BIAS),
        lambda x: _conv(x, bias=torch.from_numpy(_BIAS)),
    ),
    "conv with strides and dilations": (
        (_IMAGE,),
        lambda x: mb.conv(x=x, weight=_WEIGHT, strides=[2, 1], dilations=[1, 2]),
        lambda x: _conv(x, stride=(2, 1), dilation=(1, 2)),
    ),
    "conv with padding": (
        (_IMAGE,),
        lambda x: mb.conv(x=x, weight=_WEIGHT, pad_type="custom", pad=[1, 1, 2, 2]),
        lambda x: _conv(x, padding=(1, 2)),
    ),
    "conv of the same size": (
        (_IMAGE,),
        lambda x: mb.conv(x=x, weight=_WEIGHT, pad_type="same"),
        lambda x: _conv(x, padding="same"),
    ),
    "conv in groups": (
        (floats(1, 4, 8, 9),),
        lambda x: mb.conv(x=x, weight=_WEIGHT, groups=2),
        lambda x: _conv(x, groups=2),
    ),
    "conv of 1 x 1": (
        (_SEQUENCE,),
        lambda x: mb.conv(x=x, weight=_WEIGHT.reshape(27, 4, 1, 1)),
        lambda x: np.einsum("oc,bchs->bohs", _WEIGHT.reshape(27, 4), x),
    ),
    "conv of 1 with bias": (
        (floats(2, 2, 5),),
        lambda x: mb.conv(x=x, weight=_WEIGHT[:, :, 0, :1].copy(), bias=_BIAS),
        lambda x: np.einsum("oc,bcs->bos", _WEIGHT[:, :, 0, 0], x) + _BIAS[:, None],
    ),
    "scaled_dot_product_attention": (
        _QKV,
        lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
        _sdpa(None),
    ),
    "scaled_dot_product_attention with a mask": (
        _QKV,
        lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=_MASK),
        _sdpa(_MASK),
    ),
    "batch_norm": (
        (floats(1, 3, 2, 2),),
        lambda x: mb.batch_norm(
            x=x, mean=_VECTOR[0], variance=_VECTOR[1], gamma=_VECTOR[2], beta=_VECTOR[3]
        ),
        lambda x: (
            (x - _VECTOR[0][:, None, None])
            / np.sqrt(_VECTOR[1][:, None, None] + 1e-5)
            * _VECTOR[2][:, None, None]
            + _VECTOR[3][:, None, None]
        ),
    ),
    "instance_norm": (
        (floats(1, 3, 4, 5),),
        lambda x: mb.instance_norm(x=x, epsilon=0.01),
        lambda x: (
            (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 0.01)
        ),
    ),
    "l2_norm": (
        (floats(2, 3, 4),),
        lambda x: mb.l2_norm(x=x, epsilon=0.1),
        lambda x: x / np.sqrt((x**2).sum() + 0.1),
    ),
    "split in equal parts": (
        (X,),
        lambda x: mb.split(x=x, num_splits=2, axis=-1)[1],
        lambda x: x[..., 2:],
    ),
    "split by sizes": (
        (X,),
        lambda x: mb.split(x=x, split_sizes=[1, 2], axis=1)[1],
        lambda x: x[:, 1:],
    ),
    "one_hot": (
        (integers(0, 5, 2, 3),),
        lambda i: mb.one_hot(
            indices=i, one_hot_vector_size=5, axis=1, on_value=2.0, off_value=-1.0
        ),
        lambda i: np.where(np.moveaxis(np.eye(5)[i], -1, 1) > 0, 2.0, -1.0),
    ),
    "gather_nd": (
        (X, np.int32([[0, 1], [1, 2]])),
        lambda x, i: mb.gather_nd(x=x, indices=i),
        lambda x, i: x[i[:, 0], i[:, 1]],
    ),
    "gather_nd in batches": (
        (X, np.int32([[[0, 1], [1, 2]], [[2, 3], [0, 0]]])),
        lambda x, i: mb.gather_nd(x=x, indices=i, batch_dims=1),
        lambda x, i: np.stack([x[b][i[b, :, 0], i[b, :, 1]] for b in range(2)]),
    ),
    "concat interleaved": (
        (X, floats(2, 3, 4)),
        lambda x, y: mb.concat(values=(x, y), axis=1, interleave=True),
        lambda x, y: np.stack([x, y], axis=2).reshape(2, 6, 4),
    ),
    "topk": (
        (X,),
        lambda x: mb.topk(x=x, k=2, axis=-1, ascending=True)[1],
        lambda x: np.argsort(x, axis=-1)[..., :2],
    ),
    "cumsum without itself": (
        (X,),
        lambda x: mb.cumsum(x=x, axis=1, exclusive=True),
        lambda x: np.cumsum(x, axis=1) - x,
    ),
    "reshape_like": (
        (X, floats(4, 6)),
        lambda x, y: mb.reshape_like(
            x=x,
            ref_tensors=(y,),
            begins=(mb.const(val=0),),
            ends=(mb.const(val=2),),
            end_masks=(mb.const(val=False),),
        ),
        lambda x, y: x.reshape(y.shape),
    ),
    "fill_like": (
        (X,),
        lambda x: mb.fill_like(ref_tensor=x, value=np.float32(3)),
        lambda x: np.full_like(x, 3),
    ),
    "quantize and dequantize": (
        (X,),
        lambda x: mb.dequantize(
            input=mb.quantize(
                input=x, scale=np.float32([0.1, 0.2, 0.3]), axis=1, output_dtype="int8"
            ),
            scale=np.float32([0.1, 0.2, 0.3]),
            axis=1,
        ),
        lambda x: np.clip(np.round(x / _STEPS), -128, 127) * _STEPS,
    ),
    "computed shape": (
        (X,),
        lambda x: mb.reshape(
            x=x,
            shape=mb.concat(
                values=(
                    mb.gather(x=mb.shape(x=x), indices=0, axis=0),
                    mb.mul(
                        x=mb.gather(x=mb.shape(x=x), indices=1, axis=0),
                        y=mb.gather(x=mb.shape(x=x), indices=2, axis=0),
                    ),
                ),
                axis=0,
            ),
        ),
        lambda x: x.reshape(2, 12),
    ),
}
_STEPS = np.float32([0.1, 0.2, 0.3])[:, None]


@pytest.mark.parametrize("name", OTHERS)
def test_equals_the_same_by_other_means(name: str, tmp_path: Path) -> None:
    arrays, body, reference = OTHERS[name]
    expected = np.asarray(reference(*arrays))
    (actual,) = execute(tmp_path, arrays, body, ct.target.iOS18)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("target", [ct.target.iOS15, ct.target.iOS16, ct.target.iOS17])
def test_older_opsets_mean_the_same(target: ct.target, tmp_path: Path) -> None:
    indices = integers(0, 3, 2, 2)

    def body(x: Any, i: Any) -> Any:
        picked = mb.gather(x=x, indices=i, axis=1)
        normed = mb.layer_norm(x=picked, axes=[-1], epsilon=1e-3)
        return mb.squeeze(x=mb.reshape(x=normed, shape=[2, 1, 2, -1, 4]), axes=[1])

    (actual,) = execute(tmp_path, (X, indices), body, target)
    picked = torch.from_numpy(X[:, indices])
    expected = F.layer_norm(picked, (4,), eps=1e-3).reshape(2, 2, 2, 4).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
