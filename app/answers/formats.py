"""The answer's encodings. Each is a writer that turns blocks of features into bytes as they come.

Shapes are known before anything is computed, so every format can be sent while the model works,
and npy with its exact length.
"""

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from app.inference.engine import Block
from app.inference.prepare import Job, ReadStrand, Record
from app.inference.windows import Window
from app.problems import ProblemError
from app.requests.schemas import Format
from converter.tokenizer import WINDOW, DnaTokenizer

# A piece of an answer: bytes, or a look at the array that holds them. A megabyte and a half that is
# copied into fresh memory costs half a millisecond, most of it for the kernel's empty pages.
Chunk: TypeAlias = bytes | memoryview

# Rows that are encoded at a time, so that the event loop is never held for long.
_JSON_ROWS = 64
_ARROW_RECORDS = 64
_BYTES_PER_JSON_NUMBER = 11
_ZEROS = memoryview(bytes(2**18))
_SHARED_HEADER_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Answer:
    """What an answer says of itself, beside the features.

    Attributes:
        as_list: records under "records", also a single one.
    """

    model: str
    fingerprint: str
    hidden_size: int
    tokenizer: DnaTokenizer
    job: Job
    as_list: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<f4" if self.job.choices.dtype == "float32" else "<f2")

    @property
    def is_base(self) -> bool:
        return self.job.choices.resolution == "base"

    def record_shape(self, record: Record) -> tuple[int, ...]:
        """Shape of one record's features."""
        if self.job.choices.pooled:
            return (self.hidden_size,)
        if self.is_base:
            first, end = record.base_range
            return (end - first, self.hidden_size)
        return (record.n_windows, WINDOW, self.hidden_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all features as one array."""
        records = self.job.records
        if not self.as_list:
            return self.record_shape(records[0])
        if self.job.choices.pooled:
            return (len(records), self.hidden_size)
        rest = self.record_shape(records[0])[1:]
        return (sum(self.record_shape(record)[0] for record in records), *rest)

    @property
    def n_values(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


class Writer(Protocol):
    """Encodes one answer."""

    media_type: ClassVar[str]

    def __init__(self, answer: Answer) -> None: ...

    @property
    def length(self) -> int | None:
        """Bytes of the whole answer, where they are known before."""
        ...

    @property
    def estimate(self) -> int:
        """About how many bytes the answer has."""
        ...

    def begin(self) -> Iterable[Chunk]: ...

    def block(self, block: Block) -> Iterable[Chunk]: ...

    def end(self) -> Iterable[Chunk]: ...

    def close(self) -> None:
        """Give up what is open; also when the answer was not finished."""
        ...


class JsonWriter:
    """JSON; every number is finite, float32 as the shortest text that reads back to it."""

    media_type: ClassVar[str] = "application/json"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._n_written = 0
        self._zeros = orjson.dumps([0.0] * answer.hidden_size)

    @property
    def length(self) -> None:
        return None

    @property
    def estimate(self) -> int:
        return self._answer.n_values * _BYTES_PER_JSON_NUMBER

    def begin(self) -> Iterator[Chunk]:
        """Everything before the first record."""
        if self._answer.as_list:
            yield _open_object(self._stamp()) + b',"records":['

    def block(self, block: Block) -> Iterator[Chunk]:
        """A part of a record."""
        if block.first:
            if self._answer.as_list:
                separator = b"," if self._n_written else b""
                head = {"id": block.record.id, **self._describe(block.record)}
            else:
                separator = b""
                head = {**self._stamp(), **self._describe(block.record)}
            yield separator + _open_object(head) + b',"features":'
            self._n_written += 1
        if block.values.ndim == 1:
            yield _dumps(block.values)
        else:
            yield b"[" if block.first else b","
            yield from self._rows(block)
            if block.last:
                yield b"]"
        if block.last:
            yield b"}"

    def end(self) -> Iterator[Chunk]:
        """Everything after the last record."""
        if self._answer.as_list:
            skipped = [skipped.as_dict() for skipped in self._answer.job.skipped]
            yield b'],"skipped":' + orjson.dumps(skipped) + b"}"

    def close(self) -> None:
        """Nothing is open."""

    def _rows(self, block: Block) -> Iterator[Chunk]:
        # A window is one element of the outermost axis; bases are elements themselves.
        is_window = not self._answer.is_base
        values = block.values
        for start in range(0, len(values), _JSON_ROWS):
            yield b"," if start else b"[" if is_window else b""
            yield memoryview(_dumps(values[start : start + _JSON_ROWS]))[1:-1]
        if is_window:
            yield b"".join([b"," + self._zeros] * block.padding) + b"]"

    def _stamp(self) -> dict[str, Any]:
        stamp = {"model": self._answer.model, "fingerprint": self._answer.fingerprint}
        choices = self._answer.job.choices
        return {**stamp, "pooling": choices.pooling} if choices.pooled else stamp

    def _describe(self, record: Record) -> dict[str, Any]:
        described: dict[str, Any] = {
            "shape": self._answer.record_shape(record),
            "n_tokens": record.n_rows,
            "n_unknown": record.n_unknown,
        }
        if record.truncation is not None:
            described["truncated"] = record.truncation.as_dict()
        if self._answer.job.choices.overflow == "window":
            described["windows"] = [
                self._window(strand, window)
                for strand in record.strands
                for window in strand.windows
            ]
        return described

    def _window(self, strand: ReadStrand, window: Window) -> dict[str, Any]:
        described: dict[str, Any] = {
            "window": window.index,
            "tokens": [window.first, window.end],
            "n_tokens": window.rows,
        }
        if strand.n_bases:
            store = self._answer.job.store
            described["bases"] = strand.bases(store, window.first, window.end)
        if strand.reverse:
            described["strand"] = "reverse"
        return described


class NpyWriter:
    """NumPy's format: all features in one array."""

    media_type: ClassVar[str] = "application/x-npy"

    def __init__(self, answer: Answer) -> None:
        self._head = npy_header(answer.shape, answer.dtype)
        self._n_bytes = answer.n_values * answer.dtype.itemsize

    @property
    def length(self) -> int:
        return len(self._head) + self._n_bytes

    @property
    def estimate(self) -> int:
        return self.length

    def begin(self) -> Iterator[Chunk]:
        yield self._head

    def block(self, block: Block) -> Iterator[Chunk]:
        yield from _raw(block)

    def end(self) -> Iterator[Chunk]:
        return iter(())

    def close(self) -> None:
        """Nothing is open."""


class NpzWriter:
    """An uncompressed zip of arrays: features, ids, windows, offsets."""

    media_type: ClassVar[str] = "application/x-npz"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)
        self._features = self._zip.open(_member("features"), "w", force_zip64=True)

    @property
    def length(self) -> None:
        return None

    @property
    def estimate(self) -> int:
        return self._answer.n_values * self._answer.dtype.itemsize

    def begin(self) -> Iterator[bytes]:
        self._features.write(npy_header(self._answer.shape, self._answer.dtype))
        yield self._sink.take()

    def block(self, block: Block) -> Iterator[bytes]:
        for part in _raw(block):
            self._features.write(part)
        yield self._sink.take()

    def end(self) -> Iterator[bytes]:
        self._features.close()
        yield self._sink.take()
        for name, shape, dtype, parts in self._tables():
            with self._zip.open(_member(name), "w", force_zip64=True) as member:
                member.write(npy_header(shape, dtype))
                for part in parts:
                    member.write(np.ascontiguousarray(part, dtype).tobytes())
                    if self._sink.size >= 2**18:
                        yield self._sink.take()
        self._zip.close()
        yield self._sink.take()

    def close(self) -> None:
        """Else zipfile complains of an archive that was left unfinished."""
        self._features.close()
        self._zip.close()

    def _tables(
        self,
    ) -> Iterator[tuple[str, tuple[int, ...], np.dtype[Any], Iterable[NDArray[Any]]]]:
        """Name, shape, type and parts of every array beside the features."""
        job = self._answer.job
        n_windows, n_records = job.n_windows, len(job.records)
        int64, int32 = np.dtype("<i8"), np.dtype("<i4")

        def of_windows(
            make: Callable[[int, ReadStrand, Window], NDArray[Any]],
        ) -> Iterator[NDArray[Any]]:
            for number, record in enumerate(job.records):
                for strand in record.strands:
                    for window in strand.windows:
                        yield make(number, strand, window)

        yield ("windows", (n_windows, 6), int64, of_windows(self._window_row))
        yield (
            "n_tokens",
            (n_windows,),
            int64,
            of_windows(lambda _number, _strand, window: np.array(window.rows)),
        )
        yield (
            "strand",
            (n_windows,),
            np.dtype("i1"),
            of_windows(lambda _number, strand, _window: np.array(-1 if strand.reverse else 1)),
        )
        yield ("input_ids", (n_windows, WINDOW), int32, of_windows(self._padded_ids))
        yield ("offsets", (n_windows, WINDOW, 2), int64, of_windows(self._padded_offsets))
        bases = (np.array(record.base_range) for record in job.records)
        yield ("bases", (n_records, 2), int64, bases)
        lengths = (np.array(record.n_bases) for record in job.records)
        yield ("n_bases", (n_records,), int64, lengths)
        for name, texts in {
            "record_ids": [record.id for record in job.records],
            "skipped_ids": [skipped.id for skipped in job.skipped],
            "skipped_codes": [skipped.problem.code for skipped in job.skipped],
        }.items():
            array = np.array(texts, dtype=np.str_)
            yield (name, array.shape, array.dtype, [array])
        for name, text in {
            "model": self._answer.model,
            "fingerprint": self._answer.fingerprint,
            "pooling": job.choices.pooling,
        }.items():
            array = np.array(text)
            yield (name, (), array.dtype, [array])

    def _window_row(self, number: int, strand: ReadStrand, window: Window) -> NDArray[Any]:
        bases = strand.bases(self._answer.job.store, window.first, window.end)
        return np.array([number, window.index, window.first, window.end, *bases])

    def _padded_ids(self, _number: int, strand: ReadStrand, window: Window) -> NDArray[Any]:
        tokenizer = self._answer.tokenizer
        ids = strand.ids(self._answer.job.store, window.first, window.end)
        return tokenizer.pad(tokenizer.window(ids), WINDOW)

    def _padded_offsets(self, _number: int, strand: ReadStrand, window: Window) -> NDArray[Any]:
        offsets = np.zeros((WINDOW, 2), np.int64)
        store = self._answer.job.store
        offsets[1 : window.rows - 1] = strand.offsets(store, window.first, window.end)
        return offsets


