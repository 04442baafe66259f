"""FASTA, FASTQ, GenBank and EMBL as instruments, editors and databases write them."""

import gzip
import io
from typing import Any

import httpx
import pytest

from app.errors import ProblemError
from app.requests.flat_files import FileKind, FileRecord, read_flat_file
from tests.support.live_service import Service

GENBANK = b"""LOCUS       AB000123                 24 bp    DNA     linear   BCT 01-JAN-2000
DEFINITION  A made-up gene.
ACCESSION   AB000123
VERSION     AB000123.4
FEATURES             Location/Qualifiers
     source          1..24
ORIGIN
        1 gatcctccat atacaacggt
       21 atct
//
"""
EMBL = b"""ID   X56734; SV 1; linear; mRNA; STD; PLN; 24 BP.
XX
AC   X56734; S46826;
XX
SQ   Sequence 24 BP; 7 A; 7 C; 3 G; 7 T; 0 other;
     gatcctccat atacaacggt                                                     20
     atct                                                                      24
//
"""
FASTQ = b"@r1 x\nACGT\n+\nI@+I\n@r2\nTTG\n+r2\nIII\n"
READS = [("r1", 4), ("r2", 3)]


def told(service: Service, content: bytes) -> list[tuple[str, int]]:
    answer = service.post("/tokenize", content=content)
    assert answer.status_code == 200, answer.text
    return [(record["id"], record["n_bases"]) for record in answer.json()["records"]]


def problem(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    assert answer.status_code == found["status"] >= 400
    return found


def test_a_space_before_a_name_is_no_part_of_it(service: Service) -> None:
    assert told(service, b"> first one\nACGT\n>\t second\nAC\n") == [("first", 4), ("second", 2)]
    assert told(service, b">chr1\t0\t100\nACGT\n") == [("chr1", 4)]


@pytest.mark.parametrize("line_break", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n \n"])
def test_fastq_with_any_line_ends_and_empty_lines(
    service: Service, line_break: bytes, end: bytes
) -> None:
    content = FASTQ.rstrip() + end
    assert told(service, content.replace(b"\n", line_break)) == READS


def test_fastq_over_several_lines(service: Service) -> None:
    content = b"@r1\nACGT\nACGT\nAC\n+\n@III\n+III\nII\n@r2\nTTG\n+\nIII\n"
    assert told(service, content) == [("r1", 10), ("r2", 3)]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"@r\nACGTTGCAACGT\n+\n", 3, "it ends in the middle of a record"),
        (b"@r\nACGTTGCAACGT\n", 2, "it ends in the middle of a record"),
        (b"@r\nACGT\n+\nIIIIII\n", 4, "length of sequence and qualities differ"),
        (b"@r\nACGT\n+s\nIIII\n", 3, "what follows + is not what follows @"),
        (b"@r\nACGT\n+\nIIII\nACGT\n", 5, "does not begin with @"),
    ],
)
def test_what_is_wrong_with_fastq_is_said_with_its_line(
    service: Service, content: bytes, line: int, reason: str
) -> None:
    answer = service.post("/tokenize", content=content)

    found = problem(answer)
    assert (found["code"], found["line"]) == ("fastq.invalid", line)
    assert found["detail"].startswith(f"Line {line}: ")
    assert reason in found["detail"]
    assert "ACGT" not in answer.text


def test_both_reads_of_a_pair_are_told_what_to_do(service: Service) -> None:
    pair = b"@r1 1:N:0:ACGT\nACGT\n+\nIIII\n@r1 2:N:0:ACGT\nACGT\n+\nIIII\n"
    found = problem(service.post("/tokenize", content=pair))
    assert found["code"] == "record.duplicate_id"
    assert "the two reads of a pair" in found["detail"]


def test_a_comment_in_fasta_is_named_by_its_line(service: Service) -> None:
    found = problem(service.post("/tokenize", content=b">a\nACGT\n\n# note\nACGT\n"))
    assert (found["code"], found["line"]) == ("fasta.invalid", 4)
    assert found["detail"].startswith("Line 4: it begins with #.")


@pytest.mark.parametrize("content", [GENBANK, EMBL], ids=["genbank", "embl"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda c: c.replace(b"\n", b"\r\n")])
def test_flat_files_of_the_databases_are_read(service: Service, content: bytes, pack: Any) -> None:
    name = "AB000123.4" if content == GENBANK else "X56734.1"
    other = content.replace(b"AB000123", b"AB000999").replace(b"X56734", b"X99999")
    assert told(service, pack(content + other)) == [
        (name, 24),
        (name.replace("000123", "000999").replace("56734", "99999"), 24),
    ]


@pytest.mark.parametrize("content", [GENBANK, EMBL], ids=["genbank", "embl"])
def test_a_flat_file_that_is_cut_is_no_shorter_sequence(service: Service, content: bytes) -> None:
    for end in (-4, -12, 200):
        found = problem(service.post("/tokenize", content=content[:end]))
        assert found["code"] == "flatfile.invalid"
        assert "it ends in the middle of a record" in found["detail"]


