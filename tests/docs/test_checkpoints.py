"""docs/checkpoints.md, held against the converter and the official configurations."""

import json
import re

import pytest

from converter.errors import UnsupportedModelError
from converter.network.config import read_encoder_config
from converter.network.heads import LeftOutHead, served_part
from tests.support.paths import ROOT, SHARED
from tools.published_checkpoints import CONVERTED, REFUSED
from tools.seeded_moderngena import (
    MODERNGENA_BASE,
    MODERNGENA_LARGE,
    moderngena_config_dict,
)

PAGE = (ROOT / "docs" / "checkpoints.md").read_text()
CONFIGS = SHARED / "data" / "configs"


def row(what: str) -> list[str]:
    """Cells of the row that begins with this."""
    found = re.search(rf"^\| `?{re.escape(what)}.*$", PAGE, re.MULTILINE)
    assert found, what
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_the_readme_leads_there() -> None:
    assert "(docs/checkpoints.md)" in (ROOT / "README.md").read_text()


def test_the_sentence_is_the_one_that_is_said() -> None:
    head = LeftOutHead("classifier", "token classifier", 3)
    assert f"    serves {served_part([head])}\n" in PAGE


@pytest.mark.parametrize(
    "config", [{"attention_bias": True}, {"hidden_activation": "silu"}], ids=str
)
def test_a_modernbert_of_other_parts_is_refused_with_the_words_of_the_page(
    config: dict[str, object],
) -> None:
    with pytest.raises(UnsupportedModelError) as refused:
        read_encoder_config(moderngena_config_dict(**config))
    said = re.findall(r"`([^`]*)`", row("a ModernBERT with other parts")[1])
    assert any(f"config.json says {words}" in str(refused.value) for words in said)


@pytest.mark.parametrize(
    ("what", "geometry"),
    [("moderngena-base", MODERNGENA_BASE), ("moderngena-large", MODERNGENA_LARGE)],
)
def test_the_sizes_of_moderngena_are_those_that_are_tested(
    what: str, geometry: dict[str, int]
) -> None:
    assert row(what)[1] == f"{geometry['num_hidden_layers']}, {geometry['hidden_size']}"


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the official configurations are not here")
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
    (known,) = (each.config for each in (*CONVERTED, *REFUSED) if each.name == name)
    raw = json.loads((CONFIGS / f"{file}.json").read_text())
    if known in [each.config for each in CONVERTED]:
        assert read_encoder_config(known) == read_encoder_config(raw)
        return
    said = []
    for config in (known, raw):
        with pytest.raises(UnsupportedModelError) as refused:
            read_encoder_config(config)
        said.append(str(refused.value))
    assert said[0] == said[1]
