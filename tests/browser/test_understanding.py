"""What somebody who never saw the page is told: what it is, how to read it, what to trust."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.browser import PHONE, Visit
from tests.support.page import THREE, expect, fill, run, show
from tests.support.running import Server

SEQUENCE = "ACGTTGCAAGGCTTAACCGGTAACGTTTAACG"


def test_an_empty_page_says_what_it_is_and_offers_examples(ready: Any) -> None:
    welcome = ready.locator("#welcome p")
    expect(welcome).to_have_count(3)
    words = " ".join(welcome.all_inner_texts()).lower()
    assert not [word for word in ("token", "hidden", "embedding", "tensor") if word in words]
    expect(ready.locator("footer")).to_contain_text(
        "Everything stays between this browser and this service."
    )

    cards = ready.locator("#examples button")
    expect(cards).to_have_count(2)
    assert all(card.locator("svg").is_visible() for card in cards.all())
    cards.first.click()
    expect(ready.locator("#run")).to_be_focused()
    expect(ready.locator("#examples")).to_be_hidden()
    ready.get_by_role("button", name="Clear").click()
    expect(ready.locator("#examples")).to_be_visible()
    expect(ready.locator("#text")).to_be_focused()


def test_the_card_says_what_may_be_trusted(ready: Any, service: Server) -> None:
    info = service.http.get("/info").json()
    expect(ready.locator("#about")).to_be_visible()
    expect(ready.locator("#not-science")).to_contain_text("not for science")
    rows = dict(
        zip(
            ready.locator("#card dt").all_inner_texts(),
            ready.locator("#card dd").all_inner_texts(),
            strict=True,
        )
    )
    assert {"Model", "Trained on", "Fidelity", "Runs on", "How to cite"} <= set(rows)
    assert f"knows the letters {info['letters']}" in rows["Model"]
    assert "Drosophila" in rows["Trained on"]
    assert rows["Fidelity"].startswith("As expected")
    assert "by PyTorch, in fp32" in rows["Runs on"]
    assert info["fingerprint"] in rows["How to cite"]

    show(ready, SEQUENCE)
    expect(ready.locator("#result-facts")).to_contain_text("gena-mini is not for science")


def card(page: Any, model: str, config: dict[str, Any], window: int) -> dict[str, str]:
    """What the card says of a model of 12 layers that is published with a flag."""
    rows = page.evaluate(
        """async ([model, config, window]) => {
            const { cardRows } = await import('/static/model-card.js');
            const gates = [{ psnr_db: 133.8 }, { psnr_db: 52.4 }, { psnr_db: null }];
            return cardRows({
                model, fingerprint: 'f00d', letters: 'ACGTN',
                limits: { tokens_per_window: window },
                versions: { 'gena-coreml': '1.2.3' },
                runtime: { name: 'coreml', compute_units: 'CPU_AND_NE', compute: 'fp16' },
                bundle: {
                    commit: '0123456789abcdef0', hidden_size: 768, config,
                    fidelity: { flag: 'flagged', gates },
                },
            });
        }""",
        [model, {"num_hidden_layers": 12, "vocab_size": 32000, **config}, window],
    )
    return dict(rows)


def test_the_card_of_a_published_model_names_its_data_and_its_paper(ready: Any) -> None:
    words = card(ready, "AIRI-Institute/gena-lm-bert-base-t2t", {}, 512)
    assert "It reads 510 of them at a time" in words["Model"]
    assert "1000 Genomes" in words["Trained on"]
    assert words["Fidelity"].startswith("Less faithful than expected")
    assert "lowest of 3 comparisons is 52 dB" in words["Fidelity"]
    assert "Neural Engine" in words["Runs on"]
    assert "10.1093/nar/gkae1310" in words["How to cite"]
    assert "at commit 0123456789ab" in words["How to cite"]


def test_the_card_of_another_family_does_not_name_the_paper(ready: Any) -> None:
    config = {"model_type": "modernbert"}
    words = card(ready, "AIRI-Institute/moderngena-base", config, 1024)
    assert "It reads 1,022 of them at a time" in words["Model"]
    assert "gkae1310" not in words["How to cite"]
    assert "modernGENA, by AIRI-Institute" in words["How to cite"]


def test_every_panel_says_what_it_shows(ready: Any) -> None:
    fill(ready, THREE)
    run(ready)
    ready.get_by_role("button", name="one", exact=True).click()
    ready.locator("#result:not([hidden])").wait_for()
    for panel in ready.locator("#map-result .panel, #result .grid > .panel").all():
        if panel.get_attribute("aria-labelledby") == "records-title":
            continue  # a table with heads
        assert panel.locator(".caption").first.is_visible(), panel.inner_text()[:40]
    mosaic = ready.locator(".panel", has=ready.locator("#mosaic"))
    expect(mosaic.locator(".caption")).to_contain_text("order is arbitrary")
    assert ready.locator(".axis").all_inner_texts() == [
        "tokens →", "features →", "tokens →", "tokens →",
    ]  # fmt: skip
    expect(ready.locator("#heat-legend")).to_contain_text("≥ ")


def test_how_to_read_this_opens_once(ready: Any) -> None:
    show(ready, SEQUENCE)
    how = ready.locator("#how")
    expect(how).to_have_attribute("open", "")
    ready.reload()
    show(ready, SEQUENCE)
    expect(how).not_to_have_attribute("open", "")
    how.locator("summary").click()
    ready.reload()
    show(ready, SEQUENCE)
    expect(how).to_have_attribute("open", "")


def test_the_answer_comes_with_its_heading_at_the_top(ready: Any) -> None:
    fill(ready, THREE)
    run(ready)
    ready.locator("#map-result:not([hidden])").wait_for()
    for title, button in (("#map-title", None), ("#result-title", "two")):
        if button:
            ready.get_by_role("button", name=button, exact=True).click()
            ready.locator("#result:not([hidden])").wait_for()
        ready.locator("#work").wait_for(state="hidden")
        top = ready.locator(title).evaluate("title => title.getBoundingClientRect().top")
        assert 0 <= top < 100, (title, top)


@pytest.mark.parametrize("text", [SEQUENCE, THREE])
def test_a_finger_hits_every_button(
    visit: Callable[..., Visit], service: Server, text: str
) -> None:
    page = visit(service.url, size=PHONE, has_touch=True, is_mobile=True).page
    page.locator("#state[data-status=ready]").wait_for()
    expect(page.locator("#run-hint")).to_be_hidden()
    fill(page, text)
    run(page)
    page.locator("#result:not([hidden]), #map-result:not([hidden])").first.wait_for()
    small = page.evaluate(
        """() => Array.from(document.querySelectorAll('button, select, summary, footer a'))
            .filter((element) => element.checkVisibility())
            .map((element) => [element.id || element.textContent,
                               element.getBoundingClientRect().height])
            .filter(([, height]) => height < 44)"""
    )
    assert small == []
    if text == SEQUENCE:
        expect(page.locator("#mosaic-readout")).to_have_text("Tap a cell.")
