import errno
from pathlib import Path

import pytest

from converter.replacing import replace_file


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "choice.json"
    replace_file(path, "old")
    replace_file(path, "µ")
    assert path.read_bytes() == "µ".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "choice.json"
    replace_file(path, "old")
    write = Path.write_text

    def half(file: Path, text: str, **options: str) -> int:
        write(file, text[: len(text) // 2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, "new content")
    assert path.read_text() == "old"
