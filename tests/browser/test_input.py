"""Text and files that go in, and what is said about them."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.bundle.manifest import TOKENIZER
from converter.tokenizer import DnaTokenizer
from tests.support.browser import Visit
from tests.support.page import THREE, expect, fill, run
from tests.support.running import Server


def test_bad_letters_are_shown_where_they_are(ready: Any) -> None:
    sent: list[str] = []
    ready.on("request", lambda request: sent.append(request.url))
    fill(ready, ">fine\nACGT\n>broken\nACGTACGT\nACJTACGT\n")
    finding = ready.locator("#findings .bad")
    expect(finding).to_contain_text("“J” at position 11 of record “broken” is not a DNA letter.")
    expect(ready.locator("#marks mark.refused")).to_have_text("J")
    expect(ready.locator("#text")).to_have_attribute("aria-invalid", "true")
    expect(ready.locator("#run")).to_have_attribute("aria-disabled", "true")
    expect(ready.locator("#run-why")).to_have_text("Not yet: see the line in red above.")
    ready.locator("#run").click(force=True)  # off, it still leads to the mistake
    selection = ready.locator("#text").evaluate(
        "field => field.value.slice(field.selectionStart, field.selectionEnd)"
    )
    assert selection == "J"
    expect(ready.locator("#announce")).to_contain_text("position 11")
    assert not [url for url in sent if "features" in url or "embeddings" in url]

    fill(ready, "ACGT acgu RN")
    expect(finding).to_have_count(0)
    expect(ready.locator("#run-why")).to_be_hidden()
    findings = ready.locator("#findings")
    expect(findings).to_contain_text("4 lower-case letters are read as upper case.")
    expect(findings).to_contain_text("1 U is read as T.")
    expect(findings).to_contain_text("2 spaces are left out.")
    expect(findings).to_contain_text("R × 1")


def test_what_was_hardly_meant_as_dna_is_told(ready: Any) -> None:
    finding = ready.locator("#findings .bad")
    fill(ready, "MKVSAGTRHDMKVSAGTRHDWYCN")
    expect(finding).to_contain_text("looks like a protein: 16 of its 24 letters")
    fill(ready, ">a\nACGT\n>b\nNA\n")
    expect(finding).to_contain_text("Record “b” is “NA”, a missing value.")
    fill(ready, "a\tACGT\nb\tGGCC")
    expect(finding).to_contain_text("a tab at position 2 separates columns.")

    fill(ready, "ATGGGTAAAGG\nTTAACC\nGGTTACGATCCC\n")
    note = ready.locator("#findings .note")
    expect(note).to_contain_text("3 lines are read as one sequence.")
    note.get_by_role("button", name="Make each line a record").click()
    expect(ready.locator("#facts")).to_contain_text("3 records · 29 bases")
    fill(ready, "ACGTA" * 12 + "\n" + "ACGTA" * 12 + "\nACG")
    expect(ready.locator("#facts")).to_contain_text("123 bases")
    expect(note).to_have_count(0)


def test_refusals_of_the_service_are_sentences_with_the_place(
    visit: Callable[..., Visit], service: Server
) -> None:
    """The service has the last word, also where the page would let something pass."""
    opened = visit(service.url)
    page = opened.page
    page.locator("#state[data-status=ready]").wait_for()
    problem = service.http.post("/features", json={"sequence": "ACGTJA"})
    page.route(
        re.compile("/features"),
        lambda route: route.fulfill(
            status=problem.status_code, headers=dict(problem.headers), body=problem.content
        ),
    )
    fill(page, ">r\nAC\nGTAAAA")
    run(page)
    expect(page.locator("#error")).to_be_visible()
    expect(page.locator("#error-text")).to_contain_text("position 5")
    start = page.locator("#text").evaluate("field => field.selectionStart")
    assert start == ">r\nAC\nGTAAAA".index("GTA") + 2
    opened.forgive_refusals()


@pytest.mark.parametrize("compressed", [False, True])
def test_files_are_opened_and_dropped(ready: Any, compressed: bool) -> None:
    content = THREE.encode()
    name = "genes.fa.gz" if compressed else "genes.fa"
    content = gzip.compress(content) if compressed else content
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    ready.locator("#file").set_input_files(file)
    expect(ready.locator("#facts")).to_contain_text("3 records")

    transfer = ready.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [name, list(gzip.compress(b"ACGT") if compressed else b"ACGT")],
    )
    ready.locator("#input").dispatch_event("drop", {"dataTransfer": transfer})
    expect(ready.locator("#facts")).to_contain_text("4 bases")


def test_a_large_file_stays_beside_the_field(ready: Any, mini_bundle: Path) -> None:
    dna = "ACGTTGCA" * 50_000
    content = f">big\n{dna}"
    count = len(DnaTokenizer(mini_bundle / TOKENIZER).encode(dna).ids)
    file = {"name": "big.fa", "mimeType": "text/plain", "buffer": content.encode()}
    ready.locator("#file").set_input_files(file)
    expect(ready.locator("#attached-name")).to_have_text("big.fa")
    expect(ready.locator("#facts")).to_contain_text(f"400,000 bases · {count:,} tokens")
    ready.get_by_role("button", name="Remove").click()
    expect(ready.locator("#text")).to_be_focused()
    expect(ready.locator("#facts")).to_have_text("")


@pytest.mark.parametrize(
    ("bases", "asked"),
    [(100_000, "features"), (500_000, "embeddings"), (2_000_000, "embeddings")],
)
def test_a_record_of_more_tokens_than_a_page_shows_is_a_vector(
    ready: Any, bases: int, asked: str
) -> None:
    """More than 65,000 of them: of six bases here. The longest record is never counted."""
    sent: list[str] = []
    for path in ("features", "embeddings"):
        ready.route(f"**/{path}*", lambda route: sent.append(route.request.url))  # never answered
    record = f">long\n{'ACGTTGCAAGG' * (bases // 11)}"
    file = {"name": "long.fa", "mimeType": "text/plain", "buffer": record.encode()}
    ready.locator("#file").set_input_files(file)
    run(ready)  # before it is counted
    expect(ready.locator("#work-text")).to_contain_text("Computing")
    assert [f"/{asked}?" in url for url in sent] == [True]
    ready.get_by_role("button", name="Cancel").click()
    ready.unroute_all(behavior="ignoreErrors")


def test_more_than_json_may_hold_goes_as_fasta(
    visit: Callable[..., Visit], service: Server
) -> None:
    """5 MiB is the service's limit for JSON; what is longer still ends in a sentence that helps."""
    opened = visit(service.url)
    page = opened.page
    page.locator("#state[data-status=ready]").wait_for()
    gene = "ACGTTGCA" * 500
    content = "".join(f">gene{number} of many\n{gene}\n" for number in range(1400))
    sent: list[Any] = []

    def refuse(route: Any) -> None:
        sent.append(route.request)
        route.fulfill(status=429, json={"detail": "Not now."})

    page.route(re.compile("/embeddings"), refuse)
    open_file(page, content)
    run(page)
    expect(page.locator("#error-text")).to_have_text("Not now.")
    assert sent[0].headers["content-type"] == "text/x-fasta"
    records = sent[0].post_data.replace("\n", "").split(">gene")[1:]
    assert records == [f"{number}{gene}" for number in range(1400)]
    page.unroute_all()

    open_file(page, gene * 1400)
    run(page)
    expect(page.locator("#error-text")).to_contain_text("the limit is 5000000")
    opened.forgive_refusals()


def open_file(page: Any, content: str) -> None:
    file = {"name": "genes.fa", "mimeType": "text/plain", "buffer": content.encode()}
    page.locator("#file").set_input_files(file)
