"""The options of a request, and what docs/api.md says of them."""

import re
from typing import get_args

from app.requests.options import FeaturesOptions
from converter.network.config import WINDOWS
from tests.support.paths import ROOT


def values_on_the_page() -> dict[str, list[str]]:
    """Option -> its values in the order of the table, the default first; a range by its ends."""
    table = (
        (ROOT / "docs" / "api.md").read_text().partition("| option | values, default first |")[2]
    )
    rows = [row.strip("| ").split(" | ") for row in table.partition("\n\n")[0].splitlines()[2:]]
    return {
        name.strip("`"): re.findall(r"`(\w+)`", cell) or re.findall(r"\d+", cell)
        for name, cell in rows
    }


def test_the_page_has_every_option_its_values_and_its_default() -> None:
    listed = values_on_the_page()
    fields = FeaturesOptions.model_fields

    assert listed.keys() == fields.keys()
    for name, field in fields.items():
        assert listed[name][0] == str(field.default).lower(), name
        assert set(get_args(field.annotation)) <= set(listed[name]), name


def test_the_page_has_the_bounds_of_the_stride() -> None:
    least = FeaturesOptions.model_json_schema()["properties"]["stride"]["minimum"]
    # A window less the two specials, and one token of its own.
    most = [window - 3 for window in WINDOWS]

    assert values_on_the_page()["stride"] == list(map(str, [least, *most]))
