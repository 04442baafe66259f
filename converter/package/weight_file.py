"""Weight files of a package: records, each with its header, found by their offset.

Numbers are those of coremltools' MILBlob/Blob/StorageFormat.hpp.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from converter.digests import sha256_bytes
from converter.errors import PackageError

# Sentinel, data type, size in bytes, offset of the data; the rest says how many bits of the last
# byte are padding, and is reserved.
_HEADER = struct.Struct("<IIQQ40s")
_SENTINEL = 0xDEADBEEF
# A file begins with a header whose fields count the records and name the format. Records and their
# data begin at multiples of this.
_ALIGNMENT = 64
_FILE_HEADER = struct.Struct("<II")
_FORMAT = 2


@dataclass(frozen=True)
class Blob:
    """Where a constant lies: a weight file and the offset of its record."""

    file: Path
    offset: int


@dataclass(frozen=True)
class Record:
    """What a weight file holds at an offset.

    Attributes:
        data_type: its number in the file's own list, which is not that of MIL.
        rest: of the header, 40 bytes.
    """

    data_type: int
    rest: bytes
    data: bytes

    @property
    def digest(self) -> str:
        """Equal for records of one type and content, wherever they lie."""
        return sha256_bytes(_HEADER.pack(0, self.data_type, 0, 0, self.rest) + self.data)


def read_blob(blob: Blob, expected: int) -> bytes:
    """The packed bytes of a constant.

    Args:
        expected: how many bytes the program says that there are.

    Raises:
        PackageError: the file is missing, cut short or altered.
    """
    try:
        with blob.file.open("rb") as file:
            data = read_record(file, blob.offset).data
    except OSError as error:
        raise PackageError(f"{blob.file} cannot be read: {error.strerror}.") from error
    if len(data) != expected:
        raise PackageError(
            f"{blob.file} is damaged: the record at {blob.offset} has {len(data)} bytes; the "
            f"program expects {expected}."
        )
    return data


def read_record(file: BinaryIO, offset: int) -> Record:
    """The record that begins at an offset.

    Raises:
        PackageError: there is none, or not all of it.
    """
    file.seek(offset)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise PackageError(f"{file.name} is cut short: no record at {offset}.")
    sentinel, data_type, size, start, rest = _HEADER.unpack(header)
    if sentinel != _SENTINEL:
        raise PackageError(f"{file.name} is damaged: there is no record at {offset}.")
    # Before anything is read: the size of a damaged header may be beyond any memory.
    there = file.seek(0, os.SEEK_END) - start
    if there < size:
        raise PackageError(f"{file.name} is cut short: {max(0, there)} of {size} bytes are there.")
    file.seek(start)
    return Record(data_type, rest, file.read(size))


class WeightFileWriter:
    """A weight file that takes records, each kept once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = _ALIGNMENT
        self._known: dict[str, int] = {}

    def place(self, record: Record) -> int:
        """Where this record lies in the file; it is appended unless an equal one is there."""
        digest = record.digest
        if digest not in self._known:
            self._known[digest] = self._append(record)
        return self._known[digest]

    def _append(self, record: Record) -> int:
        start = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        data_starts = start + _HEADER.size
        header = _HEADER.pack(
            _SENTINEL, record.data_type, len(record.data), data_starts, record.rest
        )
        self._file.seek(start)
        self._file.write(header)
        self._file.write(record.data)
        self._end = data_starts + len(record.data)
        return start

    def finish(self) -> None:
        """Write how many records there are."""
        self._file.seek(0)
        self._file.write(_FILE_HEADER.pack(len(self._known), _FORMAT).ljust(_ALIGNMENT, b"\0"))


@contextmanager
def new_weight_file(path: Path) -> Iterator[WeightFileWriter]:
    """A file to write records to; it is whole when the context ends without an error."""
    with path.open("wb") as file:
        writer = WeightFileWriter(file)
        yield writer
        writer.finish()
