"""The file behind the shared memory has its room before anybody writes to it."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.model.shared_memory import shared_file
from converter.errors import is_full_disk
from tests.support.small_disk import fill_up, small_disk

SIZE = 3 * 2**20


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        yield disk


def test_all_of_it_is_there() -> None:
    with shared_file(SIZE) as file, mmap.mmap(file.fileno(), 0) as memory:
        assert os.fstat(file.fileno()).st_blocks * 512 >= SIZE
        assert len(memory) == SIZE
        assert not any(memory[:])


def test_a_disk_without_room_is_an_error_and_nothing_is_kept(disk: Path) -> None:
    fill_up(disk, but=SIZE // 12)
    before = os.statvfs(disk).f_bavail
    with pytest.raises(OSError, match="No space left") as full:
        shared_file(SIZE)
    assert is_full_disk(full.value)
    assert os.statvfs(disk).f_bavail == before


def test_what_is_reserved_can_be_written_when_the_disk_is_full(disk: Path) -> None:
    with shared_file(SIZE // 12) as file, mmap.mmap(file.fileno(), 0) as memory:
        fill_up(disk, but=0)
        memory[:] = b"x" * len(memory)
        assert memory[-1:] == b"x"
