"""Each operation that coremltools can infer the value of, against that value."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813
from numpy.typing import NDArray

from tests.support.mil_packages import Body, Draws, execute, inferred_value

_DRAWS = Draws(seed=0)
floats, integers = _DRAWS.floats, _DRAWS.integers
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
    (actual,) = execute(tmp_path, arrays, body)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
