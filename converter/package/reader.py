"""The reader: an `.mlpackage` on disk -> the ML program in it. No torch, no coremltools import.

The program is read from its protobuf message, not through coremltools' own loader: that keeps
the weights where they are until somebody asks for them, keeps their place in the weight file
(so functions that share weights are seen to share them), and starts in a tenth of a second.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np

from converter.errors import PackageError, UnusablePathError, brief
from converter.json_files import UnreadableJsonError, read_json_object
from converter.package.data_types import DATA_TYPES, NUMPY
from converter.package.program import (
    Constant,
    Function,
    Operation,
    Output,
    Program,
    TensorType,
)
from converter.package.weight_file import Blob
from converter.paths import user_path

# Coremltools writes half a kilobyte.
_MOST_MANIFEST_BYTES = 2**20


def load_program(package: Path) -> Program:
    """Read an `.mlpackage` folder.

    Raises:
        PackageError: it is not there, is damaged, or holds no ML program (a neural network of
            the older format, a pipeline, ...).
    """
    specification = specification_file(package)
    message = parse_specification(specification)
    kind = message.WhichOneof("Type")
    if kind != "mlProgram":
        raise PackageError(
            f"{package} holds a model of type {kind or 'unknown'}; only ML programs (mlProgram) "
            "can be read. Convert it again with convert_to='mlprogram'."
        )
    if not message.mlProgram.functions:
        raise PackageError(f"{package} holds a program without a function.")
    try:
        functions = {
            name: _FunctionReader(specification.parent).read(name, function)
            for name, function in message.mlProgram.functions.items()
        }
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise PackageError(f"{specification} is damaged: {brief(repr(error))}.") from error
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


def specification_file(package: Path) -> Path:
    """Where a package's protobuf message lies.

    Raises:
        PackageError: the package is not there, or not whole.
    """
    manifest = package / "Manifest.json"
    try:
        if not manifest.is_file():
            raise PackageError(f"{package} is not an .mlpackage folder: no Manifest.json.")
        entries = read_json_object(manifest, _MOST_MANIFEST_BYTES)
        root = entries["itemInfoEntries"][entries["rootModelIdentifier"]]["path"]
        specification = user_path(package / "Data" / str(root))
    except UnreadableJsonError as error:
        raise PackageError(f"{manifest} is damaged: it {error}.") from error
    except UnusablePathError as error:
        raise PackageError(f"{manifest} is damaged: {error}") from error
    except (LookupError, TypeError) as error:
        raise PackageError(f"{manifest} is damaged: {brief(repr(error))}.") from error
    if not specification.is_file():
        raise PackageError(f"{package} is incomplete: {specification} is missing.")
    return specification


def parse_specification(file: Path) -> Any:
    """The message in a file: a `Model` of Core ML's Model.proto.

    Raises:
        PackageError: it is no such message.
    """
    message = importlib.import_module(f"{_protobuf_package()}.Model_pb2").Model()
    try:
        message.ParseFromString(file.read_bytes())
    except Exception as error:  # DecodeError of whichever protobuf implementation is in use
        raise PackageError(f"{file} is not a Core ML model: {error}") from error
    return message


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
        if message.type == "const":
            self._constants[outputs[0].name] = attributes["val"]
            self._types[outputs[0].name] = outputs[0].type
            return None
        name = attributes.pop("name", None)
        inputs: dict[str, tuple[str | Constant, ...]] = {k: (v,) for k, v in attributes.items()}
        for parameter, argument in message.inputs.items():
            inputs[parameter] = tuple(map(self._binding, argument.arguments))
        self._types.update((output.name, output.type) for output in outputs)
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
        if name not in self._types:
            raise PackageError(f"The program reads {name!r}, which nothing computes.")
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
    return Constant(type_, np.array(values).astype(NUMPY[type_.dtype]).tobytes())


def _value_type(message: Any) -> TensorType:
    kind = message.WhichOneof("type")
    if kind == "stateType":
        return _value_type(message.stateType.wrappedType)
    if kind == "listType":
        return TensorType(_value_type(message.listType.type).dtype, (None,))
    if kind != "tensorType":
        return TensorType("string", ())
    dtype = DATA_TYPES.get(message.tensorType.dataType)
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
    # Protobuf's maps have no order of their own.
    return {k: v for k, v in (standard | dict(sorted(message.userDefined.items()))).items() if v}
