"""Whatever a manifest holds, its bundle opens, or one sentence says that it is damaged."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.bundle.manifest import MAX_BYTES
from converter.bundle.opening import Bundle, open_bundle
from converter.cli import main
from converter.digests import sha256_json
from converter.errors import BundleError, BundleMissingError
from tests.support.bundles import fill
from tests.support.running import running

JsonObject = dict[str, Any]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    fill(tmp_path / "b")
    return tmp_path / "b"


def stamped(manifest: JsonObject) -> bytes:
    """The manifest with the fingerprint and digest that its other fields have."""
    if isinstance(manifest.get("files"), dict):
        fields = ("format", "checkpoint_sha256", "config", "options", "files")
        known = {name: manifest[name] for name in fields if name in manifest}
        known["files"] = {k: v for k, v in known["files"].items() if k != "golden.npz"}
        manifest = manifest | {"fingerprint": sha256_json(known)[:16]}
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    return json.dumps(rest | {"digest": sha256_json(rest)}).encode()


def edited(*path: str, to: object) -> Callable[[JsonObject], bytes]:
    """A manifest with one value changed, and stamped as if its author had meant it."""

    def edit(manifest: JsonObject) -> bytes:
        within = manifest
        for name in path[:-1]:
            within = within[name]
        within[path[-1]] = to
        return stamped(manifest)

    return edit


def spliced(old: bytes, new: bytes) -> Callable[[JsonObject], bytes]:
    """A manifest with some of its bytes replaced."""

    def splice(manifest: JsonObject) -> bytes:
        content = json.dumps(manifest).encode()
        assert old in content
        return content.replace(old, new, 1)

    return splice


LENGTHS = b'"lengths": [128, 512]'
ODD: dict[str, Callable[[JsonObject], bytes]] = {
    "nothing": lambda _: b"",
    "no JSON": lambda _: b"{",
    "no object": lambda _: b"[]",
    "a number": lambda _: b"1",
    "no UTF-8": spliced(b"lab/model", b"lab/\xff"),
    "half a character": spliced(b"lab/model", b"lab/\\ud800"),
    "deep": spliced(b'"reason": "expected"', b'"reason": ' + b"[" * 10**5 + b"]" * 10**5),
    "somewhat deep": spliced(b'"gates": []', b'"gates": [], "x": ' + b"[" * 500 + b"]" * 500),
    "long": lambda manifest: json.dumps(manifest).encode() + b" " * MAX_BYTES,
    "a huge number": spliced(b"71.25", b"7" * 5000),
    "a large number": edited("hidden_size", to=10**4000),
    "no number": spliced(b"71.25", b"NaN"),
    "an infinite number": spliced(b"71.25", b"1e999"),
    "a key twice": spliced(LENGTHS, LENGTHS + b", " + LENGTHS),
    "no format": lambda manifest: stamped({k: manifest[k] for k in manifest if k != "format"}),
    "a format that is true": edited("format", to=True),
    "a size that is text": edited("config", "hidden_size", to="64"),
    "a config that is text": edited("config", to="bert"),
    "a config without sizes": edited("config", to={}),
    "a size of zero": edited("config", "num_attention_heads", to=0),
    "another hidden size": edited("hidden_size", to=65),
    "a padding beyond the vocabulary": edited("config", "pad_token_id", to=400),
    "fidelity without gates": edited("fidelity", to={"flag": "expected"}),
    "a gate without a figure": edited("fidelity", "gates", to=[{"gate": "x"}]),
    "a flag that nobody knows": edited("fidelity", "flag", to="splendid"),
    "a precision that is text": edited("precision", to="fp16"),
    "a limit without a module": edited("precision", "limited_by", to=[{"psnr_db": 1.0}]),
    "an engine that is text": edited("fidelity", "engine", "segments", to="one"),
    "a function that nobody knows": edited("functions", "512", to="main"),
    "no lengths": lambda m: stamped(m | {"lengths": [], "functions": {}}),
    "a length of zero": lambda m: stamped(m | {"lengths": [0, 512]}),
    "no length for a whole window": lambda m: stamped(
        m | {"lengths": [128], "functions": {"128": "main"}}
    ),
    "a window of no model": lambda m: stamped(m | {"lengths": [768], "functions": {"768": "main"}}),
    "a file of no name": edited("files", "a\0b", to={"sha256": "0" * 64, "size": 0}),
    "a file of a long name": edited("files", "b" * 10**5, to={"sha256": "0" * 64, "size": 0}),
    "a family of no name": edited("config", "model_type", to="\x1b[31m" * 300),
    "a folder for a file": edited("files", ".", to={"sha256": "0" * 64, "size": 4096}),
    "a terminal's commands": edited("files", "\x1b[2J", to={"sha256": "0" * 64, "size": 0}),
}


def make_odd(bundle: Path, kind: str) -> None:
    path = bundle / "manifest.json"
    path.write_bytes(ODD[kind](json.loads(path.read_text())))


def assert_sentence(text: str) -> None:
    folder, damaged, what = text.partition("is damaged: ")
    assert damaged, folder
    assert text.isprintable()
    assert len(what) < 500


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_manifest_is_damaged(bundle: Path, kind: str) -> None:
    make_odd(bundle, kind)
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert not isinstance(caught.value, BundleMissingError)
    assert_sentence(str(caught.value))


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "golden.npz"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_damaged_and_nobody_waits_for_it(
    bundle: Path, name: str, make: Callable[[Path], None]
) -> None:
    (bundle / name).unlink()
    make(bundle / name)
    with pytest.raises(BundleError, match=rf"is damaged: {name} is no file"):
        open_bundle(bundle)


@pytest.mark.parametrize("kind", ["deep", "no UTF-8", "fidelity without gates"])
def test_every_command_says_so(bundle: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_odd(bundle, kind)
    assert main(["verify", str(bundle)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert_sentence(said.removesuffix("\n"))


def test_the_service_says_so(bundle: Path) -> None:
    make_odd(bundle, "deep")
    with running(GENA_BUNDLE=str(bundle)) as server:
        health = server.wait_for("failed")
        assert health["error"]["code"] == "bundle.invalid"
        assert_sentence(health["message"])


@pytest.mark.parametrize("content", [b"[" * 10**5, b"\xff", b"[]", b'{"itemInfoEntries": {}}'])
def test_so_does_inspect_of_a_packages_own_manifest(
    bundle: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "model.mlpackage" / "Manifest.json").write_bytes(content)
    assert main(["inspect", str(bundle)]) == 1
    said = capsys.readouterr().err
    assert "Manifest.json is damaged" in said
    assert said.count("\n") == 1


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutations(draw: st.DrawFn, manifest: JsonObject) -> JsonObject:
    """A manifest with one value, at any depth, that is anything or is gone."""
    changed: JsonObject = json.loads(json.dumps(manifest))
    within: Any = changed
    while True:
        keys = sorted(within) if isinstance(within, dict) else list(range(len(within)))
        key = draw(st.sampled_from(keys))
        if isinstance(within[key], dict | list) and within[key] and draw(st.booleans()):
            within = within[key]
        else:
            break
    if draw(st.booleans()):
        within[key] = draw(ANYTHING)
    else:
        del within[key]
    return changed


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_nothing_but_a_sentence_comes_of_any_manifest(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "b"
    shutil.rmtree(folder, ignore_errors=True)
    fill(folder)
    path = folder / "manifest.json"
    changed = data.draw(mutations(json.loads(path.read_text())))
    path.write_bytes(stamped(changed) if data.draw(st.booleans()) else json.dumps(changed).encode())
    try:
        opened: Bundle = open_bundle(folder)
    except BundleError:
        return
    assert opened.interface.lengths == (128, 512)
    assert opened.config.hidden_size == 64
