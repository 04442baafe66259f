"""Parquet files that know their own SHA-256: their pages have checksums, their footers have none.

A reader believes what a footer says: names, types, counts, what made the file. Altered, it gives
other rows, or ends the process that reads it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from converter.replacing import replacement

_KEY = "gena-coreml.sha256"
# In the digest's place while the digest is computed.
_UNKNOWN = "0" * 64
# How Thrift's compact protocol writes the name of a footer's entry, and then a text of 64 bytes.
_MARK = _KEY.encode() + b"\x18\x40"
# After the footer: how long it is, and b"PAR1".
_END_BYTES = 8
_BLOCK = 2**20


class BrokenSealError(ValueError):
    """A file is not what was written."""


@contextmanager
def sealed_writer(path: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """A Parquet file to write, which is there when the block ends; after an error, nothing is.

    Args:
        options: of the writer.
    """
    with replacement(path) as file:
        with pq.ParquetWriter(
            file, schema, write_page_checksum=True, compression="zstd", **options
        ) as writer:
            yield writer
            writer.add_key_value_metadata({_KEY: _UNKNOWN})
        place = _place(file)
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def open_sealed(path: Path) -> pq.ParquetFile:
    """Open a file of `sealed_writer` after comparing all of it with its digest.

    Raises:
        BrokenSealError: it has another, or none.
    """
    with path.open("rb") as file:
        place = _place(file)
        file.seek(place)
        if file.read(len(_UNKNOWN)) != _digest(file, place):
            raise BrokenSealError(f"the SHA-256 of {path} differs")
    return pq.ParquetFile(path)


def _place(file: BinaryIO) -> int:
    """Where the digest stands, from the beginning of the file."""
    file.seek(0, 2)
    end = file.tell() - _END_BYTES
    file.seek(max(end, 0))
    size = int.from_bytes(file.read(4), "little")
    if not 0 < size <= end:
        raise BrokenSealError("it has no footer")
    file.seek(end - size)
    at = file.read(size).rfind(_MARK)
    if at < 0:
        raise BrokenSealError("it has no digest")
    return end - size + at + len(_MARK)


def _digest(file: BinaryIO, place: int) -> bytes:
    """Of the file but for the digest itself, 64 letters at `place`."""
    found = hashlib.sha256()
    file.seek(0)
    left = place
    while left and (block := file.read(min(left, _BLOCK))):
        found.update(block)
        left -= len(block)
    found.update(_UNKNOWN.encode())
    file.seek(place + len(_UNKNOWN))
    while block := file.read(_BLOCK):
        found.update(block)
    return found.hexdigest().encode()
