"""A `tokenizer.json` -> the library's tokenizer, if it is of the GENA-LM kind. No torch in here.

The library reads far more than this family has: patterns that take forever, parts that make its
code panic, letters that vanish or are said twice. So each part of a file is compared with what
GENA-LM tokenizers are made of, and the library is given nothing else.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from converter.errors import TokenizerError, brief, brief_repr
from converter.json_files import UnreadableJsonError, parse_json_object, read_json_object
from converter.panics import panics_as_errors

BASES = "ACGT"
AMBIGUOUS = "RYSWKMBDHVN"
# Of DNA as people send it; U is read as T.
LETTERS = BASES + "U" + AMBIGUOUS
SPECIAL_TOKENS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4}

# Twenty times a published one.
MOST_BYTES = 32 * 2**20
# What encoding uses. The others, padding and truncation among them, are left aside; [CLS] and [SEP]
# are put around by `DnaTokenizer.window`.
_PARTS = ("added_tokens", "normalizer", "pre_tokenizer", "model")
# Letters without a token would vanish with another unknown token, and offsets with them; dropout
# makes answers random; the others change which letters a token stands for.
_MODEL = {"type": "BPE", "unk_token": "[UNK]"}
_OFF = (
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
)
_WRAPPED = [("SpecialToken", "[CLS]"), ("Sequence", "A"), ("SpecialToken", "[SEP]")]
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
# A run of one letter, as N{10,}: found in one pass, whatever is searched.
_RUN = re.compile(r"[A-Za-z](\+|\{[1-9]\d{0,3}(,\d{0,4})?\})?", re.ASCII)
# Each goes over the whole sequence; published files have two.
_MOST_NORMALIZERS = 32


def read_tokenizer(path: Path, content: bytes | None = None) -> Tokenizer:
    """The tokenizer in a published file: it tells every letter of DNA, in linear time.

    Args:
        content: of the file, where it was read already.

    Raises:
        TokenizerError: the file cannot be read, or is no GENA-LM tokenizer.
    """
    try:
        raw = (
            read_json_object(path, MOST_BYTES)
            if content is None
            else parse_json_object(content, MOST_BYTES)
        )
    except UnreadableJsonError as error:
        raise TokenizerError(f"{path} {error}.") from error
    fault = _fault(raw)
    if fault is not None:
        raise TokenizerError(f"{path} is no GENA-LM tokenizer file: {fault}.")
    used = {"version": raw.get("version"), **{part: raw[part] for part in _PARTS}}
    try:
        with panics_as_errors():
            return Tokenizer.from_str(json.dumps(used))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{path} is not a tokenizer file ({brief(error)}).") from error


def _fault(raw: Mapping[str, Any]) -> str | None:
    """The first part that is not as in this family, in words; None where all are."""
    try:
        return (
            _fault_of_model(raw["model"])
            or _fault_of_ids(raw["model"]["vocab"], raw["added_tokens"])
            or _fault_of_added_tokens(raw["added_tokens"])
            or _fault_of_normalizer(raw["normalizer"])
            or _fault_of_number(raw["normalizer"])
            or _fault_of_pre_tokenizer(raw["pre_tokenizer"])
            or _fault_of_post_processor(raw["post_processor"])
        )
    except KeyError as error:
        return f"it has no {brief(error)}"
    except (AttributeError, TypeError, RecursionError):
        return "a part of it has another form"


def _fault_of_model(model: Mapping[str, Any]) -> str | None:
    for key, expected in _MODEL.items():
        if model[key] != expected:
            return f"its model has the {key} {brief_repr(model[key])}, not {expected!r}"
    on = [key for key in _OFF if model.get(key)]
    return f"its model has {on[0]}, which GENA-LM has not" if on else None


def _fault_of_ids(vocab: Mapping[str, Any], added: list[Mapping[str, Any]]) -> str | None:
    for special, expected in SPECIAL_TOKENS.items():
        if vocab.get(special) != expected:
            return f"it gives {special} the id {brief_repr(vocab.get(special))}, not {expected}"
    ids = {**{token["content"]: token["id"] for token in added}, **vocab}
    if any(ids[token["content"]] != token["id"] for token in added):
        return "it gives an added token two ids"
    missing = [base for base in BASES if base not in vocab]
    if missing:
        return f"it has no token for {', '.join(missing)}"
    if any(type(number) is not int for number in ids.values()) or (
        sorted(ids.values()) != list(range(len(ids)))
    ):
        return f"the ids of its {len(ids)} tokens are not 0 to {len(ids) - 1}, each once"
    return None


def _fault_of_added_tokens(added: list[Mapping[str, Any]]) -> str | None:
    for token in added:
        # Such a token is looked for in the DNA itself, before the model sees it.
        if not set(token["content"]) - set(BASES + AMBIGUOUS):
            return "an added token is DNA"
        on = [flag for flag in _FLAGS if token.get(flag)]
        if on:
            return f"an added token has {on[0]}, which GENA-LM's have not"
    return None


def _fault_of_normalizer(normalizer: Mapping[str, Any] | None) -> str | None:
    if normalizer is None or normalizer["type"] == "Strip":
        return None
    if normalizer["type"] == "Sequence":
        faults = map(_fault_of_normalizer, normalizer["normalizers"])
        return next((fault for fault in faults if fault is not None), None)
    if normalizer["type"] != "Replace":
        return f"it has a normalizer {brief_repr(normalizer['type'])}"
    pattern, content = normalizer["pattern"], normalizer["content"]
    plain = len(pattern.get("String", "")) == 1
    if not plain and not _RUN.fullmatch(pattern.get("Regex", "")):
        return "it replaces what is neither a letter nor a run of one letter"
    if len(content) > 1 or (not content and not (plain and not pattern["String"].isalpha())):
        return "it replaces a letter by none or by several"
    return None


def _fault_of_number(normalizer: Mapping[str, Any] | None) -> str | None:
    number = _number(normalizer)
    return f"it has {number} normalizers" if number > _MOST_NORMALIZERS else None


def _number(normalizer: Mapping[str, Any] | None) -> int:
    """Of normalizers, in whatever sequences."""
    if normalizer is None or normalizer["type"] != "Sequence":
        return 1
    return sum(map(_number, normalizer["normalizers"]))


def _fault_of_pre_tokenizer(pre_tokenizer: Mapping[str, Any] | None) -> str | None:
    if pre_tokenizer is None:
        return None
    isolates_one = (
        pre_tokenizer["type"] == "Split"
        and pre_tokenizer["behavior"] == "Isolated"
        and len(pre_tokenizer["pattern"].get("String", "")) == 1
    )
    return None if isolates_one else "it splits a sequence otherwise than around one letter"


def _fault_of_post_processor(post_processor: Mapping[str, Any] | None) -> str | None:
    wraps = False
    if post_processor is not None and post_processor["type"] == "BertProcessing":
        wraps = [post_processor["cls"], post_processor["sep"]] == [["[CLS]", 1], ["[SEP]", 2]]
    elif post_processor is not None and post_processor["type"] == "TemplateProcessing":
        parts = [(k, v["id"]) for part in post_processor["single"] for k, v in part.items()]
        tokens = post_processor["special_tokens"]
        wraps = parts == _WRAPPED and [tokens[t]["ids"] for t in ("[CLS]", "[SEP]")] == [[1], [2]]
    return None if wraps else "it does not put [CLS] and [SEP] around a sequence"
