"""docs/checkpoints.md, held against the converter and the official configurations."""

import json
import re

import pytest

from converter.errors import UnsupportedModelError
from converter.network.config import read_encoder_config
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.heads import LeftOutHead, served_part
from tests.support.paths import ROOT, SHARED
from tools.seeded_checkpoints import config_dict
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
    ("what", "config"),
    [
        ("gena-lm-bigbird-base-t2t", {"model_type": "big_bird"}),
        ("gena-lm-bigbird-base-sparse", {"position_embedding_type": "rotary"}),
        ("gena-lm-bigbird-base-sparse", {"sparse_attention": {"block": 64}}),
    ],
)
def test_what_is_refused_is_refused_with_the_words_of_the_page(
    what: str, config: dict[str, object]
) -> None:
    with pytest.raises(UnsupportedModelError) as refused:
        read_encoder_config(config_dict(**config))
    said = re.findall(r"`([^`]*)`", row(what)[1])
    assert any(f"config.json says {words}" in str(refused.value) for words in said)


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
    ("file", "what"),
    [
        ("L12-H768-A12-V32k-preln.json", "gena-lm-bert-base"),
        ("L12-H768-A12-V32k-preln-lastln.json", "gena-lm-bert-base-lastln-t2t"),
        ("L24-H1024-A16-V32k-preln-lastln.json", "gena-lm-bert-large-t2t"),
    ],
)
def test_the_sizes_and_norms_are_those_of_the_official_configurations(file: str, what: str) -> None:
    config = GenaBertConfig.from_dict(json.loads((CONFIGS / file).read_text()))
    _, sizes, norms, _ = row(what)
    assert sizes == f"{config.num_hidden_layers}, {config.hidden_size}"
    assert config.pre_layer_norm
    assert config.last_layer_norm == norms.endswith("and one at the end")
