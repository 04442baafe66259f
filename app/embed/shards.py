"""Shards: the vectors of a fixed range of windows, a Parquet file each, whole or not there."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.embed.errors import InputError, TryAgainError, UsageError, full_disk_told
from app.embed.sealed import open_sealed, sealed_writer
from app.embed.windows_table import (
    COLUMNS,
    KEY,
    NOT_SAID,
    WindowsTable,
    fields_of,
    read_said,
)
from app.inference.engine import Features
from converter.errors import brief
from converter.replacing import sweep_partials
from converter.versions import own_version

Bases: TypeAlias = NDArray[np.int64]
VectorType = Literal["float32", "float16"]
_ARROW_TYPES = {"float32": pa.float32(), "float16": pa.float16()}


@dataclass(frozen=True)
class ShardStamp:
    """What made a shard; only shards with one stamp belong together.

    Attributes:
        fingerprint: of the model.
        options: of the vectors: pooling, strand, normalize, dtype, rows a token or a window.
    """

    model: str
    fingerprint: str
    hidden_size: int
    options: dict[str, Any]
    input_sha256: str
    windows_sha256: str

    @property
    def per_token(self) -> bool:
        return bool(self.options["per_token"])

    def require(self, other: "ShardStamp", path: Path) -> None:
        """Raises UsageError where the shard at `path`, of `other`, is no part of this run."""
        if self != other:
            raise UsageError(
                f"{path} was made with {self.difference(other)}. Take another folder, or remove "
                "the shards of this one."
            )

    def difference(self, other: "ShardStamp") -> str:
        """What the shards of `other`, which is not the same, were made with."""
        if self.fingerprint != other.fingerprint:
            return f"another model ({brief(f'{other.model}, fingerprint {other.fingerprint}')})"
        if self.options != other.options:
            differing = {
                name: value
                for name, value in other.options.items()
                if self.options.get(name) != value
            }
            told = brief(", ".join(f"{name} {value}" for name, value in differing.items()))
            return f"other options ({told})"
        if self.input_sha256 != other.input_sha256:
            return "another input file"
        return "another windows.parquet"


@dataclass(frozen=True)
class Answer:
    """What was computed for a window.

    Attributes:
        values: (H,) a vector; a row a token: (n, H); None where there is a problem.
        n_tokens: that the model read, the specials of its windows included.
        token_start, token_end: with a row a token: the bases of each on the record.
        problem: why there is nothing: a code of `app.problems`.
    """

    values: Features | None
    n_tokens: int = 0
    token_start: Bases | None = None
    token_end: Bases | None = None
    problem: str | None = None


def shard_path(folder: Path, number: int) -> Path:
    """Where the shard of this number lies, from 0."""
    return folder / f"part-{number:06d}.parquet"


def schema(stamp: ShardStamp) -> pa.Schema:
    """Columns of a shard, and what made it."""
    vector = pa.list_(_ARROW_TYPES[stamp.options["dtype"]], stamp.hidden_size)
    if stamp.per_token:
        values = [
            pa.field("token_start", pa.list_(pa.int64())),
            pa.field("token_end", pa.list_(pa.int64())),
            pa.field("features", pa.list_(vector)),
        ]
    else:
        values = [pa.field("embedding", vector)]
    said = {**vars(stamp), "version": own_version()}
    return pa.schema(
        [*COLUMNS, pa.field("n_tokens", pa.int64()), pa.field("problem", pa.string()), *values],
        metadata={KEY: json.dumps(said, sort_keys=True)},
    )


@contextmanager
def shard_writer(folder: Path, number: int, stamp: ShardStamp) -> Iterator["ShardWriter"]:
    """A shard to fill, which is there when the block ends; after an error, nothing is.

    Raises:
        TryAgainError: the disk is full.
    """
    path = shard_path(folder, number)
    sweep_partials(path)
    columns = schema(stamp)
    told = full_disk_told(
        folder,
        "run the same command again: shards that are there stay, and it goes on with this one.",
    )
    with told, _parquet_writer(path, columns) as writer:
        yield ShardWriter(writer, columns, stamp)


def _parquet_writer(path: Path, columns: pa.Schema) -> AbstractContextManager[pq.ParquetWriter]:
    """Vectors have no repeated values; the other columns do."""
    plain = [field.name for field in columns if not pa.types.is_nested(field.type)]
    return sealed_writer(path, columns, use_dictionary=plain)


class ShardWriter:
    """Writes a shard, some windows after the other."""

    def __init__(self, writer: pq.ParquetWriter, columns: pa.Schema, stamp: ShardStamp) -> None:
        self._writer = writer
        self._schema = columns
        self._stamp = stamp

    def write(self, windows: pa.Table, answers: Sequence[Answer]) -> None:
        """Add windows, (n) rows of the windows table, and their (n) answers."""
        arrays = [
            *windows.select([field.name for field in COLUMNS]).combine_chunks().columns,
            pa.array([answer.n_tokens for answer in answers], pa.int64()),
            pa.array([answer.problem for answer in answers], pa.string()),
            *self._values(answers),
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _values(self, answers: Sequence[Answer]) -> list[pa.Array]:
        vectors = self._schema.field(len(self._schema) - 1).type
        if not self._stamp.per_token:
            return [_vectors([answer.values for answer in answers], vectors)]
        return [
            _lists([answer.token_start for answer in answers]),
            _lists([answer.token_end for answer in answers]),
            _token_lists([answer.values for answer in answers], vectors),
        ]


def _vectors(values: Sequence[Features | None], type_: pa.DataType) -> pa.Array:
    dtype = type_.value_type.to_pandas_dtype()
    nothing = np.zeros(type_.list_size, dtype)
    stacked = np.stack([nothing if value is None else value for value in values])
    mask = pa.array([value is None for value in values], pa.bool_())
    flat = pa.array(stacked.reshape(-1), type_.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=type_, mask=mask)


def _lists(values: Sequence[Bases | None]) -> pa.Array:
    return pa.array(values, pa.list_(pa.int64()))


def _token_lists(values: Sequence[Features | None], type_: pa.DataType) -> pa.Array:
    vector = type_.value_type
    sizes = [0 if value is None else len(value) for value in values]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    rows = [value for value in values if value is not None]
    dtype = vector.value_type.to_pandas_dtype()
    flat = np.concatenate([row.reshape(-1) for row in rows]) if rows else np.zeros(0, dtype)
    inner = pa.FixedSizeListArray.from_arrays(pa.array(flat, vector.value_type), type=vector)
    mask = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(offsets, inner, type=type_, mask=mask)


def is_there(folder: Path, number: int, stamp: ShardStamp, table: WindowsTable) -> bool:
    """Whether a shard is there and right, all of it compared with its digest.

    Returns:
        False as well where it is damaged: it is made again.

    Raises:
        UsageError: it is of another model, input, or of other options.
    """
    path = shard_path(folder, number)
    if not path.exists():
        return False
    try:
        file = _open(path)
    except InputError:
        return False
    stamp.require(_stamp_of(file), path)
    return _has_windows_of(file, table, number)


def _has_windows_of(file: pq.ParquetFile, table: WindowsTable, number: int) -> bool:
    """Whether the rows are those of the shard of this number, and not of another one."""
    return bool(file.read(["window_id"])["window_id"].to_pylist() == [*table.ids(number)])


def _open(path: Path) -> pq.ParquetFile:
    if not path.is_file():  # to open a pipe would be to wait for ever
        raise UsageError(f"{path} is no file, and no shard can be there. Remove it.")
    try:
        file = open_sealed(path)
        is_as_said = file.schema_arrow.equals(schema(_stamp_of(file)))  # metadata aside
    except NOT_SAID as error:
        raise _damaged(path) from error
    if not is_as_said:
        raise _damaged(path)
    return file


def _stamp_of(file: pq.ParquetFile) -> ShardStamp:
    return ShardStamp(**fields_of(ShardStamp, read_said(file)))


def _damaged(path: Path, what: str = "is damaged") -> InputError:
    return InputError(
        f"{path} {what}. Run the command that made it again: it makes this shard anew."
    )


def merge(folder: Path, output: Path) -> int:
    """Write all shards of a folder into one Parquet file, in the order of their windows.

    Returns:
        How many windows there are.

    Raises:
        TryAgainError: shards are missing, which says which; the disk is full.
        InputError: something is damaged. UsageError: shards do not belong together.
    """
    table = WindowsTable(folder)
    numbers = range(table.n_shards)
    missing = [number for number in numbers if not shard_path(folder, number).exists()]
    if missing:
        some = _some([shard_path(folder, number).name for number in missing])
        raise TryAgainError(
            f"{len(missing)} of {table.n_shards} shards are missing: {some}. Run the command that "
            "makes them to its end, then merge."
        )
    stamp = _stamp_of(_open(shard_path(folder, 0)))
    if stamp.windows_sha256 != table.sha256:
        raise _not_of_one_run(folder, table)
    sweep_partials(output)
    with full_disk_told(output, "merge again."), _parquet_writer(output, schema(stamp)) as writer:
        for number in numbers:
            _copy(folder, number, stamp, table, writer)
    return table.n_windows


def strangers(folder: Path) -> list[str]:
    """Names of what looks like a shard of the folder and is none, such as a copy of one."""
    n_shards = WindowsTable(folder).n_shards
    own = {shard_path(folder, number).name for number in range(n_shards)}
    return sorted({path.name for path in folder.glob("part-*")} - own)


def _copy(
    folder: Path, number: int, stamp: ShardStamp, table: WindowsTable, writer: pq.ParquetWriter
) -> None:
    path = shard_path(folder, number)
    file = _open(path)
    if _stamp_of(file) != stamp:
        raise _not_of_one_run(folder, table)
    if not _has_windows_of(file, table, number):
        raise _damaged(path, "holds the windows of another shard")
    for batch in file.iter_batches(batch_size=64):
        writer.write_batch(batch.replace_schema_metadata(writer.schema.metadata))


def _not_of_one_run(folder: Path, table: WindowsTable) -> UsageError:
    """Which shards were made otherwise than most of those that belong to the windows."""
    stamps: list[ShardStamp] = []
    names: list[list[str]] = []  # of each
    for number in range(table.n_shards):
        path = shard_path(folder, number)
        stamp = _stamp_of(_open(path))
        if stamp not in stamps:
            stamps.append(stamp)
            names.append([])
        names[stamps.index(stamp)].append(path.name)
    ours = [n for n, stamp in enumerate(stamps) if stamp.windows_sha256 == table.sha256]
    if not ours:
        return UsageError(f"The shards in {folder} were made with another windows.parquet.")
    most = max(ours, key=lambda n: len(names[n]))
    others = [
        f"{_some(names[n])}, made with {stamps[most].difference(stamp)}"
        for n, stamp in enumerate(stamps)
        if n != most
    ]
    return UsageError(
        f"Not all shards in {folder} are of one run. There are {len(names[most])} like "
        f"{names[most][0]}, and {'; '.join(others)}. Remove what does not belong there, run the "
        "command that made the others again, then merge."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
