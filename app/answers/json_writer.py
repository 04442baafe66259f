"""JSON; every number is finite, float32 as the shortest text that reads back to it."""

from collections.abc import Iterator
from typing import Any

import orjson

from app import media_types
from app.answers import json_values
from app.answers.writer import AnswerPlan, Chunk, Writer
from app.inference.engine import Block
from app.inference.records import Record, RecordStrand
from app.inference.windows import Window

# Rows that are encoded at a time, so that the event loop is never held for long.
_ROWS = 64


class JsonWriter(Writer):
    """One record by itself, or `records` and `skipped`."""

    media_type = media_types.JSON
    is_text = True

    def __init__(self, plan: AnswerPlan) -> None:
        super().__init__(plan)
        self._n_written = 0
        self._zeros = orjson.dumps([0.0] * plan.hidden_size)

    def begin(self) -> Iterator[Chunk]:
        if not self.plan.prepared.single:
            yield json_values.open_object(self._stamp()) + b',"records":['

    def block(self, block: Block) -> Iterator[Chunk]:
        if block.first:
            separator = b"," if self._n_written else b""
            single = self.plan.prepared.single
            opening = self._stamp() if single else {"id": block.record.id}
            head = json_values.open_object({**opening, **self._describe(block.record)})
            yield separator + head + b',"features":'
            self._n_written += 1
        if block.values.ndim == 1:
            yield json_values.array(block.values)
        else:
            yield b"[" if block.first else b","
            yield from self._rows(block)
            if block.last:
                yield b"]"
        if block.last:
            yield b"}"

    def end(self) -> Iterator[Chunk]:
        if not self.plan.prepared.single:
            skipped = [skipped.as_dict() for skipped in self.plan.prepared.skipped]
            yield b'],"skipped":' + orjson.dumps(skipped) + b"}"

    def _rows(self, block: Block) -> Iterator[Chunk]:
        # A window is one element of the outermost axis; bases and vectors are elements themselves.
        is_window = not (self.plan.is_base or self.plan.by_window)
        values = block.values
        for start in range(0, len(values), _ROWS):
            yield b"," if start else b"[" if is_window else b""
            yield memoryview(json_values.array(values[start : start + _ROWS]))[1:-1]
        if is_window:
            yield b"".join([b"," + self._zeros] * block.padding) + b"]"

    def _stamp(self) -> dict[str, Any]:
        choices = self.plan.prepared.choices
        pooling = {"pooling": choices.pooling} if choices.pooled else {}
        return {**self.plan.stamp, **pooling}

    def _describe(self, record: Record) -> dict[str, Any]:
        described: dict[str, Any] = {
            "shape": self.plan.record_shape(record),
            "n_tokens": record.n_tokens,
            "n_unknown": record.n_unknown,
        }
        if record.warning is not None:
            described["warning"] = record.warning
        if record.truncation is not None:
            described["truncated"] = record.truncation.as_dict()
        if self.plan.prepared.choices.overflow == "window" or self.plan.by_window:
            described["windows"] = [
                self._window(strand, window)
                for strand in record.strands
                for window in strand.windows
            ]
        return described

    def _window(self, strand: RecordStrand, window: Window) -> dict[str, Any]:
        described: dict[str, Any] = {
            "window": window.index,
            "tokens": [window.first, window.end],
            "n_tokens": window.n_tokens,
        }
        if strand.n_bases:
            store = self.plan.prepared.store
            described["bases"] = strand.bases(store, window.first, window.end)
        if strand.reverse:
            described["strand"] = "reverse"
        return described
