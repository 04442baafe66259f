"""A model of another window than 512: the page takes its size from what the service answers."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support.browser import Visit
from tests.support.page import expect, fill, run
from tests.support.running import Server

ROWS, HIDDEN = 1024, 16
OWN = [ROWS - 2, 478]
SEQUENCE = "ACGTA" * sum(OWN)  # five bases a token


def features() -> bytes:
    """What /features?format=npz says of it: two windows, the second not full."""
    file = io.BytesIO()
    offsets = np.zeros((2, ROWS, 2), np.int64)
    for window, (first, count) in enumerate(zip([0, OWN[0]], OWN, strict=True)):
        starts = 5 * np.arange(first, first + count)
        offsets[window, 1 : count + 1] = np.stack([starts, starts + 5], axis=1)
    np.savez(
        file,
        features=np.random.default_rng(1).normal(size=(2, ROWS, HIDDEN)).astype(np.float32),
        input_ids=np.full((2, ROWS), 9, np.int32),
        offsets=offsets,
        windows=np.array([[0, 0, 0, OWN[0], 0, 0], [0, 1, OWN[0], sum(OWN), 0, 0]]),
        n_tokens=np.array([count + 2 for count in OWN]),
        model=np.array("lab/modern"),
        fingerprint=np.array("0" * 16),
    )
    return file.getvalue()


def test_the_window_is_as_long_as_the_model_says(
    visit: Callable[..., Visit], service: Server
) -> None:
    page = visit(service.url).page
    page.locator("#state[data-status=ready]").wait_for()

    def counted(route: Any) -> None:
        entry = json.loads(route.fetch().text())
        route.fulfill(json=entry | {"limit": ROWS, "n_tokens": sum(OWN) + 2})

    page.route(re.compile("/tokenize"), counted)
    page.route(re.compile("/features"), lambda route: route.fulfill(body=features()))
    fill(page, SEQUENCE)
    expect(page.locator("#facts")).to_contain_text("1,500 tokens, read in 2 windows of 1,022")
    run(page)
    expect(page.locator("#result-facts")).to_contain_text("1,500 tokens in 2 windows")
    expect(page.locator("#how")).to_contain_text("(up to 1,022 tokens)")
    expect(page.locator("#strip-panel")).to_contain_text("every 1,022 tokens")
    expect(page.locator("#window-text")).to_contain_text("Window 1 of 2: tokens 1–1,022")
    page.locator("#window-next").click()
    expect(page.locator("#window-text")).to_contain_text("Window 2 of 2: tokens 1,023–1,500")