def test_a_place_in_a_flat_file_counts_bases(service: Service) -> None:
    found = problem(
        service.post("/tokenize", content=GENBANK.replace(b"atacaacggt", b"ataJaacggt"))
    )
    assert (found["record"], found["position"], found["letter"]) == ("AB000123.4", 14, "J")


@pytest.mark.parametrize(
    ("sequence", "hint"),
    [("        1 atgcctgaaa gctg", "Numbers of positions go first"), ("ACGIT", "It is inosine")],
)
def test_numbers_and_inosine_are_called_that(service: Service, sequence: str, hint: str) -> None:
    as_text = service.post("/tokenize", content=sequence, headers={"Content-Type": "text/plain"})
    as_json = service.post("/tokenize", json={"sequence": sequence})
    for answer in (as_text, as_json):
        assert hint in problem(answer)["detail"]
    assert problem(as_text)["position"] == problem(as_json)["position"]


DOORS = ["json", "text", "fasta"]


def through(service: Service, door: str, sequence: str, name: str = "a") -> httpx.Response:
    if door == "json":
        return service.post("/tokenize", json={"sequences": [{"id": name, "sequence": sequence}]})
    if door == "text":
        headers = {"Content-Type": "text/plain"}
        return service.post("/tokenize", content=sequence.encode(), headers=headers)
    return service.post("/tokenize", content=f">{name}\n{sequence}\n".encode())


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff", "\u00a0", "\u2003"])
def test_the_doors_take_out_the_same_unseen_letters(service: Service, unseen: str) -> None:
    for door in DOORS:
        document = through(service, door, f"AC{unseen}GT").json()
        (record,) = document.get("records", [document])
        assert (record["n_bases"], record["changes"]["white_space"]) == (4, 1), door


@pytest.mark.parametrize("unseen", ["\u2060", "\u00ad", "\x00", "é"])
def test_the_doors_refuse_the_same_ones(service: Service, unseen: str) -> None:
    for door in DOORS:
        found = problem(through(service, door, f"  AC{unseen}GT"))
        assert (found["position"], found["letter"]) == (5, unseen), door


def test_files_have_ids_of_all_languages_as_json_has(service: Service) -> None:
    for name in ("größe", "遺伝子"):
        for door in ("json", "fasta"):
            (record,) = through(service, door, "ACGT", name).json()["records"]
            assert record["id"] == name
    for name in ("a\u00a0b", "a\u200b"):
        for door in ("json", "fasta"):
            assert problem(through(service, door, "ACGT", name))["code"] == "record.invalid_id"


def test_files_put_together_by_cat_may_have_marks_in_the_middle(service: Service) -> None:
    assert told(service, "\ufeff>a\nACGT\n\ufeff>b\nAC\n".encode()) == [("a", 4), ("b", 2)]


def test_a_newline_after_gzip_is_no_damage(service: Service) -> None:
    for after in (b"\n", b"\r\n", b"\0\0\n"):
        assert told(service, gzip.compress(b">a\nACGT\n") + after) == [("a", 4)]


def bgzf(content: bytes) -> bytes:
    """A block as bgzip writes it, from the specification (SAMv1, 4.1)."""
    packed = gzip.compress(content, mtime=0)
    size = len(packed) + 8 - 1
    extra = b"\x06\x00BC\x02\x00" + size.to_bytes(2, "little")
    return packed[:3] + b"\x04" + packed[4:9] + b"\xff" + extra + packed[10:]


END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def test_bgzf_that_is_cut_between_two_blocks_is_seen(service: Service) -> None:
    whole = bgzf(b">a\nACGT\n") + bgzf(b">b\nAC\n") + END
    assert told(service, whole) == told(service, whole + b"\n") == [("a", 4), ("b", 2)]

    found = problem(service.post("/tokenize", content=bgzf(b">a\nACGT\n")))
    assert found["code"] == "gzip.invalid"
    assert "BGZF" in found["detail"]


@pytest.mark.parametrize(
    ("kind", "begin", "end"),
    [
        ("fasta", b">a\nAC\n", b"GT\n"),
        ("fastq", b"@a\nA\n+\nI\n", b"@b\nA\n+\nI\n"),
        ("genbank", b"LOCUS       a\n", b"ORIGIN\n 1 ac\n//\n"),
        ("genbank", b"LOCUS       a\nORIGIN\n 1 ac\n", b"//\n"),
        ("embl", b"ID   a;\n", b"SQ   s\n ac\n//\n"),
    ],
    ids=["FASTA", "FASTQ", "GenBank", "in a sequence", "EMBL"],
)
def test_lines_are_counted_also_where_they_are_empty(
    kind: FileKind, begin: bytes, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a megabyte of gzip is 268 million of them: minutes, in each of four threads."""
    monkeypatch.setattr("app.requests.flat_files._SLACK", 1000)

    def read(n_lines: int) -> list[FileRecord]:
        file = io.BufferedReader(io.BytesIO(begin + b"\n" * n_lines + end))  # type: ignore[arg-type]
        return list(read_flat_file(file, kind, 500))

    assert next(record.id for record in read(1400)) == "a"
    with pytest.raises(ProblemError, match="may have 1500 lines") as caught:
        read(1_000_000)
    assert caught.value.code == (f"{kind}.invalid" if kind in "fasta fastq" else "flatfile.invalid")