class TsvWriter:
    """A table for R: a header, ids first, one row a record. Vectors only."""

    media_type: ClassVar[str] = "text/tab-separated-values"

    def __init__(self, answer: Answer) -> None:
        self._hidden_size = answer.hidden_size
        self._estimate = answer.n_values * _BYTES_PER_JSON_NUMBER

    @property
    def length(self) -> None:
        return None

    @property
    def estimate(self) -> int:
        return self._estimate

    def begin(self) -> Iterator[bytes]:
        names = "\t".join(f"f{column}" for column in range(self._hidden_size))
        yield f"id\t{names}\n".encode()

    def block(self, block: Block) -> Iterator[bytes]:
        numbers = _dumps(block.values)[1:-1].replace(b",", b"\t")
        yield block.record.id.encode() + b"\t" + numbers + b"\n"

    def end(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        """Nothing is open."""


class ArrowWriter:
    """Arrow's IPC stream: id, n_tokens, n_unknown, features; one row a record. Vectors only."""

    media_type: ClassVar[str] = "application/vnd.apache.arrow.stream"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        item = pa.float32() if answer.dtype.itemsize == 4 else pa.float16()
        self._features = pa.list_(item, answer.hidden_size)
        job = answer.job
        skipped = [skipped.as_dict() for skipped in job.skipped]
        self._schema = pa.schema(
            [
                ("id", pa.string()),
                ("n_tokens", pa.int64()),
                ("n_unknown", pa.int64()),
                ("features", self._features),
            ],
            metadata={
                "model": answer.model,
                "fingerprint": answer.fingerprint,
                "pooling": job.choices.pooling,
                "skipped": orjson.dumps(skipped),
            },
        )
        self._sink = _Sink()
        self._stream = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), self._schema)
        self._waiting: list[Block] = []

    @property
    def length(self) -> None:
        return None

    @property
    def estimate(self) -> int:
        return self._answer.n_values * self._answer.dtype.itemsize

    def begin(self) -> Iterator[bytes]:
        yield self._sink.take()

    def block(self, block: Block) -> Iterator[bytes]:
        self._waiting.append(block)
        if len(self._waiting) >= _ARROW_RECORDS:
            self._write()
            yield self._sink.take()

    def end(self) -> Iterator[bytes]:
        if self._waiting:
            self._write()
        self._stream.close()
        yield self._sink.take()

    def close(self) -> None:
        """End the stream."""
        self._stream.close()

    def _write(self) -> None:
        records = [block.record for block in self._waiting]
        values = np.concatenate([block.values for block in self._waiting])
        batch = pa.record_batch(
            [
                pa.array([record.id for record in records], pa.string()),
                pa.array([record.n_rows for record in records], pa.int64()),
                pa.array([record.n_unknown for record in records], pa.int64()),
                pa.FixedSizeListArray.from_arrays(pa.array(values), type=self._features),
            ],
            schema=self._schema,
        )
        self._stream.write_batch(batch)
        self._waiting.clear()


