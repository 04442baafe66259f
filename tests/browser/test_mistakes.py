"""What people paste that is no plain DNA, and what stays when a connection does not."""

import io
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.requests.flat_files import read_flat_file
from converter.tokenizer import clean
from tests.support.browser import Visit
from tests.support.page import THREE, expect, fill, run
from tests.support.running import Server

GENBANK = """LOCUS       SCU49845     36 bp    DNA     PLN       21-JUN-1999
DEFINITION  Two short stretches.
ACCESSION   U49845
VERSION     U49845.1  GI:1293613
FEATURES             Location/Qualifiers
     source          1..36
ORIGIN
        1 gatcctccat atacaacggt
       21 atctccacct cagnnn
//
LOCUS       SECOND       8 bp
ORIGIN
        1 acgtacgt
//
"""
EMBL = """ID   X56734; SV 1; linear; mRNA; STD; PLN; 18 BP.
DE   Trifolium repens
SQ   Sequence 18 BP;
     aaacaaacca aatatgga                                                     18
//
ID   BSUB9999 standard; DNA; PRO; 4 BP.
AC   Z99104; AL009126;
SQ   Sequence 4 BP;
     acgt  4
//
"""
FASTQ = "@read1 first\nACGTAC\nGTN\n+\nIIIIII\n@II\n\n@read2\nGGCC\n+read2\nIIII\n"


@pytest.mark.parametrize(
    ("kind", "text"), [("genbank", GENBANK), ("embl", EMBL), ("fastq", FASTQ), ("fasta", THREE)]
)
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_files_are_read_as_the_service_reads_them(
    ready: Any, kind: Any, text: str, line_break: str
) -> None:
    raw = io.BufferedReader(io.BytesIO(text.encode()))  # type: ignore[arg-type]
    expected = [
        [record.id, clean(record.sequence).sequence] for record in read_flat_file(raw, kind, 1000)
    ]
    found = ready.evaluate(
        """async (text) => {
            const { examine } = await import('/static/sequence.js');
            const { kind, records, problem } = examine(text);
            return [kind, problem, records.map(({ id, sequence }) => [id, sequence])];
        }""",
        text.replace("\n", line_break),
    )
    assert found == [kind, None, expected]


def test_a_fastq_file_is_shown_and_its_mistakes_are_where_they_are(ready: Any) -> None:
    fill(ready, FASTQ)
    expect(ready.locator("#facts")).to_contain_text("2 records of FASTQ · 13 bases")
    run(ready)
    expect(ready.locator("#records tbody th").first).to_contain_text("read1")
    fill(ready, FASTQ.replace("@II\n", "@I\n"))
    expect(ready.locator("#findings .bad")).to_contain_text("qualities")
    fill(ready, FASTQ.replace("GGCC", "GGJC"))
    expect(ready.locator("#findings .bad")).to_contain_text("position 3 of record “read2”")
    expect(ready.locator("#marks mark.refused")).to_have_text("J")


def test_numbers_of_positions_are_taken_out(ready: Any) -> None:
    fill(ready, "        1 gatcctccat atacaacggt\n       21 atctccacct\n      101 cag\n")
    finding = ready.locator("#findings .bad")
    expect(finding).to_contain_text("Take numbers of positions out first")
    finding.get_by_role("button", name="Remove 6 digits").click()
    expect(finding).to_have_count(0)
    expect(ready.locator("#facts")).to_contain_text("33 bases")
    fill(ready, ">gene1 of 3\n1 acgt\n5 acgt\n")
    finding.get_by_role("button", name="Remove 2 digits").click()
    assert ready.locator("#text").input_value().startswith(">gene1 of 3\n")


def test_columns_of_a_sheet_become_records(ready: Any) -> None:
    fill(ready, "gene\tspecies\tseq\nrecA\tE. coli\tATGGCTAT\nlexA\tE. coli\tATGAAAGC\n")
    finding = ready.locator("#findings .bad")
    finding.get_by_role("button", name="Read the columns as names and sequences").click()
    assert ready.locator("#text").input_value() == (
        ">recA [species=E. coli]\nATGGCTAT\n>lexA [species=E. coli]\nATGAAAGC\n"
    )
    fill(ready, "a\tb\nc\n")
    expect(finding.get_by_role("button", name="Read the columns")).to_have_count(0)


ONE_AND_TWO = ">one\nACGTTG\n>two\nGGCCAA\n"


