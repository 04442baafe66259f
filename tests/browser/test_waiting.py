"""While the answer, or the service itself, is not there: progress, cancelling, restarts, a key."""

import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.support.browser import Visit
from tests.support.page import PATIENCE, expect, fill, run, show
from tests.support.running import STAND_IN_SERVER, running
from tests.support.stand_in_bundle import describe, make_bundle


def test_progress_is_what_has_arrived(ready: Any) -> None:
    letters = random.Random(1)
    fill(ready, "".join(letters.choices("ACGT", k=20_000)))
    expect(ready.locator("#facts")).to_contain_text("windows of 510")
    ready.evaluate(
        """() => {
            const text = document.getElementById('work-text');
            window.said = [];
            new MutationObserver(() => window.said.push(text.textContent))
                .observe(text, { childList: true });
        }"""
    )
    run(ready)
    expect(ready.locator("#window-text")).to_contain_text("Window 1 of")
    windows = int(ready.locator("#window-text").inner_text().split(":")[0].split()[-1])
    said = ready.evaluate("() => window.said")
    assert said[0] == f"Computing: {windows} windows…"
    matches = [re.fullmatch(rf"Computing: (\d+) of {windows} windows", text) for text in said[1:]]
    counts = [int(match[1]) for match in matches if match]
    assert len(counts) == len(said) - 1
    assert counts == sorted(counts)
    assert any(0 < count < windows for count in counts)
    expect(ready.locator("#work")).to_be_hidden()


def test_work_can_be_cancelled(ready: Any) -> None:
    ready.route("**/features*", lambda _route: None)  # never answered
    fill(ready, "ACGTACGT")
    run(ready)
    ready.get_by_role("button", name="Cancel").click()
    expect(ready.locator("#work")).to_be_hidden()
    expect(ready.locator("#error")).to_be_hidden()
    expect(ready.locator("#announce")).to_have_text("Cancelled.")
    ready.unroute_all(behavior="ignoreErrors")
    show(ready, "ACGTACGTAC")


