"""What people do on the page, and how its answers are read."""

import io
import random
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
