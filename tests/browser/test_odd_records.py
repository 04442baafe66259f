"""Which of many records are odd, and a map that can be shown to others: its key, its names."""

import base64
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.page import download, expect, fill, legend, run, vectors_of
from tests.support.running import Server

LETTERS = random.Random(31)
ODD = {11: "A" * 150, 17: "".join(LETTERS.choices("CG", k=150))}
SIXTY = "".join(
    f">p{n}\n{ODD.get(n) or ''.join(LETTERS.choices('ACGT', k=150))}\n" for n in range(60)
)
LABELS = "gene\tbases\tkey\tkind\n" + "".join(
    f"p{n}\t150\tk{n}\t{('early', 'late', 'none of both')[n % 3]}\n" for n in range(60)
)


@pytest.fixture
def sixty(ready: Any) -> Any:
    """The map of sixty records, two of them odd."""
    fill(ready, SIXTY)
    run(ready)
    expect(ready.locator("#map-title")).to_have_text("60 records")
    return ready


def test_records_that_are_unlike_the_rest_are_named(sixty: Any, service: Server) -> None:
    vectors = vectors_of(service, SIXTY)
    distances = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
    times = distances / np.median(distances)
    expected = [f"p{n} ({times[n]:.1f} times the usual)" for n in np.argsort(-times)[:5]]
    offered = sixty.locator("#unlike-records button")
    assert offered.all_inner_texts() == expected
    assert {text.split()[0] for text in expected[:2]} == {"p11", "p17"}
    offered.first.click()
    expect(sixty.locator("#near")).to_contain_text(f"Most like {expected[0].split()[0]}")
    expect(sixty.locator("tr.chosen")).to_contain_text(expected[0].split()[0])
    sixty.locator("#colour-by").select_option("unlike the rest, times the usual")
    expect(sixty.locator("#map-legend")).to_contain_text(f"{times.max():.3f}".rstrip("0"))


def test_of_labels_a_column_that_tells_records_apart_is_shown_first(sixty: Any) -> None:
    sixty.locator("summary", has_text="Labels of your own").click()
    sixty.locator("#labels").fill(LABELS)
    sixty.locator("#labels-use").click()
    expect(sixty.locator("#colour-by")).to_have_value("label: kind")
    assert legend(sixty) == ["early (20)", "late (20)", "none of both (20)"]


def test_the_picture_of_the_map_has_its_key(sixty: Any) -> None:
    sixty.locator("summary", has_text="Labels of your own").click()
    sixty.locator("#labels").fill(LABELS)
    sixty.locator("#labels-use").click()
    with sixty.expect_download() as started:
        sixty.locator("#scatter-png").click()
    png = Path(started.value.path()).read_bytes()
    # Colours of what lies under the plot, which is 4 : 3.
    colours = sixty.evaluate(
        """async (png) => {
            const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
            const picture = await createImageBitmap(new Blob([bytes]));
            const canvas = new OffscreenCanvas(picture.width, picture.height);
            const context = canvas.getContext('2d');
            context.drawImage(picture, 0, 0);
            const top = 90 + 1320 * 3 / 4 + 1;
            const { data } = context.getImageData(0, top, picture.width, picture.height - top);
            const found = {};
            for (let at = 0; at < data.length; at += 4) {
                const name = `rgb(${data[at]}, ${data[at + 1]}, ${data[at + 2]})`;
                found[name] = (found[name] ?? 0) + 1;
            }
            return found;
        }""",
        base64.b64encode(png).decode(),
    )
    swatches = sixty.locator("#map-legend .swatch").evaluate_all(
        "(found) => found.map((swatch) => getComputedStyle(swatch).backgroundColor)"
    )
    assert len(set(swatches)) == 3
    for swatch in swatches:
        assert 100 < colours.get(swatch, 0) < 400  # a round swatch of 16 pixels


def test_names_of_what_is_selected_are_copied(sixty: Any) -> None:
    sixty.locator("#find-record").fill("p1")
    sixty.locator("#find-select").click()
    sixty.locator("#selected-names").click()
    expect(sixty.locator("#selection-said")).to_have_text("Copied.")
    names = sixty.evaluate("() => navigator.clipboard.readText()").split()
    assert names == ["p1", *(f"p{n}" for n in range(10, 20))]
    fasta = download(sixty, "#selected-fasta")
    assert [line[1:] for line in fasta.splitlines() if line.startswith(">")] == names


def test_sorting_moves_no_column(sixty: Any) -> None:
    def layout() -> Any:
        return sixty.locator("#records thead th").evaluate_all(
            "(heads) => heads.map((head) => [head.offsetWidth, head.offsetHeight])"
        )

    before = layout()
    for column in ("gc", "tokens", "id"):
        sixty.locator(f"[data-column={column}]").click()
        assert layout() == before
