"""Every FASTA, FASTQ, GenBank and EMBL file of Biopython's tests, as it and the service read it.

    GENA_REPLAY=download python -m pytest tests/replay
    GENA_REPLAY=/a/folder/biopython-1.85/Tests python -m pytest tests/replay

Ids, lengths and letters have to be the same, or the refusal is right by what Biopython read, or it
stands below with its reason. It takes a download of 19 MB and a quarter of a minute, so it runs
when it is asked for.
"""

import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import Service, Truth, running

SeqIO = pytest.importorskip("Bio.SeqIO", reason="Biopython is not installed")

SOURCE = "biopython==1.85"
FORMATS = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".ffn", ".faa", ".pro", ".nu"), "fasta"),
    ".fastq": "fastq",
    **dict.fromkeys((".gb", ".gbk", ".gbff", ".seq"), "genbank"),
    ".embl": "embl",
}
DNA = set("ACGTURYSWKMBDHVN")

BEFORE = "text stands before the first record; Biopython refuses it, or skips it"
REFUSED = {
    "Fasta/aster_blast.pro": BEFORE,
    "Fasta/aster_pearson.pro": BEFORE,
    "GenBank/gbvrl1_start.seq": BEFORE,
    "GenBank/no_end_marker.gb": "it has no // at its end: it may have been cut",
    "GenBank/no_origin_no_end.gb": "it was cut",
    "Quality/error_qual_null.fastq": "Biopython refuses a quality; here two reads have one id",
    "Quality/error_double_seq.fastq": "a sequence line begins with @; Biopython refuses it, too",
    "Quality/error_tabs.fastq": "tabs within a sequence; Biopython refuses it, too",
}
QUALITIES = "Biopython refuses a quality; qualities are not read here"
ANSWERED = {
    "EMBL/RepBase23.02.embl": "its accession is a dot; its name is taken",
    "EMBL/xx_after_co.embl": "Biopython refuses a line that is not read here",
    "GenBank/invalid_product.gb": "Biopython refuses a feature; features are not read here",
    "Quality/error_spaces.fastq": "white space within a sequence is taken out",
    "Quality/error_qual_del.fastq": QUALITIES,
    "Quality/error_qual_escape.fastq": QUALITIES,
    "Quality/error_qual_space.fastq": QUALITIES,
    "Quality/error_qual_tab.fastq": QUALITIES,
    "Quality/error_qual_unit_sep.fastq": QUALITIES,
    "Quality/error_qual_vtab.fastq": QUALITIES,
}

pytestmark = [
    pytest.mark.skipif(
        "GENA_REPLAY" not in os.environ, reason="GENA_REPLAY names no files of Biopython's tests"
    ),
    pytest.mark.filterwarnings("ignore"),  # Biopython's, of its own broken files
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ["GENA_REPLAY"]
    if given != "download":
        return Path(given)
    place = tmp_path_factory.mktemp("biopython")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run([*pip, "-d", place, SOURCE], capture_output=True, text=True)
    packed = list(place.glob("biopython-*.tar.gz"))
    if not packed:
        pytest.skip(f"{SOURCE} cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    with tarfile.open(packed[0]) as archive:
        archive.extractall(place, filter="data")
    (tests,) = place.glob("biopython-*/Tests")
    return tests


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(Truth.make(tmp_path_factory.mktemp("truth"))) as started:
        yield started


def by_biopython(path: Path) -> list[tuple[str, str]] | None:
    """Ids and letters; None where it refuses the file, an empty sequence where it has none."""
    try:
        records = list(SeqIO.parse(path, FORMATS[path.suffix]))
    except (ValueError, AttributeError, SeqIO.QualityIO.InvalidCharError):
        return None
    found = []
    for record in records:
        try:
            found.append((record.id, str(record.seq).upper().replace("U", "T")))
        except ValueError:  # "Sequence content is undefined"
            found.append((record.id, ""))
    return found


def is_right(code: str, records: list[tuple[str, str]] | None) -> bool:
    """Whether a refusal follows from what Biopython read."""
    if records is None:
        return code in ("fastq.invalid", "flatfile.invalid", "body.unsupported_type")
    match code:
        case "sequence.invalid_letter":
            return any(set(sequence) - DNA for _, sequence in records)
        case "sequence.ambiguous":
            return any(sum(s.count(n) for n in "ACGTN") < 2 / 3 * len(s) for _, s in records)
        case "sequence.empty":
            return any(not sequence for _, sequence in records)
        case "record.duplicate_id":
            return max(Counter(name for name, _ in records).values()) > 1
        case _:
            return False


def is_same(answer: dict[str, Any], records: list[tuple[str, str]]) -> bool:
    """Ids, lengths, and the letters of every token that is known."""
    told = answer["records"]
    if [(r["id"], r["n_bases"]) for r in told] != [(name, len(s)) for name, s in records]:
        return False
    return all(
        token in ("[UNK]", "[CLS]", "[SEP]") or token == sequence[first:end]
        for record, (_, sequence) in zip(told, records, strict=True)
        for token, (first, end) in zip(record["tokens"], record["offsets"], strict=True)
    )


def test_every_file_is_read_as_biopython_reads_it(service: Service, folder: Path) -> None:
    outcomes: Counter[str] = Counter()
    odd = {}
    for path in sorted(each for each in folder.rglob("*") if each.suffix in FORMATS):
        name, records = path.relative_to(folder).as_posix(), by_biopython(path)
        response = service.post("/tokenize", content=path.read_bytes())
        answer = response.json()
        if response.status_code == 200:
            if records is not None and is_same(answer, records):
                outcomes["same"] += 1
            elif name in ANSWERED:
                outcomes["answered, with a reason"] += 1
            else:
                odd[name] = "answered otherwise"
        elif is_right(answer["code"], records) or name in REFUSED:
            outcomes[answer["code"]] += 1
        else:
            odd[name] = answer["detail"]
        assert response.status_code < 500, name
    print(dict(outcomes))
    assert not odd
    assert outcomes["same"] >= 120
