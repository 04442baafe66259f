"""Which stretches get a vector: as BED, bedtools and the service's own windows have them."""

import gzip
import random
import subprocess
import threading
import tracemalloc
from pathlib import Path

import pytest

from app.embed.bed import Bed, read_bed
from app.embed.errors import InputError
from app.embed.planning import Planner, text_of
from app.embed.windows import Cut, Refused, Row
from app.inference.prepare import prepare
from app.requests.limits import Limits
from app.requests.options import Choices
from app.requests.submitted import Submitted
from converter.bundle.manifest import TOKENIZER
from converter.bundle.opening import Bundle
from converter.tokenizer import DnaTokenizer
from tests.support.embedding import InMemory


def planned(
    records: list[tuple[str, str]],
    cut: Cut | None = None,
    bed: Bed | None = None,
    tokenizer: DnaTokenizer | None = None,
    most: int = 10_000,
) -> tuple[list[Row], list[Refused]]:
    choices = Choices(pooling="mean", overflow="window")
    planner = Planner(
        InMemory(records), cut or Cut(), choices, most, threading.Event(), bed, tokenizer
    )
    rows = list(planner.rows())
    return (
        [row for row in rows if isinstance(row, Row)],
        [row for row in rows if isinstance(row, Refused)],
    )


def places(rows: list[Row]) -> list[tuple[int, int, int]]:
    return [(row.record, row.start, row.end) for row in rows]


@pytest.mark.parametrize(
    ("length", "size", "stride", "expected"),
    [
        (10, 4, 4, [(0, 4), (4, 8), (8, 10)]),
        (10, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (11, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10), (8, 11)]),
        (3, 4, 2, [(0, 3)]),
        (8, 4, 4, [(0, 4), (4, 8)]),
    ],
)
def test_windows_of_bases_cover_the_record(
    length: int, size: int, stride: int, expected: list[tuple[int, int]]
) -> None:
    rows, refused = planned([("a", "A" * length)], Cut(bases=size, base_stride=stride))
    assert [(row.start, row.end) for row in rows] == expected
    assert not refused


def test_what_gets_no_vector_is_listed_with_its_reason() -> None:
    rows, refused = planned(
        [
            ("good", "ACGT"),
            ("n", "NNNN"),
            ("empty", ""),
            ("good", "GG"),
            ("gap", "AC-T"),
            ("protein", "MKVSAGTRHDMKVSAGTRHDWYCN"),
            ("long", "A" * 20_000),
            ("", "ACGT"),
        ]
    )
    assert places(rows) == [(0, 0, 4)]
    assert [(each.record, each.code) for each in refused] == [
        ("empty", "sequence.empty"),
        ("good", "record.duplicate_id"),
        ("", "record.invalid_id"),
        ("n", "window.only_n"),
        ("gap", "sequence.invalid_letter"),
        ("protein", "sequence.ambiguous"),
        ("long", "record.too_long"),
    ]
    reasons = {each.code: each.reason for each in refused}
    assert "position 3" in reasons["sequence.invalid_letter"]
    assert "--windows" in reasons["record.too_long"]
    assert "--ambiguous accept" in reasons["sequence.ambiguous"]


def test_a_letter_that_is_none_spoils_its_windows_only() -> None:
    rows, refused = planned([("chr", "ACGT" * 5 + "*" + "ACGT" * 5)], Cut(bases=10))
    assert [row.start for row in rows] == [0, 10, 30, 40]
    (bad,) = refused
    assert (bad.record, bad.start, bad.end) == ("chr", 20, 30)
    assert "'chr:20-30': '*' at position 1" in bad.reason


