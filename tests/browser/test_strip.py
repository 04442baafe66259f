"""The strip along the bases: what its tracks hold, and that everything else follows it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.page import expect, fill, own_rows, run, show
from tests.support.running import Server

LETTERS = random.Random(7)
SHORT = "".join(LETTERS.choices("ACGT", k=400))
LONG = "".join(LETTERS.choices("ACGT", k=4000)) + "TATAATGGGCCCTATAAT"


def in_view(page: Any) -> list[int]:
    """First and last base, from 1."""
    words = page.locator("#strip-readout").inner_text().split(".")[0]
    return [int(part.replace(",", "")) for part in words.split()[1].split("–")]


@pytest.mark.parametrize("centred", [True, False])
def test_the_tracks_are_what_numpy_computes(ready: Any, service: Server, centred: bool) -> None:
    show(ready, SHORT)
    ready.locator("#centred").set_checked(centred)
    ready.locator("[role=option]").nth(21).click()
    expect(ready.locator("#strip")).to_have_attribute("aria-valuenow", "21")
    ready.wait_for_function("() => document.querySelector('#cosine').ariaValueText")
    with ready.expect_download() as started:
        ready.locator("#strip-tsv").click()
    head, *lines = (
        line.split("\t") for line in Path(started.value.path()).read_text().splitlines()
    )
    rows, offsets = own_rows(service, SHORT)
    table = {name: [line[k] for line in lines] for k, name in enumerate(head)}
    assert "".join(table["token"]) == SHORT
    assert [int(base) for base in table["first_base"]] == offsets[:, 0].tolist()
    np.testing.assert_allclose(
        np.array(table["length"], float), np.linalg.norm(rows, axis=1), rtol=1e-5
    )
    moved = rows - rows.mean(axis=0) * centred
    unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    similarity = np.array(table["similarity"], float)
    np.testing.assert_allclose(similarity, unit @ unit[20], atol=1e-4)

    best = np.argsort(-np.delete(similarity, 20), kind="stable")[0]
    best += best >= 20
    first, end = offsets[best]
    alike = ready.locator("#alike button").first
    expect(alike).to_contain_text(f"{first + 1}–{end}" if end - first > 1 else f"base {end}")
    alike.click()
    view = in_view(ready)
    assert view[0] <= first + 1 <= end <= view[1]


def test_colours_are_principal_components(ready: Any) -> None:
    generator = np.random.default_rng(5)
    values = (generator.normal(size=(60, 40)) * np.geomspace(9, 0.1, 40)).astype(np.float32)
    colours, explained = ready.evaluate(
        """async (x) => {
            const { componentColours } = await import('/static/analysis.js');
            const { colours, explained } = componentColours(Float32Array.from(x), 60, 40);
            return [Array.from(colours), explained];
        }""",
        values.ravel().tolist(),
    )
    found = np.reshape(colours, (60, 3))
    exact = values - values.mean(axis=0, dtype=np.float64)
    left, singular, _ = np.linalg.svd(exact, full_matrices=False)
    for axis in range(3):
        assert abs(np.corrcoef(left[:, axis], found[:, axis])[0, 1]) > 0.98  # the ends are cut off
    assert (found.min(), found.max()) == (0, 1)
    np.testing.assert_allclose(explained, (singular**2 / (singular**2).sum())[:3], atol=1e-4)


def test_all_windows_lie_in_one_strip_and_the_panels_follow(ready: Any, service: Server) -> None:
    _, offsets = own_rows(service, LONG)
    assert len(offsets) > 510
    show(ready, LONG)
    expect(ready.locator("#window-text")).to_contain_text("Window 1 of 2")
    expect(ready.locator("#strip")).to_have_attribute("aria-valuemax", str(len(offsets)))
    assert in_view(ready) == [1, len(LONG)]

    # The last token lies in the second window: choosing it brings that window.
    ready.locator("#strip").focus()
    ready.keyboard.press("End")
    expect(ready.locator("#window-text")).to_contain_text("Window 2 of 2")
    expect(ready.locator("#mosaic-title")).to_contain_text(f"token {len(offsets)}, ")

    # Closer than a window, the panels show what is in view, across the seam as well.
    first, end = offsets[509 - 20, 0], offsets[509 + 20, 1]
    ready.locator("#goto").fill(f"{first + 1}-{end}")
    ready.keyboard.press("Enter")
    expect(ready.locator("#window-text")).to_contain_text("In view: tokens")
    view = in_view(ready)
    shown = "".join(ready.locator("[role=option]").all_inner_texts())
    assert LONG[view[0] - 1 : view[1]] in shown
    assert len(shown) < view[1] - view[0] + 60
    count = ready.locator("[role=option]").count()
    expect(ready.locator("#cosine")).to_have_attribute("aria-valuemax", str(count**2))

    ready.locator("#strip-all").click()
    expect(ready.locator("#window-text")).to_contain_text("Window 1 of 2: tokens 1–510")


def test_places_and_bases_are_found(ready: Any) -> None:
    show(ready, LONG)

    def go(text: str) -> None:
        ready.locator("#goto").fill(text)
        ready.keyboard.press("Enter")

    told = ready.locator("#goto-text")
    at = LONG.index("TATAATGGGCCC") + 1
    go("tataatgggccc")
    expect(told).to_contain_text(f"bases {at:,}–{at + 11:,}")
    assert in_view(ready)[0] < at < in_view(ready)[1]
    go("ACGTACGTACGTACGTACGT")
    expect(told).to_have_text("ACGTACGTACGTACGTACGT does not occur on this strand.")
    go("9,999")
    expect(told).to_have_text(f"This sequence has bases 1 to {len(LONG):,}.")
    go("somewhere")
    expect(told).to_contain_text("Write a base (120)")
    go("200")
    assert in_view(ready)[0] < 200 < in_view(ready)[1]


def test_a_range_is_shown_as_it_was_asked_for(ready: Any, service: Server) -> None:
    show(ready, LONG)
    _, offsets = own_rows(service, LONG)
    # From the middle of a token, which begins before the range.
    first = next(int(start) + 2 for start, end in offsets if start > 1000 and end - start > 3)
    last = first + 799
    ways = ("{}-{}", "chr7:{}-{}", "{}..{}", "{} {}", "NC_000001.11:{}:{}", "{1}-{0}")
    for way in (way.format(first, last) for way in ways):
        ready.locator("#strip-all").click()
        ready.locator("#goto").fill(way)
        ready.keyboard.press("Enter")
        assert in_view(ready) == [first, last], way
        expect(ready.locator("#goto-text")).to_be_empty()


def test_the_strip_zooms_and_moves_by_wheel_drag_and_keys(ready: Any) -> None:
    show(ready, LONG)
    strip = ready.locator("#strip")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    ready.mouse.move(box["x"] + box["width"] / 2, box["y"] + 80)
    before = ready.evaluate("() => scrollY")
    ready.keyboard.down("Control")
    ready.mouse.wheel(0, -400)
    ready.keyboard.up("Control")
    ready.wait_for_timeout(50)
    first, last = in_view(ready)
    assert last - first < len(LONG) / 4
    assert abs((first + last) / 2 - len(LONG) / 2) < 20  # the base under the pointer stays there
    assert ready.evaluate("() => scrollY") == before

    ready.mouse.down()
    ready.mouse.move(box["x"] + box["width"] / 4, box["y"] + 80, steps=4)
    ready.mouse.up()
    moved = in_view(ready)
    assert abs(moved[0] - first - (last - first) / 4) < 5
    expect(strip).to_have_attribute("aria-valuenow", "1")  # a drag chooses nothing

    strip.focus()
    ready.keyboard.press("0")
    assert in_view(ready) == [1, len(LONG)]
    ready.keyboard.press("+")
    assert in_view(ready)[1] - in_view(ready)[0] < len(LONG) * 0.7
    ready.keyboard.press("Shift+ArrowRight")
    ready.keyboard.press("ArrowRight")
    expect(strip).to_have_attribute("aria-valuenow", "2")
    assert in_view(ready)[0] < 20  # what is chosen comes back into view

    ready.mouse.wheel(0, 150)
    ready.wait_for_timeout(100)
    assert ready.evaluate("() => scrollY") != before  # without Ctrl the page scrolls


def test_gc_is_the_share_of_known_bases(ready: Any) -> None:
    sequence = "GC" * 30 + "AT" * 30 + "N" * 40 + "GCAT" * 10
    fill(ready, sequence)
    run(ready)
    ready.locator("#result:not([hidden])").wait_for()
    found = ready.evaluate(
        """async (sequence) => {
            const { RecordData } = await import('/static/record-data.js');
            const data = Object.create(RecordData.prototype);
            data.record = { sequence };
            return [[0, 60], [30, 90], [60, 160], [120, 160], [-5, 10]].map(
                ([from, to]) => data.gcContent(from, to)).map((v) => (isNaN(v) ? null : v));
        }""",
        sequence,
    )
    assert found == [1, 0.5, 0, None, 1]


def alike(page: Any, offsets: NDArray[np.int64]) -> tuple[list[str], list[int]]:
    """Of each stretch most like the chosen one: what is told beside, and its first token."""
    texts = page.locator("#alike button").all_inner_texts()
    told = [text.partition(")")[0].rpartition("(")[2].partition(", ")[2] for text in texts]
    bases = [int(text.partition("bases ")[2].partition("–")[0].replace(",", "")) for text in texts]
    return told, [int(np.flatnonzero(offsets[:, 0] == base - 1)[0]) for base in bases]


def best_runs(means: NDArray[np.float64], size: int, inside: NDArray[np.int64]) -> list[int]:
    """Where the stretches of `size` tokens begin, the best first, that share none with another."""
    means = means.copy()
    means[max(0, inside[0] - size + 1) : inside[-1] + 1] = -np.inf
    found = []
    while np.isfinite(means.max()):
        found.append(int(means.argmax()))
        means[max(0, found[-1] - size + 1) : found[-1] + size] = -np.inf
    return found


def place_of(first: int, chosen: int, size: int) -> str:
    """What makes `size` tokens from `first` like as many from `chosen`, but for the DNA."""
    if abs(first - chosen) < 2 * size:
        return "next to it"
    apart = abs(first % 510 - chosen % 510)
    same = first // 510 != chosen // 510 and min(apart, 512 - apart) <= 51
    return "same place in its window" if same else ""


def asked_about(
    page: Any, service: Server, sequence: str, first: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Ask about the bases [first, end): bases of all tokens, those inside, similarity to these."""
    rows, offsets = own_rows(service, sequence)
    show(page, sequence)
    page.locator("#goto").fill(f"{first + 1}-{end}")
    page.keyboard.press("Enter")
    inside = np.flatnonzero((offsets[:, 1] > first) & (offsets[:, 0] < end))
    moved = rows - rows.mean(axis=0)
    query = moved[inside].mean(axis=0)
    similarity = moved @ query / (np.linalg.norm(moved, axis=1) * np.linalg.norm(query))
    return offsets, inside, similarity


