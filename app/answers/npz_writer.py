"""An uncompressed zip of arrays: the features, and where every row of them comes from."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app import media_types
from app.answers.npy_writer import npy_header, raw_values
from app.answers.sink import Sink
from app.answers.writer import AnswerPlan, Chunk, Writer
from app.inference.engine import Block
from app.inference.records import RecordStrand
from app.inference.windows import Window

# The same for every member, so that the same request has the same answer.
_DATE = (1980, 1, 1, 0, 0, 0)
_TAKEN_BYTES = 2**18

# Name, shape, type and parts of an array.
_Table: TypeAlias = tuple[str, tuple[int, ...], np.dtype[Any], Iterable[NDArray[Any]]]
_INT64, _INT32, _INT8 = np.dtype("<i8"), np.dtype("<i4"), np.dtype("i1")


class NpzWriter(Writer):
    """Features first, as they come; the tables of windows, records and skipped ones follow."""

    media_type = media_types.NPZ

    def __init__(self, plan: AnswerPlan) -> None:
        super().__init__(plan)
        self._sink = Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)
        self._features = self._zip.open(_member("features"), "w", force_zip64=True)

    def begin(self) -> Iterator[Chunk]:
        self._features.write(npy_header(self.plan.shape, self.plan.dtype))
        yield self._sink.take()

    def block(self, block: Block) -> Iterator[Chunk]:
        for part in raw_values(block):
            self._features.write(part)
        yield self._sink.take()

    def end(self) -> Iterator[Chunk]:
        self._features.close()
        yield self._sink.take()
        for name, shape, dtype, parts in self._tables():
            with self._zip.open(_member(name), "w", force_zip64=True) as member:
                member.write(npy_header(shape, dtype))
                for part in parts:
                    member.write(np.ascontiguousarray(part, dtype).tobytes())
                    if self._sink.size >= _TAKEN_BYTES:
                        yield self._sink.take()
        self._zip.close()
        yield self._sink.take()

    def close(self) -> None:
        """Else zipfile complains of an archive that was left unfinished."""
        self._features.close()
        self._zip.close()

    def _tables(self) -> Iterator[_Table]:
        """Every array beside the features."""
        yield from self._tables_of_windows()
        yield from self._tables_of_records()
        for name, text in {
            **self.plan.stamp,
            "pooling": self.plan.prepared.choices.pooling,
        }.items():
            array = np.array(text)
            yield (name, (), array.dtype, [array])

    def _tables_of_windows(self) -> Iterator[_Table]:
        n, length = self.plan.prepared.n_windows, self.plan.window
        windows = self._of_windows
        yield ("windows", (n, 6), _INT64, windows(self._window_row))
        yield ("n_tokens", (n,), _INT64, windows(lambda _n, _s, window: np.array(window.n_tokens)))
        yield (
            "strand",
            (n,),
            _INT8,
            windows(lambda _n, strand, _w: np.array(-1 if strand.reverse else 1)),
        )
        yield ("input_ids", (n, length), _INT32, windows(self._padded_ids))
        yield ("offsets", (n, length, 2), _INT64, windows(self._padded_offsets))

    def _tables_of_records(self) -> Iterator[_Table]:
        records, skipped = self.plan.prepared.records, self.plan.prepared.skipped
        n = len(records)
        yield ("bases", (n, 2), _INT64, (np.array(record.base_range) for record in records))
        yield ("n_bases", (n,), _INT64, (np.array(record.n_bases) for record in records))
        for name, texts in {
            "record_ids": [record.id for record in records],
            "skipped_ids": [each.id for each in skipped],
            "skipped_codes": [each.code for each in skipped],
        }.items():
            array = np.array(texts, dtype=np.str_)
            yield (name, array.shape, array.dtype, [array])

    def _of_windows(
        self, make: Callable[[int, RecordStrand, Window], NDArray[Any]]
    ) -> Iterator[NDArray[Any]]:
        """A part for every window: of its record's number, its strand and itself."""
        for number, record in enumerate(self.plan.prepared.records):
            for strand in record.strands:
                for window in strand.windows:
                    yield make(number, strand, window)

    def _window_row(self, number: int, strand: RecordStrand, window: Window) -> NDArray[Any]:
        bases = strand.bases(self.plan.prepared.store, window.first, window.end)
        return np.array([number, window.index, window.first, window.end, *bases])

    def _padded_ids(self, _number: int, strand: RecordStrand, window: Window) -> NDArray[Any]:
        tokenizer = self.plan.tokenizer
        ids = strand.ids(self.plan.prepared.store, window.first, window.end)
        return tokenizer.pad(tokenizer.window(ids), self.plan.window)

    def _padded_offsets(self, _number: int, strand: RecordStrand, window: Window) -> NDArray[Any]:
        offsets = np.zeros((self.plan.window, 2), np.int64)
        store = self.plan.prepared.store
        offsets[1 : window.n_tokens - 1] = strand.offsets(store, window.first, window.end)
        return offsets


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", date_time=_DATE)
