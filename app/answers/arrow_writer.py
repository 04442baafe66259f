"""Arrow's IPC stream: id, n_tokens, n_unknown, features; one row a record, or a window."""

from collections.abc import Iterator

import numpy as np
import orjson
import pyarrow as pa

from app import media_types
from app.answers.sink import Sink
from app.answers.writer import AnswerPlan, Chunk, Writer
from app.inference.engine import Block

_OF_A_WINDOW = ("window", "first_base", "end_base")
# Records of one batch.
_RECORDS = 64


class ArrowWriter(Writer):
    """A batch whenever enough records are there.

    The schema's metadata says how many records will come, and which were skipped.
    """

    media_type = media_types.ARROW
    needs_pooling = True

    def __init__(self, plan: AnswerPlan) -> None:
        super().__init__(plan)
        item = pa.from_numpy_dtype(plan.dtype)
        self._features = pa.list_(item, plan.hidden_size)
        skipped = [skipped.as_dict() for skipped in plan.prepared.skipped]
        self._schema = pa.schema(
            [
                ("id", pa.string()),
                *((name, pa.int64()) for name in _OF_A_WINDOW if plan.by_window),
                ("n_tokens", pa.int64()),
                ("n_unknown", pa.int64()),
                ("features", self._features),
            ],
            metadata={
                **plan.stamp,
                "records": str(len(plan.prepared.records)),
                "pooling": plan.prepared.choices.pooling,
                "skipped": orjson.dumps(skipped),
            },
        )
        self._sink = Sink()
        self._stream = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), self._schema)
        self._waiting: list[Block] = []

    def begin(self) -> Iterator[Chunk]:
        yield self._sink.take()

    def block(self, block: Block) -> Iterator[Chunk]:
        self._waiting.append(block)
        if len(self._waiting) >= _RECORDS:
            self._write()
            yield self._sink.take()

    def end(self) -> Iterator[Chunk]:
        if self._waiting:
            self._write()
        self._stream.close()
        yield self._sink.take()

    def close(self) -> None:
        """End the stream."""
        self._stream.close()

    def _write(self) -> None:
        ids = pa.array([block.record.id for block in self._waiting], pa.string())
        counts = zip(*map(self._counts, self._waiting), strict=True)
        values = np.concatenate([block.values.reshape(-1) for block in self._waiting])
        batch = pa.record_batch(
            [
                ids,
                *(pa.array(column, pa.int64()) for column in counts),
                pa.FixedSizeListArray.from_arrays(pa.array(values), type=self._features),
            ],
            schema=self._schema,
        )
        self._stream.write_batch(batch)
        self._waiting.clear()

    def _counts(self, block: Block) -> tuple[int, ...]:
        """A row of the columns between id and features."""
        record, window, strand = block.record, block.window, block.strand
        if window is None or strand is None:
            return record.n_tokens, record.n_unknown
        ids = strand.ids(self.plan.prepared.store, window.first, window.end)
        n_unknown = int(np.count_nonzero(ids == self.plan.tokenizer.unk_id))
        return window.index, *self.plan.bases(block), window.n_tokens, n_unknown
