"""The tables of docs/ that are written from the code's."""

import shutil
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tools import tables

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


def test_text_is_shown_as_it_is() -> None:
    (row,) = [
        each for each in tables.settings_table().splitlines() if "`GENA_CORS_ORIGINS`" in each
    ]
    assert r"between them; \* is any." in row
