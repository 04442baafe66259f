"""The README, held against what the service itself says."""

import re

from converter.checkpoint.files import DEFAULT_MODEL
from tests.support.paths import ROOT

README = " ".join((ROOT / "README.md").read_text().split())


def test_it_cites_as_the_page_does() -> None:
    card = (ROOT / "app" / "static" / "model-card.js").read_text()
    paper = card.partition("const PAPER = ")[2].partition(";\n")[0]
    assert "".join(re.findall(r"'([^']*)'", paper)) in README


def test_it_names_where_checkpoints_of_the_hub_are_left() -> None:
    owner = DEFAULT_MODEL.partition("/")[0]
    assert f"`models--{owner}`" in README
