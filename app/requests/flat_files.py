"""FASTA, FASTQ, GenBank and EMBL files -> ids and sequences, a line at a time.

Text is UTF-8; a byte that is not becomes U+FFFD, which no id and no sequence may hold. Lines end
with LF, CR LF or CR. Of GenBank and EMBL only the id and the sequence are read.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from typing import Literal, NoReturn, Protocol

from app.errors import ProblemError

FileKind = Literal["fasta", "fastq", "genbank", "embl"]
# How they begin, after white space.
BEGINNINGS: dict[bytes, FileKind] = {
    b">": "fasta",
    b"@": "fastq",
    b"LOCUS ": "genbank",
    b"ID   ": "embl",
}
NAMES: dict[FileKind, str] = {
    "fasta": "FASTA",
    "fastq": "FASTQ",
    "genbank": "GenBank",
    "embl": "EMBL",
}

_BYTE_ORDER_MARK = "\ufeff"
# Of a line that is in memory at a time; only sequences of FASTA have longer ones.
_LINE_PIECE = 2**24
# White space that may come with a record, beside its bases.
_SLACK = 2**20
# Of an id in a title; another kind of space is a part of the id, and then refused.
_SPACES = re.compile(r"[ \t]+")
_END_OF_RECORD = "//"


@dataclass(frozen=True)
class FileRecord:
    """A record as its file has it: no line breaks in the sequence, the rest as it stands."""

    id: str
    sequence: str


class Parts(Protocol):
    """Takes a sequence, part after part."""

    def append(self, part: str, /) -> None: ...


def read_flat_file(file: BufferedReader, kind: FileKind, max_bases: int) -> Iterator[FileRecord]:
    """The records of a file, in order.

    Raises:
        ProblemError: 400 fasta.invalid, fastq.invalid or flatfile.invalid, 413 record.too_long:
            more is in memory than a record of `max_bases` can have.
    """
    parts: list[str] = []
    for record_id in read_flat_file_into(parts, file, kind, max_bases):
        yield FileRecord(record_id, "".join(parts))
        parts.clear()


def read_flat_file_into(
    parts: Parts, file: BufferedReader, kind: FileKind, max_bases: int
) -> Iterator[str]:
    """The ids of a file's records, each after its sequence was given to `parts`.

    Raises:
        ProblemError: as `read_flat_file`.
    """
    return _READERS[kind](_Lines(file, kind, max_bases, parts))


class _Lines:
    """Lines without their ends, the longest in pieces.

    Attributes:
        number: of the last line, from 1.
        continues: what was read last belongs to the line before it.
    """

    def __init__(self, file: BufferedReader, kind: FileKind, max_bases: int, parts: Parts) -> None:
        self._text = TextIOWrapper(file, "utf-8", "replace", None)
        self.number = 0
        self.continues = self._is_open = self._has_pieces = False
        self.parts = parts
        self._kind = kind
        self._max_bases = max_bases
        self._limit = 2 * max_bases + _SLACK
        # Of the file: an empty line is a byte, packed a thousandth of one, and takes a microsecond.
        self._most_lines = max_bases + _SLACK

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(min(self._limit, _LINE_PIECE))
        if not line:
            raise StopIteration
        self.continues, self._is_open = self._is_open, not line.endswith("\n")
        self.check(len(line))
        if not self.continues:
            self.number += 1
            if self.number > self._most_lines:
                self.fail(f"a file may have {self._most_lines} lines.")
            self._has_pieces = self._kind == "fasta" and not line.startswith(">")
        elif not self._has_pieces:
            self.fail(f"it has more than {_LINE_PIECE} characters.")
        return line.removesuffix("\n").lstrip(_BYTE_ORDER_MARK)

    def expect(self) -> str:
        """A line that has to be there."""
        line = next(self, None)
        return self.fail("it ends in the middle of a record.") if line is None else line

    def check(self, size: int) -> None:
        """Raise 413 where a record has so many characters that it cannot be one."""
        if size >= self._limit:
            raise ProblemError(
                "record.too_long",
                f"A record may have {self._max_bases} bases.",
                limit=self._max_bases,
            )

    def fail(self, reason: str) -> NoReturn:
        """Raise 400, with the line that was read last."""
        code = f"{self._kind}.invalid" if self._kind in ("fasta", "fastq") else "flatfile.invalid"
        raise ProblemError(code, f"Line {self.number}: {reason}", line=self.number)


class _Sequence:
    """What was read of a sequence; of qualities, how many."""

    def __init__(self, lines: _Lines, parts: Parts | None) -> None:
        self._lines = lines
        self._parts = parts
        self.size = 0

    def add(self, part: str) -> None:
        """Another line of it."""
        if part:
            if self._parts is not None:
                self._parts.append(part)
            self.size += len(part)
            self._lines.check(self.size)


def _id(title: str) -> str:
    return _SPACES.split(title.strip(" \t"), maxsplit=1)[0]


def _read_fasta(lines: _Lines) -> Iterator[str]:
    title: str | None = None
    sequence = _Sequence(lines, lines.parts)
    for line in lines:
        if lines.continues:
            sequence.add(line)
        elif line.startswith(">"):
            if title is not None:
                yield _id(title)
            title, sequence = line[1:], _Sequence(lines, lines.parts)
        elif line.startswith("#"):
            lines.fail("it begins with #. FASTA has no comments: remove it.")
        else:
            sequence.add(line)
    if lines.number == 1:
        lines.fail("there is no other. curl's -d removes line breaks: use --data-binary @genes.fa.")
    if title is not None:
        yield _id(title)


def _read_fastq(lines: _Lines) -> Iterator[str]:
    """Sequences and qualities may have several lines: qualities as many letters as bases."""
    for title in lines:
        if not title.strip():
            continue
        if not title.startswith("@"):
            lines.fail("a record does not begin with @, or has more qualities than bases.")
        sequence, qualities = _Sequence(lines, lines.parts), _Sequence(lines, None)
        second = _up_to_plus(lines, sequence)
        if second.rstrip() not in ("+", f"+{title[1:].rstrip()}"):
            lines.fail("what follows + is not what follows @.")
        while qualities.size < sequence.size:
            qualities.add(lines.expect().rstrip())
        if qualities.size != sequence.size:
            lines.fail("length of sequence and qualities differ.")
        yield _id(title[1:])


def _up_to_plus(lines: _Lines, sequence: _Sequence) -> str:
    """Read a sequence, and give the line after it."""
    while not (line := lines.expect()).startswith("+"):
        sequence.add(line.rstrip())
    return line


def _read_genbank(lines: _Lines) -> Iterator[str]:
    names: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        if key in ("LOCUS", "ACCESSION", "VERSION") and value.strip():
            names[key] = _id(value)
        elif key == "ORIGIN":
            _read_numbered(lines)
            yield names.get("VERSION") or names.get("ACCESSION") or names.get("LOCUS", "")
            names = {}
        elif key == _END_OF_RECORD:
            yield names.get("VERSION") or names.get("LOCUS", "")
            names = {}
    if names:
        lines.expect()


def _read_embl(lines: _Lines) -> Iterator[str]:
    """The id is the accession, else the name, with the sequence's version where it is told."""
    name, has_version = "", False  # looked for once: a name may be long, and lines many
    for line in lines:
        key, value = line[:2], line[5:]
        if key == "ID":
            name = _embl_id(value)
            has_version = "." in name
        elif key == "AC" and name and not has_version and _id(value).strip(";."):
            name = _id(value).partition(";")[0]
            has_version = "." in name
        elif key == "SV" and "." in value:
            name, has_version = value.strip(), True
        elif key == "SQ":
            _read_numbered(lines)
            yield name
            name = ""
        elif line.startswith(_END_OF_RECORD) and name:
            yield name
            name = ""
    if name:
        lines.expect()


def _embl_id(value: str) -> str:
    """`X56734; SV 1; linear; ...` -> X56734.1; `BSUB9999 standard; ...` -> BSUB9999"""
    first, *others = (part.strip() for part in value.split(";"))
    version = [part.split()[1] for part in others[:1] if re.fullmatch(r"SV +\d+", part)]
    return ".".join([_id(first), *version])


def _read_numbered(lines: _Lines) -> None:
    """A sequence in blocks, with positions before or after them, up to the record's end."""
    sequence = _Sequence(lines, lines.parts)
    while not (line := lines.expect()).startswith(_END_OF_RECORD):
        sequence.add("".join(part for part in line.split() if not part.isdecimal()))


_READERS: dict[FileKind, Callable[[_Lines], Iterator[str]]] = {
    "fasta": _read_fasta,
    "fastq": _read_fastq,
    "genbank": _read_genbank,
    "embl": _read_embl,
}
