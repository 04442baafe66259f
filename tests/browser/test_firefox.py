"""The page in Firefox: it loads, draws features and a map, and asks no other host."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.firefox import FIREFOX, Firefox, firefox
from tests.support.running import Server

pytest.importorskip("websockets", reason="websockets is not installed")
pytestmark = pytest.mark.skipif(FIREFOX is None, reason="Firefox is not installed here.")

# What the scripts below have in common.
UNTIL = """
    const until = (holds) => new Promise((resolve, reject) => {
        const look = () => { if (holds()) { clearInterval(timer); resolve(); } };
        const timer = setInterval(look, 50);
        setTimeout(() => reject(new Error(`not in time: ${holds}`)), 30_000);
    });
    const find = (id) => document.getElementById(id);
    const paste = (text) => {
        find('text').value = text;
        find('text').dispatchEvent(new Event('input'));
    };
    const colours = (id) => {
        const { width, height } = find(id);
        const { data } = find(id).getContext('2d').getImageData(0, 0, width, height);
        return new Set(new Uint32Array(data.buffer)).size;
    };
"""
GENES = "".join(f">g{n} kind={n % 2}\n{('ACGTT', 'GGCCA')[n % 2] * (20 + n)}\n" for n in range(32))


@pytest.fixture
def page(service: Server, tmp_path: Path) -> Iterator[Firefox]:
    """The page with its model ready; at the end it has not complained, nor left this host."""
    with firefox(tmp_path) as browser:
        browser.open(service.url)
        browser.run(UNTIL + "await until(() => find('state').dataset.status === 'ready')")
        yield browser
        assert browser.faults == []
        own = [url for url in browser.requested if not url.startswith(("blob:", "data:"))]
        assert {"/".join(url.split("/")[:3]) for url in own} == {service.url}


def test_features_and_a_map_are_drawn(page: Firefox) -> None:
    found = page.run(
        UNTIL
        + """
        find('example').click();
        find('run').click();
        await until(() => !find('result').hidden && find('cosine').ariaValueText);
        await until(() => colours('strip') > 50 && colours('mosaic') > 50 && colours('heat') > 50);
        return [find('result-facts').textContent, find('tokens').children.length];
        """
    )
    assert found[0].startswith("913 bases · 1")
    assert found[1] > 150

    drawn: dict[str, Any] = page.run(
        UNTIL
        + """
        paste(x[0]);
        find('run').click();
        await until(() => !find('map-result').hidden && colours('scatter') > 2);
        const pca = find('scatter').toDataURL();
        find('projection').value = 'umap';
        find('projection').dispatchEvent(new Event('change'));
        await until(() => find('projection-text').textContent.includes('mean nothing'));
        await until(() => find('scatter').toDataURL() !== pca);
        return { title: find('map-title').textContent, legend: find('map-legend').textContent };
        """,
        GENES,
    )
    assert drawn == {"title": "32 records", "legend": "0 (16)1 (16)"}
