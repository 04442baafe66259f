from pathlib import Path

import pytest

from converter.replacing import replace_file, replacement
from tests.support.small_disk import files_of_at_most


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "choice.json"
    replace_file(path, b"old")
    replace_file(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "choice.json"
    replace_file(path, b"old")
    with files_of_at_most(4096), pytest.raises(OSError, match="too large"):
        replace_file(path, b"new content" * 10_000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_fails_while_writing_leaves_the_old_content_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "checkpoint.pt"
    replace_file(path, b"old")

    def interrupted() -> None:
        with replacement(path) as file:
            file.write(b"half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
