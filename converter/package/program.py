"""An `.mlpackage` on disk -> the ML program in it, as plain data. No torch, no coremltools import.

The program is read from its protobuf message, not through coremltools' own loader: that keeps
the weights where they are until somebody asks for them, keeps their place in the weight file
(so functions that share weights are seen to share them), and starts in a tenth of a second.
"""

import importlib
import importlib.util
import json
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import PackageError

# MIL.proto, enum DataType: number -> (name, bits of one element).
_DATA_TYPES: dict[int, tuple[str, int]] = {
    1: ("bool", 8),
    2: ("string", 0),
    10: ("fp16", 16),
    11: ("fp32", 32),
    12: ("fp64", 64),
    21: ("int8", 8),
    22: ("int16", 16),
    23: ("int32", 32),
    24: ("int64", 64),
    25: ("int4", 4),
    31: ("uint8", 8),
    32: ("uint16", 16),
    33: ("uint32", 32),
    34: ("uint64", 64),
    35: ("uint4", 4),
    36: ("uint2", 2),
    37: ("uint1", 1),
    38: ("uint6", 6),
    39: ("uint3", 3),
}
_BITS = dict(_DATA_TYPES.values())
_NUMPY = {
    "bool": np.dtype(np.bool_),
    "fp16": np.dtype("<f2"),
    "fp32": np.dtype("<f4"),
    "fp64": np.dtype("<f8"),
    **{f"{s}int{b}": np.dtype(f"<{s or 'i'}{b // 8}") for s in ("", "u") for b in (8, 16, 32, 64)},
}
# One record of a weight file: sentinel, data type, size in bytes, offset of the data.
BLOB_HEADER = struct.Struct("<IIQQ")
BLOB_SENTINEL = 0xDEADBEEF


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
        return (self.elements * _BITS[self.dtype] + 7) // 8

    def __str__(self) -> str:
        return f"{self.dtype}({', '.join('?' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True)
class Blob:
    """Where a constant lies: a weight file and the offset of its record."""

    file: Path
    offset: int


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
        if isinstance(self.source, Blob):
            packed = _read_blob(self.source, self.type.bytes)
        else:
            packed = np.frombuffer(self.source, np.uint8)
        if packed.nbytes != self.type.bytes:
            raise PackageError(f"A constant of type {self.type} holds {packed.nbytes} bytes.")
        if dtype in _NUMPY:
            return packed.view(_NUMPY[dtype]).reshape(self._shape)
        return _unpack(packed, dtype, self.type.elements).reshape(self._shape)

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


def load_program(package: Path) -> Program:
    """Read an `.mlpackage` folder.

    Raises:
        PackageError: it is not there, is damaged, or holds no ML program (a neural network of
            the older format, a pipeline, ...).
    """
    specification = _model_file(package)
    message = _model_message()
    try:
        message.ParseFromString(specification.read_bytes())
    except Exception as error:  # DecodeError of whichever protobuf implementation is in use
        raise PackageError(f"{specification} is not a Core ML model: {error}") from error
    kind = message.WhichOneof("Type")
    if kind != "mlProgram":
        raise PackageError(
            f"{package} holds a model of type {kind or 'unknown'}; only ML programs (mlProgram) "
            "can be read. Convert it again with convert_to='mlprogram'."
        )
    if not message.mlProgram.functions:
        raise PackageError(f"{package} holds a program without a function.")
    functions = {
        name: _FunctionReader(specification.parent).read(name, function)
        for name, function in message.mlProgram.functions.items()
    }
    default = message.description.defaultFunctionName or "main"
    if default not in functions:
        default = next(iter(sorted(functions)))
    return Program(
        path=package,
        specification_version=message.specificationVersion,
        functions=functions,
        default_function=default,
        flexible_inputs=_flexible_inputs(message.description, functions),
        metadata=_metadata(message.description.metadata),
    )


def _model_file(package: Path) -> Path:
    manifest = package / "Manifest.json"
    try:
        entries = json.loads(manifest.read_bytes())
        root = entries["itemInfoEntries"][entries["rootModelIdentifier"]]["path"]
    except FileNotFoundError as error:
        raise PackageError(f"{package} is not an .mlpackage folder: no Manifest.json.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{manifest} is damaged: {error!r}.") from error
    specification = package / "Data" / str(root)
    if not specification.is_file():
        raise PackageError(f"{package} is incomplete: {specification} is missing.")
    return specification


@cache
def _protobuf_package() -> str:
    """Import coremltools' generated messages alone; coremltools itself takes seconds to import."""
    if "coremltools" in sys.modules:
        return "coremltools.proto"
    found = importlib.util.find_spec("coremltools")
    if found is None or not found.submodule_search_locations:
        raise PackageError("coremltools is not installed; it describes the format of packages.")
    alias = "_coremltools_messages"
    folder = str(Path(found.submodule_search_locations[0]) / "proto")
    spec = ModuleSpec(alias, loader=None, is_package=True)
    spec.submodule_search_locations = [folder]
    sys.modules[alias] = importlib.util.module_from_spec(spec)
    return alias


def _model_message() -> Any:
    return importlib.import_module(f"{_protobuf_package()}.Model_pb2").Model()