@pytest.mark.parametrize(
    ("n_bases", "overlap", "window"),
    [
        (40, 0, 512), (9_000, 100, 512), (1_400, 509, 512), (30_000, 0, 512), (30_000, 100, 512),
        (2_600, 1_021, 1_024), (30_000, 100, 1_024),
    ],
)  # fmt: skip
def test_windows_of_tokens_are_those_of_the_service(
    tiny_bundle: Bundle, n_bases: int, overlap: int, window: int
) -> None:
    draw = random.Random(n_bases)
    sequence = "".join(draw.choices("ACGTacgtNU", [9, 9, 9, 9, 1, 1, 1, 1, 1, 1], k=n_bases))
    tokenizer = DnaTokenizer(tiny_bundle.path / TOKENIZER, model_max_length=window)
    cut = Cut(tokens=window - 2, overlap=overlap)
    rows, refused = planned([("a", sequence)], cut, None, tokenizer)
    assert not refused
    request = prepare(
        [Submitted("a", sequence)],
        tokenizer,
        Choices(pooling="mean", overflow="window", stride=overlap),
        Limits(1, 10**6, 10**9, 10**6),
        single=False,
        stop=threading.Event(),
    )
    strand = request.records[0].strands[0]
    expected = [strand.bases(request.store, w.first, w.end) for w in strand.windows]
    assert [(row.start, row.end) for row in rows] == expected
    # Read by itself, a window has the tokens that it had there.
    for row, there in zip(rows[:3], strand.windows, strict=False):
        text = sequence[row.start : row.end].upper().replace("U", "T")
        own = tokenizer.encode(text).ids
        assert own.tolist() == strand.ids(request.store, there.first, there.end).tolist()
    request.close()


def test_gaps_of_an_assembly_are_one_line_and_windows_begin_anew(tiny_bundle: Bundle) -> None:
    before, after = "ACGGT" * 400, "TTGAC" * 300
    gap = "N" * 12_000
    sequence = before + gap + after
    tokenizer = tiny_bundle.tokenizer()
    cut = Cut(tokens=100, overlap=10)
    rows, refused = planned([("chr", sequence)], cut, None, tokenizer, most=700)
    assert [(r.start, r.end, r.code) for r in refused] == [(2_000, 14_000, "window.only_n")]
    left, _ = planned([("chr", before)], cut, None, tokenizer)
    right, _ = planned([("chr", after)], cut, None, tokenizer)
    assert [(row.start, row.end) for row in rows] == [
        *((row.start, row.end) for row in left),
        *((row.start + 14_000, row.end + 14_000) for row in right),
    ]


def test_intervals_with_flanks_strands_and_middles(tmp_path: Path) -> None:
    path = tmp_path / "promoters.bed.gz"
    lines = [
        "#comment",
        "track name=x",
        "chr1\t10\t20\tfirst gene\t0\t-\textra",
        "chr1\t0\t5",
        "chr2 3 4 two 0 +",
        "",
        "chrM\t1\t2",
        "chr2\t30\t50\tbeyond\t0\t.",
        "chr2\t20\t20\tpoint",
    ]
    path.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    bed = read_bed(path, threading.Event())
    chr1 = "ACGTTGCAAGGCTATTCGATTACAGATTAC"
    records = [("chr1", chr1), ("chr2", "G" * 40)]
    rows, refused = planned(records, Cut(flank=3), bed)
    assert rows == [
        Row(0, 7, 23, "-", "first gene"),
        Row(0, 0, 8),
        Row(1, 0, 7, "+", "two"),
        Row(1, 17, 23, "+", "point"),
    ]
    from Bio.Seq import Seq

    assert text_of(InMemory(records), rows[0]) == str(Seq(chr1[7:23]).reverse_complement())
    assert [(each.record, each.code, each.name) for each in refused] == [
        ("chrM", "bed.no_such_place", None),
        ("chr2", "bed.no_such_place", "beyond"),
    ]
    assert "chr1, chr2" in refused[0].reason
    assert "40 bases" in refused[1].reason
    _, refused = planned(records, Cut(), bed)
    assert "--center" in refused[-1].reason
    rows, _ = planned(records, Cut(center=8), bed)
    assert [(row.start, row.end) for row in rows] == [(11, 19), (0, 6), (0, 7), (16, 24)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("chr1\t5", "at least three columns"),
        ("chr1:1,001-2,000", r"which count from 1.* awk -F '\[:-\]'"),
        ("chr1,0,100", r"commas.* tr ',' '\\t'"),
        ("chrom\tchromStart\tchromEnd", "Begin that line with #"),
        ("chr1\t-9\t8", "not whole numbers"),
        ("chr1\t0\t" + "9" * 5_000, "of a genome's size"),
        ("chr1\t0\t9\t" + "n" * 2**20, "more than 1048576 characters"),
        ("chr1\t9\t8", "ends before it begins"),
        ("chr1\t1\t9\tn\t0\t*", "strand"),
        ("chr1\t9\trs1\tA\tG\t.\tPASS\tAC=1", "VCF.*bcftools"),
        ("", "no intervals"),
    ],
)
def test_a_bed_file_that_is_wrong_is_said_with_its_line(
    tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "x.bed"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=said):
        read_bed(path, threading.Event())


