"""`tokenizer.json` of strangers: refused in a sentence, before anything is encoded with it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.errors import TokenizerError
from converter.tokenizer import DnaTokenizer
from tests.support.hostile import copy_of, panicking_tokenizer, refusal
from tools.seeded_checkpoints import make_tokenizer

Spoil = Callable[[dict[str, Any]], Any]
TOKEN = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
CLS, SEP = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]"))
SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}


def part(name: str, kind: str, **fields: Any) -> Spoil:
    return lambda raw: raw.update({name: {"type": kind, **fields}})


def normalizer(kind: str, **fields: Any) -> Spoil:
    return part("normalizer", kind, **fields)


def replaces(content: str, **pattern: str) -> Spoil:
    return normalizer("Replace", pattern=pattern, content=content)


def splits(behavior: str = "Isolated", **pattern: str) -> Spoil:
    return part("pre_tokenizer", "Split", pattern=pattern, behavior=behavior, invert=False)


def model(**changes: Any) -> Spoil:
    return lambda raw: raw["model"].update(changes)


def vocabulary(**changes: Any) -> Spoil:
    return lambda raw: raw["model"]["vocab"].update(changes)


def token(content: str, **flags: Any) -> Spoil:
    def spoil(raw: dict[str, Any]) -> None:
        number = raw["model"]["vocab"].get(content, len(raw["model"]["vocab"]))
        raw["added_tokens"].append({"content": content, "id": number, **TOKEN, **flags})

    return spoil


def template(*single: Any, ids: list[int], **tokens: Any) -> Spoil:
    tokens["[CLS]"] = {"id": "[CLS]", "ids": ids, "tokens": ["[CLS]"] * len(ids)}
    tokens["[SEP]"] = {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}
    return part(
        "post_processor", "TemplateProcessing", single=single, pair=[], special_tokens=tokens
    )


def lacks(name: str) -> Spoil:
    return lambda raw: raw.pop(name)


def nests(raw: dict[str, Any]) -> None:
    for _ in range(400):
        raw["normalizer"] = {"type": "Sequence", "normalizers": [raw["normalizer"]]}


SEQUENCE_OF_STRIPS = {"type": "Sequence", "normalizers": [{"type": "Strip"}] * 9}
NOT_A_RUN = "it replaces what is neither a letter nor a run of one letter"
GROWS = "it replaces a letter by none or by several"
NOT_SPELLED = r"something else of real DNA.* of \d+ are \[UNK\]"
SPLITS = "it splits a sequence otherwise than around one letter"
IDS = r"the ids of its 40\d tokens are not 0 to 40\d, each once|0 to 399"
UNWRAPPED = r"it does not put \[CLS\] and \[SEP\] around a sequence"

CASES: dict[str, tuple[Spoil, str]] = {
    "a regex that explodes": (replaces("-", Regex="^([ACGT]+)+N$"), NOT_A_RUN),
    "another": (replaces("-", Regex="(A|AA|AAA)+$X"), NOT_A_RUN),
    "a regex of repeats": (replaces("-", Regex="A{1,9999}{1,9999}"), NOT_A_RUN),
    "a regex of nothing": (replaces("-", Regex="N{0,}"), NOT_A_RUN),
    "a regex that is none": (replaces("-", Regex="("), NOT_A_RUN),
    "all to unknown": (replaces("#", Regex="[ACGT]"), NOT_A_RUN),
    "A to unknown": (replaces("#", String="A"), NOT_SPELLED),
    "runs to unknown": (replaces("#", Regex="A+"), NOT_SPELLED),
    "A to C": (replaces("C", String="A"), "tokens do not spell it, and 0 of"),
    "A to nothing": (replaces("", String="A"), GROWS),
    "runs to nothing": (replaces("", Regex="A{9,}"), GROWS),
    "A to a book": (replaces("A" * 10**6, String="A"), GROWS),
    "nothing to A": (replaces("A", String=""), NOT_A_RUN),
    "in a sequence": (
        normalizer("Sequence", normalizers=[{"type": "Strip"}, {"type": "Lowercase"}]),
        "normalizer 'Lowercase'",
    ),
    "lower case": (normalizer("Lowercase"), "normalizer 'Lowercase'"),
    "a letter before": (normalizer("Prepend", prepend="A"), "normalizer 'Prepend'"),
    "a map that panics": (
        normalizer("Precompiled", precompiled_charsmap="AAAA"),
        "normalizer 'Precompiled'",
    ),
    "bytes": (normalizer("ByteLevel"), "normalizer 'ByteLevel'"),
    "a normalizer's name": (normalizer("\x1b[31m" + "x" * 10**6), r"normalizer '\\x1b"),
    "normalizers without end": (
        normalizer("Sequence", normalizers=[{"type": "Strip"}] * 100_000),
        "it has 100000 normalizers",
    ),
    "a tree of normalizers": (
        normalizer("Sequence", normalizers=[SEQUENCE_OF_STRIPS] * 9),
        "it has 81 normalizers",
    ),
    "nested normalizers": (nests, "not a tokenizer file.*recursion"),
    "drops a letter": (splits("Removed", String="A"), SPLITS),
    "splits by nothing": (splits(String=""), SPLITS),
    "splits by a regex": (splits(Regex="(A+)+$"), SPLITS),
    "byte level": (part("pre_tokenizer", "ByteLevel", add_prefix_space=True), SPLITS),
    "metaspace": (part("pre_tokenizer", "Metaspace", replacement="_"), SPLITS),
    "pieces of none": (part("pre_tokenizer", "FixedLength", length=0), SPLITS),
    "word level": (model(type="WordLevel"), "the type 'WordLevel', not 'BPE'"),
    "unigram": (model(type="Unigram", vocab=[["A", 0.0]]), "the type 'Unigram'"),
    "random": (model(dropout=0.1), "its model has dropout"),
    "a prefix that panics": (model(continuing_subword_prefix="##"), "continuing_subword_prefix"),
    "a suffix": (model(end_of_word_suffix="</w>"), "end_of_word_suffix"),
    "unknown ones fused": (model(fuse_unk=True), "fuse_unk"),
    "bytes for letters": (model(byte_fallback=True), "byte_fallback"),
    "merges ignored": (model(ignore_merges=True), "ignore_merges"),
    "a merge of nothing": (model(merges=[["A", "ZZ"]]), "not a tokenizer file.*ZZ"),
    "a merge of one": (model(merges=["A"]), "not a tokenizer file"),
    "a merge of three": (model(merges=[["A", "C", "G"]]), "not a tokenizer file"),
    "a merge's name": (model(merges=[["A", "\x1b[2J" * 10**5]]), "not a tokenizer file"),
    "merges of another kind": (model(merges=7), "not a tokenizer file"),
    "a vocabulary that is a list": (model(vocab=[]), "a part of it has another form"),
    "an id far away": (vocabulary(ZZ=10**9), IDS),
    "an id beyond 32 bits": (vocabulary(A=3 * 10**9), IDS),
    "an id twice": (vocabulary(ZZ=7), IDS),
    "an id below": (vocabulary(ZZ=-1), IDS),
    "an id of a half": (vocabulary(ZZ=400.5), IDS),
    "a true id": (vocabulary(ZZ=True), IDS),
    "no A": (lambda raw: raw["model"]["vocab"].pop("A"), "it has no token for A"),
    "another [PAD]": (vocabulary(**{"[PAD]": 4, "[MASK]": 3}), r"gives \[PAD\] the id 4, not 3"),
    "two [PAD]": (lambda raw: raw["added_tokens"][3].update(id=400), "an added token two ids"),
    "more tokens than rows": (token("-"), "tokenizer.json has 401 tokens, the network only 400"),
    "a token that is DNA": (token("ACG"), "an added token is DNA"),
    "a token of nothing": (token(""), "an added token is DNA"),
    "a token that looks back": (token("-", lstrip=True), "an added token has lstrip"),
    "a token made of others": (token("-", normalized=True), "an added token has normalized"),
    "a token without an id": (lambda raw: raw["added_tokens"].append({}), "it has no 'content'"),
    "nothing around": (lambda raw: raw.update(post_processor=None), UNWRAPPED),
    "a template that panics": (template(CLS, SEQUENCE, SEP, ids=[]), UNWRAPPED),
    "three for one": (template(CLS, SEQUENCE, SEP, ids=[1, 1, 1]), UNWRAPPED),
    "said ten thousand times": (template(CLS, *[SEQUENCE] * 10_000, SEP, ids=[1]), UNWRAPPED),
    "another around": (
        part("post_processor", "BertProcessing", cls=["[SEP]", 2], sep=["[CLS]", 1]),
        UNWRAPPED,
    ),
    "roberta": (part("post_processor", "RobertaProcessing", cls=[], sep=[]), UNWRAPPED),
    "no model": (lacks("model"), "it has no 'model'"),
    "no normalizer": (lacks("normalizer"), "it has no 'normalizer'"),
    "another version": (lambda raw: raw.update(version="9"), "not a tokenizer file.*version '9'"),
}


@pytest.mark.parametrize(("spoil", "fault"), CASES.values(), ids=CASES)
def test_a_tokenizer_is_refused_in_a_sentence(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    spoil: Spoil,
    fault: str,
) -> None:
    checkpoint = copy_of(tiny_checkpoint, tmp_path)
    raw = json.loads((checkpoint / "tokenizer.json").read_text())
    spoil(raw)
    (checkpoint / "tokenizer.json").write_text(json.dumps(raw))
    said = refusal(checkpoint, capfd)
    assert "tokenizer.json" in said
    assert re.search(fault, said), said


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[" * 10**5, "nests too deeply"),
        (b'{"model": ' + b'{"a":' * 10**5 + b"1" + b"}" * 10**6, "nests too deeply"),
        (b'{"model": {}, "model": {}}', "names a key twice"),
        (b" " * (32 * 2**20 + 1), "is larger than"),
        (b'{"model": "\xff"}', "not valid JSON"),
    ],
    ids=["lists", "objects", "twice", "large", "not text"],
)
def test_a_file_that_is_no_json_is_refused_in_a_sentence(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    content: bytes,
    fault: str,
) -> None:
    checkpoint = copy_of(tiny_checkpoint, tmp_path)
    (checkpoint / "tokenizer.json").write_bytes(content)
    assert re.search(f"tokenizer.json .*{fault}", refusal(checkpoint, capfd))


def test_what_encoding_does_not_use_is_never_built(tmp_path: Path) -> None:
    raw = json.loads(make_tokenizer().to_str())
    raw["padding"] = {"strategy": {"Fixed": 10**12}}
    raw["truncation"] = {"max_length": 0, "stride": 5}
    raw["decoder"] = {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}
    raw["trainer"] = "\ud800"
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(raw))
    assert DnaTokenizer(file).encode("ACGT").n_unknown == 0


def test_a_panic_of_the_library_is_an_error_like_others(tmp_path: Path) -> None:
    make_tokenizer().save(str(tmp_path / "tokenizer.json"))
    ours = DnaTokenizer(tmp_path / "tokenizer.json")
    ours._tokenizer = panicking_tokenizer()
    with pytest.raises(BaseException) as panic:  # noqa: PT011 - it has no name to import
        ours._tokenizer.encode("ACGT" * 100)
    assert not isinstance(panic.value, Exception)
    with pytest.raises(TokenizerError, match="failed") as caught:
        ours.encode("ACGT" * 100)
    assert "ACGT" not in str(caught.value)


def test_an_interrupt_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokenizer().save(str(tmp_path / "tokenizer.json"))
    ours = DnaTokenizer(tmp_path / "tokenizer.json")

    class Interrupted:
        def encode_batch(self, *_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(ours, "_tokenizer", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        ours.encode("ACGT")
