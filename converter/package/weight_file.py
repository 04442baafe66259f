"""Weight files of a package: records, each with its header, found by their offset."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import PackageError

# One record of a weight file: sentinel, data type, size in bytes, offset of the data.
BLOB_HEADER = struct.Struct("<IIQQ")
BLOB_SENTINEL = 0xDEADBEEF


@dataclass(frozen=True)
class Blob:
    """Where a constant lies: a weight file and the offset of its record."""

    file: Path
    offset: int


def read_record(blob: Blob, expected: int) -> NDArray[np.uint8]:
    """The packed bytes of one record of a weight file.

    Args:
        expected: how many bytes the program says that there are.

    Raises:
        PackageError: the file is missing, cut short or altered.
    """
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
