"""A table for R: a header, ids first, one row a record."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from app import media_types
from app.answers import json_values
from app.answers.writer import Chunk, Writer
from app.inference.engine import Block
from app.requests.record_ids import invalid_id, special_in_tables
from app.requests.submitted import Submitted


class TsvWriter(Writer):
    """Columns id, f0, f1, ...; with a vector a window also window, first_base and end_base."""

    media_type = media_types.TSV
    is_text = True
    needs_pooling = True

    @classmethod
    def checked(cls, records: Iterable[Submitted]) -> Iterable[Submitted]:
        """Nothing in the ids is altered: a table has no escapes that all its readers know."""
        for number, record in enumerate(records, start=1):
            first = special_in_tables(record.id)
            if record.problem is None and first:
                reason = (
                    f"has an id that begins with {first}: a spreadsheet would compute it, or a "
                    "reader of tables take it for a quote. Rename it, or choose npz, arrow or json."
                )
                record = replace(record, problem=invalid_id(number, reason))
            yield record

    def begin(self) -> Iterator[Chunk]:
        names = "\t".join(f"f{column}" for column in range(self.plan.hidden_size))
        of_window = "window\tfirst_base\tend_base\t" if self.plan.by_window else ""
        yield f"id\t{of_window}{names}\n".encode()

    def block(self, block: Block) -> Iterator[Chunk]:
        numbers = json_values.items(block.values.reshape(-1)).replace(b",", b"\t")
        place = block.record.id
        if block.window is not None:
            first, end = self.plan.bases(block)
            place += f"\t{block.window.index}\t{first}\t{end}"
        yield place.encode() + b"\t" + numbers + b"\n"
