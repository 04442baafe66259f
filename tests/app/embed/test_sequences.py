"""Whatever a file looks like, any stretch of it is what Biopython reads there."""

import gzip
import io
import random
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pysam
import pytest
from Bio import SeqIO

from app.embed.errors import InputError
from app.embed.sequences import Sequences, open_input
from app.requests.flat_files import read_flat_file

LINES = ["ACGTNacgtn", "GGGGGCCCCC", "TTA"]
TWO = [(">chr1 first", LINES), (">chr2", ["ACGTACGTAC", "AC"])]


def fasta(records: list[tuple[str, list[str]]], end: str = "\n") -> bytes:
    return "".join(line + end for title, lines in records for line in [title, *lines]).encode()


def bgzipped(folder: Path, content: bytes) -> bytes:
    plain, packed = folder / "x.fa", folder / "x.fa.gz"
    plain.write_bytes(content)
    pysam.tabix_compress(str(plain), str(packed), force=True)
    return packed.read_bytes()


def expected(content: bytes, kind: str = "fasta") -> list[tuple[str, str]]:
    text = io.StringIO(content.decode().replace("\r\n", "\n").replace("\r", "\n"))
    return [(record.id, str(record.seq)) for record in SeqIO.parse(text, kind)]


def check(path: Path, records: list[tuple[str, str]], *, indexed: bool) -> None:
    with open_input(str(path), threading.Event()) as source:
        found = source.sequences
        assert list(found.names) == [name for name, _ in records]
        assert list(found.lengths) == [len(sequence) for _, sequence in records]
        for index, (_, sequence) in enumerate(records):
            for start in range(0, len(sequence) + 1, 3):
                for end in range(start, len(sequence) + 1, 4):
                    assert found.fetch(index, start, end) == sequence[start:end]
        assert source.indexed == indexed


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_regular_fasta_is_read_where_it_lies(tmp_path: Path, end: str, packed: bool) -> None:
    content = fasta(TWO, end)
    path = tmp_path / "genome.fa"
    path.write_bytes(bgzipped(tmp_path, content) if packed else content)
    check(path, expected(content), indexed=True)


