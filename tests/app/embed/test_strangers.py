"""Names, numbers and folders of strangers: nothing is computed, obeyed, believed or waited for."""

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.cli import main
from app.embed.bed import Bed, Interval
from app.embed.errors import InputError, TryAgainError, UsageError
from app.embed.planning import Planner
from app.embed.sealed import sealed_writer
from app.embed.shards import Answer, ShardStamp, is_there, merge, shard_path, shard_writer
from app.embed.windows import Cut, Refused, Row
from app.embed.windows_table import KEY, REFUSED, TABLE, TableStamp, WindowsTable, write_table
from app.requests.options import Choices
from tests.support.embedding import InMemory
from tests.support.small_disk import fill_up, make_read_only, small_disk

TABLE_STAMP = TableStamp("0" * 64, {"bases": 4}, 2)
NAMES, LENGTHS = ["a", "b"], [8, 4]
ROWS = [Row(0, 0, 4), Row(0, 4, 8), Row(1, 0, 4, "-", "name")]
OPTIONS = {"per_token": False, "dtype": "float32"}


def made(folder: Path, rows: Sequence[Row | Refused] = ROWS) -> WindowsTable:
    folder.mkdir()
    return write_table(folder, NAMES, iter(rows), TABLE_STAMP)


def with_shards(folder: Path) -> tuple[WindowsTable, ShardStamp]:
    """A folder whose shards are there but for their numbers, which are missing."""
    table = made(folder)
    stamp = ShardStamp("m", "f" * 16, 4, OPTIONS, TABLE_STAMP.input_sha256, table.sha256)
    for number in range(table.n_shards):
        windows = pq.ParquetFile(folder / TABLE).read_row_group(number)
        with shard_writer(folder, number, stamp) as writer:
            writer.write(windows, [Answer(None, problem="model.error")] * len(windows))
    return table, stamp


def test_runs_that_write_one_shard_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    table, stamp = with_shards(folder)
    windows = pq.ParquetFile(folder / TABLE).read_row_group(0)
    shard_path(folder, 0).unlink()
    with shard_writer(folder, 0, stamp) as first, shard_writer(folder, 0, stamp) as second:
        for writer in (first, second):
            writer.write(windows, [Answer(None, problem="model.error")] * len(windows))
    assert is_there(folder, 0, stamp, table)


def rewritten(
    path: Path, change: Callable[[pa.Table], pa.Table] | None = None, **said: Any
) -> None:
    """Write a file again with other rows, or with other words on itself."""
    metadata = json.loads(pq.ParquetFile(path).metadata.metadata[KEY])
    table = pq.read_table(path)
    table = change(table) if change else table
    write_sealed(path, table, json.dumps({**metadata, **said}).encode())


def write_sealed(path: Path, table: pa.Table, said: bytes) -> None:
    """A file whose digest is right, with these words on itself."""
    table = table.replace_schema_metadata({KEY: said})
    with sealed_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=2)


def column(name: str, *values: Any) -> Callable[[pa.Table], pa.Table]:
    """Puts these values into a column."""

    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        return table.set_column(index, field, pa.array(values, field.type))

    return change


@pytest.mark.parametrize(
    "change",
    [
        column("record_index", 0, 0, 2),
        column("record_index", 0, 0, -1),
        column("record_index", 0, 1, 1),
        column("start", 0, -4, 0),
        column("start", 0, 8, 0),
        column("end", 4, 10**12, 4),
        column("strand", "+", "?", "-"),
        column("record", "a", "b", "b"),
    ],
)
def test_rows_that_are_no_stretches_of_the_input_are_not_computed(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    """The stamp of the folder says that they are; no row may be read under another's name."""
    folder = tmp_path / "v"
    made(folder).require_within(NAMES, LENGTHS)
    rewritten(folder / TABLE, change)
    with pytest.raises(InputError, match="is damaged"):
        WindowsTable(folder).require_within(NAMES, LENGTHS)


@pytest.mark.parametrize(
    "said",
    [
        {"n_bases": "many"},
        {"n_refused": "\x1b[31m"},
        {"n_mostly_ambiguous": [1]},
        {"windows_sha256": None},
        {"cut": 5},
        {"shard_windows": "2"},
    ],
)
def test_a_table_that_says_what_it_may_not_is_damaged(tmp_path: Path, said: dict[str, Any]) -> None:
    folder = tmp_path / "v"
    made(folder)
    assert WindowsTable(folder).n_windows == 3
    rewritten(folder / TABLE, **said)
    with pytest.raises(InputError, match="is damaged"):
        WindowsTable(folder)


def test_a_table_whose_words_nest_without_end_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    made(folder)
    table = pq.read_table(folder / TABLE)
    write_sealed(folder / TABLE, table, b"[" * 100_000)
    with pytest.raises(InputError, match="is damaged"):
        WindowsTable(folder)


def test_a_table_with_other_columns_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    made(folder)
    rewritten(folder / TABLE, lambda table: table.drop_columns(["record_index"]))
    with pytest.raises(InputError, match="is damaged"):
        WindowsTable(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop_columns(["embedding"]), {}),
        (lambda table: table.append_column("more", pa.array([1, 2])), {}),
        (None, {"hidden_size": 10**12}),
        (None, {"hidden_size": "4"}),
        (None, {"options": {**OPTIONS, "dtype": "complex"}}),
        (None, {"options": {}}),
        (None, {"fingerprint": 5}),
    ],
    ids=["column less", "column more", "hidden", "text", "dtype", "no options", "fingerprint"],
)
def test_a_shard_that_is_not_what_it_says_is_made_again(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table] | None, said: dict[str, Any]
) -> None:
    folder = tmp_path / "v"
    table, stamp = with_shards(folder)
    assert is_there(folder, 0, stamp, table)
    rewritten(shard_path(folder, 0), change, **said)
    assert not is_there(folder, 0, stamp, table)
    with pytest.raises(InputError, match="is damaged"):
        merge(folder, tmp_path / "all.parquet")


