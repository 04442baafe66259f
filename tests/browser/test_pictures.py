"""From DNA to pictures of its features, and what they tell under the pointer and the cursor."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.bundle.manifest import TOKENIZER
from converter.tokenizer import DnaTokenizer
from tests.support.page import (
    THREE,
    expect,
    features_of,
    fill,
    run,
    sequence_of_tokens,
    show,
    shown_value,
    text_of_cursor,
)
from tests.support.running import Server


def test_the_example_becomes_a_mosaic(ready: Any, service: Server) -> None:
    ready.locator("#example").click()
    sequence = "".join(ready.locator("#text").input_value().splitlines()[1:])
    values = features_of(service, sequence)[0]
    expect(ready.locator("#facts")).to_contain_text("913 bases")
    expect(ready.locator("#facts")).to_contain_text("of 510 tokens")
    run(ready)
    expect(ready.locator("#mosaic")).to_have_attribute("aria-valuemax", str(24 * 32))

    ready.locator("#mosaic").focus()
    ready.keyboard.press("ArrowDown")  # one row of 32 features
    ready.keyboard.press("ArrowRight")
    text = text_of_cursor(ready, "#mosaic")
    assert text.startswith("feature 33: ")
    assert shown_value(text) == pytest.approx(values[1, 33], abs=6e-5)

    token = ready.locator("[role=option]").nth(40)
    token.click()
    expect(token).to_have_attribute("aria-selected", "true")
    assert shown_value(text_of_cursor(ready, "#mosaic")) == pytest.approx(values[40, 33], abs=6e-5)


def test_tokens_lie_side_by_side_and_tell_their_place(ready: Any, service: Server) -> None:
    sequence = "ACGTTGCAAGGCTTAACCGGTARRACGTTTAACG"
    show(ready, sequence)
    answer = service.http.post("/tokenize", json={"sequence": sequence}).json()
    options = ready.locator("[role=option]")
    expect(options).to_have_count(answer["n_tokens"])
    assert "".join(options.all_inner_texts()[1:-1]) == sequence
    unknown = [i for i, token in enumerate(answer["input_ids"]) if token == 0]
    assert unknown, "the vocabulary of this model has no R"
    assert ready.locator("[role=option].unknown").count() == len(unknown)
    expect(ready.locator("#findings")).to_contain_text("R × 2")
    expect(ready.locator("#unknown-key")).to_be_visible()

    first, end = answer["offsets"][2]
    options.nth(2).hover()
    expect(ready.locator("#tip")).to_contain_text(f"bases {first + 1}–{end}")


def test_plots_tell_the_value_under_the_pointer(ready: Any, service: Server) -> None:
    sequence = "ACGTTGCAAGGCTTAACCGGTAACGTTTAACG"
    show(ready, sequence)
    values = features_of(service, sequence)[0]
    n_tokens = ready.locator("[role=option]").count()

    ready.locator("#heat").scroll_into_view_if_needed()
    box = ready.locator("#heat").bounding_box()
    ready.mouse.move(
        box["x"] + (100 + 0.5) / 768 * box["width"],
        box["y"] + (3 + 0.5) / n_tokens * box["height"],
    )
    tip = ready.locator("#tip")
    expect(tip).to_contain_text("token 3")
    match = re.search(r"feature (\d+): (.*)", tip.inner_text())
    assert match is not None
    assert abs(int(match[1]) - 100) <= 1
    assert shown_value(tip.inner_text()) == pytest.approx(values[3, int(match[1])], abs=6e-5)

    ready.locator("#centred").uncheck()
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    expect(ready.locator("#cosine")).to_have_attribute("aria-valuemax", str(n_tokens**2))
    ready.locator("#cosine").focus()
    ready.keyboard.press("ArrowDown")
    for _ in range(3):
        ready.keyboard.press("ArrowRight")
    text = text_of_cursor(ready, "#cosine")
    assert shown_value(text) == pytest.approx(float(unit[1] @ unit[3]), abs=6e-4)

    # A row chosen here is chosen everywhere.
    ready.keyboard.press("Enter")
    expect(ready.locator("#mosaic-title")).to_contain_text("token 1,")


def test_three_records_become_a_map(ready: Any, service: Server) -> None:
    fill(ready, THREE)
    expect(ready.locator("#facts")).to_contain_text("3 records · 56 bases")
    run(ready)
    rows = ready.locator("#records tbody tr")
    expect(rows).to_have_count(3)
    assert [row.split()[:2] for row in rows.all_inner_texts()] == [
        ["one", "22"], ["two", "18"], ["three", "16"],
    ]  # fmt: skip
    expect(ready.locator("#scatter")).to_have_attribute("aria-valuemax", "3")

    answer = service.http.post(
        "/embeddings", params={"format": "npy"}, content=THREE, headers={"Content-Type": ""}
    )
    vectors = np.load(io.BytesIO(answer.content)).astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    scores = np.linalg.svd(centred, full_matrices=False)
    expected = abs(scores[0][1, 0] * scores[1][0])
    ready.locator("#scatter").focus()
    ready.keyboard.press("ArrowRight")
    text = text_of_cursor(ready, "#scatter")
    match = re.search(r"^two: 18 bases, PC 1 (\S+), ", text)
    assert match is not None, text
    assert abs(float(match[1].replace("−", "-"))) == pytest.approx(expected, rel=0.01)

    with ready.expect_download() as download:
        ready.get_by_role("button", name="Vector of two as npy").click()
    assert download.value.suggested_filename == "two.npy"
    np.testing.assert_array_equal(np.load(download.value.path()), vectors[1].astype(np.float32))

    ready.locator("#scatter").focus()
    ready.keyboard.press("Enter")  # opens the record under the cursor
    expect(ready.locator("#result-title")).to_have_text("two")
    assert "".join(ready.locator("[role=option]").all_inner_texts()[1:-1]) == "GGCCAATTGGCCAATTCC"
    expect(rows.nth(1)).to_have_class("chosen")


def test_511_tokens_are_read_in_two_windows(ready: Any, service: Server, mini_bundle: Path) -> None:
    sequence = sequence_of_tokens(DnaTokenizer(mini_bundle / TOKENIZER), 511)
    fill(ready, sequence[: len(sequence) // 2])
    expect(ready.locator("#facts")).to_contain_text("of 510 tokens")
    fill(ready, sequence)
    expect(ready.locator("#facts")).to_contain_text("511 tokens, read in 2 windows of 510")
    expect(ready.locator("#budget-fill")).to_have_class("fill over")
    run(ready)
    expect(ready.locator("#window-text")).to_contain_text("Window 1 of 2: tokens 1–510")
    expect(ready.locator("[role=option]")).to_have_count(512)
    ready.get_by_role("button", name="Next window").click()
    expect(ready.locator("#window-text")).to_contain_text("tokens 511–511")
    ready.wait_for_timeout(400)  # panels follow the strip once it stands still
    expect(ready.locator("#window-text")).to_contain_text("Window 2 of 2: tokens 511–511")
    expect(ready.locator("[role=option]")).to_have_count(3)
    values = features_of(service, sequence)
    assert values.shape == (2, 512, 768)
    shown = shown_value(text_of_cursor(ready, "#mosaic"))
    assert shown == pytest.approx(values[1, 1, 0], abs=6e-5)


def test_a_full_window_stays_fluid(ready: Any, mini_bundle: Path) -> None:
    """512 x 768 values: from a key to the drawn frame, median."""
    show(ready, sequence_of_tokens(DnaTokenizer(mini_bundle / TOKENIZER), 510))
    times = ready.evaluate(
        """async () => {
            const list = document.getElementById('tokens');
            const frame = () => new Promise(requestAnimationFrame);
            const times = [];
            for (let k = 0; k < 30; k += 1) {
                const begin = performance.now();
                list.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }));
                await frame();
                await frame();
                times.push(performance.now() - begin);
            }
            return times;
        }"""
    )
    # Two frames at 60 Hz are 33 ms; the rest is room for a busy machine.
    assert float(np.median(times)) < 120