class _FunctionReader:
    """Turns one function's message into plain data, resolving `const` operations."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._constants: dict[str, Constant] = {}
        self._types: dict[str, TensorType] = {}

    def read(self, name: str, message: Any) -> Function:
        block = message.block_specializations.get(message.opset)
        if block is None:
            raise PackageError(f"Function {name} has no code for its opset {message.opset}.")
        inputs = {value.name: _value_type(value.type) for value in message.inputs}
        self._types.update(inputs)
        operations = [op for op in map(self._operation, block.operations) if op is not None]
        return Function(
            name=name,
            opset=message.opset,
            inputs=inputs,
            outputs=tuple(Output(n, self._types[n]) for n in block.outputs),
            operations=tuple(operations),
        )

    def _operation(self, message: Any) -> Operation | None:
        attributes = {k: self._constant(v) for k, v in message.attributes.items()}
        outputs = tuple(Output(v.name, _value_type(v.type)) for v in message.outputs)
        self._types.update((output.name, output.type) for output in outputs)
        if message.type == "const":
            self._constants[outputs[0].name] = attributes["val"]
            return None
        name = attributes.pop("name", None)
        inputs: dict[str, tuple[str | Constant, ...]] = {k: (v,) for k, v in attributes.items()}
        for parameter, argument in message.inputs.items():
            inputs[parameter] = tuple(map(self._binding, argument.arguments))
        return Operation(
            type=message.type,
            name=name.scalar() if name is not None else outputs[0].name if outputs else "",
            inputs=inputs,
            outputs=outputs,
        )

    def _binding(self, message: Any) -> str | Constant:
        if message.WhichOneof("binding") == "value":
            return self._constant(message.value)
        name = str(message.name)
        return self._constants.get(name, name)

    def _constant(self, message: Any) -> Constant:
        if message.WhichOneof("value") == "blobFileValue":
            # "@model_path/weights/weight.bin": relative to the folder of the specification.
            file = self._weights.joinpath(*message.blobFileValue.fileName.split("/")[1:])
            return Constant(_value_type(message.type), Blob(file, message.blobFileValue.offset))
        kind = message.immediateValue.WhichOneof("value")
        if kind == "list":
            items = [self._constant(item).scalar() for item in message.immediateValue.list.values]
            return Constant(TensorType("string", (len(items),)), tuple(map(str, items)))
        if kind != "tensor":
            raise PackageError(f"A constant of kind {kind} cannot be read.")
        return _immediate(_value_type(message.type), message.immediateValue.tensor)


def _immediate(type_: TensorType, tensor: Any) -> Constant:
    field = tensor.WhichOneof("value")
    values = getattr(tensor, field).values if field else ()
    if type_.dtype == "string":
        strings = tuple(v if isinstance(v, str) else v.decode() for v in values)
        return Constant(type_, strings)
    if isinstance(values, bytes):
        return Constant(type_, values)
    return Constant(type_, np.array(values).astype(_NUMPY[type_.dtype]).tobytes())


def _value_type(message: Any) -> TensorType:
    kind = message.WhichOneof("type")
    if kind == "stateType":
        return _value_type(message.stateType.wrappedType)
    if kind == "listType":
        return TensorType(_value_type(message.listType.type).dtype, (None,))
    if kind != "tensorType":
        return TensorType("string", ())
    dtype = _DATA_TYPES.get(message.tensorType.dataType)
    if dtype is None:
        raise PackageError(f"The program uses data type {message.tensorType.dataType} of MIL.")
    shape = tuple(
        d.constant.size if d.WhichOneof("dimension") == "constant" else None
        for d in message.tensorType.dimensions
    )
    return TensorType(dtype[0], shape)


def _flexible_inputs(
    description: Any, functions: Mapping[str, Function]
) -> dict[str, tuple[str, ...]]:
    described = {f.name: f.input for f in description.functions}
    if not described:
        described = dict.fromkeys(functions, description.input)
    return {
        name: tuple(
            feature.name
            for feature in features
            if feature.type.multiArrayType.WhichOneof("ShapeFlexibility") is not None
        )
        for name, features in described.items()
    }


def _metadata(message: Any) -> dict[str, str]:
    standard = {
        "description": message.shortDescription,
        "author": message.author,
        "licence": message.license,
        "version": message.versionString,
    }
    return {k: v for k, v in (standard | dict(message.userDefined)).items() if v}


def _read_blob(blob: Blob, expected: int) -> NDArray[np.uint8]:
    """The packed bytes of one record of a weight file."""
    try:
        with blob.file.open("rb") as file:
            file.seek(blob.offset)
            header = file.read(BLOB_HEADER.size)
            if len(header) < BLOB_HEADER.size:
                raise PackageError(f"{blob.file} is cut short: no record at {blob.offset}.")
            sentinel, _, size, offset = BLOB_HEADER.unpack(header)
            if sentinel != BLOB_SENTINEL or size != expected:
                raise PackageError(
                    f"{blob.file} is damaged: the record at {blob.offset} is not the "
                    f"{expected} bytes that the program expects."
                )
            file.seek(offset)
            data = np.fromfile(file, np.uint8, size)
    except OSError as error:
        raise PackageError(f"{blob.file} cannot be read: {error.strerror}.") from error
    if data.nbytes != size:
        raise PackageError(f"{blob.file} is cut short: {data.nbytes} of {size} bytes are there.")
    return data


def _unpack(packed: NDArray[np.uint8], dtype: str, count: int) -> NDArray[np.int8 | np.uint8]:
    """Sub-byte integers, stored back to back from the lowest bit of the first byte."""
    width = _BITS[dtype]
    bits = np.unpackbits(packed, bitorder="little", count=count * width).reshape(count, width)
    unsigned = np.packbits(bits, axis=1, bitorder="little").reshape(count)
    if dtype.startswith("u"):
        return unsigned
    shift = 8 - width
    return (unsigned << shift).view(np.int8) >> shift