def test_what_another_shard_calls_its_model_is_not_obeyed_by_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    table, stamp = with_shards(folder)
    other = replace(stamp, fingerprint="e" * 16)
    rewritten(shard_path(folder, 0), model="\x1b]0;mine\x07")
    with pytest.raises(UsageError) as caught:
        is_there(folder, 0, other, table)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_shard(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = tmp_path / "v"
    table, stamp = with_shards(folder)
    shard_path(folder, 0).unlink()
    make(shard_path(folder, 0))
    with pytest.raises(UsageError, match="is no file"):
        is_there(folder, 0, stamp, table)


def test_the_list_of_what_is_refused_is_harmless(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "+1", "\x1b[31m", "a\tb", "\u202edna", "'quoted", "chr1"]
    bed = Bed("", tuple(Interval(1, name, 0, 5, name, "+") for name in names))
    records = InMemory([("=1+1", "ACGTACGT"), ("\x1b]0;mine\x07", "ACGT")])
    planner = Planner(records, Cut(), Choices(pooling="mean"), 100, threading.Event(), bed, None)
    refused = list(planner.rows())
    made(tmp_path / "v", [*ROWS, *refused])
    text = (tmp_path / "v" / REFUSED).read_text()
    lines = text.split("\n")[1:-1]
    assert len(lines) == len(refused) == len(names) + 1
    for line in lines:
        cells = line.split("\t")
        assert len(cells) == 6
        assert line.replace("\t", "").isprintable()
        assert not any(cell[:1] in "=+-@'\"" for cell in cells if cell)
    assert "chr1" in text
    with pytest.raises(InputError) as caught:
        made(tmp_path / "w", refused)
    assert str(caught.value).isprintable()


def test_a_full_disk_is_said_while_the_windows_are_listed(tmp_path: Path) -> None:
    rows = [Row(0, 0, 4, "+", f"{number:064x}") for number in range(40_000)]
    with small_disk(tmp_path / "disk") as disk:
        fill_up(disk, but=100_000)
        with pytest.raises(TryAgainError, match="disk/v is full"):
            made(disk / "v", rows)
        assert not list((disk / "v").iterdir())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--part", f"{'1' * 5_000}/{'2' * 5_000}"),
        ("--part", "\uff11/\uff11"),
        ("--shard-windows", str(10**30)),
        ("--windows", "9" * 5_000),
        ("--url", "http://["),
        ("--url", "http://127.0.0.1:99999"),
        ("--url", "http://"),
    ],
)
def test_a_number_or_an_address_that_cannot_be_is_usage(
    tmp_path: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    command = ["embed", str(tmp_path / "x.fa"), "-o", str(tmp_path / "v"), option, value]
    try:
        status = main(command)
    except SystemExit as ended:  # argparse's
        status = int(str(ended.code))
    assert status == 2
    assert len(capsys.readouterr().err.splitlines()[-1]) < 400


def test_a_place_that_cannot_be_written_is_usage_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "v"
    with_shards(folder)
    with small_disk(tmp_path / "disk") as disk:
        make_read_only(disk)
        assert main(["embed", "--merge", str(folder), "-o", str(disk / "all.parquet")]) == 2
    assert "disk cannot be written (Read-only file system)" in capsys.readouterr().err
