"""Whatever becomes of a file of a run, it is noticed, and told in a sentence."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from app.cli import main
from app.embed.errors import InputError, TryAgainError, UsageError
from app.embed.shards import Answer, ShardStamp, is_there, merge, shard_path, shard_writer
from app.embed.windows import Row
from app.embed.windows_table import REFUSED, TABLE, TableStamp, WindowsTable, write_table
from tests.support.embedding import run, write_fasta
from tests.support.paths import ROOT

N_SHARDS, SHARD_WINDOWS = 3, 4
OPTIONS = {"pooling": "mean", "dtype": "float32", "per_token": False}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a run that is done."""
    folder = tmp_path_factory.mktemp("whole")
    n_windows = N_SHARDS * SHARD_WINDOWS
    rows = [Row(0, 100 * n, 100 * n + 100) for n in range(n_windows)]
    table = write_table(folder, ["chr1"], rows, TableStamp("0" * 64, {}, SHARD_WINDOWS))
    draw = np.random.default_rng(0)
    for number in range(N_SHARDS):
        with shard_writer(folder, number, stamp_of(table)) as writer:
            values = draw.normal(size=(SHARD_WINDOWS, 8)).astype(np.float32)
            writer.write(table.shard(number).windows, [Answer(vector, 20) for vector in values])
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def stamp_of(table: WindowsTable) -> ShardStamp:
    return ShardStamp("lab/model", "0123456789abcdef", 8, OPTIONS, "0" * 64, table.sha256)


def are_there(folder: Path) -> list[bool]:
    table = WindowsTable(folder)
    return [is_there(folder, n, stamp_of(table), table) for n in range(N_SHARDS)]


def flips(path: Path) -> Iterator[tuple[int, int]]:
    """Some bits of a file, by byte and mask: most of its footer's, fewer of its pages'."""
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    places = [*range(0, footer, 97), *range(footer, len(content), 31), *range(-8, 0)]
    return ((at, 1 << (at * 5 % 8)) for at in places)


def test_what_was_written_is_there_and_other_programs_read_it(whole: Path) -> None:
    assert are_there(whole) == [True] * N_SHARDS
    output = whole.with_suffix(".parquet")
    assert merge(whole, output) == N_SHARDS * SHARD_WINDOWS
    parts = [pq.read_table(shard_path(whole, n)) for n in range(N_SHARDS)]
    assert pq.read_table(output).column("embedding").to_pylist() == [
        vector for part in parts for vector in part.column("embedding").to_pylist()
    ]


def test_no_bit_of_a_shard_changes_unnoticed(folder: Path) -> None:
    path = shard_path(folder, 1)
    content = path.read_bytes()
    for at, mask in flips(path):
        changed = bytearray(content)
        changed[at] ^= mask
        path.write_bytes(changed)
        assert are_there(folder) == [True, False, True], at
        with pytest.raises(InputError, match="is damaged"):
            merge(folder, folder / "merged.parquet")
    assert not (folder / "merged.parquet").exists()


def test_no_bit_of_the_windows_table_changes_unnoticed(folder: Path) -> None:
    path = folder / TABLE
    content = path.read_bytes()
    for at, mask in flips(path):
        changed = bytearray(content)
        changed[at] ^= mask
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"windows\.parquet is damaged"):
            WindowsTable(folder)


@pytest.mark.parametrize("name", [TABLE, "part-000001.parquet"])
def test_what_is_cut_off_is_noticed(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for size in (0, 3, 7, 8, 11, len(content) // 2, len(content) - 9, len(content) - 1):
        (folder / name).write_bytes(content[:size])
        with pytest.raises(InputError, match="is damaged"):
            merge(folder, folder / "merged.parquet")


def test_a_shard_in_the_place_of_another_is_noticed(folder: Path) -> None:
    """As a copy by hand, or half a restored backup, leaves it."""
    shutil.copy(shard_path(folder, 0), shard_path(folder, 2))
    assert are_there(folder) == [True, True, False]
    with pytest.raises(InputError, match=r"part-000002\.parquet holds the windows of another"):
        merge(folder, folder / "merged.parquet")
    assert not (folder / "merged.parquet").exists()


def test_shards_of_another_run_are_told_by_name(folder: Path) -> None:
    table = WindowsTable(folder)
    odd = {
        0: (replace(stamp_of(table), fingerprint="f" * 16), r"another model \(lab/model, finger"),
        2: (replace(stamp_of(table), windows_sha256="1" * 64), r"another windows\.parquet"),
    }
    for number, (stamp, told) in odd.items():
        kept = shard_path(folder, number).read_bytes()
        with shard_writer(folder, number, stamp) as writer:
            writer.write(table.shard(number).windows, [Answer(None, problem="x")] * SHARD_WINDOWS)
        of = f"part-00000{number}.parquet, made with {told}"
        with pytest.raises(UsageError, match=f"are 2 like part-.*, and {of}"):
            merge(folder, folder / "merged.parquet")
        shard_path(folder, number).write_bytes(kept)
    assert not (folder / "merged.parquet").exists()
    merge(folder, folder / "merged.parquet")


def test_copies_and_shards_that_are_none_are_left_out_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Finder, Dropbox and an older run leave them."""
    names = ["part-000000 2.parquet", "part-000001 (a copy).parquet", "part-000003.parquet"]
    for name in names:
        shutil.copy(shard_path(folder, 1), folder / name)
    output = folder / "merged.parquet"
    assert main(["embed", "--merge", str(folder), "-o", str(output)]) == 0
    assert f"Left out, as they are no shards of this run: {', '.join(names)}." in (
        capsys.readouterr().err
    )
    assert pq.read_table(output)["window_id"].to_pylist() == [*range(N_SHARDS * SHARD_WINDOWS)]


def test_missing_shards_are_told_by_name(folder: Path) -> None:
    shard_path(folder, 1).unlink()
    with pytest.raises(TryAgainError, match=r"1 of 3 shards are missing: part-000001\.parquet\."):
        merge(folder, folder / "merged.parquet")


KILLED = """
import os, signal, sys
from pathlib import Path
from converter.replacing import replacement
with replacement(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_had_begun_to_write_is_swept(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "merged.parquet"
    for path in (folder / TABLE, folder / REFUSED, output):
        killed = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT)
        assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob(".*"))) == 3
    write_fasta(tmp_path / "x.fa", [100])
    done = run(tmp_path / "x.fa", "-o", folder, "--part", "9/9")  # which has nothing to compute
    assert done.returncode == 0, done.stderr
    assert run("--merge", folder, "-o", output).returncode == 0
    assert not list(tmp_path.rglob(".*"))
