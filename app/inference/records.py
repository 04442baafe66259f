"""The records of a request, checked and tokenized: what is computed and what answers tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ProblemError
from app.inference.token_store import TokenStore
from app.inference.windows import Window, count_rows, count_windows, plan_windows
from app.requests.options import Choices


@dataclass(frozen=True, slots=True)
class RecordStrand:
    """One strand of a record as the model reads it.

    Attributes:
        reverse: it is the reverse complement.
        start: of its tokens in the store.
        own_tokens: tokens used, without specials.
        n_bases: of the record, to turn positions around.
        overlap: of its windows.
        max_own_tokens: of one window.
    """

    reverse: bool
    start: int
    own_tokens: int
    n_bases: int
    overlap: int
    max_own_tokens: int

    @property
    def windows(self) -> tuple[Window, ...]:
        return plan_windows(self.own_tokens, self.overlap, self.max_own_tokens)

    @property
    def n_windows(self) -> int:
        return count_windows(self.own_tokens, self.overlap, self.max_own_tokens)

    @property
    def n_tokens(self) -> int:
        """Rows that the model computes: tokens of all windows, [CLS] and [SEP] included."""
        return count_rows(self.own_tokens, self.overlap, self.max_own_tokens)

    def ids(self, store: TokenStore, first: int, end: int) -> NDArray[np.int32]:
        """(end - first,) ids of some of its tokens."""
        ids: NDArray[np.int32] = store.read(self.start + first, self.start + end)["id"]
        return ids

    def borders(self, store: TokenStore, first: int, end: int) -> NDArray[np.int64]:
        """(end - first + 1,) bases, counted along this strand, between which tokens lie."""
        before = max(first - 1, 0)
        ends = store.read(self.start + before, self.start + end)["end"].astype(np.int64)
        return ends if first else np.concatenate([[0], ends])

    def offsets(self, store: TokenStore, first: int, end: int) -> NDArray[np.int64]:
        """(end - first, 2) bases of tokens in the submitted direction, 0-based, half-open."""
        borders = self.borders(store, first, end)
        if self.reverse:
            return np.stack([self.n_bases - borders[1:], self.n_bases - borders[:-1]], axis=1)
        return np.stack([borders[:-1], borders[1:]], axis=1)

    def bases(self, store: TokenStore, first: int, end: int) -> tuple[int, int]:
        """What those tokens cover, in the submitted direction."""
        offsets = self.offsets(store, first, end)
        return int(offsets[:, 0].min()), int(offsets[:, 1].max())


@dataclass(frozen=True)
class Truncation:
    """What was cut from a record.

    Attributes:
        n_tokens, kept: of the record and of what is used of it, [CLS] and [SEP] included.
        n_bases: of the record.
        bases: those that were kept, half-open.
    """

    n_tokens: int
    kept: int
    n_bases: int
    bases: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """Members of the answer."""
        return {
            "n_tokens": self.n_tokens,
            "kept": self.kept,
            "n_bases": self.n_bases,
            "bases": list(self.bases),
        }


@dataclass(frozen=True)
class Record:
    """A record that is ready to be computed.

    Attributes:
        n_bases: of the clean sequence; 0 for token ids.
        n_unknown: `[UNK]` among the tokens used, of all strands read.
        changes: white space removed, letters folded; for people.
        warning: of what was answered and hardly meant, as sentences.
    """

    id: str
    n_bases: int
    n_unknown: int
    strands: tuple[RecordStrand, ...]
    truncation: Truncation | None
    changes: dict[str, int]
    warning: str | None

    @property
    def n_windows(self) -> int:
        return sum(strand.n_windows for strand in self.strands)

    @property
    def n_tokens(self) -> int:
        """Rows that the model computes, of all strands."""
        return sum(strand.n_tokens for strand in self.strands)

    @property
    def base_range(self) -> tuple[int, int]:
        """The bases that its tokens cover."""
        return self.truncation.bases if self.truncation else (0, self.n_bases)


@dataclass(frozen=True)
class Skipped:
    """A record that is not answered.

    The words of its problem and not the exception, whose traceback holds the sequence.
    """

    id: str
    code: str
    detail: str
    members: Mapping[str, Any]

    @classmethod
    def of(cls, id_: str, problem: ProblemError) -> "Skipped":
        """Why `id_` is not answered."""
        return cls(id_, problem.code, problem.detail, problem.members)

    def as_dict(self) -> dict[str, Any]:
        """Members of the answer."""
        members = {name: value for name, value in self.members.items() if name != "record"}
        return {"id": self.id, "code": self.code, "detail": self.detail, **members}


@dataclass
class PreparedRequest:
    """All that a request asks to be computed. Close it.

    Attributes:
        single: one bare sequence, answered by itself and not as a list.
        store: the tokens of its records.
        tokenizing_seconds: that preparing it took.
        n_tokens, n_windows, n_unknown, n_truncated: of all its records.
        warning: the first of them, with the record's id.
    """

    choices: Choices
    single: bool
    records: list[Record]
    skipped: list[Skipped]
    store: TokenStore
    tokenizing_seconds: float
    n_tokens: int = field(init=False)
    n_windows: int = field(init=False)
    n_unknown: int = field(init=False)
    n_truncated: int = field(init=False)
    warning: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.n_tokens = sum(record.n_tokens for record in self.records)
        self.n_windows = sum(record.n_windows for record in self.records)
        self.n_unknown = sum(record.n_unknown for record in self.records)
        self.warning = next(
            (
                record.warning if self.single else f"Record {record.id!a}: {record.warning}"
                for record in self.records
                if record.warning is not None
            ),
            None,
        )
        self.n_truncated = sum(record.truncation is not None for record in self.records)

    def close(self) -> None:
        """Give the disk space back."""
        self.store.close()
