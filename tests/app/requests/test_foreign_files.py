"""What people send in place of sequences is called by its name, with what to do about it."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from app.errors import too_many_records
from app.problems import PROBLEMS
from tests.support.live_service import Service

FASTA = b">a\nACGT\n"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("genes.fa", FASTA)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("genes.fa")
        member.size = len(FASTA)
        archive.addfile(member, io.BytesIO(FASTA))
    return file.getvalue()


def office() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    return file.getvalue()


FILES = {
    "a file of Excel, Word or the like": (office(), "as CSV UTF-8"),
    "a zip archive": (zipped(), "unzip"),
    "bzip2": (bz2.compress(FASTA), "bunzip2"),
    "xz": (lzma.compress(FASTA), "unxz"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00", "unzstd"),
    "2bit": (b"\x43\x27\x41\x1a" + bytes(12), "twoBitToFa"),
    "a tar archive": (tarred(), "tar -xf"),
    "gzip in gzip": (gzip.compress(gzip.compress(FASTA)), "gunzip"),
    "text in UTF-16": (FASTA.decode().encode("utf-16"), "iconv"),
    "a Clustal alignment": (b"CLUSTAL W (1.83) multiple sequence alignment\n\n", "AlignIO"),
    "a PHYLIP alignment": (b" 5 13\nCow       AAGGTT\n", "AlignIO"),
    "a Stockholm alignment": (b"# STOCKHOLM 1.0\n", "AlignIO"),
    "SAM": (b"@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:10\n", "samtools fasta"),
    "BAM": (gzip.compress(b"BAM\x01" + bytes(8)), "samtools fasta"),
    "GFF": (b"##gff-version 3\nchr1\t.\tgene\t1\t9\t.\t+\t.\tID=a\n", "bedtools getfasta"),
    "BED": (b"chr1\t0\t100\nchr1\t50\t150\n", "bedtools getfasta"),
    "FASTA that begins with a comment": (b";old\n;older\n>a\nACGT\n", "grep -v '^;'"),
    # As R's write.csv and write.csv2 make them.
    "a table with commas": (b'"name","sequence"\n"a","ACGT"\n', "tr"),
    "a table with semicolons": (b'"name";"sequence"\n"a";"ACGT"\n', "tr"),
    "a table with tabs": (b"name\tsequence\na\tACGT\n", "awk"),
    "GFF or GTF": (b"chr1\tb\tgene\t1\t9\t.\t+\t.\tID=a\n", "bedtools getfasta"),
    "a SnapGene file": (b"\t\x00\x00\x00\x0eSnapGene\x00\x01", "SeqIO"),
    "an ABI trace": (b"ABIF\x00\x65", "SeqIO"),
    "a file whose first line is a comment": (b"#note\n>a\nACGT\n", "grep -v '^#'"),
    "RTF": (b"{\\rtf1\\ansi ACGT}", "plain text"),
    "HTML or XML": (b"<!doctype html><html>", "not its page"),
}


@pytest.mark.parametrize(
    "media_type", ["application/octet-stream", "text/plain", "application/vnd.ms-excel", None]
)
@pytest.mark.parametrize("name", FILES)
def test_it_is_named_and_something_helps(
    service: Service, name: str, media_type: str | None
) -> None:
    content, help_ = FILES[name]
    headers = {} if media_type is None else {"Content-Type": media_type}

    answer = service.post("/embeddings", content=content, headers=headers)
    form = service.post("/embeddings", files={"file": content})

    for each in (answer, form):
        assert (each.status_code, each.json()["code"]) == (415, "body.unsupported_type")
        assert each.json()["detail"].startswith(f"This is {name}. ")
        assert help_ in each.json()["detail"]


def pasted(detail: str, tool: str, folder: Path) -> None:
    """Run what is shown from this tool on, as it stands in an error's raw JSON."""
    raw = json.dumps(detail)[1:-1]
    assert '"' not in raw.replace(r"tr -d '\"'", "")
    command = raw[raw.index(f"{tool} ") :]
    for shell in filter(shutil.which, ("bash", "zsh")):
        subprocess.run([shell, "-c", command], cwd=folder, check=True)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("text in UTF-16", "genes.fa"),
        ("a table with commas", "table.csv"),
        ("a table with semicolons", "table.csv"),
        ("a table with tabs", "table.tsv"),
        ("a Clustal alignment", "file"),
        ("bzip2", "genes.fa.bz2"),
    ],
)
def test_the_command_makes_what_is_read(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    content, tool = FILES[name]
    if name == "a Clustal alignment":
        content, tool = content + b"a    AC-GT\nb    ACC--\n", "python3"
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    detail = service.post("/embeddings", content=content).json()["detail"]
    (tmp_path / file).write_bytes(content)
    if tool == "bunzip2":  # it takes what it unpacks away, and there are two shells
        detail = detail.replace("bunzip2", "bunzip2 --keep --force")

    pasted(detail, tool, tmp_path)

    (made,) = [path for path in tmp_path.iterdir() if path.name not in (file, "aligned.fa")]
    record = service.post("/tokenize", content=made.read_bytes()).json()["records"][0]
    assert (record["id"], record["n_bases"]) == ("a", 4)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("gene,length,dna\na,8,ACGTACGT\nb,4,ACGT\n", {"a": 8, "b": 4}),
        ("ACGTACGT,a\nACGT,b\n\n", {"a": 8, "b": 4}),
        ("a\tACGT\nb\tGGCC\n", {"a": 4, "b": 4}),
        ('"";"name";"seq"\r\n"1";"x y";"ACGTN"\r\n', {"1": 5}),
        ("name;length;seq\r\na;8;ACGTACGT\r\n;;\r\n", {"a": 8}),
        ("name\tseq\t\r\na\tACGTACGT\t\r\n\t\t\r\n", {"a": 8}),
        (f"GATA,{'ACGT' * 900}\nb,ACGT\n", {"GATA": 3600, "b": 4}),
    ],
    ids=["third", "first", "no heading", "of R", "of Excel", "of Excel with tabs", "long"],
)
@pytest.mark.parametrize("media_type", ["application/json", "text/csv", "text/plain", None])
def test_the_columns_of_a_table_are_found(
    service: Service, tmp_path: Path, table: str, expected: dict[str, int], media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = service.post("/embeddings", content=table.encode(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "body.unsupported_type")
    for name in ("table.csv", "table.tsv"):
        (tmp_path / name).write_bytes(table.encode())

    pasted(answer.json()["detail"], "tr" if '"' in table else "awk", tmp_path)

    made = service.post("/tokenize", content=(tmp_path / "genes.fa").read_bytes()).json()
    assert {record["id"]: record["n_bases"] for record in made["records"]} == expected


@pytest.mark.parametrize(
    ("content", "name"), [(FASTA, "FASTA"), (b"@r\nAC\n+\nII\n", "FASTQ")], ids=["fasta", "fastq"]
)
def test_a_file_that_is_called_json_is_called_by_its_name(
    service: Service, content: bytes, name: str
) -> None:
    answer = service.post(
        "/embeddings", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 415
    assert answer.json()["detail"].startswith(f"The body is {name}, and its Content-Type says JSON")


def test_too_many_records_are_parted_by_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "genes.fa").write_text(">a\nAC\n>b\nGT\n>c\nTT\n")
    pasted(too_many_records(2).detail.partition(". Or raise")[0], "awk", tmp_path)
    sizes = [len((tmp_path / f"part{n}.fa").read_text().split(">")) - 1 for n in (0, 1)]
    assert sizes == [2, 1]


def test_no_advice_that_is_always_the_same_has_double_quotes() -> None:
    kinds = {code: f"{kind.example} {kind.hint}" for code, kind in PROBLEMS.items()}
    assert [code for code, told in kinds.items() if '"' in told] == []
