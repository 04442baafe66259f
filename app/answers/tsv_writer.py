"""A table for R: a header, ids first, one row a record."""

from collections.abc import Iterator

from app import media_types
from app.answers import json_values
from app.answers.writer import Chunk, Writer
from app.inference.engine import Block


class TsvWriter(Writer):
    """Columns id, f0, f1, ..."""

    media_type = media_types.TSV
    is_text = True
    needs_pooling = True

    def begin(self) -> Iterator[Chunk]:
        names = "\t".join(f"f{column}" for column in range(self.plan.hidden_size))
        yield f"id\t{names}\n".encode()

    def block(self, block: Block) -> Iterator[Chunk]:
        numbers = json_values.items(block.values).replace(b",", b"\t")
        yield block.record.id.encode() + b"\t" + numbers + b"\n"
