"""A full disk is one sentence, whatever the library that met it made of it."""

import errno
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from converter.bundle.room import require_room, require_temporary_folder, saying_full_disk
from converter.bundle.store import build_lock, building_folder
from converter.errors import BundleError, DiskFullError, FidelityError, PackageError
from tests.support.bundles import build, leftovers
from tests.support.small_disk import files_of_at_most, small_disk

MIB = 2**20
NEEDED = 4 * MIB


@pytest.fixture(params=["disk", "share"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder where less than `NEEDED` can be written: a small disk, or a small share of one."""
    if request.param == "share":
        (tmp_path / "share").mkdir()
        with files_of_at_most(MIB):
            yield tmp_path / "share"
    else:
        with small_disk(tmp_path / "disk", 2 * MIB) as disk:
            yield disk


def numpys_own(folder: Path) -> None:
    np.save(folder / "table.npy", np.zeros(NEEDED, np.uint8))  # an OSError without a number


def archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "golden.npz", "w") as file, file.open("a", "w") as member:
        for _ in range(NEEDED // MIB):
            member.write(bytes(MIB))


def copied_tree(folder: Path) -> None:
    source = folder.with_name("source")
    source.mkdir()
    (source / "weight.bin").touch()

    def copy(_: str, target: str) -> None:
        Path(target).write_bytes(bytes(NEEDED))

    shutil.copytree(source, folder / "new", copy_function=copy)


def tidy_library(folder: Path) -> None:
    try:
        (folder / "weight.bin").write_bytes(bytes(NEEDED))
    except OSError:
        (folder / "weight.bin").unlink()
    raise RuntimeError("Failed to write weight blob")


def careless_library(folder: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(bytes(MIB // 2))
    raise PackageError("weight.bin is cut short")


@pytest.mark.parametrize(
    "write", [numpys_own, archive, copied_tree, tidy_library, careless_library]
)
def test_whatever_a_library_raises_is_one_sentence(
    full: Path, write: Callable[[Path], None]
) -> None:
    folder = full / "building"
    folder.mkdir()
    with pytest.raises(DiskFullError) as caught, saying_full_disk(folder, NEEDED):
        write(folder)
    said = str(caught.value)
    assert said.startswith(f"There is no room for the bundle in {full} (")
    assert "Building it takes 4.2 MB there" in said
    assert "Make room" in said


def test_other_errors_are_what_they_are(tmp_path: Path) -> None:
    for error in (RuntimeError("a fault"), FidelityError("refused"), PermissionError(13, "no")):
        with pytest.raises(type(error)) as caught, saying_full_disk(tmp_path, NEEDED):
            raise error
        assert caught.value is error


def test_room_is_asked_for_before_anything_is_built(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    require_room(tmp_path, free // 2)
    with (
        pytest.raises(DiskFullError, match=rf"in {tmp_path} .*Building it takes .* GB there"),
        build_lock(tmp_path / "b"),
        building_folder(tmp_path / "b", 2 * free),
    ):
        raise AssertionError("it began to build")
    assert leftovers(tmp_path / "b") == set()


def test_a_full_disk_is_reported_and_cleared_up(tmp_path: Path) -> None:
    with files_of_at_most(4096), pytest.raises(DiskFullError, match="Make room"):
        build(tmp_path / "b", "x" * 10000)
    assert not (tmp_path / "b").exists()
    assert leftovers(tmp_path / "b") == set()


def test_a_disk_too_full_for_a_folder_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_folder(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", no_folder)
    with pytest.raises(DiskFullError, match="No space left"):
        build(tmp_path / "b")


def test_where_no_temporary_file_can_be_written_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full_everywhere(*_: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", full_everywhere)
    with pytest.raises(BundleError, match=r"temporary files .*\['/tmp'\].*TMPDIR"):
        require_temporary_folder()
