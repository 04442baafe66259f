"""Packages of one function each -> one package of several functions that share weights.

coremltools has `save_multifunction` for this; it takes the programs apart and validates them
again, which is most of a minute at full size. Here the functions stay as they are, and the weight
file is the default function's plus the few records (positions) that the others do not share.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.package.reader import parse_specification, specification_file
from converter.package.weight_file import GrowingWeightFile, read_record

# Beside the specification.
_WEIGHTS = Path("weights", "weight.bin")
# Function of a package that coremltools converted.
_SOURCE = "main"


def merge_functions(parts: Mapping[str, Path], default: str, destination: Path) -> None:
    """Write a package whose functions are the `main` of other packages.

    Args:
        parts: package by the name that its function gets; built for macOS 15 or later.
        default: the function that runs where none is named; a key of `parts`.
        destination: must not exist yet.

    Raises:
        PackageError: a part is damaged.
    """
    shutil.copytree(parts[default], destination)
    specification = specification_file(destination)
    merged = parse_specification(specification)
    description = merged.description
    description.Clear()
    description.defaultFunctionName = default
    with (specification.parent / _WEIGHTS).open("r+b") as file:
        weights = GrowingWeightFile(file)
        for value in _stored_values(merged.mlProgram.functions[_SOURCE]):
            weights.adopt(value.offset)
        merged.mlProgram.functions.clear()
        for name, package in parts.items():
            part = _moved(package, weights)
            merged.mlProgram.functions[name].CopyFrom(part.mlProgram.functions[_SOURCE])
            description.functions.add(
                name=name, input=part.description.input, output=part.description.output
            )
        weights.finish()
    specification.write_bytes(merged.SerializeToString(deterministic=True))


def _moved(package: Path, weights: GrowingWeightFile) -> Any:
    """The specification of a part, after its weights were placed in another file."""
    specification = specification_file(package)
    part = parse_specification(specification)
    with (specification.parent / _WEIGHTS).open("rb") as file:
        for value in _stored_values(part.mlProgram.functions[_SOURCE]):
            value.offset = weights.place(read_record(file, value.offset))
    return part


def _stored_values(function: Any) -> Iterator[Any]:
    """Every reference of a function into its weight file."""
    for block in function.block_specializations.values():
        for operation in block.operations:
            for value in operation.attributes.values():
                if value.HasField("blobFileValue"):
                    yield value.blobFileValue
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    if binding.HasField("value") and binding.value.HasField("blobFileValue"):
                        yield binding.value.blobFileValue
