"""Paths as people write them."""

from pathlib import Path

import pytest

from converter.errors import UnusablePathError
from converter.paths import existing_folder, user_path
from converter.user_cache import user_cache_folder


def test_home_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a/b") == tmp_path / "a" / "b"
    assert user_path(Path("~")) == tmp_path
    assert existing_folder("~") == tmp_path
    assert user_cache_folder().is_relative_to(tmp_path)


@pytest.mark.parametrize("path", ["", ".", "a/b", "/no/such/thing", "file/x"])
def test_what_is_not_there_is_a_path_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert user_path(path) == Path(path)


def test_only_a_folder_that_is_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert existing_folder(str(tmp_path)) == tmp_path
    for model in ("", "owner/name", str(tmp_path / "absent"), str(tmp_path / "file")):
        assert existing_folder(model) is None


def test_what_no_system_can_have_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in {
        "~nouser/x": "no home folder",
        "x" * 256: "name too long",
        "x/" * 5000: "name too long",
        "a\0b": "no text",
        "caf\udce9": "no text",
        "\ud800": "no text",
        str(tmp_path / "loop"): "symbolic links",
    }.items():
        for find in (user_path, existing_folder):
            with pytest.raises(UnusablePathError) as caught:
                find(path)
            message = str(caught.value)
            assert reason in message
            assert message.isprintable()
            assert len(message) < 300


def test_a_link_to_what_is_no_text_is_an_error(tmp_path: Path) -> None:
    """Its name would go into a manifest."""
    try:
        (tmp_path / "caf\udce9").mkdir()
    except OSError:
        pytest.skip("this file system has texts for names")
    (tmp_path / "link").symlink_to("caf\udce9")
    with pytest.raises(UnusablePathError, match="no text"):
        existing_folder(str(tmp_path / "link"))


def test_a_folder_that_may_not_be_looked_into_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(UnusablePathError, match="Permission denied"):
        user_path(tmp_path)
