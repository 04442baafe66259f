"""Records -> windows of ids, checked: the first of a request's two passes.

An error in the last record of a file is an error of the request and not a torn answer:
everything is cleaned, tokenized and checked, and the ids kept (on disk when they are many),
before `app.inference.engine` computes anything.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.inference.windows import Window, count_rows, count_windows, plan_windows
from app.problems import ProblemError
from app.requests.schemas import MAX_ID_LENGTH, Choices
from app.requests.sequences import Submitted, duplicate_id
from converter.tokenizer import MAX_TOKENS, DnaTokenizer, SequenceError, clean

_IN_MEMORY = 2**22
_COMPLEMENT = str.maketrans("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN")
# One token: its id and the base after its last one.
_TOKEN = np.dtype([("id", "<i4"), ("end", "<i4")])


class TokenStore:
    """Tokens of all records of a request, one after the other; on disk when they are many."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self.size = 0

    def append(self, ids: NDArray[np.int32], ends: NDArray[np.int64]) -> int:
        """Keep tokens; returns where they begin."""
        tokens = np.empty(len(ids), _TOKEN)
        tokens["id"], tokens["end"] = ids, ends
        self._file.seek(self.size * _TOKEN.itemsize)
        self._file.write(tokens.tobytes())
        start = self.size
        self.size += len(ids)
        return start

    def read(self, start: int, end: int) -> NDArray[Any]:
        """(end - start,) structured: id, end."""
        self._file.seek(start * _TOKEN.itemsize)
        data = self._file.read((end - start) * _TOKEN.itemsize)
        return np.frombuffer(data, _TOKEN)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class ReadStrand:
    """One strand of a record as the model reads it.

    Attributes:
        reverse: it is the reverse complement.
        start: of its tokens in the store.
        n_tokens: tokens used, without specials.
        n_bases: of the record, to turn positions around.
        overlap: of its windows.
    """

    reverse: bool
    start: int
    n_tokens: int
    n_bases: int
    overlap: int

    @property
    def windows(self) -> tuple[Window, ...]:
        return plan_windows(self.n_tokens, self.overlap)

    @property
    def n_windows(self) -> int:
        return count_windows(self.n_tokens, self.overlap)

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
    """What was cut from a record; bases are those that were kept."""

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
        n_bases: of the clean sequence.
        n_unknown: `[UNK]` among the tokens used, of all strands read.
        changes: white space removed, letters folded; for people.
    """

    id: str
    n_bases: int
    n_unknown: int
    strands: tuple[ReadStrand, ...]
    truncation: Truncation | None
    changes: dict[str, int]

    @property
    def n_windows(self) -> int:
        return sum(strand.n_windows for strand in self.strands)

    @property
    def n_rows(self) -> int:
        """Rows that the model computes, specials included."""
        return sum(count_rows(strand.n_tokens, strand.overlap) for strand in self.strands)

    @property
    def base_range(self) -> tuple[int, int]:
        """The bases that its tokens cover."""
        return self.truncation.bases if self.truncation else (0, self.n_bases)


@dataclass(frozen=True)
class Skipped:
    """A record that is not answered."""

    id: str
    problem: ProblemError

    def as_dict(self) -> dict[str, Any]:
        """Members of the answer."""
        return {
            "id": self.id,
            "code": self.problem.code,
            "detail": self.problem.detail,
            **{k: v for k, v in self.problem.members.items() if k != "record"},
        }


@dataclass
class Job:
    """All that a request asks to be computed. Close it."""

    choices: Choices
    single: bool
    records: list[Record]
    skipped: list[Skipped]
    store: TokenStore
    tokenizing_seconds: float = 0.0
    n_rows: int = field(init=False)
    n_windows: int = field(init=False)
    n_unknown: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_rows = sum(record.n_rows for record in self.records)
        self.n_windows = sum(record.n_windows for record in self.records)
        self.n_unknown = sum(record.n_unknown for record in self.records)

    def close(self) -> None:
        """Give the disk space back."""
        self.store.close()


@dataclass(frozen=True)
class Limits:
    """Bounds of one request."""

    records: int
    record_bases: int
    tokens: int


class AbandonedError(Exception):
    """The request that wanted this work is gone."""


def prepare(
    submitted: Iterable[Submitted],
    tokenizer: DnaTokenizer,
    choices: Choices,
    limits: Limits,
    *,
    single: bool,
    stop: threading.Event,
    observe: Callable[[float], None] = lambda _seconds: None,
) -> Job:
    """First pass: clean, tokenize and check every record. Runs in a thread.

    Args:
        stop: when set, the work is given up between two records.
        observe: called with the seconds of each record.

    Raises:
        ProblemError: the first problem, naming the record; with `on_error=skip` only problems of
            the whole request.
        AbandonedError: `stop` was set.
    """
    started = time.perf_counter()
    maker = _Maker(tokenizer, choices, limits, single)
    try:
        for record in submitted:
            if stop.is_set():
                raise AbandonedError
            before = time.perf_counter()
            maker.add(record)
            observe(time.perf_counter() - before)
        return maker.finish(time.perf_counter() - started)
    except BaseException:
        maker.store.close()
        raise


def prepare_ids(
    lists: list[list[int]], tokenizer: DnaTokenizer, choices: Choices, limits: Limits
) -> Job:
    """As `prepare`, for token ids; the specials around a list, as /tokenize gives, are taken off.

    Raises:
        ProblemError: ids that are no tokens of a sequence, or too many.
    """
    if choices.strand != "forward":
        raise ProblemError(
            "options.conflict",
            "Token ids have one direction: strand must be forward.",
            fields=["strand", "input"],
        )
    started = time.perf_counter()
    maker = _Maker(tokenizer, choices, limits, single=False)
    try:
        for number, ids in enumerate(lists, start=1):
            maker.add_ids(str(number), ids)
        return maker.finish(time.perf_counter() - started)
    except BaseException:
        maker.store.close()
        raise


class _Maker:
    """Collects the records of one request."""

    def __init__(
        self, tokenizer: DnaTokenizer, choices: Choices, limits: Limits, single: bool
    ) -> None:
        self.store = TokenStore()
        self._tokenizer = tokenizer
        self._choices = choices
        self._limits = limits
        self._single = single
        self._records: list[Record] = []
        self._skipped: list[Skipped] = []
        self._ids: set[str] = set()
        self._rows = 0

    def add(self, submitted: Submitted) -> None:
        self._check_count()
        try:
            if submitted.problem is not None:
                raise submitted.problem
            if submitted.id in self._ids:
                raise duplicate_id(submitted.id)
            self._ids.add(submitted.id)
            record = self._read(submitted)
        except ProblemError as error:
            if self._choices.on_error == "error" or self._single:
                raise
            self._skipped.append(Skipped(submitted.id[:MAX_ID_LENGTH], error))
            return
        self._keep(record)

    def add_ids(self, record_id: str, given: list[int]) -> None:
        self._check_count()
        ids = _inner_ids(given, self._tokenizer, self._name(record_id))
        array = np.array(ids, dtype=np.int32)
        n_tokens, _ = self._fit(record_id, len(ids))
        array = array[:n_tokens]
        start = self.store.append(array, np.zeros(len(array), np.int64))
        strand = ReadStrand(False, start, len(array), 0, self._choices.stride)
        unknown = int(np.count_nonzero(array == self._tokenizer.unk_id))
        self._keep(Record(record_id, 0, unknown, (strand,), None, {}))

    def finish(self, seconds: float) -> Job:
        if not self._records:
            if self._skipped:
                raise ProblemError(
                    "records.all_skipped",
                    f"All {len(self._skipped)} records have problems.",
                    skipped=[skipped.as_dict() for skipped in self._skipped],
                )
            raise ProblemError("records.none")
        return Job(self._choices, self._single, self._records, self._skipped, self.store, seconds)

    def _keep(self, record: Record) -> None:
        self._rows += record.n_rows
        if self._rows > self._limits.tokens:
            raise ProblemError(
                "request.too_many_tokens",
                f"A request may have {self._limits.tokens} tokens, the specials and overlaps of "
                "windows included.",
                limit=self._limits.tokens,
            )
        self._records.append(record)

    def _check_count(self) -> None:
        if len(self._records) + len(self._skipped) >= self._limits.records:
            raise ProblemError(
                "request.too_many_records",
                f"A request may have {self._limits.records} records.",
                limit=self._limits.records,
            )

    def _name(self, record_id: str) -> str | None:
        return None if self._single else record_id

    def _read(self, submitted: Submitted) -> Record:
        name = self._name(submitted.id)
        who = "The sequence" if name is None else f"Record {name!r}"
        try:
            cleaned = clean(submitted.text)
        except SequenceError as error:
            raise ProblemError(
                error.code,
                f"{who}: {error}",
                record=name,
                position=error.position,
                letter=error.letter,
            ) from None
        n_bases = len(cleaned.sequence)
        if not n_bases:
            raise ProblemError("sequence.empty", f"{who} has no bases.", record=name)
        if n_bases > self._limits.record_bases:
            raise ProblemError(
                "record.too_long",
                f"{who} has {n_bases} bases; the limit is {self._limits.record_bases}.",
                record=name,
                count=n_bases,
                limit=self._limits.record_bases,
            )
        strands = []
        unknown = 0
        truncation = None
        for reverse in _directions(self._choices):
            sequence = reverse_complement(cleaned.sequence) if reverse else cleaned.sequence
            encoding = self._tokenizer.encode(sequence)
            total = len(encoding.ids)
            n_tokens, overlap = self._fit(submitted.id, total)
            ids = encoding.ids[:n_tokens]
            start = self.store.append(ids, encoding.offsets[:n_tokens, 1])
            strand = ReadStrand(reverse, start, n_tokens, n_bases, overlap)
            strands.append(strand)
            unknown += int(np.count_nonzero(ids == self._tokenizer.unk_id))
            if n_tokens < total and truncation is None:
                bases = strand.bases(self.store, 0, n_tokens)
                truncation = Truncation(total, n_tokens, n_bases, bases)
        changes = {
            "white_space": cleaned.n_white_space,
            "lower_case": cleaned.n_lower_case,
            "uracil": cleaned.n_uracil,
            "ambiguous": cleaned.n_ambiguous,
        }
        return Record(submitted.id, n_bases, unknown, tuple(strands), truncation, changes)

    def _fit(self, record_id: str, n_tokens: int) -> tuple[int, int]:
        """How many tokens to use, and the overlap of their windows."""
        overflow = self._choices.overflow
        if n_tokens <= MAX_TOKENS or overflow == "window":
            return n_tokens, self._choices.stride
        if overflow == "truncate":
            return MAX_TOKENS, 0
        name = self._name(record_id)
        who = "The sequence" if name is None else f"Record {name!r}"
        raise ProblemError(
            "sequence.too_long",
            f"{who} has {n_tokens} tokens; a window holds {MAX_TOKENS}.",
            record=name,
            count=n_tokens,
            limit=MAX_TOKENS,
        )


def _directions(choices: Choices) -> tuple[bool, ...]:
    return {"forward": (False,), "reverse": (True,), "both": (False, True)}[choices.strand]


def reverse_complement(sequence: str) -> str:
    """The other strand of clean DNA, IUPAC letters included."""
    return sequence.translate(_COMPLEMENT)[::-1]


def _inner_ids(given: list[int], tokenizer: DnaTokenizer, name: str | None) -> list[int]:
    wrapped = len(given) >= 2 and (given[0], given[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
    ids = given[1:-1] if wrapped else given
    if not ids:
        raise ProblemError("sequence.empty", "There are no tokens.", record=name)
    special = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id)
    for position, token in enumerate(ids, start=2 if wrapped else 1):
        if not 0 <= token < tokenizer.vocab_size or token in special:
            raise ProblemError(
                "tokens.invalid",
                f"Input {name}: the id at position {position} is a special token or is not in "
                f"the vocabulary of {tokenizer.vocab_size}.",
                record=name,
                position=position,
            )
    return ids
