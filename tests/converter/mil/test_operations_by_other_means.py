"""Operations that coremltools infers no value for, against PyTorch or NumPy; older opsets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from coremltools.converters.mil import Builder as mb  # noqa: N813
from numpy.typing import NDArray

from tests.support.mil_packages import Body, Draws, execute

_DRAWS = Draws(seed=0)
floats, integers = _DRAWS.floats, _DRAWS.integers
X = floats(2, 3, 4)
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

# The inputs, the operation on them, and the same by other means.
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
    (actual,) = execute(tmp_path, arrays, body)
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
