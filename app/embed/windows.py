"""Which stretches of the input get a vector: a row each, whatever they were made from."""

from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["+", "-"]


@dataclass(frozen=True, slots=True)
class Row:
    """A stretch of a record that gets a vector. 0-based, half-open.

    Attributes:
        record: its index among the records of the input.
        strand: `-` is read as the reverse complement.
        name: of the BED file, where there was one.
        n_ambiguous: letters other than A, C, G, T.
    """

    record: int
    start: int
    end: int
    strand: Side = "+"
    name: str | None = None
    n_ambiguous: int = 0

    @property
    def n_bases(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Refused:
    """A stretch that gets none.

    Attributes:
        record: its id, shortened; of a BED file the name of the sequence.
        start, end: None where it is not known.
        code: stable and dotted.
        reason: a sentence.
    """

    record: str
    start: int | None
    end: int | None
    name: str | None
    code: str
    reason: str


@dataclass(frozen=True)
class Cut:
    """How rows are made of records: as a whole where nothing else is said.

    Attributes:
        bases, base_stride: windows of so many bases, one beginning every so many.
        tokens, overlap: windows of so many tokens, and what neighbours share.
        bed_sha256: of the BED file whose intervals are the rows.
        flank: bases added at both sides of an interval.
        center: bases around the middle of an interval, in place of the interval.
    """

    bases: int | None = None
    base_stride: int | None = None
    tokens: int | None = None
    overlap: int = 0
    bed_sha256: str | None = None
    flank: int = 0
    center: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """What was said, for metadata."""
        members = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in members.items() if value}
