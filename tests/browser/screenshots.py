"""Takes the pictures of the page in docs/screenshots: python -m tests.browser.screenshots"""

import base64
import random
import re
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.browser import CHROMIUM, PHONE, SERVER
from tests.support.bundles import build_mini
from tests.support.paths import ROOT
from tests.support.running import STAND_IN_SERVER, Server, running

FOLDER = ROOT / "docs" / "screenshots"
DESK = (1280, 800)
MOST_BYTES = 200_000
_COLOURS = 96
BROKEN = """>lac_promoter
TTTACACTTTATGCTTCCGGCTCGTATGTTGTGTGG
AATTGTGAGCGGJTAACAATTnnCA"""


def main() -> None:
    """Needs Chromium and gena-mini."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        folder = Path(scratch)
        bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else build_mini(folder / "bundle")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with running(SERVER, GENA_BUNDLE=str(bundle), GENA_THREADS="1") as server:
            server.wait_for("ready")
            take_ready_states(browser, server)
        (folder / "convert_orders").write_text("wait\n")
        waiting = {"GENA_BUNDLES": str(folder), "GENA_MODEL": "AIRI-Institute/gena-lm-bert-base"}
        with running(STAND_IN_SERVER, **waiting) as server:
            page = open_page(browser, server.url, DESK)
            page.locator("#state-text", has_text="50 %").wait_for()
            save(page, "converting", height=620)
        browser.close()


def take_ready_states(browser: Any, server: Server) -> None:
    """The page with a model."""
    for scheme in ("light", "dark"):
        page = open_page(browser, server.url, DESK, scheme)
        if scheme == "light":
            save(page, "start", height=760)
        run_example(page)
        page.locator("#goto").fill("301-330")
        page.keyboard.press("Enter")
        page.locator("#strip-all").click()
        settle(page)
        save(page, f"strip-{scheme}", of="#strip-panel", below=None)
        page.locator("#token-41").click()
        point_at(page, "#mosaic")
        save(page, f"tokens-{scheme}", of="#tokens", below="#heat")
        page.mouse.move(0, 0)
        if scheme == "light":
            page.set_viewport_size({"width": 1000, "height": 900})
            settle(page)
            save(page, "plots", of="#heat", below=None)

    page = open_page(browser, server.url, DESK)
    page.locator("#text").fill(two_kinds(80))
    page.locator("#run").click()
    page.locator("#records tbody tr").first.wait_for()
    page.get_by_role("button", name="Records most alike to g7", exact=True).click()
    page.locator("#scatter").scroll_into_view_if_needed()
    save(page, "map", of="#map-result", below=None)

    page = open_page(browser, server.url, DESK)
    page.locator("#text").fill(BROKEN)
    page.locator("#findings .bad").wait_for()
    save(page, "bad-letter", height=620)

    page = open_page(browser, server.url, PHONE)
    run_example(page)
    save(page, "phone", of="#strip-panel", below="#heat")


def two_kinds(count: int) -> str:
    """Made-up records, of little and of much GC in turn."""
    letters = random.Random(5)
    records = []
    for number in range(count):
        name, gc = (("rich", 7), ("poor", 3))[number % 2]
        sequence = "".join(letters.choices("ACGT", [10 - gc, gc, gc, 10 - gc], k=300))
        records.append(f">g{number} kind={name}\n{sequence}\n")
    return "".join(records)


def open_page(browser: Any, url: str, size: tuple[int, int], scheme: str = "light") -> Any:
    page = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        reduced_motion="reduce",
    ).new_page()
    page.goto(url)
    page.locator("#state:not([data-status=unknown], [data-status=loading])").wait_for()
    return page


def run_example(page: Any) -> None:
    page.locator("#example").click()
    page.locator("#facts", has_text=re.compile("of 510")).wait_for()
    page.locator("#run").click()
    page.locator("#cosine[aria-valuetext]").wait_for()
    page.locator("#how summary").click()
    page.wait_for_timeout(1000)  # the colours along the sequence are computed


def point_at(page: Any, plot: str) -> None:
    page.locator(plot).scroll_into_view_if_needed()
    box = page.locator(plot).bounding_box()
    page.mouse.move(box["x"] + 0.42 * box["width"], box["y"] + 0.45 * box["height"])


def settle(page: Any) -> None:
    """Two drawn frames."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def save(
    page: Any, name: str, *, of: str | None = None, below: str | None = None, height: int = 0
) -> None:
    """The top of the page, or from one element's panel to its end (or to another's panel)."""
    settle(page)
    box = page.evaluate(
        """([of, below, height]) => {
            const width = document.documentElement.clientWidth;
            if (!of) return [0, 0, width, height];
            const panel = (id) => {
                const element = document.querySelector(id);
                return (element.closest('.panel') ?? element).getBoundingClientRect();
            };
            const isPanel = document.querySelector(of).closest('.panel') !== null;
            const top = panel(of).top + scrollY + (isPanel ? -16 : 8);
            const bottom = below ? panel(below).top - 4 : panel(of).bottom + 12;
            return [0, top, width, bottom + scrollY - top];
        }""",
        [of, below, height],
    )
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True))
    pixels = decode(page, page.screenshot(full_page=True, clip=clip))
    content = encode(pixels)
    assert len(content) < MOST_BYTES, f"{name}: {len(content)} bytes"
    (FOLDER / f"{name}.png").write_bytes(content)
    print(f"{name}.png {pixels.shape[1]} x {pixels.shape[0]}, {len(content) // 1000} kB")


def decode(page: Any, png: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) of a PNG, by the browser."""
    width, height, pixels = page.evaluate(
        """async (png) => {
            const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
            const picture = await createImageBitmap(new Blob([bytes]));
            const canvas = new OffscreenCanvas(picture.width, picture.height);
            const context = canvas.getContext('2d');
            context.drawImage(picture, 0, 0);
            const { data } = context.getImageData(0, 0, picture.width, picture.height);
            const text = [];
            for (let at = 0; at < data.length; at += 8192) {
                text.push(String.fromCharCode(...data.subarray(at, at + 8192)));
            }
            return [picture.width, picture.height, btoa(text.join(''))];
        }""",
        base64.b64encode(png).decode(),
    )
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)[..., :3]


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG with a palette of the most frequent colours: a fifth of the bytes."""
    coarse = (pixels.astype(np.int32) + 4) // 8
    keys = (coarse[..., 0] * 33 + coarse[..., 1]) * 33 + coarse[..., 2]
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    flat = pixels.reshape(-1, 3)
    means = np.stack([np.bincount(inverse, flat[:, c]) / counts for c in range(3)], axis=1)
    palette = choose_palette(means, counts)
    nearest = ((means[:, None] - palette) ** 2).sum(axis=2).argmin(axis=1).astype(np.uint8)
    rows = nearest[inverse].reshape(pixels.shape[:2])
    height, width = rows.shape
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = np.round(palette).astype(np.uint8).tobytes()
    parts = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def choose_palette(colours: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """The frequent colours, then one by one the colour that is served worst."""
    chosen = list(colours[np.argsort(counts)[::-1][: _COLOURS // 3]])
    distance = ((colours[:, None] - np.array(chosen)) ** 2).sum(axis=2).min(axis=1)
    while len(chosen) < min(_COLOURS, len(colours)):
        worst = int((distance * counts**0.25).argmax())
        chosen.append(colours[worst])
        distance = np.minimum(distance, ((colours - colours[worst]) ** 2).sum(axis=1))
    return np.array(chosen)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


if __name__ == "__main__":
    main()
