"""What a user sends -> records: JSON, bare text, FASTA and FASTQ, recognised where unambiguous.

Records are read one at a time; a file is never in memory as a whole. Bodies that begin with `>`
or `@` are FASTA and FASTQ whatever they are called, apart from JSON and forms: no DNA begins so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import Literal

from dnaio import FastaReader, FastqReader
from dnaio.exceptions import FileFormatError

from app import media_types
from app.errors import ProblemError
from app.requests.bodies import BYTE_ORDER_MARK, ReceivedBody
from app.requests.json_bodies import Body, read_json
from app.requests.limits import Limits
from app.requests.record_ids import id_problem
from app.requests.schemas import SubmittedSequences
from app.requests.submitted import Submitted
from app.requests.validation import shown

Kind = Literal["json", "text", "fasta", "fastq"]

_BLOCK = 2**17
_LEADING = b" \t\r\n"
_JSON = (b"{", b"[")
# Stands for bytes outside ASCII in files: no letter of DNA and no part of an id, so that an
# error names the place, while free text after an id may hold it.
_FOREIGN = "\x7f"
_TO_ASCII = bytes(byte if byte < 128 else ord(_FOREIGN) for byte in range(256))
_HOW_TO_SEND = (
    "With curl: -H 'Content-Type: text/plain' -d ACGT for a bare sequence, "
    "-H 'Content-Type: application/json' -d '{\"sequence\": \"ACGT\"}' for JSON, "
    "--data-binary @genes.fa for FASTA or FASTQ, or -F file=@genes.fa."
)
# What begins something new in a file: the run between two of them is in memory at once.
_BEGINNINGS = {"fasta": (b"\n>", b"\r>"), "fastq": (b"\n",)}
# How dnaio's messages begin -> what they mean; what follows may quote a line.
_COMPLAINTS = {
    "Length of sequence": "Length of sequence and qualities differ",
    "Line expected to start with '@'": "A record does not begin with @",
    "Line expected to start with '+'": "The third line of a record does not begin with +",
    "Premature end": "It ends in the middle of a record",
    "Sequence descriptions": "What follows + is not what follows @",
}
# White space that may come with a record, beside its bases.
_SLACK_BYTES = 2**20


@dataclass
class Submission:
    """The records of a request, to be read once, in order.

    Attributes:
        single: one bare sequence: the answer is not a list.
        body: the JSON, if it was JSON; it may hold options beside the sequences.
    """

    records: Iterator[Submitted]
    single: bool
    body: SubmittedSequences | None = None


def read_submission(
    received: ReceivedBody, schema: type[SubmittedSequences], file: BufferedReader, limits: Limits
) -> Submission:
    """Recognise a body and read its records.

    Args:
        schema: of the JSON body.
        file: the decoded body, from `open_decoded`.
        limits: what is far beyond them is refused while it is read.

    Raises:
        ProblemError: 415 body.unsupported_type, 422 body.empty, and as `read_json`. While records
            are read also 400 fasta.invalid, fastq.invalid and 413 record.too_long.
    """
    kind = _recognise(received, file)
    if kind == "json":
        return _from_json(read_json(file, schema, limits))
    guarded = _Guarded(file, kind, limits.record_bases)
    if kind == "text":
        text = guarded.read_all().decode("utf-8", errors="replace")
        return Submission(iter([Submitted("1", text)]), single=True)
    return Submission(_from_file(guarded, kind), single=False)


def read_only_json(
    received: ReceivedBody, schema: type[Body], file: BufferedReader, limits: Limits
) -> Body:
    """The body of an endpoint that takes JSON only.

    Raises:
        ProblemError: 415 body.unsupported_type, and as `read_json`.
    """
    may_be_json = received.media_type in media_types.MAY_BE_JSON
    if not (may_be_json or media_types.is_json(received.media_type)):
        raise ProblemError(
            "body.unsupported_type",
            "This endpoint takes JSON: -H 'Content-Type: application/json'.",
        )
    return read_json(file, schema, limits)


def _recognise(received: ReceivedBody, file: BufferedReader) -> Kind:
    media_type = received.media_type
    if media_types.is_json(media_type):
        return "json"
    if media_type != media_types.TEXT and media_type not in media_types.FILES:
        raise _unsupported(f"{shown(media_type)} is not a type that is read here.")
    first = _skip_leading(file)
    if first == b">":
        return "fasta"
    if first == b"@":
        return "fastq"
    if media_type == media_types.TEXT:
        return "text"
    if not first:
        raise ProblemError("body.empty", "Send a sequence. " + _HOW_TO_SEND)
    if first in _JSON and media_type in media_types.MAY_BE_JSON:
        return "json"
    if first in _JSON and media_type == media_types.URL_ENCODED:
        raise _unsupported("The body looks like JSON, and its Content-Type says that it is a form.")
    if media_type in ("", media_types.URL_ENCODED) and received.fields is None:
        raise _unsupported(
            "The body begins neither with > (FASTA) nor @ (FASTQ), and its Content-Type does not "
            "say what it is."
        )
    raise _bad_file("fasta", f"It begins neither with > (FASTA) nor with @ (FASTQ). {_HOW_TO_SEND}")


def _unsupported(reason: str) -> ProblemError:
    return ProblemError("body.unsupported_type", f"{reason} {_HOW_TO_SEND}")


def _skip_leading(file: BufferedReader) -> bytes:
    """The first byte that is neither white space nor a byte order mark; it stays unread."""
    if file.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
        file.read(len(BYTE_ORDER_MARK))
    while True:
        block = file.peek(1)
        rest = block.lstrip(_LEADING)
        file.read(len(block) - len(rest))
        if rest or not block:
            return rest[:1]


def _from_json(body: SubmittedSequences) -> Submission:
    if "sequence" in body.model_fields_set:
        return Submission(iter([Submitted("1", body.sequence)]), single=True, body=body)
    return Submission(_from_list(body), single=False, body=body)


def _from_list(body: SubmittedSequences) -> Iterator[Submitted]:
    for number, item in enumerate(body.sequences, start=1):
        if isinstance(item, str):
            yield Submitted(str(number), item)
        else:
            yield Submitted(item.id, item.sequence, id_problem(item.id, number))


def _from_file(guarded: "_Guarded", kind: Kind) -> Iterator[Submitted]:
    file = BufferedReader(guarded, _BLOCK)
    try:
        reader = FastaReader(file) if kind == "fasta" else FastqReader(file)
        for number, record in enumerate(reader, start=1):
            if guarded.line_breaks == 0:
                raise _bad_file(
                    kind,
                    "It has no line breaks. curl's -d removes them: use --data-binary @genes.fa.",
                )
            text = record.sequence
            if _FOREIGN in text:
                text = text.replace(_FOREIGN, "\ufffd")
            yield Submitted(record.id, text, id_problem(record.id, number))
    except FileFormatError as error:
        where = "" if error.line is None else f" (line {error.line + 1})"
        raise _bad_file(kind, f"{_own_words(error.message)}{where}.") from None


def _own_words(message: str) -> str:
    known = (words for start, words in _COMPLAINTS.items() if message.startswith(start))
    return next(known, "It is malformed")


def _bad_file(kind: Kind, reason: str) -> ProblemError:
    return ProblemError(f"{kind}.invalid", reason)


class _Guarded(RawIOBase):
    """What a parser reads: ASCII, and an error instead of a record that memory should not hold."""

    def __init__(self, file: BufferedReader, kind: Kind, max_bases: int) -> None:
        self._file = file
        self._kind = kind
        self._max_bases = max_bases
        self._run = 0
        self._last = b""
        self.line_breaks = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._file.read(len(buffer))
        self._watch(chunk)
        buffer[: len(chunk)] = chunk.translate(_TO_ASCII)
        return len(chunk)

    def read_all(self) -> bytes:
        """A bare sequence: everything, as it is."""
        parts = []
        while chunk := self._file.read(_BLOCK):
            self._run += len(chunk)
            self._check_run()
            parts.append(chunk)
        return b"".join(parts)

    def _watch(self, chunk: bytes) -> None:
        joined = self._last + chunk
        beginning = max(joined.rfind(mark) for mark in _BEGINNINGS[self._kind])
        self._run = self._run + len(chunk) if beginning < 0 else len(joined) - beginning
        self._check_run()
        self.line_breaks += chunk.count(b"\n") + chunk.count(b"\r")
        if self._kind == "fasta" and b"\n#" in joined:
            # dnaio takes such a line for a comment; in a sequence it would vanish in silence.
            raise _bad_file("fasta", "A line begins with #.")
        self._last = chunk[-1:]

    def _check_run(self) -> None:
        if self._run > 2 * self._max_bases + _SLACK_BYTES:
            raise ProblemError(
                "record.too_long",
                f"A record may have {self._max_bases} bases.",
                limit=self._max_bases,
            )