WRITERS: dict[Format, type[Writer]] = {
    "json": JsonWriter,
    "npy": NpyWriter,
    "npz": NpzWriter,
    "tsv": TsvWriter,
    "arrow": ArrowWriter,
}


def negotiate(accept: str | None, offered: Iterable[Format] = tuple(WRITERS)) -> Format:
    """The format that an Accept header likes best; JSON where it does not say.

    Raises:
        ProblemError: 406, nothing that it likes is offered.
    """
    offers = tuple(offered)
    ranges = [_media_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best: tuple[float, int] = (0.0, 0)
    chosen: Format | None = None
    for rank, offer in enumerate(offers):
        quality = _quality(WRITERS[offer].media_type, ranges)
        # Ties go to the first that is offered, which is JSON.
        if (quality, -rank) > best and quality > 0:
            best, chosen = (quality, -rank), offer
    if chosen is None:
        types = ", ".join(WRITERS[offer].media_type for offer in offers)
        raise ProblemError(
            "format.not_acceptable",
            f"The Accept header names nothing that is offered here: {types}.",
        )
    return chosen


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return name, quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Of the most specific range that covers the type."""
    family = media_type.partition("/")[0] + "/*"
    for candidate in (media_type, family, "*/*"):
        qualities = [quality for name, quality in ranges if name == candidate]
        if qualities:
            return max(qualities)
    return 0.0


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """What `np.save` writes before the values of an array in C order."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
        file, {"descr": dtype.str, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def _raw(block: Block) -> Iterator[memoryview]:
    yield np.ascontiguousarray(block.values).reshape(-1).view(np.uint8).data
    left = block.padding * block.values[:1].nbytes
    while left > 0:
        yield _ZEROS[:left]
        left -= len(_ZEROS)


def _dumps(values: NDArray[Any]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def _open_object(members: dict[str, Any]) -> bytes:
    return orjson.dumps(members)[:-1]


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", date_time=_SHARED_HEADER_DATE)


class _Sink(io.RawIOBase):
    """Collects what a library writes, until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self.size += len(part)
        return len(part)

    def take(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return data
