"""An ML program as plain data: functions, operations, constants, types."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import PackageError
from converter.package.data_types import BITS, NUMPY, unpack_unsigned
from converter.package.weight_file import Blob, read_blob


@dataclass(frozen=True)
class TensorType:
    """A dtype ("fp16", "fp32", "int32", "bool", "uint4", ...) and a shape; None: flexible."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def is_floating(self) -> bool:
        return self.dtype.startswith("fp")

    @property
    def is_static(self) -> bool:
        return None not in self.shape

    @property
    def elements(self) -> int:
        """Number of elements; flexible dimensions count as one."""
        return prod(size for size in self.shape if size is not None)

    @property
    def bytes(self) -> int:
        """Bytes of storage, sub-byte dtypes packed; flexible dimensions count as one."""
        return (self.elements * BITS[self.dtype] + 7) // 8

    def __str__(self) -> str:
        return f"{self.dtype}({', '.join('?' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True)
class Constant:
    """A value that is part of the program; equal constants are the same bytes in the package."""

    type: TensorType
    source: Blob | bytes | tuple[str, ...]

    def read(self) -> NDArray[Any]:
        """The value, freshly read; sub-byte integers come as int8 or uint8, strings as objects.

        Raises:
            PackageError: the weight file is missing, cut short or altered.
        """
        if isinstance(self.source, tuple):
            return np.array(self.source, dtype=object).reshape(self._shape)
        dtype = self.type.dtype
        stored = self.source
        content = read_blob(stored, self.type.bytes) if isinstance(stored, Blob) else stored
        packed = np.frombuffer(content, np.uint8)
        if packed.nbytes != self.type.bytes:
            raise PackageError(f"A constant of type {self.type} holds {packed.nbytes} bytes.")
        if dtype in NUMPY:
            return packed.view(NUMPY[dtype]).reshape(self._shape)
        return _sub_byte(packed, dtype, self.type.elements).reshape(self._shape)

    def scalar(self) -> Any:
        """The value of a one-element constant as a Python object."""
        return self.read().item()

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(-1 if size is None else size for size in self.type.shape)


@dataclass(frozen=True)
class Output:
    """One named result of an operation."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class Operation:
    """One operation, its arguments by MIL parameter name: names of values, or constants."""

    type: str
    name: str
    inputs: Mapping[str, tuple["str | Constant", ...]]
    outputs: tuple[Output, ...]

    def values(self) -> Iterator[str]:
        """Names of the computed values that it reads, in order, with repetitions."""
        for arguments in self.inputs.values():
            yield from (a for a in arguments if isinstance(a, str))

    def constants(self) -> Iterator[tuple[str, Constant]]:
        """Constants that it reads, with the parameter's name."""
        for parameter, arguments in self.inputs.items():
            yield from ((parameter, a) for a in arguments if isinstance(a, Constant))


@dataclass(frozen=True)
class Function:
    """A function of the program. `const` operations are resolved into their readers."""

    name: str
    opset: str
    inputs: Mapping[str, TensorType]
    outputs: tuple[Output, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Program:
    """An ML program: its functions by name.

    Attributes:
        flexible_inputs: names of inputs whose shape is enumerated or ranged, by function.
        metadata: the package's user-defined and standard metadata.
    """

    path: Path
    specification_version: int
    functions: Mapping[str, Function]
    default_function: str
    flexible_inputs: Mapping[str, tuple[str, ...]]
    metadata: Mapping[str, str]


def _sub_byte(packed: NDArray[np.uint8], dtype: str, count: int) -> NDArray[np.int8 | np.uint8]:
    width = BITS[dtype]
    unsigned = unpack_unsigned(packed, width, count)
    if dtype.startswith("u"):
        return unsigned
    shift = 8 - width
    return (unsigned << shift).view(np.int8) >> shift