@pytest.mark.parametrize(
    ("text", "button", "read"),
    [
        ("name,sequence\none,ACGTTG\ntwo,GGCCAA\n", "Read the columns", ONE_AND_TWO),
        ("one;ACGTTG\ntwo;GGCCAA", "Read the columns", ONE_AND_TWO),
        ("one  ACGTTG\ntwo  GGCCAA\n", "Read the columns", ONE_AND_TWO),
        ('"one","a, b","ACGTTG"\n', "Read the columns", '>one [column_2="a, b"]\nACGTTG'),
        ("ACJT ACGT\nACGT ACGT\n", "Read the columns", None),
        ("ORIGIN      \n        1 acgttg ggccaa\n//\n", "after ORIGIN", "acgttg ggccaa"),
        ("5'-ACGTTG-3'", "Remove 5′ and 3′", "ACGTTG"),
    ],
)
def test_what_has_one_likely_cause_is_put_right(
    ready: Any, text: str, button: str, read: str | None
) -> None:
    fill(ready, text)
    action = ready.locator("#findings .bad").get_by_role("button", name=button)
    if read is None:
        expect(ready.locator("#findings .bad")).to_have_count(1)
        expect(action).to_have_count(0)
        return
    action.click()
    expect(ready.locator("#findings .bad")).to_have_count(0)
    assert ready.locator("#text").input_value().strip() == read.strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "MTTIVSVRRNGHVVIAGDGQATLGNTVMKGNVKKVRRLYNDKVIAGFAGG",
            "looks like a protein. “I” at position 4",
        ),
        (">hslV\nMTTIVSVRRNGHVVIAGDGQATLGN\n", "Record “hslV” looks like a protein."),
        ("NC_008253.1", "Nothing is fetched here"),
        ("chr1:10,000-20,000", "Nothing is fetched here"),
        ("ACGTACGTJACGT", "“J” at position 9 is not a DNA letter."),
    ],
)
def test_what_is_no_dna_at_all_is_called_what_it_is(ready: Any, text: str, said: str) -> None:
    fill(ready, text)
    expect(ready.locator("#findings .bad")).to_contain_text(said)


def test_vectors_that_had_arrived_survive_a_broken_connection(
    visit: Callable[..., Visit], service: Server
) -> None:
    opened = visit(service.url)
    page = opened.page
    page.locator("#state[data-status=ready]").wait_for()
    answer = service.http.post(
        "/embeddings", params={"format": "npz"}, content=THREE, headers={"Content-Type": ""}
    )
    vectors = np.load(io.BytesIO(answer.content))["features"]
    # Two whole vectors and a part of the third; then nothing more comes.
    head = answer.content.index(vectors[0].tobytes())
    part = list(answer.content[: head + 2 * 4 * 768 + 100])
    page.evaluate(
        """(bytes) => {
            const real = window.fetch;
            window.fetch = (path, options) => {
                if (!String(path).includes('embeddings')) return real(path, options);
                const body = new ReadableStream({
                    start(control) {
                        control.enqueue(new Uint8Array(bytes));
                        setTimeout(() => control.error(new TypeError('network error')));
                    },
                });
                return Promise.resolve(new Response(body, { status: 200 }));
            };
        }""",
        part,
    )
    fill(page, THREE)
    run(page)
    expect(page.locator("#error-text")).to_contain_text("2 of 3 records had arrived")
    expect(page.locator("#error-text")).to_contain_text("The first that is missing is three.")
    expect(page.locator("#records tbody tr")).to_have_count(2)
    with page.expect_download() as started:
        page.locator("#map-npy").click()
    np.testing.assert_array_equal(np.load(Path(started.value.path())), vectors[:2])
    assert re.match("2 records", page.locator("#map-title").inner_text())


def test_a_record_that_is_too_long_for_the_page_is_cut_into_pieces(ready: Any) -> None:
    """400 kb are more tokens than are shown: said before they are computed, with a way out."""
    sequence = "".join(random.Random(4).choices("ACGT", k=405_000))
    file = {"name": "chr7.fa", "mimeType": "text/plain", "buffer": f">chr7\n{sequence}\n".encode()}
    ready.locator("#file").set_input_files([file])
    note = ready.locator("#findings .note")
    expect(note).to_contain_text("gives one vector here")
    note.get_by_role("button", name="Cut it into pieces of 10,000 bases").click()
    expect(ready.locator("#facts")).to_contain_text("41 records · 405,000 bases")
    expect(note).to_have_count(0)
    ready.locator("#file").set_input_files([{**file, "buffer": b">chr7\n" + b"ACGT" * 9000}])
    expect(ready.locator("#facts")).to_contain_text("36,000 bases")
    expect(note).to_have_count(0)
