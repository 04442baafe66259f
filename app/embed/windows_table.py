"""`windows.parquet`: the rows of a run, each with its number; a row group of it is a shard.

Made of the input alone, it is the same wherever it is made: many machines that begin at once write
the same, and the last one wins. `refused.tsv` beside it lists what gets no vector, and why.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.embed.errors import InputError, UsageError, full_disk_told
from app.embed.sealed import open_sealed, sealed_writer
from app.embed.windows import Refused, Row, Side
from app.requests.record_ids import special_in_tables
from converter.errors import brief
from converter.json_files import UnreadableJsonError, parse_json_object
from converter.replacing import replacement
from converter.versions import own_version

TABLE, REFUSED = "windows.parquet", "refused.tsv"
KEY = b"gena-coreml"

# Coordinates are 0-based and half-open; strand is + or -; name is that of a BED file; n_ambiguous
# counts letters other than A, C, G, T.
COLUMNS = (
    pa.field("window_id", pa.int64(), nullable=False),
    pa.field("record", pa.string(), nullable=False),
    pa.field("start", pa.int64(), nullable=False),
    pa.field("end", pa.int64(), nullable=False),
    pa.field("strand", pa.string(), nullable=False),
    pa.field("name", pa.string()),
    pa.field("n_ambiguous", pa.int64(), nullable=False),
)
# The record's place in the input, by which its letters are found.
_INDEX = pa.field("record_index", pa.int64(), nullable=False)
# Of a cut, as the command line calls them.
_OPTIONS = {
    "bases": "--windows",
    "base_stride": "--stride",
    "most_bases": "GENA_MAX_RECORD_BASES",
    "bed_sha256": "--bed with SHA-256",
    **{name: f"--{name}" for name in ("tokens", "overlap", "flank", "center", "ambiguous")},
}
_SCHEMA = pa.schema([*COLUMNS, _INDEX])
# Bytes of what a file says of itself.
_MOST_SAID = 2**20
# What is raised where a file does not say what it should.
NOT_SAID = (
    *(pa.ArrowException, OSError, UnreadableJsonError),
    *(KeyError, OverflowError, TypeError, ValueError),
)
_MOSTLY = 0.5  # of a window's letters
_REFUSED_COLUMNS = ("record", "start", "end", "name", "code", "reason")


@dataclass(frozen=True)
class TableStamp:
    """What a table was made of; equal stamps are equal tables.

    Attributes:
        input_sha256: of the input file.
        cut: how rows were made of records, and what DNA was accepted.
        shard_windows: rows of a shard.
    """

    input_sha256: str
    cut: dict[str, Any]
    shard_windows: int

    def require(self, other: "TableStamp", folder: Path) -> None:
        """Raises UsageError where the table of `folder`, `other`, was made of something else."""
        if self.input_sha256 != other.input_sha256:
            what = "with another input file"
        elif self.shard_windows != other.shard_windows:
            what = f"with --shard-windows {other.shard_windows}"
        elif self.cut != other.cut:
            before, now = _told(other.cut, self.cut), _told(self.cut, other.cut)
            what = f"with other windows ({before}; now {now})"
        else:
            return
        raise UsageError(f"{folder} was begun {what}. Take another folder, or remove this one.")


def _told(cut: dict[str, Any], other: dict[str, Any]) -> str:
    """What one has and the other has not, by the names of options."""
    differing = {name: value for name, value in cut.items() if other.get(name) != value}
    shown = [f"{_OPTIONS.get(name, name)} {value}" for name, value in sorted(differing.items())]
    return brief(", ".join(shown)) or "without these"


@dataclass(frozen=True)
class _Counts:
    """What a table says of itself beside its stamp."""

    n_bases: int
    n_refused: int
    n_mostly_ambiguous: int
    windows_sha256: str


def read_said(file: pq.ParquetFile) -> dict[str, Any]:
    """What a file of this program says of itself.

    Raises:
        as `NOT_SAID`: it is none.
    """
    return parse_json_object(file.metadata.metadata[KEY], _MOST_SAID)


def fields_of(kind: type, said: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass out of what a file says.

    Raises:
        KeyError: one is missing. TypeError: one is of another type.
    """
    found = {}
    for name, type_ in get_type_hints(kind).items():
        if name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
            found[name] = said[name]
            if type(said[name]) is not (get_origin(type_) or type_):
                raise TypeError(name)
    return found


