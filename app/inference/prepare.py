"""Submitted records -> windows of ids, checked: the first of a request's two passes.

An error in the last record of a file is an error of the request and not a torn answer:
everything is cleaned, tokenized and checked, and the ids kept (on disk when they are many),
before `app.inference.engine` computes anything.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import ProblemError, too_many_records
from app.inference.plausibility import check_letters, check_text, note_on_lines, who
from app.inference.records import PreparedRequest, Record, RecordStrand, Skipped, Truncation
from app.inference.token_store import TokenStore
from app.requests.bodies import check_wanted
from app.requests.limits import Limits
from app.requests.options import Choices
from app.requests.schemas import MAX_ID_LENGTH
from app.requests.submitted import Submitted, SubmittedIds
from app.requests.validation import option_problem
from converter.tokenizer import SPECIALS, CleanSequence, DnaTokenizer, SequenceError, clean

_COMPLEMENT = str.maketrans("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN")
# Whether the strand is turned around.
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "both": (False, True)}


def prepare(
    submitted: Iterable[Submitted | SubmittedIds],
    tokenizer: DnaTokenizer,
    choices: Choices,
    limits: Limits,
    *,
    single: bool,
    stop: threading.Event,
    observe: Callable[[float], None] = lambda _seconds: None,
) -> PreparedRequest:
    """First pass: clean, tokenize and check every record. Runs in a thread.

    Args:
        single: one bare sequence: its problems name no record and are never skipped.
        stop: when set, the work is given up between two records or strands.
        observe: called with the seconds of each record that is tokenized.

    Raises:
        ProblemError: the first problem, naming the record; with `on_error=skip` only problems of
            the whole request, such as an overlap that the model's windows do not have.
        AbandonedError: `stop` was set.
    """
    _check_overlap(choices, tokenizer)
    started = time.perf_counter()
    collection = _Collection(tokenizer, choices, limits, single, stop)
    try:
        for record in submitted:
            check_wanted(stop)
            before = time.perf_counter()
            collection.add(record)
            if isinstance(record, Submitted):
                observe(time.perf_counter() - before)
        return collection.finish(time.perf_counter() - started)
    except BaseException:
        collection.store.close()
        raise


class _Collection:
    """The records of one request, as far as they were read."""

    def __init__(
        self,
        tokenizer: DnaTokenizer,
        choices: Choices,
        limits: Limits,
        single: bool,
        stop: threading.Event,
    ) -> None:
        self.store = TokenStore()
        self._reader = _RecordReader(
            tokenizer, choices, limits.record_bases, single, self.store, stop
        )
        self._choices = choices
        self._limits = limits
        self._single = single
        self._records: list[Record] = []
        self._skipped: list[Skipped] = []
        self._ids: set[str] = set()
        self._n_tokens = 0

    def add(self, submitted: Submitted | SubmittedIds) -> None:
        """Read and keep a record, or list it as skipped."""
        if len(self._records) + len(self._skipped) >= self._limits.records:
            raise too_many_records(self._limits.records)
        try:
            self._check_id(submitted)
            record = self._reader.read(submitted)
        except ProblemError as error:
            if self._choices.on_error == "error" or self._single:
                raise
            self._skipped.append(Skipped.of(submitted.id[:MAX_ID_LENGTH], error))
            return
        self._n_tokens += record.n_tokens
        if self._n_tokens > self._limits.tokens:
            raise ProblemError(
                "request.too_many_tokens",
                f"A request may have {self._limits.tokens} tokens, the specials and overlaps of "
                "windows included.",
                limit=self._limits.tokens,
            )
        self._records.append(record)

    def finish(self, seconds: float) -> PreparedRequest:
        """The request, if anything is left to compute."""
        if self._records:
            return PreparedRequest(
                self._choices, self._single, self._records, self._skipped, self.store, seconds
            )
        if self._skipped:
            raise ProblemError(
                "records.all_skipped",
                f"All {len(self._skipped)} records have problems.",
                skipped=[skipped.as_dict() for skipped in self._skipped],
            )
        raise ProblemError("records.none")

    def _check_id(self, submitted: Submitted | SubmittedIds) -> None:
        if isinstance(submitted, Submitted) and submitted.problem is not None:
            raise submitted.problem
        if submitted.id in self._ids:
            raise ProblemError(
                "record.duplicate_id",
                f"The id {submitted.id!r} occurs more than once; answers could not be told apart.",
                record=submitted.id,
            )
        self._ids.add(submitted.id)


@dataclass(frozen=True)
class _RecordReader:
    """Makes one submitted record ready: its strands' tokens go into the store."""

    tokenizer: DnaTokenizer
    choices: Choices
    max_bases: int
    single: bool
    store: TokenStore
    stop: threading.Event

    def read(self, submitted: Submitted | SubmittedIds) -> Record:
        # A single sequence has no id that its sender knows.
        name = None if self.single else submitted.id
        if isinstance(submitted, SubmittedIds):
            return self._read_ids(submitted, name)
        return self._read_text(submitted, name)

    def _read_ids(self, submitted: SubmittedIds, name: str | None) -> Record:
        ids = np.array(_own_ids(submitted.ids, self.tokenizer, name), np.int32)
        strand = self._keep_strand(ids, np.zeros(len(ids), np.int64), 0, name, reverse=False)
        n_unknown = self._count_unknown(ids[: strand.own_tokens])
        return Record(submitted.id, 0, n_unknown, (strand,), None, {}, None)

    def _read_text(self, submitted: Submitted, name: str | None) -> Record:
        cleaned = read_letters(submitted.text, self.choices, self.max_bases, name)
        n_bases = len(cleaned.sequence)
        strands = []
        n_unknown = 0
        truncation = None
        for reverse in _DIRECTIONS[self.choices.strand]:
            check_wanted(self.stop)  # a strand may take seconds
            sequence = reverse_complement(cleaned.sequence) if reverse else cleaned.sequence
            encoding = self.tokenizer.encode(sequence)
            ids, ends = encoding.ids, encoding.offsets[:, 1]
            strand = self._keep_strand(ids, ends, n_bases, name, reverse=reverse)
            strands.append(strand)
            n_unknown += self._count_unknown(ids[: strand.own_tokens])
            truncation = truncation or self._truncation(strand, len(ids))
        return Record(
            submitted.id,
            n_bases,
            n_unknown,
            tuple(strands),
            truncation,
            _changes(cleaned),
            note_on_lines(submitted.text),
        )

    def _keep_strand(
        self,
        ids: NDArray[np.int32],
        ends: NDArray[np.int64],
        n_bases: int,
        name: str | None,
        *,
        reverse: bool,
    ) -> RecordStrand:
        """Store the tokens that are used of (n,) ids and the (n,) bases where they end."""
        used, overlap = self._fit(len(ids), name)
        start = self.store.append(ids[:used], ends[:used])
        return RecordStrand(reverse, start, used, n_bases, overlap, self.tokenizer.max_own_tokens)

    def _fit(self, own_tokens: int, name: str | None) -> tuple[int, int]:
        """How many of a sequence's own tokens to use, and the overlap of their windows."""
        most = self.tokenizer.max_own_tokens
        if own_tokens <= most or self.choices.overflow == "window":
            return own_tokens, self.choices.stride
        if self.choices.overflow == "truncate":
            return most, 0
        n_tokens, window = own_tokens + SPECIALS, self.tokenizer.model_max_length
        raise ProblemError(
            "sequence.too_long",
            f"{who(name)} has {n_tokens} tokens, [CLS] and [SEP] included; a window holds "
            f"{window}.",
            record=name,
            count=n_tokens,
            limit=window,
        )

    def _truncation(self, strand: RecordStrand, own_tokens: int) -> Truncation | None:
        used = strand.own_tokens
        if used == own_tokens:
            return None
        bases = strand.bases(self.store, 0, used)
        return Truncation(own_tokens + SPECIALS, used + SPECIALS, strand.n_bases, bases)

    def _count_unknown(self, ids: NDArray[np.int32]) -> int:
        return int(np.count_nonzero(ids == self.tokenizer.unk_id))


