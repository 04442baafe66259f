"""Where a bundle may be built: what is impossible is said before anything is fetched."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.bundle.destination import usable_destination
from converter.bundle.location import bundles_root, default_bundle_folder
from converter.bundle.opening import open_bundle
from converter.bundle.store import build_lock, building_folder, publish
from converter.cli import main
from converter.conversion.convert import convert
from converter.errors import BundleError, UnusablePathError
from tests.support.bundles import build, fill


def file(folder: Path) -> Path:
    path = folder / "file"
    path.write_text("")
    return path


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def link(folder: Path, target: Path) -> Path:
    path = folder / "link"
    path.symlink_to(target)
    return path


def full_folder(folder: Path) -> Path:
    (folder / "Documents").mkdir()
    (folder / "Documents" / "thesis.tex").write_text("years of work")
    return folder / "Documents"


IMPOSSIBLE = {
    "a file": (file, "is a file"),
    "below a file": (lambda folder: file(folder) / "b", "cannot be written"),
    "a pipe": (pipe, "is a file"),
    "a link to a file": (lambda folder: link(folder, file(folder)), "is a file"),
    "a dangling link": (lambda folder: link(folder, Path("/gone/b")), "is a link to /gone/b"),
    "below a dangling link": (lambda f: link(f, Path("/gone")) / "b", "is a link to /gone,"),
    "a circle of links": (lambda folder: link(folder, folder / "link"), "link"),
    "other files": (full_folder, r"thesis\.tex"),
    "a link to other files": (lambda f: link(f, full_folder(f)), r"thesis\.tex"),
    "a name too long": (lambda folder: folder / ("b" * 300), "too long"),
    "a name too long for a name beside it": (lambda folder: folder / ("b" * 250), "too long"),
    "a name too long on the way": (lambda folder: folder / "new" / ("b" * 300) / "b", "too long"),
    "a path too long": (lambda folder: folder.joinpath(*(["b" * 200] * 40)), "too long"),
    "the root": (lambda _: Path("/"), "a disk's own folder"),
    "nothing": (lambda _: Path(), "working directory"),
    "the working directory": (lambda _: Path(), "working directory"),
    "a home that is nobody's": (lambda _: Path("~nobody-of-that-name/b"), "no home folder"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.usefixtures("here")
def test_an_impossible_output_is_one_sentence_before_anything_is_fetched(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    def fetching(*_: object) -> None:
        raise AssertionError("it looked for the checkpoint")

    monkeypatch.setattr("converter.conversion.convert.find_small_files", fetching)
    make, says = IMPOSSIBLE[kind]
    output = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((BundleError, UnusablePathError), match=says):
        convert("lab/model", output=output)
    assert main(["convert", "--output", str(output), "--progress", "none"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_possible_output_leaves_no_trace(here: Path) -> None:
    for output in ("b", "./b", "b/", "new/folders/b", str(here / "b")):
        assert usable_destination(Path(output)).is_relative_to(here)
    assert list(here.iterdir()) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A disk that nobody may write to, root neither."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("root may not mount here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_place_is_named(read_only: Path) -> None:
    for output in (read_only / "b", read_only / "new" / "b"):
        with pytest.raises(BundleError, match="cannot be written"):
            usable_destination(output)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_mount_point_cannot_be_replaced(read_only: Path) -> None:
    with pytest.raises(BundleError, match="a disk's own folder"):
        usable_destination(read_only)


def test_a_link_to_a_folder_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    old = build(tmp_path / "disk" / "real", "old")
    name = link(tmp_path, tmp_path / "disk" / "real")
    destination = usable_destination(name)
    assert destination == tmp_path / "disk" / "real"
    with build_lock(destination), building_folder(destination) as folder:
        fill(folder, "new")
        publish(folder, destination)
    assert name.is_symlink()
    assert open_bundle(name).manifest.fingerprint != old
    assert {p.name for p in tmp_path.iterdir()} == {"disk", "link"}
    assert {p.name for p in (tmp_path / "disk").iterdir()} == {"real", ".real.lock"}


def test_the_home_folder_may_be_written_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert usable_destination(Path("~/b")) == tmp_path / "b"


def test_a_model_or_root_that_no_path_can_be_is_said(tmp_path: Path) -> None:
    for model in ("~nobody-of-that-name/model", "m" * 5000, "a\0b", "\udcff"):
        with pytest.raises(UnusablePathError):
            default_bundle_folder(model, None, tmp_path)
    with pytest.raises(UnusablePathError, match="~nobody-of-that-name"):
        bundles_root(Path("~nobody-of-that-name/bundles"))
