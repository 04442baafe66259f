"""Ids, tokens and base positions as JSON; there are no features in it."""

from collections.abc import Iterator

import numpy as np
import orjson

from app import media_types
from app.answers.json_values import items, open_object
from app.answers.writer import Chunk, Writer
from app.inference.engine import Block
from app.inference.records import Record
from converter.tokenizer import SPECIALS

# Tokens that are encoded at a time, so that the event loop is never held for long.
_SLICE = 4096
_SMALL_TOKENS = 2**17


class TokensWriter(Writer):
    """One record by itself, or `records` and `skipped`; all of it is in `begin`."""

    media_type = media_types.JSON
    is_text = True

    @property
    def is_small(self) -> bool:
        return self.plan.prepared.n_tokens <= _SMALL_TOKENS

    def begin(self) -> Iterator[Chunk]:
        prepared = self.plan.prepared
        if prepared.single:
            yield from self._record(prepared.records[0], self.plan.stamp)
            return
        yield open_object(self.plan.stamp) + b',"records":['
        for number, record in enumerate(prepared.records):
            if number:
                yield b","
            yield from self._record(record, {"id": record.id})
        skipped = [skipped.as_dict() for skipped in prepared.skipped]
        yield b'],"skipped":' + orjson.dumps(skipped) + b"}"

    def block(self, block: Block) -> Iterator[Chunk]:
        raise TypeError(f"tokens have no features: {block.record.id!r}")

    def _record(self, record: Record, head: dict[str, str]) -> Iterator[Chunk]:
        tokenizer, store = self.plan.tokenizer, self.plan.prepared.store
        strand = record.strands[0]
        n = strand.own_tokens
        slices = [(start, min(start + _SLICE, n)) for start in range(0, n, _SLICE)]
        cls, sep = np.array([tokenizer.cls_id], np.int32), np.array([tokenizer.sep_id], np.int32)
        yield (
            open_object({**head, **_described(record, self.plan.window)})
            + b',"input_ids":['
            + items(cls)
        )
        for start, end in slices:
            yield b"," + items(strand.ids(store, start, end))
        yield b"," + items(sep) + b'],"tokens":[' + items(tokenizer.tokens(cls))
        for start, end in slices:
            yield b"," + items(tokenizer.tokens(strand.ids(store, start, end)))
        yield b"," + items(tokenizer.tokens(sep)) + b'],"offsets":[[0,0]'
        for start, end in slices:
            yield b"," + items(strand.offsets(store, start, end))
        yield b",[0,0]]}"


def _described(record: Record, window: int) -> dict[str, object]:
    return {
        "n_tokens": record.strands[0].own_tokens + SPECIALS,
        "n_unknown": record.n_unknown,
        "limit": window,
        "n_bases": record.n_bases,
        "changes": record.changes,
        **({} if record.warning is None else {"warning": record.warning}),
    }