@pytest.mark.parametrize(
    "content",
    [
        fasta(TWO, "\r"),
        fasta([(">a", ["ACGT", "", "ACGT", "AC"])]),  # a blank line
        fasta([(">a", ["ACGT", "ACGTACGT", "AC"]), (">b", ["GG"])]),  # lines of many lengths
        fasta([(">a", ["ACGTT", "ACGTT"]), (">b", []), (">c", ["GG"])]),  # htslib leaves out b
        fasta([(">a", ["ACGTT"]), (">a", ["GG"])]),  # htslib leaves out the second
        b"\xef\xbb\xbf" + fasta(TWO),
    ],
    ids=["CR", "blank line", "ragged", "empty record", "id twice", "byte order mark"],
)
def test_other_fasta_is_read_as_a_stream(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    check(path, expected(content.removeprefix(b"\xef\xbb\xbf")), indexed=False)


def test_blanks_within_lines_are_no_letters(tmp_path: Path) -> None:
    """htslib's index would count them, and give others in their place."""
    path = tmp_path / "blocks.fa"
    path.write_bytes(b">a\nACGT ACGT\nACGTAACGT\nA\n")
    check(path, [("a", "ACGTACGTACGTAACGTA")], indexed=False)


@pytest.mark.parametrize(
    ("content", "letters"),
    [
        (b">a\nACGTACGT\nACG\x7f\n", "ACGTACGTACG\x7f"),
        (b">a\nACGTACGT\nACG\xff\n", "ACGTACGTACG?"),
        (b">a\nACGT\x1aACGA", "ACGT\x1aACGA"),
        (b">a\nACGT\nAC\0G\n", "ACGTAC\0G"),
    ],
    ids=["DEL", "no UTF-8", "end of a DOS file", "NUL"],
)
def test_what_cannot_be_seen_is_refused_later_and_not_left_out(
    tmp_path: Path, content: bytes, letters: str
) -> None:
    """htslib would give DNA without it, and shorter."""
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    check(path, [("a", letters)], indexed=False)


def test_the_index_gives_what_the_stream_gives(tmp_path: Path) -> None:
    """Files of pieces that are regular, odd, or none of FASTA; where htslib is believed."""
    draw = random.Random(0)
    path = tmp_path / "genome.fa"
    odd = (b"\r\n", b"\r", b"\n\n", b">b x", b"> c", b"\0", b"\v", b"\xff", b"*", b"\n#", b" ")
    n_indexed = 0
    for _ in range(200):
        width = draw.choice((3, 10, 60))
        letters = bytes(draw.choices(b"ACGTn", k=draw.randrange(100)))
        lines = [letters[at : at + width] + b"\n" for at in range(0, len(letters), width)]
        lines.insert(draw.randrange(len(lines) + 1), draw.choice(odd) * draw.randrange(2))
        path.write_bytes(b">a\n" + b"".join(lines) + b">z\nAC\n" * draw.randrange(2))
        with suppress(InputError), open_input(str(path), threading.Event()) as source:
            n_indexed += source.indexed
            if source.indexed:
                streamed = read_text(path)
                assert list(source.sequences.names) == [name for name, _ in streamed]
                assert fetched(source.sequences) == [letters for _, letters in streamed]
    assert 40 < n_indexed < 160


def fetched(found: Sequences) -> list[str]:
    return [found.fetch(index, 0, length) for index, length in enumerate(found.lengths)]


def read_text(path: Path) -> list[tuple[str, str]]:
    """By the reader that the service has."""
    with path.open("rb") as file:
        records = read_flat_file(io.BufferedReader(file), "fasta", 10**6)
        return [(record.id, "".join(record.sequence.split())) for record in records]


def test_a_line_of_many_bases_is_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.requests.flat_files._LINE_PIECE", 2**16)
    monkeypatch.setattr("app.embed.sequences._BLOCK", 2**16)
    path = tmp_path / "line.fa.gz"
    letters = "ACGTTGCA" * 2**20
    path.write_bytes(gzip.compress(f">a\n{letters}\n>b\nAC\n".encode(), 1))
    tracemalloc.start()
    try:
        with open_input(str(path), threading.Event()) as source:
            _, peak = tracemalloc.get_traced_memory()
            assert (list(source.sequences.names), list(source.sequences.lengths)) == (
                ["a", "b"],
                [len(letters), 2],
            )
            assert source.sequences.fetch(0, 2**16 - 4, 2**16 + 4) == "TGCAACGT"
    finally:
        tracemalloc.stop()
    assert peak < len(letters) / 4


@pytest.mark.parametrize(
    "content",
    [b">" + b"a" * 200 + b"\nAC\n", b"@r\n" + b"A" * 200 + b"\n+\n" + b"I" * 200],
    ids=["title", "FASTQ"],
)
def test_no_other_line_is_read_in_pieces(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.requests.flat_files._LINE_PIECE", 100)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content, mtime=0))
    said = "more than 100 characters"
    with pytest.raises(InputError, match=said), open_input(str(path), threading.Event()):
        pass


def test_gzip_and_other_formats(tmp_path: Path) -> None:
    content = fasta(TWO)
    path = tmp_path / "genome.fa.gz"
    path.write_bytes(gzip.compress(content))
    check(path, expected(content), indexed=False)
    reads = b"@r1\nACGTA\n+\n@>+!I\n@r2\nGG\n+r2\nII\n"
    path.write_bytes(reads)
    check(path, expected(reads, "fastq"), indexed=False)
    genbank = b"LOCUS       X 6 bp DNA\nVERSION     X.1\nORIGIN\n        1 acgtac\n//\n"
    path.write_bytes(genbank)
    check(path, [("X.1", "acgtac")], indexed=False)


def test_an_index_that_lies_beside_the_file_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(fasta(TWO))
    pysam.faidx(str(path))
    changed = fasta([(">other", ["GATTACA" * 3]), (">chr2", ["TT"])])
    path.write_bytes(changed)
    check(path, expected(changed), indexed=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello\n", "begins with none of FASTA"),
        (b"acgtACGN\n", r"echo '>name'; cat sequence\.txt\) \| gena embed - "),
        (b"PK\x03\x04", "a zip archive"),
        (gzip.compress(fasta(TWO))[:-9], "too early"),
        (b">a\nACGT\n#comment\n", "Line 3"),
        (b"@r\nACGT\n+\nII\n", "Line 4"),
    ],
    # Not by its bytes: gzip has the time in them, and workers have to agree on names.
    ids=["empty", "text", "bare", "zip", "cut gzip", "comment", "uneven FASTQ"],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said), open_input(str(path), threading.Event()):
        pass


def test_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    folder = tmp_path / "my genes"
    folder.mkdir()
    said = rf"is a folder.* cat '{folder}'/\*\.fa \| gena embed - -o"
    with pytest.raises(InputError, match=said), open_input(str(folder), threading.Event()):
        pass


def test_standard_input_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = io.TextIOWrapper(io.BytesIO(gzip.compress(fasta(TWO))[:-9]))
    monkeypatch.setattr("sys.stdin", cut)
    said = "^standard input: It ends too early"
    with pytest.raises(InputError, match=said), open_input("-", threading.Event()):
        pass


def test_no_temporary_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = tmp_path / "genome.fa"
    for content in (fasta(TWO), fasta(TWO, "\r")):
        path.write_bytes(content)
        with open_input(str(path), threading.Event()):
            assert not list(scratch.iterdir())  # nor after a kill
        assert not list(scratch.iterdir())