@pytest.mark.parametrize("table", ["chr1\t5\t9\n".encode("utf-16"), b"PK\x03\x04\x14\0\x06\0"])
def test_a_table_of_a_spreadsheet_is_told_from_text(tmp_path: Path, table: bytes) -> None:
    path = tmp_path / "regions.txt"
    path.write_bytes(table)
    with pytest.raises(InputError, match=r"iconv -f UTF-16 -t UTF-8 regions\.txt"):
        read_bed(path, threading.Event())


def test_what_makes_bed_of_gff_is_said_and_works(tmp_path: Path) -> None:
    gff = tmp_path / "genes.gff"
    gff.write_text("##gff-version 3\nchr1\tEnsembl\tgene\t5\t9\t.\t-\t.\tID=a;Note=b c\n")
    with pytest.raises(InputError, match=r"line 2.*GFF or GTF") as said:
        read_bed(gff, threading.Event())
    command = str(said.value).partition("Make BED of it: ")[2]
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    (interval,) = read_bed(tmp_path / "genes.bed", threading.Event()).intervals
    assert (interval.record, interval.start, interval.end) == ("chr1", 4, 9)
    assert (interval.name, interval.strand) == ("gene", "-")


def test_what_makes_bed_of_places_of_a_browser_works(tmp_path: Path) -> None:
    (tmp_path / "places.bed").write_text("chr1:1,001-2,000\nchr2:1-5\n")
    with pytest.raises(InputError) as caught:
        read_bed(tmp_path / "places.bed", threading.Event())
    command = str(caught.value).partition("it: ")[2]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    intervals = read_bed(tmp_path / "made.bed", threading.Event()).intervals
    assert [(each.record, each.start, each.end) for each in intervals] == [
        ("chr1", 1000, 2000),
        ("chr2", 0, 5),
    ]


def test_a_bed_file_is_read_line_by_line(tmp_path: Path) -> None:
    """Names may hold what Python takes for the end of a line, and comments what they like."""
    path = tmp_path / "x.bed.gz"
    comments = (b"#" + b"c" * 198 + b"\n") * 40_000
    path.write_bytes(gzip.compress(comments + "chr1\t0\t5\ta\x0b\x85\u2028b\r\n".encode(), 1))
    tracemalloc.start()
    try:
        (interval,) = read_bed(path, threading.Event()).intervals
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (interval.line, interval.name) == (40_001, "a\x0b\x85\u2028b")
    assert peak < len(comments) / 4


@pytest.mark.parametrize("cut", [slice(0, -5), slice(0, 40)])
def test_a_bed_file_that_is_cut_is_told(tmp_path: Path, cut: slice) -> None:
    path = tmp_path / "x.bed.gz"
    path.write_bytes(gzip.compress(b"chr1\t0\t5\n" * 999)[cut] + b"\xff" * (cut.stop == 40))
    with pytest.raises(InputError, match="gz: "):
        read_bed(path, threading.Event())
