"""What people do on the page, and how its answers are read."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.tokenizer import DnaTokenizer
from tests.support.running import Server

# Tests that use these drive a browser; without its driver they are skipped.
expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=30_000)

THREE = ">one\nACGTTGCAAGGCTTAACCGGTA\n>two desc\nggccaattGGCCAATTCC\n>three\nATATATATATGGGCCC\n"
# Longest time for the model to come back on a busy machine.
PATIENCE = 60_000


def fill(page: Any, text: str) -> None:
    page.locator("#text").fill(text)


def run(page: Any) -> None:
    page.locator("#run").click()


def show(page: Any, text: str) -> None:
    """From text to a picture of its features."""
    fill(page, text)
    run(page)
    page.locator("#result:not([hidden])").wait_for()


def text_of_cursor(page: Any, plot: str) -> str:
    text: str = page.locator(plot).get_attribute("aria-valuetext")
    return text


def shown_value(text: str) -> float:
    """`feature 12: −0.25` -> -0.25"""
    return float(text.rpartition(": ")[2].replace("−", "-"))


def features_of(service: Server, sequence: str, **query: str) -> NDArray[np.float32]:
    """(windows, 512, H), from the service itself."""
    answer = service.http.post(
        "/features",
        params={"format": "npy", "overflow": "window", **query},
        content=sequence,
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code == 200
    features: NDArray[np.float32] = np.load(io.BytesIO(answer.content))
    return features


def sequence_of_tokens(tokenizer: DnaTokenizer, count: int) -> str:
    """Random DNA that makes exactly so many tokens."""
    letters = random.Random(count)
    for _ in range(50):
        sequence = "".join(letters.choices("ACGT", k=12 * count))
        end = int(tokenizer.encode(sequence).offsets[count - 1, 1])
        if len(tokenizer.encode(sequence[:end]).ids) == count:
            return sequence[:end]
    raise AssertionError("no such sequence")


def own_rows(service: Server, sequence: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A row and the bases of each of the sequence's own tokens, from the service itself."""
    values = features_of(service, sequence)
    answer = service.http.post("/tokenize", json={"sequence": sequence}).json()
    offsets = np.array(answer["offsets"])
    n_tokens = len(offsets) - 2
    rows = values[:, 1:511].reshape(-1, values.shape[2])[:n_tokens]
    return rows.astype(np.float64), offsets[1:-1]


def vectors_of(service: Server, fasta: str) -> NDArray[np.float64]:
    answer = service.http.post(
        "/embeddings", params={"format": "npy"}, content=fasta, headers={"Content-Type": ""}
    )
    return np.load(io.BytesIO(answer.content)).astype(np.float64)  # type: ignore[no-any-return]


def legend(page: Any) -> list[str]:
    return page.locator("#map-legend button").all_inner_texts()  # type: ignore[no-any-return]


def download(page: Any, button: str) -> str:
    with page.expect_download() as started:
        page.locator(button).click()
    return Path(started.value.path()).read_text()
