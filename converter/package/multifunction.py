"""Packages of one function each -> one package of several functions that share weights.

coremltools has `save_multifunction` for this; it takes the programs apart and validates them
again, which is most of a minute at full size. Here the functions stay as they are, and the weight
file is the default function's plus the few records (positions) that the others do not share.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from converter.digests import sha256_bytes
from converter.errors import PackageError
from converter.package.weight_file import BLOB_HEADER, BLOB_SENTINEL

_MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")
_WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
# A weight file begins with a header whose first field counts the records. Records and their data
# begin at multiples of 64 (coremltools: milstoragepython, StorageFormat.hpp).
_ALIGNMENT = 64
_COUNT_BYTES = 4
# Function of a package that coremltools converted.
_SOURCE = "main"


def merge_functions(
    proto: ModuleType, parts: Mapping[str, Path], default: str, destination: Path
) -> None:
    """Write a package whose functions are the `main` of other packages.

    Args:
        proto: `coremltools.proto.Model_pb2`.
        parts: package by the name that its function gets; built for macOS 15 or later.
        default: the function that runs where none is named; a key of `parts`.
        destination: must not exist yet.

    Raises:
        PackageError: a part's weight file is damaged.
    """
    shutil.copytree(parts[default], destination)
    merged = proto.Model.FromString((parts[default] / _MODEL).read_bytes())
    description = merged.description
    description.Clear()
    description.defaultFunctionName = default
    with (destination / _WEIGHTS).open("r+b") as file:
        store = _WeightFile(file)
        for value in _stored_values(merged.mlProgram.functions[_SOURCE]):
            store.adopt(value.offset)
        merged.mlProgram.functions.clear()
        for name, package in parts.items():
            part = proto.Model.FromString((package / _MODEL).read_bytes())
            program = part.mlProgram.functions[_SOURCE]
            with (package / _WEIGHTS).open("rb") as weights:
                for value in _stored_values(program):
                    value.offset = store.place(weights, value.offset)
            merged.mlProgram.functions[name].CopyFrom(program)
            description.functions.add(
                name=name, input=part.description.input, output=part.description.output
            )
        store.close()
    (destination / _MODEL).write_bytes(merged.SerializeToString(deterministic=True))


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


class _WeightFile:
    """A weight file that takes records of others, each kept once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count = int.from_bytes(file.read(_COUNT_BYTES), "little")
        self._known: dict[str, int] = {}

    def place(self, source: BinaryIO, offset: int) -> int:
        """Where the record that lies at `offset` of `source` lies in this file."""
        metadata, data = _read_record(source, offset)
        key = _identity(metadata, data)
        if key not in self._known:
            self._known[key] = self._append(metadata, data)
        return self._known[key]

    def adopt(self, offset: int) -> None:
        """Know a record that is in the file already."""
        self._known.setdefault(_identity(*_read_record(self._file, offset)), offset)

    def _append(self, metadata: bytes, data: bytes) -> int:
        end = self._file.seek(0, 2)
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        sentinel, dtype, size, _ = BLOB_HEADER.unpack(metadata[: BLOB_HEADER.size])
        header = BLOB_HEADER.pack(sentinel, dtype, size, start + _ALIGNMENT)
        self._file.write(b"\0" * (start - end) + header + metadata[BLOB_HEADER.size :] + data)
        self._count += 1
        return start

    def close(self) -> None:
        """Write the number of records."""
        self._file.seek(0)
        self._file.write(self._count.to_bytes(_COUNT_BYTES, "little"))


def _identity(metadata: bytes, data: bytes) -> str:
    """Equal for records of one type, size and content, wherever they lie."""
    sentinel, dtype, size, _ = BLOB_HEADER.unpack(metadata[: BLOB_HEADER.size])
    return sha256_bytes(BLOB_HEADER.pack(sentinel, dtype, size, 0) + data)


def _read_record(file: BinaryIO, offset: int) -> tuple[bytes, bytes]:
    """Metadata (64 bytes) and data of a record."""
    file.seek(offset)
    metadata = file.read(_ALIGNMENT)
    if len(metadata) < _ALIGNMENT:
        raise PackageError(f"A weight file is cut short: no record at {offset}.")
    sentinel, _, size, data_offset = BLOB_HEADER.unpack(metadata[: BLOB_HEADER.size])
    if sentinel != BLOB_SENTINEL:
        raise PackageError(f"A weight file is damaged: no record at {offset}.")
    file.seek(data_offset)
    data = file.read(size)
    if len(data) < size:
        raise PackageError(f"A weight file is cut short: {len(data)} of {size} bytes are there.")
    return metadata, data
