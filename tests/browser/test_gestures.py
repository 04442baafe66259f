"""Fingers on the strip and on the map: two of them zoom, one moves, a touch that stays chooses."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.browser import PHONE, Visit
from tests.support.page import expect, fill, run, show
from tests.support.running import Server

LETTERS = random.Random(2)
LONG = "".join(LETTERS.choices("ACGT", k=3000))
FORTY = "".join(f">g{n}\n{''.join(LETTERS.choices('ACGT', k=60))}\n" for n in range(40))


@pytest.fixture
def phone(visit: Callable[..., Visit], service: Server) -> Any:
    page = visit(service.url, size=PHONE, has_touch=True, is_mobile=True).page
    page.locator("#state[data-status=ready]").wait_for()
    return page


def pinch(page: Any, plot: str, *, to: float) -> None:
    """Two fingers, from 60 pixels apart to `to` times that, around the middle of a plot."""
    page.locator(plot).scroll_into_view_if_needed()
    box = page.locator(plot).bounding_box()
    middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, apart: float | None = None) -> None:
        points = [] if apart is None else [{"x": middle + s * apart, "y": y} for s in (-1, 1)]
        points = [{**point, "id": number} for number, point in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for step in range(1, 6):
        touch("touchMove", 30 * (1 + (to - 1) * step / 5))
    touch("touchEnd")
    page.wait_for_timeout(100)


def test_two_fingers_zoom_the_map_and_choose_nothing(phone: Any) -> None:
    fill(phone, FORTY)
    run(phone)
    phone.locator("#map-result:not([hidden])").wait_for()
    pinch(phone, "#scatter", to=3)
    zoom = float(phone.locator("#scatter").get_attribute("data-zoom"))
    assert zoom == pytest.approx(3, rel=0.1)
    expect(phone.locator("#near")).to_be_empty()
    pinch(phone, "#scatter", to=1 / 4)
    assert float(phone.locator("#scatter").get_attribute("data-zoom")) == 1


def test_two_fingers_zoom_the_strip_around_their_middle(phone: Any) -> None:
    show(phone, LONG)
    pinch(phone, "#strip", to=3)
    words = phone.locator("#strip-readout").inner_text().split()[1]
    first, last = (int(part.replace(",", "")) for part in words.split("–"))
    assert last - first == pytest.approx(len(LONG) / 3, rel=0.1)
    assert (first + last) / 2 == pytest.approx(len(LONG) / 2, rel=0.1)
    expect(phone.locator("#strip")).to_have_attribute("aria-valuenow", "1")


def test_a_lasso_that_a_second_finger_breaks_off_selects_nothing(phone: Any) -> None:
    fill(phone, FORTY)
    run(phone)
    phone.locator("#map-result:not([hidden])").wait_for()
    phone.locator("#lasso").tap()
    pinch(phone, "#scatter", to=2)
    expect(phone.locator("#selection")).to_be_hidden()
