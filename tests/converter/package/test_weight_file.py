"""Weight files written by hand, byte by byte, and read; those that grow, read by hand."""

import struct
from pathlib import Path

import pytest

from converter.errors import PackageError
from converter.package.weight_file import Blob, Record, new_weight_file, read_blob, read_record

FP16, UINT4 = 1, 11


def record_at(start: int, data: bytes, data_type: int = FP16, padding_bits: int = 0) -> bytes:
    header = struct.pack("<IIQQQ", 0xDEADBEEF, data_type, len(data), start + 64, padding_bits)
    return header.ljust(64, b"\0") + data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """One record of five bytes, and the header that counts it."""
    file = tmp_path / "weight.bin"
    file.write_bytes(struct.pack("<II", 1, 2).ljust(64, b"\0") + record_at(64, b"ACGTN"))
    return file


def write(path: Path, *records: Record) -> list[int]:
    with new_weight_file(path) as writer:
        return [writer.place(record) for record in records]


def test_a_record_is_read_where_it_begins(path: Path) -> None:
    assert read_blob(Blob(path, 64), 5) == b"ACGTN"


def test_a_record_of_another_size_than_the_program_says_is_refused(path: Path) -> None:
    with pytest.raises(PackageError, match="has 5 bytes; the program expects 6"):
        read_blob(Blob(path, 64), 6)


def test_a_size_beyond_the_file_is_refused_before_anything_is_read(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[72:80] = struct.pack("<Q", 2**62)
    path.write_bytes(content)
    with pytest.raises(PackageError, match="5 of 4611686018427387904 bytes"):
        read_blob(Blob(path, 64), 5)


def test_records_are_written_once_at_multiples_of_64(path: Path, tmp_path: Path) -> None:
    with path.open("rb") as file:
        known = read_record(file, 64)
    new = Record(FP16, bytes(40), b"GATTACA")
    written = tmp_path / "new.bin"
    # Behind the five bytes at 128, at the next multiple of 64.
    assert write(written, known, new, known) == [64, 192, 64]
    content = written.read_bytes()
    assert content[:192] == struct.pack("<II", 2, 2).ljust(64, b"\0") + record_at(
        64, b"ACGTN"
    ).ljust(128, b"\0")
    assert content[192:] == record_at(192, b"GATTACA")


def test_three_and_four_numbers_of_four_bits_are_not_the_same_record(path: Path) -> None:
    """Both fill two bytes; the header says how many bits of the last one are padding."""
    of_four = Record(UINT4, bytes(40), b"\x21\x03")
    of_three = Record(UINT4, struct.pack("<Q", 4).ljust(40, b"\0"), b"\x21\x03")
    first, second = write(path, of_four, of_three)
    assert first != second
    assert path.read_bytes()[second:] == record_at(second, b"\x21\x03", UINT4, padding_bits=4)
