"""The map of records: colours, labels, search, selections, neighbours, UMAP."""

import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.page import THREE, download, expect, fill, legend, run, vectors_of
from tests.support.running import Server

LETTERS = random.Random(11)


def poor_and_rich(count: int) -> str:
    """Records of little and of much GC in turn; the header says which."""
    lines = []
    for number in range(count):
        rich = number % 2
        weights = [1, 4, 4, 1] if rich else [4, 1, 1, 4]
        sequence = "".join(LETTERS.choices("ACGT", weights, k=60 + 7 * (number % 9)))
        lines.append(
            f">g{number} [organism={'rich one' if rich else 'poor'}] n={number}\n{sequence}"
        )
    return "\n".join(lines) + "\n"


FORTY = poor_and_rich(40)


@pytest.fixture
def forty(ready: Any) -> Any:
    """The map of forty records."""
    fill(ready, FORTY)
    run(ready)
    expect(ready.locator("#map-title")).to_have_text("40 records")
    return ready


def test_records_are_coloured_by_header_composition_and_labels(forty: Any) -> None:
    offered = forty.locator("#colour-by option").all_inner_texts()
    assert offered == [
        "length", "GC content, %", "unknown bases, %", "unlike the rest, times the usual",
        "header: organism", "header: n",
    ]  # fmt: skip
    forty.locator("#colour-by").select_option("header: organism")
    assert sorted(legend(forty)) == ["poor (20)", "rich one (20)"]
    swatch = forty.locator("#records .swatch").evaluate_all(
        "(all) => all.slice(0, 4).map((one) => one.style.background)"
    )
    assert (swatch[0], swatch[1]) == (swatch[2], swatch[3])
    assert swatch[0] != swatch[1]
    forty.locator("#colour-by").select_option("GC content, %")
    low, high = (float(text) for text in forty.locator("#map-legend span").all_inner_texts())
    assert 0 <= low < 40 < 60 < high <= 100

    forty.locator(".labels summary").click()
    forty.locator("#labels").fill("id\tclade\ng0\tA\ng1\tB\ng2\tA\nnobody\tC\n")
    forty.locator("#labels-use").click()
    expect(forty.locator("#labels-said")).to_have_text(
        "3 of 40 records have a label; 1 name is none of theirs, such as nobody."
    )
    assert forty.locator("#colour-by").input_value() == "label: clade"
    assert legend(forty) == ["A (2)", "B (1)", "none (37)"]


def test_a_class_or_a_lasso_is_taken_along(forty: Any, service: Server) -> None:
    forty.locator("#colour-by").select_option("header: organism")
    forty.get_by_role("button", name="rich one (20)").click()
    expect(forty.locator("#selection-text")).to_have_text("20 records are selected:")
    fasta = download(forty, "#selected-fasta")
    records = [part.split("\n", 1) for part in FORTY.split(">")[1:]]
    rich = [(head.split()[0], "".join(body.split())) for head, body in records if "rich" in head]
    taken = [part.split("\n", 1) for part in fasta.split(">")[1:]]
    assert [(head.split()[0], "".join(body.split())) for head, body in taken] == rich

    # All that is left of the middle, by a lasso.
    forty.locator("#lasso").click()
    forty.locator("#scatter").scroll_into_view_if_needed()
    box = forty.locator("#scatter").bounding_box()
    left, right = box["x"] + 2, box["x"] + 4 + box["width"] / 2  # between the margins
    top, bottom = box["y"] + 2, box["y"] + box["height"] - 2
    forty.mouse.move(left, top)
    forty.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        forty.mouse.move(x, y, steps=3)
    forty.mouse.up()
    head, *lines = (line.split("\t") for line in download(forty, "#selected-tsv").splitlines())
    assert head[:6] == ["id", "bases", "gc_percent", "colour", "x", "y"]
    vectors = vectors_of(service, FORTY)
    centred = vectors - vectors.mean(axis=0)
    scores = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    middle = (scores.min() + scores.max()) / 2
    sides = [set(np.flatnonzero(side).tolist()) for side in (scores < middle, scores > middle)]
    assert {int(line[0][1:]) for line in lines} in sides
    number = int(lines[0][0][1:])
    np.testing.assert_allclose(np.array(lines[0][6:], float), vectors[number], rtol=1e-6)

    forty.get_by_role("button", name="Clear selection").click()
    expect(forty.locator("#selection")).to_be_hidden()


