"""A package of one length -> a function for each length wanted, with shared weights.

Tracing and converting take most of a minute at full size and give the same operations whatever the
length is. So the network is converted once, at a length that no other size of it has, and each
function is that program with the length exchanged: in types, in shapes that are constants, and in
the few tables that have a row a token.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import PackageError
from converter.package.data_types import DATA_TYPES, NUMPY
from converter.package.reader import parse_specification, specification_file
from converter.package.weight_file import Record, WeightFileWriter, new_weight_file, read_record

# Beside the specification.
_WEIGHTS = Path("weights", "weight.bin")
# Of a number of tokens, what comes of it.
Sizes = Callable[[int], tuple[int, ...]]
# Function of a package that coremltools converted.
_SOURCE = "main"


def spread_over_lengths(
    package: Path,
    length: int,
    functions: Mapping[int, str],
    tables: Sequence[NDArray[np.float32]],
    sizes: Sizes = lambda tokens: (tokens,),
) -> None:
    """Give a package of one length a function for each of these, in place.

    Args:
        package: as coremltools converted it, for `length` tokens; no other size in it is `length`.
        functions: length -> name; the longest is the default. A single one has to be `main`.
        tables: constants with a row a token, on one axis or several, for the longest length or
            more; for fewer tokens they are the beginning of it.
        sizes: those that come of a number of tokens, itself the first; none of those of `length` is
            another size or number in the package.

    Raises:
        PackageError: the package is damaged, or holds another constant of this length.
    """
    specification = specification_file(package)
    model = parse_specification(specification)
    source = copy.deepcopy(model.mlProgram.functions[_SOURCE])
    del model.mlProgram.functions[_SOURCE]
    weights = specification.parent / _WEIGHTS
    old = weights.with_suffix(".old")
    weights.rename(old)
    with new_weight_file(weights) as writer:
        grown = _move_weights(source, old, writer, length, tables)
        for tokens, name in sorted(functions.items()):
            function = model.mlProgram.functions[name]
            function.CopyFrom(source)
            _place_tables(function, writer, grown, length, tokens)
            _exchange(function, dict(zip(sizes(length), sizes(tokens), strict=True)))
    old.unlink()
    _describe(model.description, length, functions)
    specification.write_bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class _Table:
    """A constant with a row a token, on each of `axes`, and its record for one length."""

    record: Record
    rows: NDArray[Any]
    axes: tuple[int, ...]

    def record_for(self, tokens: int) -> Record:
        """The first rows, as a record."""
        first = tuple(
            slice(tokens) if axis in self.axes else slice(None) for axis in range(self.rows.ndim)
        )
        return replace(self.record, data=self.rows[first].tobytes())


def _move_weights(
    source: Any,
    old: Path,
    writer: WeightFileWriter,
    length: int,
    tables: Sequence[NDArray[np.float32]],
) -> dict[int, _Table]:
    """Copy what all lengths share; the rest is found by its offset, which stays."""
    stored: dict[int, list[Any]] = defaultdict(list)
    for value in _values(source):
        if value.HasField("blobFileValue"):
            stored[value.blobFileValue.offset].append(value)
    grown = {}
    with old.open("rb") as file:
        for offset, values in sorted(stored.items()):
            record = read_record(file, offset)
            if length in _shape(values[0].type):
                grown[offset] = _table_of(values[0], record, length, tables)
                continue
            place = writer.place(record)
            for value in values:
                value.blobFileValue.offset = place
    return grown


def _table_of(
    value: Any, record: Record, length: int, tables: Sequence[NDArray[np.float32]]
) -> _Table:
    """The table of which a constant is the beginning, in its dtype."""
    shape = _shape(value.type)
    axes = tuple(axis for axis, size in enumerate(shape) if size == length)
    dtype = NUMPY[DATA_TYPES[value.type.tensorType.dataType][0]]
    for rows in tables:
        with np.errstate(over="ignore"):
            table = _Table(record, rows.astype(dtype), axes)
        if table.rows.ndim == len(shape) and table.record_for(length) == record:
            return table
    raise PackageError(f"The package has an unknown constant of the shape {shape}.")


def _place_tables(
    function: Any,
    writer: WeightFileWriter,
    grown: Mapping[int, _Table],
    length: int,
    tokens: int,
) -> None:
    """Point a function's tables to those for so many tokens."""
    for value in _values(function):
        if value.HasField("blobFileValue") and length in _shape(value.type):
            table = grown[value.blobFileValue.offset]
            value.blobFileValue.offset = writer.place(table.record_for(tokens))


def _exchange(function: Any, sizes: Mapping[int, int]) -> None:
    """Say the other size wherever a function says one of these."""
    types = [value.type for value in function.inputs]
    for block in function.block_specializations.values():
        types += [output.type for op in block.operations for output in op.outputs]
    for value in _values(function):
        types.append(value.type)
        numbers = value.immediateValue.tensor.ints.values
        for place, number in enumerate(numbers):
            numbers[place] = sizes.get(number, number)
    for type_ in types:
        for dimension in type_.tensorType.dimensions:
            size = dimension.constant.size
            dimension.constant.size = sizes.get(size, size)


def _describe(description: Any, length: int, functions: Mapping[int, str]) -> None:
    """Inputs and outputs of every function, as coremltools describes them."""
    inputs, outputs = list(description.input), list(description.output)
    if _SOURCE not in functions.values():
        description.Clear()
        description.defaultFunctionName = functions[max(functions)]
    for tokens, name in sorted(functions.items()):
        described = description
        if name != _SOURCE:
            described = description.functions.add(name=name, input=inputs, output=outputs)
        for feature in (*described.input, *described.output):
            shape = feature.type.multiArrayType.shape
            for place, size in enumerate(shape):
                if size == length:
                    shape[place] = tokens


def _values(function: Any) -> Iterator[Any]:
    """Every constant of a function: a `Value` of MIL.proto."""
    for block in function.block_specializations.values():
        for operation in block.operations:
            yield from operation.attributes.values()
            for argument in operation.inputs.values():
                yield from (b.value for b in argument.arguments if b.HasField("value"))


def _shape(type_: Any) -> tuple[int, ...]:
    return tuple(dimension.constant.size for dimension in type_.tensorType.dimensions)
