import ctypes
import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from converter.bundle import exchange as module
from converter.bundle.exchange import exchange


def folder(path: Path) -> Path:
    path.mkdir()
    (path / path.name).write_text("")
    return path


def content(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def test_two_folders_change_places(tmp_path: Path) -> None:
    old, new = folder(tmp_path / "old"), folder(tmp_path / "nöw")
    if not exchange(old, new):
        # APFS can: a skip would pass for what a Mac has shown.
        assert sys.platform != "darwin"
        pytest.skip("this file system cannot exchange")
    assert (content(old), content(new)) == (["nöw"], ["old"])


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        exchange(folder(tmp_path / "old"), tmp_path / "absent")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(*_: object) -> int:
        ctypes.set_errno(number)
        return -1

    library = SimpleNamespace(renameat2=failing, renamex_np=failing)
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: library)
    assert not exchange(tmp_path / "a", tmp_path / "b")


def test_an_older_c_library_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    assert not exchange(tmp_path / "a", tmp_path / "b")


def test_on_a_mac_it_is_another_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def renamex_np(first: bytes, second: bytes, flags: ctypes.c_uint) -> int:
        calls.append((first, second, flags.value))
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    library = SimpleNamespace(renamex_np=renamex_np)
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: library)
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert calls == [(os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b"), 2)]
