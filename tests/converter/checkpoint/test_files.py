import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from converter.checkpoint.files import SHIPPED_MODELS, find_checkpoint
from converter.errors import CheckpointError, CheckpointUnavailableError
from tests.support.paths import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "tokenizer.json", "pytorch_model.bin"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_folder_is_its_own_source(folder: Path) -> None:
    found = find_checkpoint(str(folder))
    assert (found.source, found.commit) == (folder.name, None)
    assert found.config == folder / "config.json"
    assert found.tokenizer == folder / "tokenizer.json"
    assert found.weights == folder / "pytorch_model.bin"


def test_safetensors_come_first(folder: Path) -> None:
    (folder / "model.safetensors").write_text("")
    assert find_checkpoint(str(folder)).weights.name == "model.safetensors"


@pytest.mark.parametrize("spelling", [".", "./", "../{name}", "{path}/"])
def test_a_folder_is_named_by_its_own_name(
    folder: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    model = spelling.format(name=folder.name, path=folder)
    assert find_checkpoint(model).source == folder.name


def test_a_home_folder_may_be_abbreviated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_checkpoint(f"~/{folder.name}").config.is_file()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "pytorch_model.bin"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        find_checkpoint(str(folder))


def test_a_revision_goes_with_a_hub_id_only(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="revision"):
        find_checkpoint(str(folder), "main")


@pytest.mark.parametrize(
    "model", ["", "no-such-model", "/no/such/folder", "a/b/c", "../x/y", "owner/na me", "-x/y"]
)
def test_what_is_neither_folder_nor_id_is_never_looked_for_on_the_hub(model: str) -> None:
    with pytest.raises(CheckpointUnavailableError) as caught:
        find_checkpoint(model)
    assert "neither a folder" in str(caught.value)
    assert "gena-mini" in str(caught.value)
    assert caught.value.code == "checkpoint.unavailable"


def test_a_shipped_model_goes_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED_MODELS, "gena-mini", folder)
    found = find_checkpoint("gena-mini")
    assert (found.source, found.config) == ("gena-mini", folder / "config.json")
    monkeypatch.setitem(SHIPPED_MODELS, "gena-mini", folder / "absent")
    with pytest.raises(CheckpointUnavailableError, match="clone"):
        find_checkpoint("gena-mini")


def test_digests_are_those_of_the_files_and_read_once(folder: Path) -> None:
    found = find_checkpoint(str(folder))
    names = {"config": "config.json", "weights": "pytorch_model.bin", "tokenizer": "tokenizer.json"}
    digests = {key: hashlib.sha256(name.encode()).hexdigest() for key, name in names.items()}
    assert found.sha256 == digests
    (folder / "config.json").write_text("changed")
    assert found.sha256 == digests
    assert find_checkpoint(str(folder)).sha256 != digests


def test_what_may_not_be_read_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_checkpoint(str(folder))
    found.weights.unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read: No such file"):
        _ = found.sha256

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: Permission denied"):
        find_checkpoint(str(folder))


def test_finding_a_checkpoint_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from converter.checkpoint.files import find_checkpoint; "
        "from converter.network.config import GenaBertConfig; find_checkpoint(sys.argv[1]); "
        "assert not {'torch', 'coremltools', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, timeout=60)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [(POINTER, "run `git lfs pull`"), ("\n<!DOCTYPE html>\n<html>", "it answered with a page")],
)
def test_what_stands_in_the_place_of_a_file_is_told(
    folder: Path, name: str, content: str, sentence: str
) -> None:
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError) as told:
        find_checkpoint(str(folder))
    assert str(folder / name) in str(told.value)
    assert sentence in str(told.value)
    assert "weights_only" not in str(told.value)
