import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.support.paths import ROOT, SHARED
from tests.support.synthetic import write_sources
from tests.support.tiny_training import TINY
from tools.mini.data import load_corpus
from tools.mini.recipe import SPECIAL_TOKENS
from tools.mini.tokenizer import train_tokenizer

PUBLISHED = SHARED / "data" / "gena-lm-bert-base" / "tokenizer.json"


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is not here")
@pytest.mark.parametrize("which", ["trained here", "shipped"])
def test_tokenizer_has_the_specials_and_template_of_the_published_one(
    which: str, tmp_path: Path
) -> None:
    if which == "shipped":
        ours = json.loads((ROOT / "models" / "gena-mini" / "tokenizer.json").read_text())
    else:
        contigs = load_corpus(write_sources(tmp_path)).training
        ours = json.loads(train_tokenizer(contigs, TINY).to_str())
    published = json.loads(PUBLISHED.read_text())
    same = (
        "added_tokens",
        "post_processor",
        "normalizer",
        "pre_tokenizer",
        "truncation",
        "padding",
    )
    for key in same:
        assert ours[key] == published[key], key
    assert ours["model"]["unk_token"] == published["model"]["unk_token"]
    tokenizer = Tokenizer.from_str(json.dumps(ours))
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert all(tokenizer.token_to_id(letter) is not None for letter in "ACGTN")
    assert tokenizer.encode("N").ids == [1, tokenizer.token_to_id("N"), 2]