def test_the_table_is_searched_and_sorted(forty: Any) -> None:
    rows = forty.locator("#records tbody tr")
    forty.get_by_role("button", name="Bases", exact=True).click()
    expect(forty.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    bases = [int(text.split()[1]) for text in rows.all_inner_texts()]
    assert bases == sorted(bases, reverse=True)
    forty.get_by_role("button", name="Record", exact=True).click()
    assert rows.nth(10).inner_text().split()[0] == "g10"  # as people count, not g1, g10, g11

    forty.locator("#find-record").fill("RICH one")
    expect(forty.locator("#find-text")).to_have_text("20 found")
    expect(rows).to_have_count(20)
    forty.get_by_role("button", name="Select them").click()
    expect(forty.locator("#selection-text")).to_have_text("20 records are selected:")
    forty.locator("#find-record").fill("")
    expect(rows).to_have_count(40)


def test_neighbours_are_the_nearest_by_cosine(forty: Any, service: Server) -> None:
    vectors = vectors_of(service, FORTY)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    forty.get_by_role("button", name="Records most alike to g7", exact=True).click()
    expect(forty.locator("#near li")).to_have_count(10)
    cosines = unit @ unit[7]
    cosines[7] = -1
    order = np.argsort(-cosines)[:10]
    shown = [text.split() for text in forty.locator("#near li").all_inner_texts()]
    assert [name for name, _ in shown] == [f"g{index}" for index in order]
    np.testing.assert_allclose([float(cosine) for _, cosine in shown], cosines[order], atol=6e-5)
    forty.get_by_role("button", name="See it along its bases").click()
    expect(forty.locator("#result-title")).to_have_text("g7")
    forty.get_by_role("button", name="Back to the map").click()
    expect(forty.locator("#map-result")).to_be_focused()
    expect(forty.locator("#map-title")).to_be_in_viewport()


def test_umap_parts_what_differs_and_is_always_the_same(forty: Any) -> None:
    def placed() -> NDArray[np.float64]:
        forty.locator("#projection").select_option("umap")
        expect(forty.locator("#projection-text")).to_contain_text("mean nothing")
        forty.get_by_role("button", name="Select them").click()
        head, *lines = (line.split("\t") for line in download(forty, "#selected-tsv").splitlines())
        forty.locator("#projection").select_option("pca")
        at = head.index("x")
        return np.array([line[at : at + 2] for line in lines], float)

    forty.locator("#find-record").fill("g")
    first = placed()
    poor, rich = first[0::2], first[1::2]
    within = max(np.linalg.norm(side - side.mean(axis=0), axis=1).mean() for side in (poor, rich))
    assert np.linalg.norm(poor.mean(axis=0) - rich.mean(axis=0)) > 2 * within
    run(forty)
    expect(forty.locator("#work")).to_be_hidden()
    expect(forty.locator("#find-text")).to_have_text("")
    forty.locator("#find-record").fill("g")
    np.testing.assert_array_equal(placed(), first)


def test_a_colour_is_one_that_tells_records_apart(ready: Any) -> None:
    records = [
        f">r{n}\n{''.join(LETTERS.choices('ACGT', [1 + n % 5, 2, 2, 1], k=60))}" for n in range(30)
    ]
    fill(ready, "\n".join(records))
    run(ready)
    expect(ready.locator("#map-title")).to_have_text("30 records")
    assert ready.locator("#colour-by").input_value() == "GC content, %"
    ready.locator("#colour-by").select_option("length")
    assert ready.locator("#map-legend span").all_inner_texts() == ["60, all of them"]


def test_few_records_are_no_evidence(ready: Any) -> None:
    fill(ready, THREE)
    run(ready)
    expect(ready.locator("#projection-text")).to_contain_text("With 3 records, a map shows little")
    expect(ready.locator("#projection")).to_be_disabled()


def test_the_map_zooms_by_wheel_and_keys_and_selects_by_keys(forty: Any) -> None:
    def scale() -> float:
        return float(
            forty.evaluate("() => Number(document.getElementById('scatter').dataset.zoom)")
        )

    scatter = forty.locator("#scatter")
    scatter.scroll_into_view_if_needed()
    box = scatter.bounding_box()
    forty.mouse.move(box["x"] + 100, box["y"] + 100)
    forty.keyboard.down("Control")
    forty.mouse.wheel(0, -300)
    forty.keyboard.up("Control")
    forty.wait_for_timeout(60)
    assert scale() > 2
    scatter.focus()
    forty.keyboard.press("0")
    forty.wait_for_timeout(60)
    assert scale() == 1
    forty.keyboard.press("s")
    forty.keyboard.press("ArrowRight")
    forty.keyboard.press("s")
    expect(forty.locator("#selection-text")).to_have_text("2 records are selected:")
    forty.keyboard.press(" ")
    expect(forty.locator("#near")).to_contain_text("Most like g1")
