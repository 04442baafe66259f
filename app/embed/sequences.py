"""The input: its records by number, any stretch of them by coordinates.

Plain and bgzipped FASTA are read where they lie, by pysam (htslib): MIT, wheels for macOS arm64,
BGZF built in, lines that end with LF or CR LF. (pyfaidx reads BGZF with Biopython only, and of a
file of CR it makes empty records.) It is believed only where it finds what our own reader would:
htslib leaves out empty records and repeated ids in silence, and letters that cannot be seen too, of
which it then takes others into its count. So the bytes are looked at first.
Everything else (gzip, FASTQ, GenBank, EMBL, lines of many lengths, CR, standard input) is read once
as a stream, and its letters are kept in a temporary file, a byte a base.
"""

import hashlib
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from app.embed.errors import InputError, TryAgainError
from app.errors import ProblemError
from app.requests.bodies import BYTE_ORDER_MARK, ReceivedBody, check_wanted, open_decoded
from app.requests.flat_files import BEGINNINGS, FileKind, read_flat_file_into
from app.requests.foreign_files import recognise_foreign
from app.requests.tables import LOOKED_AT
from converter.errors import is_full_disk
from converter.tokenizer_file import LETTERS

STDIN = "-"
_BLOCK = 2**20
# Nothing bounds a file of one's own; a record of more letters is none.
_MOST = 2**40
# Of ASCII, what can be seen; and in titles also blanks, and letters of all languages.
_LETTERS = bytes(range(0x21, 0x7F)) + b"\n"
# A line of DNA and nothing else.
_BARE = re.compile(rf"[{LETTERS}]{{8,}}[\s\d]".encode(), re.IGNORECASE)
_IN_TITLES = _LETTERS + b" \t" + bytes(range(0x80, 0x100))


class Sequences(Protocol):
    """Records of DNA as text, not yet checked.

    Attributes:
        names: the id of each record, in order.
        lengths: letters of each.
    """

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def lengths(self) -> Sequence[int]: ...

    def fetch(self, record: int, start: int, end: int) -> str:
        """Letters start to end of a record, 0-based, half-open."""
        ...


@dataclass(frozen=True)
class Input:
    """An input that is open.

    Attributes:
        name: of the file, without its folder.
        sha256: of the file as it is, compressed or not.
        indexed: it is read where it lies.
    """

    name: str
    sha256: str
    sequences: Sequences
    indexed: bool


@contextmanager
def open_input(path: str, stop: threading.Event) -> Iterator[Input]:
    """Open a file, or standard input, to read it by coordinates.

    Args:
        path: of the file; `-` is standard input.
        stop: when set, reading is given up.

    Raises:
        InputError: it cannot be read; what is wrong, and where.
        TryAgainError: there is no room for temporary files.
        AbandonedError: `stop` was set.
    """
    called = "standard input" if path == STDIN else path
    with ExitStack() as resources:
        try:
            file, sha256 = _open_hashed(path, resources, stop)
            sequences: Sequences | None = None
            if path != STDIN and Path(path).is_file():
                sequences = _indexed(Path(path), file, resources, stop)
            indexed = sequences is not None
            if sequences is None:
                sequences = _spooled(file, resources, stop)
        except ProblemError as error:
            raise InputError(f"{called}: {error.detail}") from None
        except OSError as error:
            if is_full_disk(error):
                raise TryAgainError(
                    f"{tempfile.gettempdir()} is full. Make room there, or set TMPDIR to a folder "
                    "with room for a byte a base of the input."
                ) from error
            if isinstance(error, IsADirectoryError):
                files = f"{shlex.quote(path.rstrip('/'))}/*.fa"
                raise InputError(
                    f"{path} is a folder. Name a file, or give all as one: cat {files} | "
                    "gena embed - -o FOLDER"
                ) from error
            raise InputError(f"{called} cannot be read ({error.strerror}).") from error
        yield Input(called if path == STDIN else Path(path).name, sha256, sequences, indexed)


def _open_hashed(path: str, resources: ExitStack, stop: threading.Event) -> tuple[BinaryIO, str]:
    """The file from its beginning, and its SHA-256; standard input and pipes are copied first."""
    digest = hashlib.sha256()
    copy: IO[bytes] | None = None
    file: IO[bytes]
    opened = None if path == STDIN else Path(path).open("rb")  # noqa: SIM115
    source = sys.stdin.buffer if opened is None else resources.enter_context(opened)
    if path == STDIN or not source.seekable():
        file = copy = resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    else:
        file = source
    while block := source.read(_BLOCK):
        check_wanted(stop)
        digest.update(block)
        if copy is not None:
            copy.write(block)
    file.seek(0)
    return file, digest.hexdigest()


class _Indexed:
    """A FASTA file by htslib's index; see `Sequences`."""

    def __init__(self, path: Path, index: Path, index_of_blocks: Path) -> None:
        import pysam

        blocks = str(index_of_blocks) if index_of_blocks.exists() else None
        self._file = pysam.FastaFile(str(path), str(index), blocks)
        self.names: Sequence[str] = self._file.references
        self.lengths: Sequence[int] = self._file.lengths

    def fetch(self, record: int, start: int, end: int) -> str:
        letters: str = self._file.fetch(self.names[record], start, end)
        return letters

    def close(self) -> None:
        self._file.close()


