"""The page on paper: light, whole, and without what is pressed."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.browser import Visit
from tests.support.page import THREE, expect, fill, run, show
from tests.support.running import Server

SEQUENCE = "".join(random.Random(3).choices("ACGT", k=700))
# How bright the pixel in the corner of a plot's page is, from 0 to 255, and the plot's proportions.
LOOK = """(plot) => {
    const canvas = document.querySelector(plot);
    const box = canvas.getBoundingClientRect();
    const ground = getComputedStyle(document.documentElement).getPropertyValue('--panel');
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    let [sum, count] = [0, 0];
    for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] < 255) continue;
        sum += data[at] + data[at + 1] + data[at + 2];
        count += 3;
    }
    const [drawn, shown] = [canvas, box].map(({ width, height }) => width / height);
    return { bright: sum / count, ground, drawn, shown };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_was_found_is_printed_light_and_whole(
    visit: Callable[..., Visit], service: Server, scheme: str
) -> None:
    page = visit(service.url, scheme=scheme).page
    page.locator("#state[data-status=ready]").wait_for()
    show(page, SEQUENCE)
    page.wait_for_function("() => document.querySelector('#cosine').ariaValueText")
    page.locator("#heat").scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    on_screen = page.evaluate(LOOK, "#heat")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    for plot in ("#heat", "#strip"):
        on_paper = page.evaluate(LOOK, plot)
        assert on_paper["drawn"] == pytest.approx(on_paper["shown"], rel=0.02)
        assert on_paper["ground"] == "#ffffff"
    on_paper = page.evaluate(LOOK, "#heat")
    assert on_paper["bright"] > 170
    assert scheme == "light" or on_paper["bright"] > on_screen["bright"] + 60
    for gone in ("#input", "#how", "#strip-in", "#result-npy", "#strip-png", "#region-copy"):
        expect(page.locator(gone)).to_be_hidden()
    for kept in ("#result-title", "#strip", "#region-text", "#heat", "#card"):
        expect(page.locator(kept)).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_the_table_of_records_is_printed_to_its_end(ready: Any) -> None:
    fill(ready, THREE)
    run(ready)
    ready.locator("#map-result:not([hidden])").wait_for()
    ready.emulate_media(media="print")
    expect(ready.locator("#records .actions-cell").first).to_be_hidden()
    scroll = ready.locator("#map-result .scroll")
    assert scroll.evaluate("(box) => getComputedStyle(box).maxHeight") == "none"
