"""Where a record is unlike the rest of itself: found, measured, and taken along as FASTA."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.page import expect, own_rows, show
from tests.support.running import Server

LETTERS = random.Random(23)
AROUND = 8  # tokens on either side that are taken together


def record(odd: str, *, at: int = 3000, bases: int = 6000) -> str:
    letters = "".join(LETTERS.choices("ACGT", k=bases))
    return letters[:at] + odd + letters[at:]


def ranges(page: Any, element: str) -> list[tuple[int, int]]:
    """Bases of the stretches that are offered, from 1."""
    words = page.locator(f"{element} button").all_inner_texts()
    found = [re.search(r"bases ([\d,]+)–([\d,]+)", text) for text in words]
    return [
        tuple(int(part.replace(",", "")) for part in match.groups()) for match in found if match
    ]  # type: ignore[misc]


def test_a_stretch_that_is_unlike_the_rest_is_found_and_taken_along(ready: Any) -> None:
    odd = "CAG" * 100
    sequence = record(odd)
    show(ready, f">chr7 with a repeat\n{sequence}\n")
    found = ranges(ready, "#unlike")
    assert len(found) == 3
    first, last = found[0]
    assert abs(first - 3001) < 40
    assert abs(last - 3300) < 40

    ready.locator("#unlike button").first.click()
    expect(ready.locator("#region-text")).to_contain_text(f"bases {first:,}–{last:,}")
    expect(ready.locator("#region-text")).to_contain_text(f"{last - first + 1} bases, GC 6")
    shown = ready.locator("#strip-readout").inner_text().split()[1]
    view = [int(part.replace(",", "")) for part in shown.split("–")]
    assert view[0] < first < last < view[1]
    ready.locator("#region-copy").click()
    expect(ready.locator("#region-said")).to_have_text("Copied.")
    name, *lines = ready.evaluate("() => navigator.clipboard.readText()").splitlines()
    assert name == f">chr7:{first}-{last}"
    assert "".join(lines) == sequence[first - 1 : last]


def test_the_track_is_what_numpy_computes(ready: Any, service: Server) -> None:
    sequence = record("AT" * 120)
    show(ready, sequence)
    with ready.expect_download() as started:
        ready.locator("#strip-tsv").click()
    head, *lines = (
        line.split("\t") for line in Path(started.value.path()).read_text().splitlines()
    )
    shown = np.array([line[head.index("unlike")] for line in lines], float)
    rows, _ = own_rows(service, sequence)
    centred = rows - rows.mean(axis=0)
    width = 2 * AROUND + 1
    together = np.array([centred[k : k + width].mean(axis=0) for k in range(len(rows) - width + 1)])
    distances = np.linalg.norm(together, axis=1)
    expected = np.pad(distances / np.median(distances), AROUND, mode="edge")
    np.testing.assert_allclose(shown, expected, rtol=1e-4)


def test_a_short_record_has_no_rest_to_be_unlike(ready: Any) -> None:
    show(ready, "ACGTTGCAAGGCTTAACCGGTAACGTTTAACG")
    expect(ready.locator("#unlike")).to_be_empty()
    expect(ready.locator("#region-text")).to_contain_text("Chosen: bases 1–")
