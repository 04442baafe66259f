"""Frames a second of the page in Chromium: python -m benchmarks.page [BUNDLE]

Scrolls and zooms one full window of the model, a record of 20 kb, and a map of 10,000 points, one
step a frame, and prints how many frames a second were drawn and how long all but the slowest of a
hundred took. A screen has 60 a second; 50 are asked for. Nothing else should run meanwhile.
"""

import random
import shutil
import sys
from pathlib import Path
from typing import Any

from converter.bundle.location import bundles_root, default_bundle_folder
from converter.bundle.opening import open_bundle
from tools.served import served

_MINI = default_bundle_folder("gena-mini", None, bundles_root(None))
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_WIDE = {"width": 1440, "height": 900}
_SECONDS = 3
# Of random DNA, a little less than it has.
_BASES_PER_TOKEN = 5.3
_POINTS = 10_000
# A step a frame: `act(k)` is called before each, and the time between frames is kept.
_MEASURE = """async (seconds) => {
    const act = (() => { %s })();
    const frame = () => new Promise(requestAnimationFrame);
    const times = [];
    let last = await frame();
    const end = performance.now() + 1000 * seconds;
    for (let k = 0; performance.now() < end; k += 1) {
        act(k);
        const now = await frame();
        times.push(now - last);
        last = now;
    }
    return times;
}"""
_WHEEL = """
    const canvas = document.getElementById('%s');
    const box = canvas.getBoundingClientRect();
    return (k) => canvas.dispatchEvent(new WheelEvent('wheel', {
        bubbles: true, cancelable: true, clientX: box.left + box.width / 2,
        clientY: box.top + 90, %s }));
"""
_ZOOM = "ctrlKey: true, deltaY: Math.floor(k / 30) % 2 ? 20 : -20"
_PAN = "deltaX: Math.floor(k / 60) % 2 ? -25 : 25, deltaY: 0"
_SCROLL = "return (k) => scrollTo(0, 500 + 900 * Math.abs(Math.sin(k / 40)));"


def main() -> None:
    """Needs Playwright, Chromium, and a bundle: gena-mini's, which `make demo` builds."""
    from playwright.sync_api import sync_playwright

    bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else _MINI
    manifest = open_bundle(bundle).manifest
    window = f"{manifest.window} x {manifest.hidden_size}"
    with sync_playwright() as driver, served(bundle) as server:
        browser = driver.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, bases in ((window, int(_BASES_PER_TOKEN * manifest.window)), ("20 kb", 20_000)):
            page = open_page(browser, server.url)
            show(page, "".join(random.Random(1).choices("ACGT", k=bases)))
            report(page, f"{name}, page scrolls", _SCROLL)
            page.evaluate("() => document.getElementById('strip').scrollIntoView()")
            report(page, f"{name}, strip zooms", _WHEEL % ("strip", _ZOOM))
            report(page, f"{name}, strip moves", _WHEEL % ("strip", _PAN))
        page = open_page(browser, server.url)
        draw_points(page)
        report(page, f"{_POINTS:,} points, map zooms", _WHEEL % ("scatter", _ZOOM))
        page.locator("#map-in").click()
        report(page, f"{_POINTS:,} points, map moves", _WHEEL % ("scatter", _PAN))
        browser.close()


def open_page(browser: Any, url: str) -> Any:
    page = browser.new_page(viewport=_WIDE)
    page.goto(url)
    page.locator("#state[data-status=ready]").wait_for()
    return page


def show(page: Any, sequence: str) -> None:
    page.locator("#text").fill(sequence)
    page.locator("#run").click()
    page.locator("#cosine[aria-valuetext]").wait_for()
    page.wait_for_timeout(4_000)  # the components are computed


def draw_points(page: Any) -> None:
    """A map of made-up vectors, without the hours that a model would take for them."""
    page.evaluate(
        """async (count) => {
            const { RecordsView } = await import('/static/records-view.js');
            const { compute } = await import('/static/counting.js');
            const hidden = 16;
            const values = Float32Array.from({ length: count * hidden }, (_, k) => Math.sin(k * k));
            const records = Array.from({ length: count }, (_, k) => (
                { id: `r${k}`, title: '', sequence: 'ACGT'.repeat(10) }));
            const vectors = { values, shape: [count, hidden], counts: new Array(count).fill(8),
                model: 'none', fingerprint: 'none' };
            await new RecordsView(compute, () => {}).show(records, vectors, 'mean', '');
            document.getElementById('scatter').scrollIntoView();
        }""",
        _POINTS,
    )


def report(page: Any, name: str, source: str) -> None:
    times = sorted(page.evaluate(_MEASURE % source, _SECONDS))
    slow = times[int(0.99 * len(times))]
    print(f"{name:28} {1000 * len(times) / sum(times):5.1f} frames/s, 99 % within {slow:5.1f} ms")


if __name__ == "__main__":
    main()
