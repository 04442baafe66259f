"""What people do with the page, done in Chromium against the running service."""

import gzip
import io
import os
import random
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.bundle.opening import TOKENIZER
from converter.tokenizer import DnaTokenizer, clean
from tests.browser.conftest import PHONE, Visit
from tests.support.running import STAND_IN_SERVER, Server, running

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=30_000)

THREE = ">one\nACGTTGCAAGGCTTAACCGGTA\n>two desc\nggccaattGGCCAATTCC\n>three\nATATATATATGGGCCC\n"
# Longest time for the model to come back on a busy machine.
PATIENCE = 60_000


def fill(page: Any, text: str) -> None:
    page.locator("#text").fill(text)


def run(page: Any) -> None:
    page.locator("#run").click()


def show(page: Any, text: str) -> None:
    """From text to a picture of its features."""
    fill(page, text)
    run(page)
    page.locator("#result:not([hidden])").wait_for()


def text_of_cursor(page: Any, plot: str) -> str:
    text: str = page.locator(plot).get_attribute("aria-valuetext")
    return text


def shown_value(text: str) -> float:
    """`feature 12: −0.25` -> -0.25"""
    return float(text.rpartition(": ")[2].replace("−", "-"))


def features_of(service: Server, sequence: str, **query: str) -> NDArray[np.float32]:
    answer = service.http.post(
        "/features",
        params={"format": "npy", "overflow": "window", **query},
        content=sequence,
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code == 200
    return np.load(io.BytesIO(answer.content))


def sequence_of_tokens(tokenizer: DnaTokenizer, count: int) -> str:
    """Random DNA that makes exactly so many tokens."""
    letters = random.Random(count)
    for _ in range(50):
        sequence = "".join(letters.choices("ACGT", k=12 * count))
        end = int(tokenizer.encode(sequence).offsets[count - 1, 1])
        if len(tokenizer.encode(sequence[:end]).ids) == count:
            return sequence[:end]
    raise AssertionError("no such sequence")


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


def test_bad_letters_are_shown_where_they_are(ready: Any) -> None:
    sent: list[str] = []
    ready.on("request", lambda request: sent.append(request.url))
    fill(ready, ">fine\nACGT\n>broken\nACGTACGT\nACJTACGT\n")
    finding = ready.locator("#findings .bad")
    expect(finding).to_contain_text("“J” at position 11 of record “broken” is not a DNA letter.")
    expect(ready.locator("#marks mark.refused")).to_have_text("J")
    expect(ready.locator("#text")).to_have_attribute("aria-invalid", "true")
    run(ready)
    selection = ready.locator("#text").evaluate(
        "field => field.value.slice(field.selectionStart, field.selectionEnd)"
    )
    assert selection == "J"
    expect(ready.locator("#announce")).to_contain_text("position 11")
    assert not [url for url in sent if "features" in url or "embeddings" in url]

    fill(ready, "ACGT acgu\tRN")
    expect(finding).to_have_count(0)
    findings = ready.locator("#findings")
    expect(findings).to_contain_text("4 lower-case letters are read as upper case.")
    expect(findings).to_contain_text("1 U is read as T.")
    expect(findings).to_contain_text("2 spaces are left out.")
    expect(findings).to_contain_text("R × 1")


def test_refusals_of_the_service_are_sentences_with_the_place(
    visit: Callable[..., Visit], service: Server
) -> None:
    """The service has the last word, also where the page would let something pass."""
    opened = visit(service.url)
    page = opened.page
    page.locator("#state[data-status=ready]").wait_for()
    problem = service.http.post("/features", json={"sequence": "ACGTJA"})
    page.route(
        re.compile("/features"),
        lambda route: route.fulfill(
            status=problem.status_code, headers=dict(problem.headers), body=problem.content
        ),
    )
    fill(page, ">r\nAC\nGTAAAA")
    run(page)
    expect(page.locator("#error")).to_be_visible()
    expect(page.locator("#error-text")).to_contain_text("position 5")
    start = page.locator("#text").evaluate("field => field.selectionStart")
    assert start == ">r\nAC\nGTAAAA".index("GTA") + 2
    opened.forgive_refusals()


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
    expect(ready.locator("[role=option]")).to_have_count(3)
    values = features_of(service, sequence)
    assert values.shape == (2, 512, 768)
    shown = shown_value(text_of_cursor(ready, "#mosaic"))
    assert shown == pytest.approx(values[1, 1, 0], abs=6e-5)


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


def test_what_is_seen_can_be_downloaded(ready: Any, service: Server, tmp_path: Path) -> None:
    sequence = "acgttgcaaggcttaaccggtaN"
    show(ready, sequence)
    expected = features_of(service, sequence)

    def download(button: str) -> tuple[str, bytes]:
        with ready.expect_download() as started:
            ready.locator(button).click()
        return started.value.suggested_filename, Path(started.value.path()).read_bytes()

    name, content = download("#result-npy")
    assert name == "sequence.features.npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), expected)

    name, content = download("#result-tsv")
    head, *lines = (line.split("\t") for line in content.decode().splitlines())
    assert head[:6] == ["window", "row", "token", "id", "first_base", "end_base"]
    table = np.array([[float(cell) for cell in line[6:]] for line in lines], np.float32)
    np.testing.assert_array_equal(table, expected[0, : len(lines)])
    assert "".join(line[2] for line in lines[1:-1]) == clean(sequence).sequence

    for button in ("#mosaic-png", "#heat-png", "#cosine-png"):
        name, content = download(button)
        assert content.startswith(b"\x89PNG\r\n")
        assert name.endswith(".png")

    ready.locator("#result-curl").click()
    panel = ready.locator("#result-curl-panel")
    panel.get_by_role("button", name="Copy").click()
    expect(panel.get_by_role("status")).to_have_text("Copied.")
    command = ready.evaluate("() => navigator.clipboard.readText()")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), expected)


