"""The tables of docs/ that are written from the code's."""

import json
import shutil
from pathlib import Path

import pytest

from converter.errors import UnsupportedModelError
from converter.network.config import read_encoder_config
from tests.support.paths import ROOT, SHARED
from tools import tables
from tools.published_checkpoints import CONVERTED, REFUSED

CONFIGS = SHARED / "data" / "configs"

PAGES = {page.name: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))}


def test_every_page_says_what_the_code_says() -> None:
    """Where it does not: python -m tools.tables."""
    assert [name for name, text in PAGES.items() if tables.rewritten(text) != text] == []


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_stands_somewhere_once(name: str) -> None:
    assert sum(text.count(f"<!-- table: {name} -->") for text in PAGES.values()) == 1


def test_only_what_stands_between_the_marks_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = docs / "fidelity.md"
    whole = page.read_text()
    stale = whole.replace("| package, fp32 arithmetic | >= 60 |", "| package | >= 6 |")
    page.write_text(stale.replace("## Figures", "## Figures of today"))
    monkeypatch.setattr(tables, "DOCS", docs)

    assert tables.main() == 0

    assert capsys.readouterr().out == "written: docs/fidelity.md\n"
    assert page.read_text() == whole.replace("## Figures", "## Figures of today")


def test_a_table_that_there_is_not_is_an_error() -> None:
    with pytest.raises(KeyError, match="planets"):
        tables.rewritten("<!-- table: planets -->\n<!-- /table -->")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("L12-H768-A12-V32k-preln", "gena-lm-bert-base"),
        ("L12-H768-A12-V32k-preln-lastln", "gena-lm-bert-base-lastln-t2t"),
        ("L24-H1024-A16-V32k-preln-lastln", "gena-lm-bert-large-t2t"),
        ("hf_bigbird_L12-H768-A12-V32k-L4096", "gena-lm-bigbird-base-t2t"),
        ("L12-H768-A12-V32k-L4096-preln-sparse-rope", "gena-lm-bigbird-base-sparse-t2t"),
    ],
)
def test_what_is_known_of_published_checkpoints_is_what_they_were_trained_with(
    file: str, name: str
) -> None:
    training = CONFIGS / f"{file}.json"
    if not training.is_file():
        pytest.skip(f"{training} is not here.")
    (known,) = (each.config for each in (*CONVERTED, *REFUSED) if each.name == name)
    raw = json.loads(training.read_text())
    if known in [each.config for each in CONVERTED]:
        assert read_encoder_config(known) == read_encoder_config(raw)
        return
    said = []
    for config in (known, raw):
        with pytest.raises(UnsupportedModelError) as refused:
            read_encoder_config(config)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_text_is_shown_as_it_is() -> None:
    (row,) = [
        each for each in tables.settings_table().splitlines() if "`GENA_CORS_ORIGINS`" in each
    ]
    assert r"between them; \* is any." in row
