"""Records -> rows: each stretch that gets a vector, and each that is refused, with its reason."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from app.embed.bed import Bed, Interval
from app.embed.sequences import Sequences
from app.embed.windows import Cut, Refused, Row
from app.errors import ProblemError
from app.inference.prepare import read_letters, reverse_complement
from app.requests.bodies import check_wanted
from app.requests.options import Choices
from app.requests.record_ids import id_problem
from app.requests.schemas import MAX_ID_LENGTH
from converter.errors import brief
from converter.tokenizer import DnaTokenizer

_BLOCK = 2**20
# Bases of a token for the first try, and tokens at the end that more bases might change.
_BASES_PER_TOKEN, _UNSETTLED = 16, 64
_RUN_OF_N = re.compile("[Nn]+")
# A window of tokens has no more of it than it can take; what is longer is left out of all.
_SHORTEST_GAP = 10_000
_EMPTY = ("sequence.empty", "The interval is a point: add --flank or --center.")
_ONLY_N = ("window.only_n", "It is N alone.")


def place(record: str, start: int, end: int) -> str:
    """A stretch as genome browsers and samtools write it, but 0-based and half-open."""
    return f"{record}:{start}-{end}"


def text_of(sequences: Sequences, row: Row) -> str:
    """The letters of a row, in the direction of its strand."""
    letters = sequences.fetch(row.record, row.start, row.end)
    if row.strand == "+":
        return letters
    # The reverse complement is that of clean DNA; what is no DNA was refused before.
    return reverse_complement(letters.upper().replace("U", "T"))


@dataclass(frozen=True)
class Planner:
    """Makes the rows of an input.

    Args:
        choices: what DNA is accepted.
        max_bases: of a row.
        bed: whose intervals are the rows, where `cut` says so.
        tokenizer: where `cut` counts tokens.
        stop: when set, planning is given up.
    """

    sequences: Sequences
    cut: Cut
    choices: Choices
    max_bases: int
    stop: threading.Event
    bed: Bed | None = None
    tokenizer: DnaTokenizer | None = None

    def rows(self) -> Iterator[Row | Refused]:
        """In the order of the records; those of a BED file in the order of the file.

        Raises:
            AbandonedError: `stop` was set.
        """
        refused: dict[int, Refused] = {}
        first_of: dict[str, int] = {}
        for record, name in enumerate(self.sequences.names):
            check_wanted(self.stop)
            problem = self._problem_of_record(record, name, first_of)
            if problem is not None:
                refused[record] = problem
                yield problem
        if self.bed is not None:
            yield from self._of_intervals(self.bed, first_of)
            return
        for record in range(len(self.sequences.names)):
            if record not in refused:
                yield from self._of_record(record)

    def _problem_of_record(
        self, record: int, name: str, first_of: dict[str, int]
    ) -> Refused | None:
        length = self.sequences.lengths[record]
        shown = name[:MAX_ID_LENGTH]
        invalid = id_problem(name, record + 1)
        if invalid is not None:
            return Refused("", 0, length, None, invalid.code, invalid.detail)
        if name in first_of:
            reason = f"Record {record + 1} has the id of record {first_of[name] + 1}."
            return Refused(shown, 0, length, None, "record.duplicate_id", reason)
        first_of[name] = record
        if not length:
            return Refused(shown, 0, 0, None, "sequence.empty", "It has no bases.")
        return None

    def _of_record(self, record: int) -> Iterator[Row | Refused]:
        length = self.sequences.lengths[record]
        if self.cut.bases is not None:
            stride = self.cut.base_stride or self.cut.bases
            for start, end in base_windows(length, self.cut.bases, stride):
                yield self._checked(Row(record, start, end))
        elif self.cut.tokens is not None:
            yield from self._of_tokens(record)
        else:
            yield self._checked(Row(record, 0, length))

    def _of_intervals(self, bed: Bed, records: dict[str, int]) -> Iterator[Row | Refused]:
        for interval in bed.intervals:
            record = records.get(interval.record)
            length = 0 if record is None else self.sequences.lengths[record]
            if record is not None and interval.end <= length:
                start, end = self._around(interval, length)
                row = Row(record, start, end, interval.strand, interval.name)
                yield self._checked(row) if row.n_bases else self._refused(row, *_EMPTY)
                continue
            reason = f"Line {interval.line} of the BED file: " + (
                f"the record has {length} bases." if record is not None else self._no_such_record()
            )
            yield Refused(
                interval.record[:MAX_ID_LENGTH],
                interval.start,
                interval.end,
                interval.name,
                "bed.no_such_place",
                reason,
            )

    def _no_such_record(self) -> str:
        some = ", ".join(brief(name, 40) for name in self.sequences.names[:3])
        return f"the input has no record of this name. Its records are called {some} ..."

    def _around(self, interval: Interval, length: int) -> tuple[int, int]:
        """What is read for an interval; what would lie beyond the record is left out."""
        start, end = interval.start, interval.end
        if self.cut.center is not None:
            start = (start + end) // 2 - self.cut.center // 2
            end = start + self.cut.center
        return max(0, start - self.cut.flank), min(length, end + self.cut.flank)

    def _checked(self, row: Row) -> Row | Refused:
        """A row that can be computed, or why it cannot."""
        check_wanted(self.stop)
        record = self.sequences.names[row.record]
        shown = place(record, row.start, row.end)
        if row.n_bases > self.max_bases:
            return self._refused(
                row,
                "record.too_long",
                f"{shown} has {row.n_bases} bases; the limit is {self.max_bases} "
                "(GENA_MAX_RECORD_BASES). Cut it: --windows BASES, or --tokens N.",
            )
        letters = self.sequences.fetch(row.record, row.start, row.end)
        try:
            cleaned = read_letters(letters, self.choices, self.max_bases, shown)
        except ProblemError as error:
            return self._refused(row, error.code, _for_commands(error))
        if not cleaned.sequence.strip("N"):
            return self._refused(row, *_ONLY_N)
        return replace(row, n_ambiguous=cleaned.n_ambiguous)

    def _refused(self, row: Row, code: str, reason: str) -> Refused:
        record = self.sequences.names[row.record]
        return Refused(record, row.start, row.end, row.name, code, reason)

    def _of_tokens(self, record: int) -> Iterator[Row | Refused]:
        length = self.sequences.lengths[record]
        block = min(_BLOCK, self.max_bases)
        gaps = _Gaps()
        for start in range(0, length, block):
            row = Row(record, start, min(start + block, length))
            piece = self._checked(row)
            # Tokens behind a letter that is none would be others; N alone is no such letter.
            if isinstance(piece, Refused) and piece.code != _ONLY_N[0]:
                yield self._refused(Row(record, 0, length), piece.code, piece.reason)
                return
            gaps.add(start, self.sequences.fetch(record, row.start, row.end))
        start = 0
        for gap_start, gap_end in [*gaps.found(), (length, length)]:
            if start < gap_start:
                for window in self._token_windows(record, start, gap_start):
                    yield self._checked(Row(record, *window))
            if gap_start < gap_end:
                yield self._refused(Row(record, gap_start, gap_end), *_ONLY_N)
            start = gap_end

    def _token_windows(self, record: int, start: int, length: int) -> Iterator[tuple[int, int]]:
        """Where the windows of the tokens of a stretch lie, as the service would cut it.

        From a border between tokens on, a sequence has the tokens that it has there as a whole:
        no merge of byte-pair encoding crosses a border that is left in the end.
        """
        assert self.tokenizer is not None
        assert self.cut.tokens is not None
        while True:
            ends = self._ends(record, start, length)
            if len(ends) <= self.cut.tokens:
                yield start, length
                return
            yield start, start + ends[self.cut.tokens - 1]
            start += ends[self.cut.tokens - self.cut.overlap - 1]

    def _ends(self, record: int, start: int, length: int) -> list[int]:
        """Ends of the tokens from `start` on: a few more than a window has, or all."""
        assert self.tokenizer is not None
        assert self.cut.tokens is not None
        size = _BASES_PER_TOKEN * (self.cut.tokens + _UNSETTLED)
        while True:
            check_wanted(self.stop)
            end = min(start + size, length)
            letters = self.sequences.fetch(record, start, end).upper().replace("U", "T")
            offsets = self.tokenizer.encode(letters).offsets
            if end == length or len(offsets) > self.cut.tokens + _UNSETTLED:
                ends: list[int] = offsets[:, 1].tolist()
                return ends
            size *= 2


class _Gaps:
    """Runs of N that are gaps of an assembly, and no sequence: windows begin anew behind them."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int]] = []

    def add(self, at: int, letters: str) -> None:
        """The next letters of a record, and where they are."""
        for run in _RUN_OF_N.finditer(letters):
            start, end = at + run.start(), at + run.end()
            if self._runs and self._runs[-1][1] == start:
                start = self._runs.pop()[0]
            self._runs.append((start, end))

    def found(self) -> list[tuple[int, int]]:
        return [(start, end) for start, end in self._runs if end - start >= _SHORTEST_GAP]


def _for_commands(error: ProblemError) -> str:
    """What a problem says, where its advice is for requests."""
    return error.detail.replace("choose ambiguous=accept", "add --ambiguous accept")


def base_windows(length: int, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Windows of `size` bases, one beginning every `stride`, at most `size`.

    The last one ends with the record.
    """
    start = 0
    while True:
        end = min(start + size, length)
        yield start, end
        if end == length:
            return
        start += stride
