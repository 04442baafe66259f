"""What people send in place of sequences is called by its name, with what to do about it."""

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

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


FILES = {
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
    "a SnapGene file": (b"\t\x00\x00\x00\x0eSnapGene\x00\x01", "SeqIO"),
    "an ABI trace": (b"ABIF\x00\x65", "SeqIO"),
    "a file whose first line is a comment": (b"#note\n>a\nACGT\n", "grep -v '^#'"),
    "RTF": (b"{\\rtf1\\ansi ACGT}", "plain text"),
    "HTML or XML": (b"<!doctype html><html>", "not its page"),
}


@pytest.mark.parametrize("media_type", ["application/octet-stream", "text/plain", None])
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


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("text in UTF-16", "genes.fa"),
        ("a table with commas", "table.csv"),
        ("a table with semicolons", "table.csv"),
        ("bzip2", "genes.fa.bz2"),
    ],
)
def test_the_command_makes_what_is_read(
    service: Service, tmp_path: Path, name: str, file: str
) -> None:
    content, tool = FILES[name]
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    detail = service.post("/embeddings", content=content).json()["detail"]
    assert '"' not in detail.replace("tr -d '\"'", ""), "it is pasted from JSON as it stands there"
    (tmp_path / file).write_bytes(content)

    command = detail[detail.index(tool) :]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)

    (made,) = [path for path in tmp_path.iterdir() if path.name != file]
    (record,) = service.post("/tokenize", content=made.read_bytes()).json()["records"]
    assert (record["id"], record["n_bases"]) == ("a", 4)
