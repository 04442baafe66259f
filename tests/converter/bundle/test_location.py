from pathlib import Path

import pytest

from converter.bundle import location
from converter.bundle.location import bundles_root, default_bundle_folder
from tests.support.paths import ROOT


def test_default_folders_are_readable_and_distinct(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    hub = default_bundle_folder("AIRI-Institute/gena-lm-bert-base", None, root)
    assert hub == root / "AIRI-Institute--gena-lm-bert-base"
    assert default_bundle_folder("gena-mini", None, root) == root / "gena-mini"
    (tmp_path / "one" / "model").mkdir(parents=True)
    (tmp_path / "two" / "model").mkdir(parents=True)
    folders = [
        hub,
        default_bundle_folder("AIRI-Institute/gena-lm-bert-base", "main", root),
        default_bundle_folder("AIRI-Institute/gena-lm-bert-base", "refs/pr/1", root),
        default_bundle_folder("AIRI-Institute/gena-lm-bert-base", "refs-pr-1", root),
        default_bundle_folder(str(tmp_path / "one" / "model"), None, root),
        default_bundle_folder(str(tmp_path / "two" / "model"), None, root),
    ]
    assert len(set(folders)) == len(folders)
    for folder in folders:
        assert folder.parent == root
        assert folder.name.isascii()
    assert folders[-1].name.startswith("model-")


def test_a_chosen_root_is_taken_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENA_BUNDLES", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert bundles_root(tmp_path / "here") == tmp_path / "here"
    assert bundles_root(Path("~/there")) == tmp_path / "there"
    assert bundles_root(None) == ROOT / "models" / "bundles"


def test_without_a_clone_bundles_are_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_CLONE", tmp_path / "site-packages")
    monkeypatch.setenv("HOME", str(tmp_path))
    for platform, caches in (("darwin", "Library/Caches"), ("linux", ".cache")):
        monkeypatch.setattr("sys.platform", platform)
        assert bundles_root(None) == tmp_path / caches / "gena-coreml"