def test_tokens_are_counted_before_the_model_is_loaded(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    (tmp_path / "load_faults").write_text("steps\n")
    bundle = make_bundle(tmp_path / "bundle")
    with running(STAND_IN_SERVER, GENA_BUNDLE=str(bundle)) as server:
        opened = visit(server.url)
        page = opened.page
        state = page.locator("#state")
        expect(state).to_have_attribute("data-status", "loading")
        fill(page, "ACGTTGCAAGG")
        expect(page.locator("#facts")).to_have_text("11 bases · 11 of 510 tokens", timeout=3000)
        expect(state).to_have_attribute("data-status", "loading")
    opened.forgive_refusals()


def test_the_page_follows_the_service_through_a_restart(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    settings = {"GENA_BUNDLES": str(tmp_path), "GENA_MODEL": "lab/model"}
    with running(STAND_IN_SERVER, **settings) as first:
        opened = visit(first.url)
        page = opened.page
        state = page.locator("#state")
        expect(state).to_have_attribute("data-status", "ready", timeout=PATIENCE)
        fill(page, "ACGTTGCAAGG")

        # It fails to load a few times too: long enough to be seen between two looks at /health.
        (tmp_path / "load_faults").write_text("die\n" * 3)
        (model,) = first.children()
        os.kill(model, signal.SIGKILL)
        expect(state).not_to_have_attribute("data-status", "ready")
        expect(page.locator("#notice")).to_be_visible()
        # Asked for in the gap: answered when the model is back.
        run(page)
        expect(page.locator("#work-text")).to_contain_text("Waiting for the model")
        expect(page.locator("[role=option]").first).to_be_visible(timeout=PATIENCE)

        assert first.stop() == 0
        expect(state).to_have_attribute("data-status", "away")
        expect(page.locator("#notice-title")).to_have_text("The service does not answer")
        expect(page.locator("#notice-text")).to_contain_text("make serve")
        run(page)
        expect(page.locator("#work-text")).to_contain_text("the service, which does not answer")
        page.get_by_role("button", name="Cancel").click()
    with running(STAND_IN_SERVER, **settings, GENA_PORT=str(first.port)):
        expect(state).to_have_attribute("data-status", "ready", timeout=PATIENCE)
        expect(page.locator("#notice")).to_be_hidden()
        assert page.locator("#text").input_value() == "ACGTTGCAAGG"
        show(page, "ACGTTGCAAGGA")
    opened.forgive_refusals()


def test_conversion_failure_and_recovery_are_visible(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    (tmp_path / "convert_orders").write_text("fail\n")
    with running(STAND_IN_SERVER, GENA_BUNDLES=str(tmp_path), GENA_MODEL="lab/model") as server:
        opened = visit(server.url)
        page = opened.page
        expect(page.locator("#state")).to_have_attribute("data-status", "failed", timeout=PATIENCE)
        expect(page.locator("#notice-text")).to_contain_text("No network.")
        expect(page.locator("#notice-text")).to_contain_text("Check the name and the network")

        (tmp_path / "convert_orders").write_text("wait\n")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#state-text")).to_have_text("Converting the model 50 %")
        assert page.locator("#notice-progress").get_attribute("value") == "0.5"
        expect(page.locator("#notice-text")).to_contain_text("Step 3 of 5, converting")
        fill(page, "ACGT" * 50)
        facts = page.locator("#facts")
        expect(facts).to_have_text("200 bases · tokens are counted once the tokenizer is here")
        opened.forgive_refusals()


def test_tokens_are_counted_while_the_model_is_converted(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    """By the checkpoint's own tokenizer; then by the bundle's, which here is another one."""
    checkpoint = describe(tmp_path / "checkpoint")
    library = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    dna = "GATTACA" * 30
    expected = len(library.encode(dna, add_special_tokens=False).ids)
    (tmp_path / "convert_orders").write_text("hold, fail\nhold\n")
    settings = {"GENA_BUNDLES": str(tmp_path), "GENA_MODEL": str(checkpoint)}
    with running(STAND_IN_SERVER, **settings) as server:
        opened = visit(server.url)
        page = opened.page
        state, facts = page.locator("#state"), page.locator("#facts")
        expect(state).to_have_attribute("data-status", "converting")
        fill(page, dna)
        expect(facts).to_have_text(f"210 bases · {expected} of 510 tokens")
        width = page.locator("#budget-fill").evaluate("fill => fill.style.width")
        assert float(width.rstrip("%")) == pytest.approx(100 * expected / 510, abs=0.01)
        expect(state).to_have_attribute("data-status", "converting")

        # Counts of a model that will not come are none.
        (tmp_path / "go").touch()
        expect(state).to_have_attribute("data-status", "failed")
        expect(facts).to_have_text("210 bases")
        expect(page.locator("#budget")).to_be_hidden()

        (tmp_path / "go").unlink()
        page.get_by_role("button", name="Try again").click()
        expect(facts).to_have_text(f"210 bases · {expected} of 510 tokens")
        (tmp_path / "go").touch()
        expect(state).to_have_attribute("data-status", "ready", timeout=PATIENCE)
        expect(facts).to_have_text("210 bases · 210 of 510 tokens")
    opened.forgive_refusals()


def test_a_key_is_asked_for_where_the_service_wants_one(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    settings = {"GENA_BUNDLES": str(tmp_path), "GENA_MODEL": "lab/model"}
    with running(STAND_IN_SERVER, **settings, GENA_API_KEY="open sesame") as server:
        opened = visit(server.url)
        page = opened.page
        expect(page.locator("#state")).to_have_attribute("data-status", "ready", timeout=PATIENCE)
        fill(page, "ACGTTGCAAGG")
        run(page)
        page.get_by_label("API key").fill("open sesame")
        page.get_by_role("button", name="Use this key").click()
        page.locator("#result:not([hidden])").wait_for()
        page.locator("#result-code").click()
        command = page.locator("#result-code-panel code").first.inner_text()
        assert "Bearer $GENA_API_KEY" in command
        assert "sesame" not in command
        opened.forgive_refusals()