@dataclass(frozen=True)
class Shard:
    """Windows whose vectors are written as one file.

    Attributes:
        number: from 0.
        table: their rows, with every column of the windows table.
    """

    number: int
    table: pa.Table

    @property
    def windows(self) -> pa.Table:
        """Their rows as a shard has them: without the record's place in the input."""
        return self.table.select([field.name for field in COLUMNS])

    @cached_property
    def rows(self) -> list[Row]:
        """In the order of their ids."""
        columns = self.table.to_pydict()
        names = ("record_index", "start", "end", "strand", "name", "n_ambiguous")
        return [
            Row(record, start, end, cast(Side, strand), name, n_ambiguous)
            for record, start, end, strand, name, n_ambiguous in zip(
                *(columns[name] for name in names), strict=True
            )
        ]

    @property
    def n_bases(self) -> int:
        return sum(row.n_bases for row in self.rows)


class WindowsTable:
    """A table that is there.

    Attributes:
        n_windows, n_bases: in all.
        n_refused: stretches that get no vector.
        n_mostly_ambiguous: windows of which more than half are letters other than A, C, G, T.
        sha256: of what its rows say, whatever wrote the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / TABLE).is_file():
            raise InputError(f"{folder} has no {TABLE}: it is no folder of gena embed.")
        try:
            self._file = open_sealed(folder / TABLE)
            said = read_said(self._file)
            self.stamp = TableStamp(**fields_of(TableStamp, said))
            counts = fields_of(_Counts, said)
        except NOT_SAID as error:
            raise self._damaged() from error
        if not self._file.schema_arrow.equals(_SCHEMA):  # metadata aside
            raise self._damaged()
        self.n_windows: int = self._file.metadata.num_rows
        self.n_bases: int = counts["n_bases"]
        self.n_refused: int = counts["n_refused"]
        self.n_mostly_ambiguous: int = counts["n_mostly_ambiguous"]
        self.sha256: str = counts["windows_sha256"]

    @property
    def n_shards(self) -> int:
        return int(self._file.metadata.num_row_groups)

    def ids(self, number: int) -> range:
        """The `window_id` of every row of a shard."""
        size = self.stamp.shard_windows
        return range(number * size, min((number + 1) * size, self.n_windows))

    def shard(self, number: int) -> Shard:
        """A shard, from 0."""
        try:
            return Shard(number, self._file.read_row_group(number))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged() from error

    def require_within(self, names: Sequence[str], lengths: Sequence[int]) -> None:
        """Compare the rows with the records of the input, of which they have to be stretches.

        Args:
            names, lengths: the id and the letters of each record.

        Raises:
            InputError: the table is damaged, or somebody made it of something else.
        """
        ids, ends = pa.array(names, pa.string()), np.array(lengths, np.int64)
        for number in range(self.n_shards):
            table = self.shard(number).table
            index = table.column(_INDEX.name).to_numpy()
            start, end = (table.column(name).to_numpy() for name in ("start", "end"))
            if not ((index >= 0) & (index < len(ends))).all():
                raise self._damaged()
            is_stretch = (start >= 0) & (start < end) & (end <= ends[index])
            strands = set(table.column("strand").unique().to_pylist())
            if not (
                is_stretch.all()
                and strands <= set(get_args(Side))
                and ids.take(pa.array(index)).equals(table.column("record").combine_chunks())
            ):
                raise self._damaged()

    def _damaged(self) -> InputError:
        return InputError(
            f"{self.folder / TABLE} is damaged. Remove it and run the same command again: it is "
            "made anew, and the shards that are there stay."
        )


def write_table(
    folder: Path,
    names: Sequence[str],
    rows: Iterable[Row | Refused],
    stamp: TableStamp,
) -> WindowsTable:
    """Number the rows and write them, and what is refused beside them.

    Args:
        names: the id of each record.

    Raises:
        InputError: there are no rows: every stretch is refused.
        TryAgainError: the disk is full.
    """
    refused: list[Refused] = []
    with (
        full_disk_told(folder, "run the same command again."),
        replacement(folder / REFUSED) as file,
    ):
        file.write(_tsv(_REFUSED_COLUMNS))

        def accepted() -> Iterator[Row]:
            for row in rows:
                if isinstance(row, Row):
                    yield row
                    continue
                file.write(_tsv(_shown(getattr(row, name)) for name in _REFUSED_COLUMNS))
                refused.append(row)

        found = accepted()
        first = next(found, None)
        if first is not None:
            with sealed_writer(folder / TABLE, _SCHEMA) as writer:
                _write_rows(writer, names, chain([first], found), stamp, refused)
    if first is None:
        raise _nothing_left(refused, folder)
    return WindowsTable(folder)


def _write_rows(
    out: pq.ParquetWriter,
    names: Sequence[str],
    rows: Iterator[Row],
    stamp: TableStamp,
    refused: list[Refused],
) -> None:
    """Write rows, a row group a shard; `refused` is full when they are all there."""
    digest = hashlib.sha256()
    n_windows = n_bases = n_mostly_ambiguous = 0
    while group := list(islice(rows, stamp.shard_windows)):
        table = _table(group, names, n_windows)
        _update(digest, table)
        out.write_table(table, row_group_size=stamp.shard_windows)
        n_windows += len(group)
        n_bases += sum(row.n_bases for row in group)
        n_mostly_ambiguous += sum(row.n_ambiguous > _MOSTLY * row.n_bases for row in group)
    said = {
        **vars(stamp),
        "n_bases": n_bases,
        "n_refused": len(refused),
        "n_mostly_ambiguous": n_mostly_ambiguous,
        "windows_sha256": digest.hexdigest(),
        "version": own_version(),
    }
    out.add_key_value_metadata({KEY: json.dumps(said, sort_keys=True)})


def _nothing_left(refused: list[Refused], folder: Path) -> InputError:
    if not refused:
        return InputError("The input has no records.")
    first = refused[0]
    count, where = f"{len(refused)} stretches are refused, the first", "All are"
    if len(refused) == 1:
        count, where = "one stretch is refused", "It is"
    return InputError(
        f"Nothing of the input can be embedded; {count} "
        f"({brief(first.record, 60) or 'without a name'}) because: {first.reason} {where} in "
        f"{folder / REFUSED}."
    )


def _table(rows: list[Row], names: Sequence[str], first_id: int) -> pa.Table:
    columns = [
        range(first_id, first_id + len(rows)),
        [names[row.record] for row in rows],
        [row.start for row in rows],
        [row.end for row in rows],
        [row.strand for row in rows],
        [row.name for row in rows],
        [row.n_ambiguous for row in rows],
        [row.record for row in rows],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _update(digest: Any, table: pa.Table) -> None:
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        digest.update(_tsv(row))


def _shown(value: object) -> object:
    """A cell for people: of a stranger's name nothing is computed, and nothing obeyed."""
    if not isinstance(value, str):
        return value
    seen = "".join(letter if letter.isprintable() else "\ufffd" for letter in value)
    return f"\\{seen}" if special_in_tables(seen) else seen


def _tsv(cells: Iterable[object]) -> bytes:
    """A line; no cell has a line break."""
    texts = ("" if cell is None else str(cell).replace("\t", " ") for cell in cells)
    return ("\t".join(texts) + "\n").encode()