def read_letters(text: str, choices: Choices, max_bases: int, name: str | None) -> CleanSequence:
    """DNA as the model may take it, by the one policy of what is DNA.

    Args:
        name: of its record; None is a single sequence, which has no name.

    Raises:
        ProblemError: 422 sequence.missing, sequence.invalid_letter, sequence.empty,
            sequence.ambiguous; 413 record.too_long.
    """
    check_text(text, name)
    cleaned = _clean(text, max_bases, name)
    check_letters(cleaned, choices, name)
    return cleaned


def reverse_complement(sequence: str) -> str:
    """The other strand of clean DNA, IUPAC letters included."""
    return sequence.translate(_COMPLEMENT)[::-1]


def _clean(text: str, max_bases: int, name: str | None) -> CleanSequence:
    """Clean DNA of at least one base and at most `max_bases`."""
    try:
        cleaned = clean(text)
    except SequenceError as error:
        raise ProblemError(
            error.code,
            f"{who(name)}: {error}",
            record=name,
            position=error.position,
            letter=error.letter,
        ) from None
    n_bases = len(cleaned.sequence)
    if not n_bases:
        raise ProblemError("sequence.empty", f"{who(name)} has no bases.", record=name)
    if n_bases > max_bases:
        raise ProblemError(
            "record.too_long",
            f"{who(name)} has {n_bases} bases; the limit is {max_bases}.",
            record=name,
            count=n_bases,
            limit=max_bases,
        )
    return cleaned


def _changes(cleaned: CleanSequence) -> dict[str, int]:
    return {
        "white_space": cleaned.n_white_space,
        "lower_case": cleaned.n_lower_case,
        "uracil": cleaned.n_uracil,
        "ambiguous": cleaned.n_ambiguous,
    }


def _check_overlap(choices: Choices, tokenizer: DnaTokenizer) -> None:
    """What the OpenAPI document cannot say, as it depends on the model."""
    most = tokenizer.max_own_tokens - 1
    if choices.stride > most:
        raise option_problem(
            "stride",
            f"it has to be less than or equal to {most}: a window of this model holds "
            f"{tokenizer.max_own_tokens} of a sequence's own tokens",
        )


def _own_ids(given: list[int], tokenizer: DnaTokenizer, name: str | None) -> list[int]:
    """Ids without the specials around them, which /tokenize gives."""
    wrapped = len(given) >= 2 and (given[0], given[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
    ids = given[1:-1] if wrapped else given
    if not ids:
        raise ProblemError("sequence.empty", "There are no tokens.", record=name)
    special = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id}
    known = range(tokenizer.vocab_size)
    # As a whole first: there may be a million.
    if min(ids) in known and max(ids) in known and special.isdisjoint(ids):
        return ids
    for position, token in enumerate(ids, start=2 if wrapped else 1):
        if token not in known or token in special:
            raise ProblemError(
                "tokens.invalid",
                f"Input {name}: the id at position {position} is a special token or is not in "
                f"the vocabulary of {tokenizer.vocab_size}.",
                record=name,
                position=position,
            )
    return ids
