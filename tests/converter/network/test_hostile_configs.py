"""`config.json` of strangers: refused in a sentence, before any network of such a size is built."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import copy_of, refusal, write_json

Spoil = Callable[[Path], Any]


def says(**changes: Any) -> Spoil:
    return lambda file: write_json(file, **changes)


def replaces(key: str, text: str) -> Spoil:
    """The value of a key, by JSON that Python would not write."""
    return lambda file: file.write_text(
        re.sub(rf'"{key}": [^,}}\n]+', lambda _: f'"{key}": {text}', file.read_text(), count=1)
    )


def adds(text: str) -> Spoil:
    return lambda file: file.write_text(file.read_text().rstrip().removesuffix("}") + f", {text}}}")


def holds(content: bytes) -> Spoil:
    return lambda file: file.write_bytes(content)


def in_utf_16(file: Path) -> None:
    file.write_bytes(file.read_text().encode("utf-16"))


def is_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


CASES: dict[str, tuple[Spoil, str]] = {
    "a layer more": (says(num_hidden_layers=3), "holds 2 encoder layers.* is 3"),
    "10^5 layers": (says(num_hidden_layers=10**5), "bin holds 2 encoder layers.* is 100000"),
    "10^12 layers": (
        says(num_hidden_layers=10**12),
        "num_hidden_layers is 1000000000000; expected",
    ),
    "10^12 tokens": (says(vocab_size=10**12), "vocab_size is 1000000000000; expected"),
    "10^7 tokens": (says(vocab_size=10**7), r"word_embeddings.* \(10000000, 64\)"),
    "10^9 channels": (says(hidden_size=10**9), "hidden_size is 1000000000; expected"),
    "2^24 channels": (says(hidden_size=2**24), r"word_embeddings.* \(400, 16777216\)"),
    "10^7 between": (says(intermediate_size=10**7), r"intermediate.* \(10000000, 64\)"),
    "2^24 both": (says(hidden_size=2**24, intermediate_size=2**24), "word_embeddings"),
    "10^7 positions": (says(max_position_embeddings=10**7), "position_embeddings"),
    "10^7 types": (says(type_vocab_size=10**7), "token_type_embeddings"),
    "a head a channel": (says(num_attention_heads=64), "64 heads of 1 channels"),
    "an infinite size": (replaces("hidden_size", "1e400"), "1e400 is no finite number"),
    "an infinite eps": (replaces("layer_norm_eps", "1e400"), "1e400 is no finite number"),
    "no number": (replaces("layer_norm_eps", "NaN"), "NaN is no finite number"),
    "infinity": (replaces("hidden_size", "-Infinity"), "-Infinity is no finite number"),
    "5000 digits": (replaces("hidden_size", "9" * 5000), "a number is too long"),
    "4000 digits": (replaces("hidden_size", "9" * 4000), "hidden_size is 9+"),
    "4000 digits of eps": (replaces("layer_norm_eps", "9" * 4000), "layer_norm_eps is 9+"),
    "true layers": (says(num_hidden_layers=True), "num_hidden_layers is True"),
    "a key twice": (adds('"hidden_size": 64'), "names a key twice"),
    "deep lists": (adds('"labels": ' + "[" * 10**5 + "]" * 10**5), "nests too deeply"),
    "deep objects": (adds('"labels": ' + '{"a":' * 10**5 + "1" + "}" * 10**5), "nests too deeply"),
    "deep, not too deep": (
        adds('"sparse_attention": ' + "[" * 500 + "]" * 500),
        "sparse_attention=",
    ),
    "5 MB": (says(labels="x" * 5_000_000), "is larger than"),
    "no architecture": (says(model_type=None), "has no 'model_type'"),
    "a terabyte": (lambda file: os.truncate(file, 2**40), "config.json is larger than"),
    "a long value": (says(model_type="x" * 10**6), "model_type='x+.*supports only"),
    "what a terminal obeys": (says(hidden_act="\x1b]0;owned\x07\x1b[2J"), "hidden_act="),
    "half a character": (replaces("model_type", r'"\ud800"'), "model_type="),
    "UTF-16": (in_utf_16, "config.json is not valid JSON"),
    "a list": (holds(b"[1]"), "config.json holds no JSON object"),
    "nothing": (holds(b""), "config.json is not valid JSON"),
    "zeros": (holds(bytes(1000)), "config.json is not valid JSON"),
    "a folder": (is_a_folder, "config.json is missing"),
}


@pytest.mark.parametrize(("spoil", "fault"), CASES.values(), ids=CASES)
def test_a_configuration_is_refused_in_a_sentence(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    spoil: Spoil,
    fault: str,
) -> None:
    checkpoint = copy_of(tiny_checkpoint, tmp_path)
    spoil(checkpoint / "config.json")
    assert re.search(fault, refusal(checkpoint, capfd))
