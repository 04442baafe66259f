"""Constants of a program as float32 tensors, each widened once; compressed weights expanded.

The `constexpr_*` operations describe a weight by smaller constants. Both families that
coremltools 9 writes are read: iOS 16 (packed bytes and a shape) and iOS 18 (sub-byte tensors,
blocks, sparse results that feed one another). A weight is expanded in float32 and rounded to
the dtype that the program declares for it.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converter.errors import UnknownOperationError
from converter.package.data_types import unpack_unsigned
from converter.package.program import Constant, Function, Operation

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Weight:
    """A value known before the program runs.

    Attributes:
        key: equal for weights that are the same bytes of the package.
        read: computes it afresh.
    """

    key: Hashable
    read: Callable[[], Array]


class WeightStore:
    """The tensors of a package: floating ones in float32, each made once."""

    def __init__(self) -> None:
        self._tensors: dict[Hashable, Tensor] = {}

    def tensor(self, weight: Weight) -> Tensor:
        """The weight as a tensor that all who ask for the same weight share."""
        tensor = self._tensors.get(weight.key)
        if tensor is None:
            tensor = self._tensors[weight.key] = _tensor(weight.read())
        return tensor


def constant_weight(constant: Constant) -> Weight:
    """A plain constant."""
    return Weight(constant, constant.read)


def named_weights(function: Function) -> dict[str, Weight]:
    """The weights that a function's `constexpr_*` operations describe, by name.

    Raises:
        UnknownOperationError: one of them is computed from what is not constant.
    """
    weights: dict[str, Weight] = {}
    for operation in function.operations:
        if operation.type in EXPANSIONS:
            inputs = {
                parameter: _constant_input(operation, arguments[0], weights)
                for parameter, arguments in operation.inputs.items()
            }
            names = (output.name for output in operation.outputs)
            weights.update(zip(names, _compressed_weights(operation, inputs), strict=True))
    return weights


def _constant_input(
    operation: Operation, argument: str | Constant, weights: Mapping[str, Weight]
) -> Weight:
    if isinstance(argument, Constant):
        return constant_weight(argument)
    if argument not in weights:
        raise UnknownOperationError(
            f"Operation {operation.name!r} of type {operation.type!r} reads {argument!r}, which is "
            "not constant; the package cannot be executed here."
        )
    return weights[argument]


def _compressed_weights(operation: Operation, inputs: Mapping[str, Weight]) -> list[Weight]:
    """The weights that a `constexpr_*` operation describes, in the order of its outputs."""
    expand = _EXPAND[operation.type]
    key = (operation.type, tuple((p, inputs[p].key) for p in sorted(inputs)))

    def reader(place: int, dtype: str) -> Callable[[], Array]:
        def read() -> Array:
            results = expand({parameter: weight.read() for parameter, weight in inputs.items()})
            return results[place].astype(np.float16) if dtype == "fp16" else results[place]

        return read

    return [
        Weight((*key, place), reader(place, output.type.dtype))
        for place, output in enumerate(operation.outputs)
    ]


def _tensor(array: Array) -> Tensor:
    dtype = array.dtype
    if dtype.kind == "f":
        dtype = np.dtype(np.float32)
    elif dtype in (np.uint16, np.uint32):  # PyTorch computes with neither
        dtype = np.dtype(np.int32 if dtype == np.uint16 else np.int64)
    return torch.from_numpy(np.array(array, dtype, order="C"))


def _affine_dequantize(inputs: Arrays) -> Sequence[Array]:
    data = inputs["quantized_data"]
    sizes = [1] * data.ndim
    if inputs["scale"].ndim or inputs["zero_point"].ndim:
        sizes[inputs["axis"].item()] = -1
    scale, zero_point = (
        value.astype(np.float32).reshape(sizes if value.ndim else [1] * data.ndim)
        for value in (inputs["scale"], inputs["zero_point"])
    )
    return [(data.astype(np.float32) - zero_point) * scale]


def _blockwise_shift_scale(inputs: Arrays) -> Sequence[Array]:
    data, scale, offset = inputs["data"].astype(np.float32), inputs["scale"], inputs.get("offset")
    if offset is not None:
        data -= _spread(offset.astype(np.float32), data.shape)
    data *= _spread(scale.astype(np.float32), data.shape)
    return [data]


def _spread(blocks: Array, shape: Sequence[int]) -> Array:
    """One value a block -> one value an element (or an axis of 1, to broadcast)."""
    for axis, (count, size) in enumerate(zip(blocks.shape, shape, strict=True)):
        if count not in (1, size):
            blocks = blocks.repeat(size // count, axis)
    return blocks


def _lut_to_dense(inputs: Arrays) -> Sequence[Array]:
    indices, lut = inputs["indices"], inputs["lut"]
    if "shape" in inputs:  # iOS 16
        shape = inputs["shape"].tolist()
        width = (lut.size - 1).bit_length()
        return [lut[unpack_unsigned(indices, width, prod(shape))].reshape(shape)]
    axis = inputs["vector_axis"].item() if "vector_axis" in inputs else None
    return [_look_up(indices, lut, axis)]


def _look_up(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """lut (blocks of each axis of indices ..., palette, vector) -> the values, vectors unrolled."""
    blocks = np.ix_(
        *(
            np.arange(size) // (size // count)
            for size, count in zip(indices.shape, lut.shape[:-2], strict=True)
        )
    )
    values: Array = lut[(*blocks, indices)]
    if lut.shape[-1] == 1:
        return values[..., 0]
    axis = 0 if vector_axis is None else vector_axis % indices.ndim
    shape = list(indices.shape)
    shape[axis] *= lut.shape[-1]
    return np.moveaxis(values, -1, axis + 1).reshape(shape)


def _sparse_to_dense(inputs: Arrays) -> Sequence[Array]:
    mask = inputs["mask"]
    if "shape" in inputs:  # iOS 16
        shape = inputs["shape"].tolist()
        mask = unpack_unsigned(mask, 1, prod(shape)).reshape(shape)
    return [_scatter(inputs["nonzero_data"], mask)]


def _scatter(values: Array, mask: Array) -> Array:
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask != 0] = values
    return dense


def _lut_to_sparse(inputs: Arrays) -> Sequence[Array]:
    mask, lut = inputs["indices_mask"], inputs["lut"]
    axis = inputs["vector_axis"].item() if "vector_axis" in inputs else None
    dense = _look_up(_scatter(inputs["indices_nonzero_data"], mask), lut, axis)
    if lut.shape[-1] > 1:
        mask = mask.repeat(lut.shape[-1], 0 if axis is None else axis)
    return [mask, dense[mask != 0]]


def _sparse_blockwise_shift_scale(inputs: Arrays) -> Sequence[Array]:
    mask = inputs["data_mask"]
    rest = {name: inputs[name] for name in ("scale", "offset") if name in inputs}
    (dense,) = _blockwise_shift_scale({"data": _scatter(inputs["nonzero_data"], mask), **rest})
    return [mask, dense[mask != 0]]


_EXPAND: dict[str, Callable[[Arrays], Sequence[Array]]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": lambda inputs: [inputs["source_val"].astype(np.float32)],
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}

# Types of the operations that describe a compressed weight.
EXPANSIONS = frozenset(_EXPAND)
