import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converter.replacing import replace_file, replacement, sweep_partials
from tests.support.paths import ROOT
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


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from converter.replacing import replacement
with replacement(Path(sys.argv[1])) as file:
    file.write(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_swept_and_what_another_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "vectors.parquet"
    replace_file(path, b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, path], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    (left,) = set(tmp_path.iterdir()) - {path}
    (tmp_path / ".vectors.parquet.notes").touch()
    # Another machine's may be at work.
    machine, process, rest = left.name.removeprefix(".vectors.parquet.").split("-")
    elsewhere = left.with_name(f".vectors.parquet.{machine[::-1]}-{process}-{rest}")
    old = left.with_name(f".vectors.parquet.{machine[::-1]}-{process}-1{rest}")
    for foreign in (elsewhere, old):
        foreign.touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    with replacement(path) as file:
        file.write(b"new")
        sweep_partials(path)
    assert path.read_bytes() == b"new"
    assert set(tmp_path.iterdir()) == {path, elsewhere, tmp_path / ".vectors.parquet.notes"}
