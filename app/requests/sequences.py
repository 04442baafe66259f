"""What a user sends -> records: JSON, bare text and files, recognised where unambiguous.

Records are read one at a time; a file is never in memory as a whole. Bodies that begin as FASTA,
FASTQ, GenBank or EMBL files are read as such whatever they are called, apart from JSON and forms:
no DNA begins so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader

from app import media_types
from app.errors import ProblemError
from app.requests.bodies import BYTE_ORDER_MARK, ReceivedBody
from app.requests.flat_files import BEGINNINGS, NAMES, FileKind, read_flat_file
from app.requests.foreign_files import recognise_foreign
from app.requests.json_bodies import Body, read_json
from app.requests.limits import Limits
from app.requests.record_ids import id_problem
from app.requests.schemas import SubmittedSequences
from app.requests.submitted import Submitted
from app.requests.tables import LOOKED_AT, recognise_table
from app.requests.validation import shown

_LEADING = b" \t\r\n"
_JSON = (b"{", b"[")
_FIELD = re.compile(rb"[a-z_]+=")
_BLOCK = 2**17
# White space that may come with a bare sequence, beside its bases.
_SLACK_BYTES = 2**20
_HOW_TO_SEND = (
    "With curl: -H 'Content-Type: text/plain' -d ACGT for a bare sequence, "
    "-H 'Content-Type: application/json' -d @request.json for JSON, "
    "--data-binary @genes.fa for FASTA or FASTQ, or -F file=@genes.fa."
)


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
            are read also as `read_flat_file`.
    """
    if media_types.is_json(received.media_type):
        _refuse_file(file.peek(LOOKED_AT)[:LOOKED_AT].lstrip(_LEADING))
        return _from_json(read_json(file, schema, limits))
    n_skipped = _skip_leading(file)
    first = file.peek(LOOKED_AT)[:LOOKED_AT]
    kind = _kind_of(first)
    may_be_table = kind is None and first[:1] not in _JSON
    foreign = recognise_foreign(first, may_be_table=may_be_table)
    if foreign is not None:
        raise ProblemError("body.unsupported_type", f"This is {foreign.name}. {foreign.advice}")
    if received.media_type != media_types.TEXT and received.media_type not in media_types.FILES:
        raise _unsupported(f"{shown(received.media_type)} is not a type that is read here.")
    if kind is not None:
        return Submission(_from_file(file, kind, limits.record_bases), single=False)
    if received.media_type == media_types.TEXT:
        text = _read_text(file, n_skipped, limits.record_bases)
        return Submission(iter([Submitted("1", text)]), single=True)
    if first[:1] in _JSON and received.media_type in media_types.MAY_BE_JSON:
        return _from_json(read_json(file, schema, limits))
    raise _unreadable(received, first)


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


def _unreadable(received: ReceivedBody, first: bytes) -> ProblemError:
    """Why nothing is read of a body of files, and what to do.

    Args:
        first: its first bytes, without white space before them.
    """
    if not first:
        return ProblemError("body.empty", "Send a sequence. " + _HOW_TO_SEND)
    if first[:1] in _JSON and received.media_type == media_types.URL_ENCODED:
        return _unsupported(
            "The body looks like JSON, and its Content-Type says that it is a form."
        )
    if received.media_type == media_types.URL_ENCODED and _FIELD.match(first):
        return _unsupported(
            "The body holds fields of a form; options go into the query (?pooling=mean), and the "
            "body is the sequence."
        )
    if received.media_type in ("", media_types.URL_ENCODED) and received.fields is None:
        return _unsupported(
            "The body begins neither with > (FASTA) nor @ (FASTQ), and its Content-Type does not "
            "say what it is."
        )
    return ProblemError(
        "fasta.invalid", f"It begins neither with > (FASTA) nor with @ (FASTQ). {_HOW_TO_SEND}"
    )


def _unsupported(reason: str) -> ProblemError:
    return ProblemError("body.unsupported_type", f"{reason} {_HOW_TO_SEND}")


def _kind_of(first: bytes) -> FileKind | None:
    return next((kind for start, kind in BEGINNINGS.items() if first.startswith(start)), None)


def _refuse_file(first: bytes) -> None:
    """Raises ProblemError 415: what calls itself JSON is a file that people have."""
    if first[:1] in _JSON:
        return
    kind, table = _kind_of(first), recognise_table(first)
    if kind is not None:
        raise _unsupported(f"The body is {NAMES[kind]}, and its Content-Type says JSON.")
    if table is not None:
        raise ProblemError("body.unsupported_type", f"This is {table[0]}. {table[1]}")


def _skip_leading(file: BufferedReader) -> int:
    """Skip a byte order mark and white space; how many characters the latter has."""
    if file.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
        file.read(len(BYTE_ORDER_MARK))
    n_skipped = 0
    while True:
        block = file.peek(1)
        rest = block.lstrip(_LEADING)
        n_skipped += len(file.read(len(block) - len(rest)))
        if rest or not block:
            return n_skipped


def _read_text(file: BufferedReader, n_skipped: int, max_bases: int) -> str:
    """A bare sequence as it was sent: positions in it count white space before it."""
    most = 2 * max_bases + _SLACK_BYTES
    parts, size = [b" " * min(n_skipped, most)], n_skipped
    while True:
        if size > most:
            raise ProblemError(
                "record.too_long", f"A record may have {max_bases} bases.", limit=max_bases
            )
        if not (chunk := file.read(_BLOCK)):
            return b"".join(parts).decode("utf-8", errors="replace")
        parts.append(chunk)
        size += len(chunk)


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


def _from_file(file: BufferedReader, kind: FileKind, max_bases: int) -> Iterator[Submitted]:
    for number, record in enumerate(read_flat_file(file, kind, max_bases), start=1):
        yield Submitted(record.id, record.sequence, id_problem(record.id, number))
