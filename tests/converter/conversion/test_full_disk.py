"""A disk that fills up while a checkpoint is converted."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from converter.cli import main
from converter.conversion import filling
from tests.support.small_disk import files_of_at_most, fill_up, small_disk
from tools.seeded_checkpoints import make_checkpoint

DISK = 24 * 2**20
# Enough for nothing; for what is converted, not for its copy; not for the weights of all lengths.
LEFT = [0, 250_000, 500_000]
# Of any one file; the last is for all but the weights.
SHARES = [0, 100_000]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("c") / "checkpoint", num_hidden_layers=1)


def converted(checkpoint: Path, output: Path) -> int:
    named = ["--model", str(checkpoint), "--output", str(output)]
    return main(["convert", *named, "--progress", "none"])


def once_it_begins(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something when the first package is about to be written."""
    real = filling.build_package

    def build_package(*arguments: Any, **more: Any) -> None:
        act()
        real(*arguments, **more)

    monkeypatch.setattr(filling, "build_package", build_package)


def assert_one_sentence(said: str, folder: Path) -> None:
    assert said.startswith(f"error: There is no room for the bundle in {folder} (")
    assert "Building it takes 9.0 MB there" in said
    assert said.count("\n") == 1


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_disk_that_is_too_small_is_found_out_before_anything_is_built(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 2**20) as disk:
        assert converted(checkpoint, disk / "b") == 1
        assert_one_sentence(capsys.readouterr().err, disk)
        assert names(disk) == {".b.lock"}


@pytest.mark.parametrize("left", LEFT)
def test_a_disk_that_fills_up_meanwhile(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    left: int,
) -> None:
    with small_disk(tmp_path / "disk", DISK) as disk:
        once_it_begins(monkeypatch, lambda: fill_up(disk, but=left))
        assert converted(checkpoint, disk / "b") == 1
        assert_one_sentence(capsys.readouterr().err, disk)
        assert names(disk) == {".b.lock", "filler"}


@pytest.mark.parametrize("share", SHARES)
def test_a_share_that_is_used_up(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    share: int,
) -> None:
    """A quota: there is room on the disk, and not for this user."""
    with ExitStack() as stack:
        once_it_begins(monkeypatch, lambda: stack.enter_context(files_of_at_most(share)))
        status = converted(checkpoint, tmp_path / "b")
    assert status == 1
    assert_one_sentence(capsys.readouterr().err, tmp_path)
    assert names(tmp_path) == {".b.lock"}