def test_the_command_for_many_records_gives_the_vectors_of_the_map(
    ready: Any, tmp_path: Path
) -> None:
    fill(ready, THREE)
    ready.locator("#pooling").select_option("max")
    run(ready)
    ready.locator("#map-result:not([hidden])").wait_for()
    with ready.expect_download() as started:
        ready.locator("#map-npy").click()
    seen = np.load(started.value.path())
    with ready.expect_download() as started:
        ready.locator("#map-tsv").click()
    lines = Path(started.value.path()).read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["id", "one", "two", "three"]
    ready.locator("#map-curl").click()
    command = ready.locator("#map-curl-panel code").inner_text()
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), seen)
    assert seen.shape == (3, 768)


@pytest.mark.parametrize("compressed", [False, True])
def test_files_are_opened_and_dropped(ready: Any, compressed: bool) -> None:
    content = THREE.encode()
    name = "genes.fa.gz" if compressed else "genes.fa"
    content = gzip.compress(content) if compressed else content
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    ready.locator("#file").set_input_files(file)
    expect(ready.locator("#facts")).to_contain_text("3 records")

    transfer = ready.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [name, list(gzip.compress(b"ACGT") if compressed else b"ACGT")],
    )
    ready.locator("#input").dispatch_event("drop", {"dataTransfer": transfer})
    expect(ready.locator("#facts")).to_contain_text("4 bases")


def test_a_large_file_stays_beside_the_field(ready: Any) -> None:
    content = ">big\n" + "ACGTTGCA" * 50_000
    file = {"name": "big.fa", "mimeType": "text/plain", "buffer": content.encode()}
    ready.locator("#file").set_input_files(file)
    expect(ready.locator("#attached-name")).to_have_text("big.fa")
    expect(ready.locator("#facts")).to_contain_text("400,000 bases")
    expect(ready.locator("#facts")).to_contain_text("about")
    ready.get_by_role("button", name="Remove").click()
    expect(ready.locator("#text")).to_be_focused()
    expect(ready.locator("#facts")).to_have_text("")


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
        fill(page, "ACGT" * 50)
        expect(page.locator("#facts")).to_contain_text("about 23 to 36 tokens")
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
        page.locator("#result-curl").click()
        command = page.locator("#result-curl-panel code").inner_text()
        assert "Bearer $GENA_API_KEY" in command
        assert "sesame" not in command
        opened.forgive_refusals()


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
    page.locator("#map-curl").click()
    page.locator("#result-curl").click()
    check()


def test_a_phone_has_no_sideways_scroll(visit: Callable[..., Visit], service: Server) -> None:
    page = visit(service.url, size=PHONE).page
    page.locator("#state[data-status=ready]").wait_for()
    page.locator("#example-records").click()
    run(page)
    page.get_by_role("button", name="cro", exact=True).click()
    page.locator("#result:not([hidden])").wait_for()
    page.locator("#result-curl").click()
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide == PHONE[0]


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
