"""Links of the README and of docs/ lead to a file that is there, and to a heading in it."""

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.tracked import tracked_files

PAGES = [Path("README.md"), *sorted(p.relative_to(ROOT) for p in (ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def prose(page: Path) -> str:
    return _BLOCK.sub("", (ROOT / page).read_text())


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    there = set(tracked_files())
    for path, anchor in _LINK.findall(prose(page)):
        target = Path((ROOT / page.parent / path).resolve().relative_to(ROOT)) if path else page
        assert target in there, f"{page} -> {path}"
        assert not anchor or anchor in anchors(target), f"{page} -> {path}#{anchor}"


@pytest.mark.parametrize("page", PAGES[1:], ids=str)
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    seen, todo = set[Path](), [PAGES[0]]
    while todo:
        here = todo.pop()
        seen.add(here)
        linked = [here.parent / path for path, _ in _LINK.findall(prose(here)) if path]
        todo += [p for p in linked if p in PAGES and p not in seen]
    assert page in seen
