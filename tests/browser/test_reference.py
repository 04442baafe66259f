"""/docs in a browser: a menu, a search, and requests that are tried against this server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import PHONE, Visit
from tests.support.page import expect
from tests.support.running import Server


@pytest.fixture
def reference(visit: Callable[..., Visit], service: Server) -> Any:
    page = visit(service.url).page
    page.goto(f"{service.url}/docs")
    return page


def test_the_menu_opens_what_it_leads_to(reference: Any, service: Server) -> None:
    tall = reference.evaluate("() => document.documentElement.scrollHeight")
    assert tall < 4000
    reference.get_by_role("link", name="POST /tokenize").click()
    opened = reference.locator("#post-tokenize")
    expect(opened).to_have_attribute("open", "")
    expect(reference.locator("#post-features")).not_to_have_attribute("open", "")
    # The examples name this server, and not the usual port.
    reference.get_by_role("link", name="POST /features").click()
    text = reference.locator("#post-features").inner_text()
    host = service.url.removeprefix("http://")
    assert f"-F file=@genes.fa -F format=json {host}/features" in text
    assert "127.0.0.1:8000" not in text


def test_the_search_leaves_what_has_the_word(reference: Any) -> None:
    reference.get_by_label("Search the reference").fill("prometheus")
    expect(reference.locator("#get-metrics")).to_be_visible()
    expect(reference.locator("#post-tokenize")).to_be_hidden()
    expect(reference.locator("nav [role=status]")).to_contain_text("have it")
    reference.get_by_label("Search the reference").fill("")
    expect(reference.locator("#post-tokenize")).to_be_visible()


def test_a_request_is_tried_against_this_server(reference: Any, service: Server) -> None:
    reference.get_by_role("link", name="POST /tokenize").click()
    operation = reference.locator("#post-tokenize")
    operation.get_by_text("Try it").click()
    operation.get_by_label("JSON").fill('{"sequence": "ACGTTGCAAGG"}')
    operation.get_by_role("button", name="Send to").click()
    answer = service.http.post("/tokenize", json={"sequence": "ACGTTGCAAGG"}).json()
    expect(operation.locator(".try pre")).to_contain_text(f'"n_tokens": {answer["n_tokens"]}')
    expect(operation.locator(".try [role=status]")).to_contain_text("200")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Callable[..., Visit], service: Server, scheme: str) -> None:
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text()
    page = visit(service.url, scheme=scheme).page
    page.goto(f"{service.url}/docs#post-tokenize")
    page.locator("#post-tokenize .try summary").click()
    page.evaluate(axe)
    report = page.evaluate("() => axe.run(document)")
    assert [
        f"{violation['id']}: {node['html'][:150]}"
        for violation in report["violations"]
        for node in violation["nodes"]
    ] == []


def test_a_phone_has_no_sideways_scroll(visit: Callable[..., Visit], service: Server) -> None:
    page = visit(service.url, size=PHONE).page
    page.goto(f"{service.url}/docs#post-features")
    assert page.evaluate("() => document.documentElement.scrollWidth") == PHONE[0]
