import hashlib
import json
from pathlib import Path

import pytest

from converter.bundle.manifest import FORMAT, GOLDEN
from converter.bundle.opening import open_bundle
from converter.checkpoint.files import CheckpointFiles
from converter.errors import BundleError
from tests.support.bundles import build, fill
from tests.support.paths import ROOT


def test_the_fingerprint_depends_on_what_is_computed_and_on_nothing_else(tmp_path: Path) -> None:
    first = build(tmp_path / "here" / "b")
    assert build(tmp_path / "there" / "c") == first
    assert build(tmp_path / "d", content="other weights") != first
    assert len(first) == 16
    assert int(first, 16) >= 0
    # Independent of this code's own helper: the documented recipe.
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    fields = {k: manifest[k] for k in ("format", "checkpoint_sha256", "config", "options", "files")}
    del fields["files"][GOLDEN]
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest()[:16] == manifest["fingerprint"]


@pytest.mark.parametrize("absent", ["tokenizer.json", "golden.npz", "model.mlpackage"])
def test_an_incomplete_build_gets_no_manifest(absent: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=absent.replace(".", r"\.")):
        fill(tmp_path / "b", without=absent)
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_a_manifest_that_does_not_list_what_a_bundle_needs_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    del manifest["files"]["tokenizer.json"]
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        open_bundle(tmp_path / "b")


def test_a_bundle_matches_the_files_it_was_built_from(tmp_path: Path) -> None:
    for name in ("config", "tokenizer", "weights"):
        (tmp_path / name).write_text(name)
    paths = [tmp_path / name for name in ("config", "tokenizer", "weights")]
    manifest = fill(tmp_path / "b").model_copy(
        update={
            "checkpoint_sha256": {
                name: hashlib.sha256(name.encode()).hexdigest()
                for name in ("config", "tokenizer", "weights")
            }
        }
    )
    assert manifest.matches(CheckpointFiles("x", None, *paths))
    (tmp_path / "weights").write_text("Weights")
    assert not manifest.matches(CheckpointFiles("x", None, *paths))


def test_the_changelog_knows_the_format() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()

    assert f"is a number in `manifest.json`, {FORMAT} today" in changelog
