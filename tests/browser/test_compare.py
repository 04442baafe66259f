"""Two alleles side by side: where the model treats them differently, base by base."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.page import expect, fill, own_rows, run
from tests.support.running import Server

LETTERS = random.Random(41)
REFERENCE = "".join(LETTERS.choices("ACGT", k=900))
AT = 450
OTHERS = {
    "snp": REFERENCE[:AT] + ("A" if REFERENCE[AT] != "A" else "C") + REFERENCE[AT + 1 :],
    "deletion": REFERENCE[:AT] + REFERENCE[AT + 7 :],
    "insertion": REFERENCE[:AT] + "GATTACA" + REFERENCE[AT:],
}


def expected(service: Server, other: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """1 - cosine of each token of the reference with the mean of the other's rows at its bases."""
    rows, offsets = own_rows(service, REFERENCE)
    theirs, places = own_rows(service, other)
    mean = rows.mean(axis=0)
    a_base = np.full((len(other), rows.shape[1]), np.nan)
    for row, (first, end) in zip(theirs, places, strict=True):
        a_base[first:end] = row - mean
    shift = len(other) - len(REFERENCE)
    found = []
    for row, (first, end) in zip(rows - mean, offsets, strict=True):
        bases = [b if b < AT or not shift else b + shift for b in range(first, end)]
        if shift < 0:
            bases = [b for b in bases if b < AT or b >= AT]
            bases = [
                b
                for b, own in zip(bases, range(first, end), strict=True)
                if not AT <= own < AT - shift
            ]
        there = a_base[bases].mean(axis=0) if bases else np.full(rows.shape[1], np.nan)
        found.append(1 - row @ there / np.linalg.norm(row) / np.linalg.norm(there))
    return np.array(found)


@pytest.mark.parametrize("kind", OTHERS)
def test_alleles_are_compared_base_by_base(ready: Any, service: Server, kind: str) -> None:
    fill(ready, f">ref\n{REFERENCE}\n>{kind}\n{OTHERS[kind]}\n")
    run(ready)
    ready.locator("#map-result:not([hidden])").wait_for()
    ready.get_by_role("button", name="ref", exact=True).click()
    ready.locator("#result:not([hidden])").wait_for()
    ready.locator("#compare").select_option(kind)
    words = ready.locator("#different")
    expect(words).to_contain_text(f"Most different from {kind}:")
    with ready.expect_download() as started:
        ready.locator("#strip-tsv").click()
    head, *lines = (
        line.split("\t") for line in Path(started.value.path()).read_text().splitlines()
    )
    shown = np.array([float(line[head.index("difference")] or "nan") for line in lines])
    wanted = expected(service, OTHERS[kind])
    # Where the change is, some bases fit to either end.
    far = np.abs(np.array([int(line[1]) for line in lines]) - AT) > 30
    np.testing.assert_allclose(shown[far], wanted[far], atol=1e-4)
    top = int(lines[int(np.nanargmax(shown))][1])
    assert abs(top - AT) < 40
    ready.locator("#different button").first.click()
    expect(ready.locator("#region-text")).to_contain_text(f"{top + 1}")

    ready.locator("#compare").select_option("")
    expect(words).to_be_empty()


def test_a_record_alone_has_none_to_be_compared_with(ready: Any) -> None:
    fill(ready, REFERENCE)
    run(ready)
    ready.locator("#result:not([hidden])").wait_for()
    expect(ready.locator("#compare")).to_be_hidden()
