"""The page without a mouse, for a screen reader, on a phone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import PHONE, Visit
from tests.support.page import THREE, expect, fill, run, text_of_cursor
from tests.support.running import Server


def test_everything_works_from_the_keyboard(ready: Any) -> None:
    def tab_to(id_: str) -> None:
        for _ in range(40):
            ready.keyboard.press("Tab")
            if ready.evaluate("() => document.activeElement.id") == id_:
                return
        raise AssertionError(f"{id_} is not reached by Tab")

    tab_to("example")
    ready.keyboard.press("Enter")
    tab_to("text")
    ready.keyboard.press("Control+Enter")
    ready.locator("#result:not([hidden])").wait_for()
    expect(ready.locator("#result")).to_be_focused()
    expect(ready.locator("#announce")).to_contain_text("Features")
    tab_to("result-npy")
    tab_to("tokens")
    ready.keyboard.press("ArrowRight")
    active = ready.locator("#tokens").get_attribute("aria-activedescendant")
    assert active == "token-2"
    expect(ready.locator("#token-2")).to_have_attribute("aria-selected", "true")
    ready.keyboard.press("End")
    expect(ready.locator("#mosaic-title")).to_contain_text("[SEP]")
    tab_to("mosaic")
    ready.keyboard.press("End")
    assert text_of_cursor(ready, "#mosaic").startswith("feature 31: ")
    tab_to("heat")
    ready.keyboard.press("ArrowDown")
    ready.keyboard.press("Enter")
    expect(ready.locator("#mosaic-title")).to_contain_text("token 1,")
    tab_to("cosine")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Callable[..., Visit], service: Server, scheme: str) -> None:
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text()
    page = visit(service.url, scheme=scheme).page
    page.locator("#state[data-status=ready]").wait_for()
    page.evaluate(axe)

    def check() -> None:
        report = page.evaluate("() => axe.run(document)")
        found = [
            f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
            for violation in report["violations"]
            for node in violation["nodes"]
        ]
        assert found == []

    check()
    fill(page, ">r\nACGTNNJ")
    expect(page.locator("#findings .bad")).to_be_visible()
    check()
    fill(page, THREE)
    run(page)
    page.get_by_role("button", name="one", exact=True).click()
    page.locator("#result:not([hidden])").wait_for()
    page.locator("#map-code").click()
    page.locator("#result-code").click()
    check()


def test_a_phone_has_no_sideways_scroll(visit: Callable[..., Visit], service: Server) -> None:
    page = visit(service.url, size=PHONE).page
    page.locator("#state[data-status=ready]").wait_for()
    page.locator("#example-records").click()
    run(page)
    page.get_by_role("button", name="cro", exact=True).click()
    page.locator("#result:not([hidden])").wait_for()
    page.locator("#result-code").click()
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide == PHONE[0]
