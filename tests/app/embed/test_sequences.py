"""Whatever a file looks like, any stretch of it is what Biopython reads there."""

import gzip
import io
import threading
from pathlib import Path

import pysam
import pytest
from Bio import SeqIO

from app.embed.errors import InputError
from app.embed.sequences import open_input

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
        (b"PK\x03\x04", "a zip archive"),
        (gzip.compress(fasta(TWO))[:-9], "too early"),
        (b">a\nACGT\n#comment\n", "Line 3"),
        (b"@r\nACGT\n+\nII\n", "Line 4"),
    ],
    # Not by its bytes: gzip has the time in them, and workers have to agree on names.
    ids=["empty", "text", "zip", "cut gzip", "comment", "uneven FASTQ"],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said), open_input(str(path), threading.Event()):
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