def _indexed(
    path: Path, file: BinaryIO, resources: ExitStack, stop: threading.Event
) -> Sequences | None:
    """The file by an index of its own; None where htslib does not read what is there."""
    import pysam

    with open_decoded(ReceivedBody(file, "", 0), _MOST, stop) as decoded:
        if not decoded.peek(1).startswith(b">"):
            return None
        counted = _count_plain(decoded)
    if counted is None:
        return None
    pysam.set_verbosity(0)
    try:
        # The index is in memory once the file is open: nothing is left behind by a process that is
        # killed.
        with tempfile.TemporaryDirectory(prefix="gena-embed-") as folder:
            index, blocks = Path(folder, "index.fai"), Path(folder, "index.gzi")
            # Never the index that lies beside the file, which may be older than it.
            pysam.faidx(str(path.absolute()), "--fai-idx", str(index), "--gzi-idx", str(blocks))
            sequences = _Indexed(path.absolute(), index, blocks)
    except (pysam.utils.SamtoolsError, UnicodeDecodeError, OSError, ValueError):
        return None
    resources.callback(sequences.close)
    found = len(sequences.names), sum(sequences.lengths)
    return sequences if found == counted and _is_whole(sequences, stop) else None


def _count_plain(decoded: IO[bytes]) -> tuple[int, int] | None:
    """Titles and letters; None where bytes are such as htslib does not read as our own reader."""
    n_titles = n_letters = 0
    before, in_title = b"\n", False
    while block := decoded.read(_BLOCK) + decoded.readline(_BLOCK):
        text = before + block.replace(b"\r\n", b"\n")
        if text.translate(None, _IN_TITLES):
            return None
        first, *others = text.split(b"\n>")
        n_titles += len(others)
        # What follows the first line of a piece is no title.
        pieces = [first.partition(b"\n")[1:] if in_title else (first,)]
        pieces += [piece.partition(b"\n")[1:] for piece in others]
        letters = b"".join(chain.from_iterable(pieces))
        if b"\n#" in letters or letters.translate(None, _LETTERS):
            return None
        n_letters += len(letters) - letters.count(b"\n")
        in_title = b"\n" not in (others[-1] if others else first) and (in_title or bool(others))
        before = b"\n" if text.endswith(b"\n") else b""
    return n_titles, n_letters


def _is_whole(sequences: Sequences, stop: threading.Event) -> bool:
    """Whether the letters are found that the index counts."""
    for record, length in enumerate(sequences.lengths):
        for start in range(0, length, _BLOCK):
            check_wanted(stop)
            end = min(start + _BLOCK, length)
            try:
                piece = sequences.fetch(record, start, end)
            except ValueError:  # htslib's
                return False
            if len(piece) != end - start:
                return False
    return True


class _Spooled:
    """Letters in a temporary file; see `Sequences`. `append` adds to the last record."""

    def __init__(self, file: IO[bytes]) -> None:
        self.names: list[str] = []
        self.lengths: list[int] = []
        self._starts: list[int] = []
        self._file = file
        self._size = self._start = 0

    def append(self, part: str, /) -> None:
        if not part.isascii():
            # Marks that nobody sees go, other letters stay one each: foreign, and refused later.
            part = part.replace("\ufeff", "").replace("\u200b", "")
        letters = "".join(part.split()).encode("ascii", "replace")
        self._size += self._file.write(letters)

    def end_record(self, name: str) -> None:
        """What was added since the last one is this record's."""
        self.names.append(name)
        self._starts.append(self._start)
        self.lengths.append(self._size - self._start)
        self._start = self._size

    def fetch(self, record: int, start: int, end: int) -> str:
        end = min(end, self.lengths[record])
        self._file.seek(self._starts[record] + start)
        return self._file.read(max(0, end - start)).decode("ascii")


def _spooled(file: BinaryIO, resources: ExitStack, stop: threading.Event) -> Sequences:
    spool = _Spooled(resources.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115
    with open_decoded(ReceivedBody(file, "", 0), _MOST, stop) as decoded:
        kind = _kind(decoded.peek(LOOKED_AT)[:LOOKED_AT])
        for name in read_flat_file_into(spool, decoded, kind, _MOST):
            check_wanted(stop)
            spool.end_record(name)
    return spool


def _kind(first: bytes) -> FileKind:
    """What a file is, by its first bytes.

    Raises:
        InputError: nothing that is read here.
    """
    begun = first.removeprefix(BYTE_ORDER_MARK).lstrip()
    kind = next((kind for start, kind in BEGINNINGS.items() if begun.startswith(start)), None)
    if kind is not None:
        return kind
    foreign = recognise_foreign(begun, may_be_table=True)
    if foreign is not None:
        raise InputError(f"The input is {foreign.name}. {foreign.advice}")
    what = "begins with none of" if begun else "is empty. It has to be"
    told = f"The input {what} FASTA (>), FASTQ (@), GenBank (LOCUS) or EMBL (ID)."
    if _BARE.match(begun):
        told += (
            " It looks like a bare sequence, which wants a line with a name before it: "
            "(echo '>name'; cat sequence.txt) | gena embed - -o FOLDER"
        )
    raise InputError(told)
