import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from converter.bundle import opening
from converter.bundle.manifest import FORMAT, PACKAGE
from converter.bundle.opening import open_bundle, open_expected, undisturbed
from converter.errors import BundleError, BundleMissingError, BundleReplacedError
from tests.support.bundles import CONFIG, build, fill, leftovers
from tests.support.stand_in_bundle import make_bundle

FILES = ["manifest.json", "tokenizer.json", "golden.npz", "model.mlpackage/Data/weight.bin"]


def test_a_published_bundle_opens_with_what_was_written(tmp_path: Path) -> None:
    fingerprint = build(tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    assert bundle.manifest.fingerprint == fingerprint
    assert bundle.manifest.lengths == [128, 512]
    assert bundle.manifest.functions == {"128": "length_128", "512": "length_512"}
    assert bundle.config == CONFIG
    assert bundle.package.is_dir()
    assert bundle.tokenizer_json == b"{}"
    assert np.load(bundle.golden())["input_ids"].shape == (1, 512)
    assert set(bundle.manifest.files) == {
        "model.mlpackage/Data/weight.bin",
        "tokenizer.json",
        "golden.npz",
    }
    assert leftovers(tmp_path / "b") == set()


@pytest.mark.parametrize("window", [512, 1024])
def test_the_longest_length_of_a_bundle_is_its_window(tmp_path: Path, window: int) -> None:
    bundle = open_bundle(make_bundle(tmp_path / "b", lengths=(128, window)))
    assert bundle.manifest.window == window
    tokenizer = bundle.tokenizer()
    assert (tokenizer.model_max_length, tokenizer.max_own_tokens) == (window, window - 2)
    assert len(tokenizer.window(tokenizer.encode("A" * (window - 2)).ids)) == window
    with pytest.raises(ValueError, match=f"{window - 1} tokens; a window holds {window - 2} and"):
        tokenizer.window(tokenizer.encode("A" * (window - 1)).ids)


def test_no_bundle_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(BundleMissingError):
        open_bundle(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleMissingError):
        open_bundle(tmp_path / "empty")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["delete", "truncate", "flip", "extend"])
def test_any_damage_to_any_file_is_found_and_named(tmp_path: Path, name: str, damage: str) -> None:
    build(tmp_path / "b")
    path = tmp_path / "b" / name
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(content[:-1] if name != "manifest.json" else content[:-40])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(bytes(content) + b"x")
    with pytest.raises(BundleError, match=name) as caught:
        open_bundle(tmp_path / "b")
    assert not isinstance(caught.value, BundleMissingError)
    assert "convert" in str(caught.value)


def test_an_edited_figure_in_the_manifest_is_found(tmp_path: Path) -> None:
    build(tmp_path / "b")
    manifest = tmp_path / "b" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("71.25", "91.25"))
    with pytest.raises(BundleError, match="altered"):
        open_bundle(tmp_path / "b")


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    build(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../etc/passwd"] = {"sha256": "0" * 64, "size": 1}
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="leads out"):
        open_bundle(tmp_path / "b")


def test_a_bundle_of_a_later_format_says_so(tmp_path: Path) -> None:
    build(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1, "new": 1}))
    with pytest.raises(BundleError, match=f"format {FORMAT + 1}"):
        open_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", [".DS_Store", "._manifest.json", "._package.mlpackage"])
def test_files_that_macos_leaves_do_no_harm(tmp_path: Path, name: str) -> None:
    build(tmp_path / "b")
    (tmp_path / "b" / name).write_text("x")
    open_bundle(tmp_path / "b")
    build(tmp_path / "b", content="rebuilt")
    for entry in (tmp_path / "b").iterdir():  # as a person does in Finder, which leaves it again
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (tmp_path / "b" / name).write_text("x")
    with pytest.raises(BundleMissingError):
        open_bundle(tmp_path / "b")


def test_a_disk_where_macos_puts_files_beside_ours_makes_no_other_bundle(tmp_path: Path) -> None:
    data = tmp_path / "package" / "Data"
    data.mkdir(parents=True)
    (data / "weight.bin").write_text("weights")
    elsewhere = fill(tmp_path / "b", package=data.parent)
    (data / "._weight.bin").write_bytes(b"\0\5\x16\7")
    here = fill(tmp_path / "usb", package=data.parent)
    assert here.fingerprint == elsewhere.fingerprint
    (tmp_path / "usb" / PACKAGE / "Data" / "._weight.bin").unlink()  # as on the next disk
    open_bundle(tmp_path / "usb")


def test_a_bundle_replaced_while_it_is_read_opens_as_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "b", "old")
    real = opening._verify_file
    replaced = []

    def replace_first(*args: object) -> None:
        if not replaced:
            replaced.append(build(tmp_path / "b", "new"))
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "_verify_file", replace_first)
    assert open_bundle(tmp_path / "b").manifest.fingerprint == replaced[0]


def test_a_bundle_that_is_expected_is_told_from_another_one(tmp_path: Path) -> None:
    old = build(tmp_path / "b", "old")
    assert open_expected(tmp_path / "b", old).manifest.fingerprint == old
    new = build(tmp_path / "b", "new")
    with pytest.raises(BundleReplacedError, match=f"{new} now, not {old}"):
        open_expected(tmp_path / "b", old)


@pytest.mark.parametrize("comes_back", [False, True])
def test_reading_is_disturbed_by_another_bundle_even_for_a_while(
    tmp_path: Path, comes_back: bool
) -> None:
    build(tmp_path / "b", "old")
    build(tmp_path / "other", "new")

    def read() -> None:
        with undisturbed(tmp_path / "b"):
            (tmp_path / "b").rename(tmp_path / "away")
            (tmp_path / "other").rename(tmp_path / "b")
            if comes_back:
                (tmp_path / "b").rename(tmp_path / "other")
                (tmp_path / "away").rename(tmp_path / "b")
            raise RuntimeError("what was read was half of each")

    with pytest.raises(BundleReplacedError, match="while it was read"):
        read()


def test_reading_alone_disturbs_nothing(tmp_path: Path) -> None:
    build(tmp_path / "b")
    with undisturbed(tmp_path / "b"):
        open_bundle(tmp_path / "b")
    with pytest.raises(BundleMissingError), undisturbed(tmp_path / "absent"):
        open_bundle(tmp_path / "absent")


def test_a_bundle_of_full_size_opens_quickly(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    fill(folder, "x" * 230_000_000)
    start = time.process_time()
    open_bundle(folder)
    # 0.2 to 0.5 s where this was written. Of this process: others may use the machine.
    assert time.process_time() - start < 3