def test_a_region_is_asked_about_as_a_whole(ready: Any, service: Server) -> None:
    """Its mean is compared; the stretches of as many tokens that are most like it are named."""
    sequence = LONG[:2000] + LONG[500:560] + LONG[2000:2300]
    offsets, inside, similarity = asked_about(ready, service, sequence, 500, 560)
    with ready.expect_download() as started:
        ready.locator("#strip-tsv").click()
    lines = Path(started.value.path()).read_text().splitlines()[1:]
    found = [float(line.split("\t")[3]) for line in lines]
    np.testing.assert_allclose(found, similarity, atol=1e-4)

    size = len(inside)
    best = best_runs(np.convolve(similarity, np.ones(size) / size, "valid"), size, inside)[0]
    expected = f"bases {offsets[best, 0] + 1:,}–{offsets[best + size - 1, 1]:,}"
    expect(ready.locator("#alike button").first).to_contain_text(expected)

    # With Shift, a click asks about all from the chosen token to this one.
    ready.locator("#strip-all").click()
    ready.locator("#strip").scroll_into_view_if_needed()
    box = ready.locator("#strip").bounding_box()
    ready.mouse.click(box["x"] + box["width"] / 4, box["y"] + 80)
    first = ready.locator("#alike button").first.inner_text()
    ready.keyboard.down("Shift")
    ready.mouse.click(box["x"] + box["width"] / 3, box["y"] + 80)
    ready.keyboard.up("Shift")
    expect(ready.locator("#alike button").first).not_to_have_text(first)


def test_what_its_place_makes_alike_is_told_and_others_follow(ready: Any, service: Server) -> None:
    """Beside what was asked about, or as far in its window: gena-mini finds little else alike."""
    offsets, inside, similarity = asked_about(ready, service, 2 * LONG, 2600, 2700)
    size = len(inside)
    runs = best_runs(np.convolve(similarity, np.ones(size) / size, "valid"), size, inside)
    expect(ready.locator("#alike")).to_contain_text("Then, elsewhere:")
    told, firsts = alike(ready, offsets)
    assert told == [place_of(first, int(inside[0]), size) for first in firsts]
    assert {"next to it", "same place in its window"} <= set(told)
    elsewhere = [first for first in runs if not place_of(first, int(inside[0]), size)]
    assert firsts == sorted({*runs[:5], *elsewhere[:3]}, key=runs.index)
